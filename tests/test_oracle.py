"""The exact oracle: right when asked to be, as fallible as a recorded judge otherwise, and never repeating itself."""

import json
import re
from random import Random

import pytest

from lib import records
from lib.corpus import novelty
from lib.errors import UserError
from lib.gym import families, oracle, split_of, world
from lib.gym.families import FAMILIES
from lib.gym.oracle import ExactOracle
from lib.tapir import fitness, judge, tasks

STYLES = {name: task.refine for name, task in tasks.load_taxonomy("params/tasks/gym.yaml").items()}


def rows_of(family, level=1, n=3, **columns):
    """Corpus-like rows with a right oracle response."""
    rng, rows = Random(0), []
    for instance in families.distinct(family, level, rng, "train", n, set()):
        response = {"oracle_response": f"Answer: {instance.answer}"} | columns
        rows.append(world.row(instance, families.phrase(instance, rng), None) | response)
    return records.build(rows)


def with_samples(rows, right):
    """Four sampled student responses a row, `right` of them right."""
    metas = []
    for meta in rows["meta"]:
        about = json.loads(meta)
        samples = [f"Answer: {about['answer']}"] * right + ["Answer: no idea"] * (4 - right)
        metas.append(json.dumps(about | {"samples": samples}))
    return records.update(rows, meta=metas, student_response=["Answer: no idea"] * len(rows))


def payloads(rows):
    return [f"{about['family']} {about['payload']}" for about in map(json.loads, rows["meta"])]


# Judging


@pytest.mark.parametrize("right", range(5))
def test_an_exact_judge_scores_a_student_by_the_share_of_its_right_samples(right):
    judged = ExactOracle(judge_noise=0).score(with_samples(rows_of("chain_sum"), right))
    assert judged["oracle_score"][:] == [10, 10, 10]
    assert judged["student_score"][:] == [1 + 9 * right / 4] * 3


def test_a_single_student_response_is_right_or_wrong():
    rows = rows_of("chain_sum", n=2)
    rows = records.update(rows, student_response=[rows["oracle_response"][0], None])
    assert ExactOracle(judge_noise=0).score(rows)["student_score"][:] == [10, 1]


def test_a_verdict_shows_the_response_of_its_order_first():
    judged = ExactOracle(judge_noise=0).score(with_samples(rows_of("chain_sum", n=1), 2))
    replies = {verdict["order"]: verdict["reply"] for verdict in judged["verdicts"][0]}
    assert replies == {"oracle_first": "10 5.5", "student_first": "5.5 10"}


def test_the_noise_is_the_fitted_one_and_scores_are_whole_points():
    embedded = ExactOracle()
    verdicts = [
        {"verdicts": [embedded._verdict(str(i), order, 5.5, 5.5) for order in judge.ORDERS]}
        for i in range(3000)
    ]
    rows = records.build({"instruction": "x"} | row for row in verdicts)
    measured, counts = fitness.agreement(rows), judge.tally(rows)
    assert measured.spread == pytest.approx(oracle.SPREAD, abs=0.07)
    assert measured.position_bias == pytest.approx(oracle.FIRST_EDGE, abs=0.05)
    assert counts["unread"] == 0
    replies = [verdict["reply"] for row in verdicts for verdict in row["verdicts"]]
    assert all(re.fullmatch(r"([1-9]|10) ([1-9]|10)", reply) for reply in replies)


# Answering


def wrong_share(rows):
    abouts = map(json.loads, rows["meta"])
    return 1 - sum(map(world.credit, abouts, rows["oracle_response"])) / len(rows)


@pytest.mark.parametrize("family", ["letter_counting", "word_sorting"])
def test_the_oracle_is_wrong_as_often_as_asked(family):
    rows = rows_of(family, n=600, oracle_response=None)
    assert wrong_share(ExactOracle().answer(rows)) == 0
    assert wrong_share(ExactOracle(oracle_error=0.3).answer(rows)) == pytest.approx(0.3, abs=0.06)
    assert wrong_share(ExactOracle(oracle_error=1).answer(rows)) == 1


def test_a_response_and_a_task_that_a_row_has_are_kept_and_nothing_is_asked_of_them():
    rows = records.update(rows_of("leg_counting", oracle_response="4"), task=["Math", None, None])
    oracle = ExactOracle()
    assert oracle.answer(rows)["oracle_response"][:] == ["4"] * 3 and oracle.calls == 0
    assert oracle.classify(rows)["task"][:] == ["Math", "Arithmetic", "Arithmetic"] and oracle.calls == 2


def test_a_row_of_another_world_is_refused():
    with pytest.raises(UserError, match="source=gym"):
        ExactOracle().answer(records.build([{"instruction": "Name a city."}]))


def test_every_family_has_a_task_of_the_taxonomy():
    labelled = ExactOracle().classify(rows_of("leg_counting"))
    assert labelled["task"][:] == ["Arithmetic"] * 3
    assert {family.task for family in FAMILIES.values()} == set(STYLES)


# Expanding


def test_expansion_keeps_family_level_and_split_and_never_repeats_what_is_known():
    parents = rows_of("spell_backward", level=2, n=300)
    expander = ExactOracle(seen=set(payloads(parents)))
    first, dropped = expander.expand(parents)
    second, _ = expander.expand(parents)
    children = payloads(first) + payloads(second)
    assert len(first) + dropped["duplicate"] == 300
    assert len(set(children)) == len(children) and not set(children) & set(payloads(parents))
    for about in map(json.loads, first["meta"]):
        assert (about["family"], about["level"]) == ("spell_backward", 2)
        assert split_of(about["family"], about["payload"]) == "train"


def test_an_expanded_row_names_its_parent_and_inherits_hard_but_no_mfd():
    parents = records.update(rows_of("chain_sum"), hard=[True, False, None], mfd=[9.0, 0.0, None])
    children, _ = ExactOracle().expand(parents)
    assert children["source"][:] == [f"expanded:{parent}" for parent in parents["id"]]
    assert children["hard"][:] == [True, False, None]
    assert children["mfd"][:] == [None] * 3
    assert wrong_share(children) == 0


def test_asking_once_more_after_a_duplicate_is_another_draw():
    parent = rows_of("chain_sum", n=1)
    child, _ = ExactOracle().expand(parent)
    expander = ExactOracle(seen=set(payloads(child)))
    assert expander.expand(parent)[1] == {"duplicate": 1}
    assert novelty.twin(expander.dropped["duplicate"], child) == child[0]["instruction"]
    again, _ = expander.expand(parent)
    assert payloads(again) != payloads(child)


# Refining


def test_refinement_adds_worked_steps_only_where_the_style_asks_and_there_are_any():
    def refined(family, styles=STYLES):
        rows = ExactOracle().classify(rows_of(family, n=1))
        return ExactOracle().refine(rows, styles)[0]

    about = json.loads(rows_of("chain_sum", n=1)["meta"][0])
    assert refined("chain_sum") == f"{about['steps']}\nAnswer: {about['answer']}"
    assert refined("chain_sum", {"Arithmetic": "none"}) is None
    assert refined("word_sequence_reversal") is None and refined("format_constraints") is None


def test_an_exact_judge_rates_right_responses_highest_and_complexity_by_level():
    rows = world.corpus(300, seed=0, noise=0.3)
    exact = ExactOracle(judge_noise=0)
    right = [world.credit(json.loads(row["meta"]), row["response"]) == 1 for row in rows]
    assert [value == 5.0 for value in exact.rate(rows, "accuracy")] == right
    assert [value == 6.0 for value in exact.rate(rows, "quality")] == right
    levels = [json.loads(meta)["level"] for meta in rows["meta"]]
    assert set(zip(levels, exact.rate(rows, "complexity"), strict=True)) == {(1, 2.5), (2, 4.5)}
