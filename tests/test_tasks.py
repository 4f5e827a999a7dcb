"""The taxonomy: its quotas are exact, and a pool meets them without repeating a row."""

import json
from collections import Counter

import pytest

from lib import records
from lib.errors import UserError
from lib.gym import world
from lib.gym.oracle import ExactOracle
from lib.tapir import tasks
from lib.tapir.tasks import Task

HALVES = {"Arithmetic": Task(0.5, "worked"), "Rewriting": Task(0.5, "worked")}


@pytest.fixture(scope="module")
def corpus():
    """120 labelled rows: 7 of them arithmetic, 48 of them rewriting."""
    return ExactOracle().classify(world.corpus(120, seed=0))


def instances(rows):
    """The keys of the instances that rows are about."""
    return {f"{about['family']} {about['payload']}" for about in map(json.loads, rows["meta"])}


def test_quotas_follow_the_largest_remainder():
    thirds = {"a": Task(0.5, "none"), "b": Task(0.3, "none"), "c": Task(0.2, "none")}
    assert tasks.quotas(thirds, 10) == {"a": 5, "b": 3, "c": 2}
    assert tasks.quotas(thirds, 7) == {"a": 4, "b": 2, "c": 1}  # 3.5, 2.1, 1.4


def test_quotas_sum_to_the_pool_exactly():
    taxonomy = tasks.load_taxonomy("params/tasks/gym.yaml")
    assert all(sum(tasks.quotas(taxonomy, size).values()) == size for size in range(300))


@pytest.mark.parametrize("shares", [(0.5, 0.4), (0.7, 0.7), (1.5, -0.5)])
def test_a_taxonomy_whose_shares_do_not_sum_to_one_is_refused(tmp_path, shares):
    path = tmp_path / "own.yaml"
    path.write_text("".join(f"task{i}: {{share: {share}, refine: none}}\n" for i, share in enumerate(shares)))
    with pytest.raises(UserError, match=r"own.yaml: the shares sum to"):
        tasks.load_taxonomy(path)


def test_a_label_that_the_taxonomy_lacks_is_refused():
    rows = records.build([{"instruction": "x", "task": "Poetry"}])
    with pytest.raises(UserError, match="no task named Poetry"):
        tasks.check_labels(rows, HALVES)


def test_the_targets_say_what_is_to_add_and_what_is_left_out():
    rows = records.build({"instruction": str(i), "task": task} for i, task in enumerate("aaab"))
    taxonomy = {"a": Task(0.2, "worked"), "b": Task(0.5, "none"), "c": Task(0.3, "none")}
    table = tasks.targets(rows, taxonomy, 10)
    assert table["rows now"].to_dict() == {"a": 3, "b": 1, "c": 0}
    assert table["to add"].to_dict() == {"a": 0, "b": 4, "c": 0}  # c has no parent
    assert table["left out"].to_dict() == {"a": 1, "b": 0, "c": 0}
    assert table["share now"].to_list() == [0.75, 0.25, 0] and table["share wanted"].sum() == 1
    assert tasks.targets(rows, taxonomy, 10, expand=False)["to add"].sum() == 0


def test_an_oracle_that_is_asked_again_expands_to_the_same_pool(corpus):
    oracle, pools = ExactOracle(), []
    for _ in range(2):
        oracle.know(corpus)
        pools.append(tasks.rebalance(corpus, oracle, HALVES, 40, seed=0)[0]["id"][:])
    assert pools[0] == pools[1]


def test_a_pool_meets_the_mix_by_leaving_out_and_by_expanding(corpus):
    pool, account = tasks.rebalance(corpus, ExactOracle(seen=instances(corpus)), HALVES, 40, seed=0)
    assert Counter(pool["task"]) == {"Arithmetic": 20, "Rewriting": 20}
    assert account["Arithmetic"] == {"parents": 7, "expanded": 13, "short": 0}
    assert account["Rewriting"] == {"parents": 20, "expanded": 0, "short": 0}
    assert Counter(source.split(":")[0] for source in pool["source"]) == {"gym": 27, "expanded": 13}


def test_a_pool_never_holds_an_instance_twice_nor_one_left_in_the_corpus(corpus):
    pool, _ = tasks.rebalance(corpus, ExactOracle(seen=instances(corpus)), HALVES, 400, seed=0)
    expanded = pool.filter(lambda row: row["source"].startswith("expanded:"))
    assert len(set(pool["id"])) == len(instances(pool)) == 400
    assert not instances(expanded) & instances(corpus)


def test_each_rejected_row_is_counted_once_and_made_up_for():
    labelled = ExactOracle().classify(world.corpus(100, seed=0))
    parents = labelled.filter(lambda row: row["task"] == "Arithmetic")
    whole = {"Arithmetic": Task(1.0, "worked")}
    first, _ = tasks.rebalance(parents, ExactOracle(), whole, 30, seed=0)
    earlier = instances(first)
    pool, account = tasks.rebalance(parents, ExactOracle(seen=set(earlier)), whole, 30, seed=0)
    missing = 30 - len(parents)  # rows of the first try, all drawn before
    assert account["Arithmetic"]["dropped: duplicate"] == account["Arithmetic"]["expanded"] == missing
    assert len(pool) == 30 and not earlier & instances(pool.select(range(len(parents), 30)))


def test_a_task_without_parents_stays_short_and_says_so(corpus):
    parents = corpus.filter(lambda row: row["task"] == "Rewriting")
    pool, account = tasks.rebalance(parents, ExactOracle(), HALVES, 10, seed=0)
    assert account["Arithmetic"] == {"parents": 0, "expanded": 0, "short": 5}
    assert Counter(pool["task"]) == {"Rewriting": 5}
