"""Recorded data of others gives the figures they published. Skipped as a whole where it is absent."""

import json
import lzma

import pytest

from lib import corpus, paths
from lib.corpus import contamination, duplicates
from lib.errors import UserError
from lib.tapir import classifier, fitness, judge

DATA = paths.recorded_data()
if not DATA.is_dir():
    pytest.skip(f"recorded data is absent ({DATA}): set RECORDED_DATA to its folder", allow_module_level=True)

PAIRS = sorted(path.name for path in (DATA / "judged_pairs/cherry_llm").glob("*.json.xz"))
REVIEWS = sorted(path.name for path in (DATA / "judged_pairs/vicuna_blog/review").glob("*.jsonl.xz"))


def unpack(path):
    with lzma.open(DATA / path, "rt") as file:
        return file.read()


def pairs(name, side="first"):
    return corpus.load(f"$RECORDED_DATA/judged_pairs/cherry_llm/{name}", f"cherry_llm:{side}")


@pytest.fixture(scope="module")
def alpaca():
    return corpus.load("$RECORDED_DATA/instructions/alpaca_davinci003_union_subset.json.xz")


@pytest.mark.parametrize("name", PAIRS)
def test_every_recorded_verdict_of_both_orders_reads_to_its_recorded_scores(name):
    for pair in json.loads(unpack(f"judged_pairs/cherry_llm/{name}"))["data"]:
        for reply, scores in (("review", "scores"), ("review_reverse", "scores_reverse")):
            assert judge.read_scores(pair[reply]) == tuple(json.loads(pair[scores])), pair[reply]


@pytest.mark.parametrize("name", REVIEWS)
def test_every_recorded_vicuna_review_reads_to_its_recorded_scores(name):
    for line in unpack(f"judged_pairs/vicuna_blog/review/{name}").splitlines():
        assert judge.read_scores(json.loads(line)["text"]) == tuple(json.loads(line)["score"]), line


@pytest.mark.parametrize("name", PAIRS)
def test_published_averages_are_reproduced_exactly(name):
    rows = pairs(name)
    averages, published = fitness.averages(rows), json.loads(rows[0]["meta"])["Meta_Info"]
    assert averages["oracle_first"] == tuple(json.loads(published["average_scores"]))
    shown = averages["student_first"][::-1]  # published in the order shown
    assert shown == tuple(json.loads(published["average_scores_reverse"]))


@pytest.mark.parametrize("name", PAIRS)
def test_swapping_the_sides_swaps_the_scores_and_nothing_else(name):
    rows, swapped = judge.apply(pairs(name)), judge.apply(pairs(name, "second"))
    assert rows["oracle_score"][:] == swapped["student_score"][:]
    first, second = fitness.agreement(rows), fitness.agreement(swapped)
    assert first.order_agreement == second.order_agreement
    assert first.position_bias == pytest.approx(second.position_bias)
    assert first.length_correlation == pytest.approx(second.length_correlation)


@pytest.mark.parametrize(
    ("model", "disagree", "overlap"),
    [("gpt4", (0.18, 0.33), (0.51, 0.63)), ("gpt3.5", (0.59, 0.73), (0.11, 0.15))],
)
def test_the_orders_of_real_judges_disagree_as_measured_before(model, disagree, overlap):
    for name in (name for name in PAIRS if name.endswith(f"{model}.json.xz")):
        measured = fitness.agreement(pairs(name))
        assert disagree[0] <= 1 - measured.order_agreement < disagree[1]
        assert overlap[0] <= measured.hard_overlap[2] < overlap[1]


def test_noise_of_the_gpt4_verdicts_is_what_the_embedded_judge_uses():
    rows = pairs("*gpt4*")
    measured, counts = fitness.agreement(rows), judge.tally(rows)
    assert measured.spread == pytest.approx(0.844, abs=5e-4)
    assert measured.position_bias == pytest.approx(-0.163, abs=5e-4)
    assert counts["unread"] == counts["cut"] == 0


def test_all_alpaca_rows_arrive_and_hold_no_exact_and_two_near_duplicates(alpaca):
    assert len(alpaca) == 21_944
    kept, dropped = duplicates.drop_exact(alpaca)
    assert len(kept) == 21_944 and dropped == []
    assert len(duplicates.drop_near(kept)[1]) == 2


def test_alpaca_touches_few_prompts_of_the_three_benchmarks(alpaca):
    files = {
        "alpaca_eval": "alpaca_eval/gpt4_1106_preview/model_outputs.json.gz",
        "mt_bench": "mt_bench/official/question.jsonl",
        "ifeval": "ifeval/input_data.jsonl.xz",
    }
    prompts = {name: contamination.prompts(f"$RECORDED_DATA/{path}") for name, path in files.items()}
    assert list(map(len, prompts.values())) == [805, 80, 541]
    kept, overlaps = contamination.drop(alpaca, prompts)
    assert [len(contamination.touched(overlaps, name)) for name in prompts] == [7, 2, 4]
    causes = {"exact": 2, "words": 9, "characters": 39}
    assert contamination.count_causes(overlaps) == causes and len(kept) == 21_944 - 50


def test_the_light_classifier_agrees_with_mt_benchs_categories_as_far_as_logged():
    lines = (DATA / "mt_bench/official/question.jsonl").read_text().splitlines()
    questions = list(map(json.loads, lines))
    texts = ["\n".join(question["turns"]) for question in questions]
    categories = [question["category"] for question in questions]
    predicted = classifier.held_out(texts, categories)
    assert len(predicted) == 80 and (predicted["task"] == predicted["predicted"]).mean() >= 0.65


def test_a_task_file_keeps_every_gold_output():
    rows = corpus.load("$RECORDED_DATA/natural_instructions/task281_points_of_correspondence.json.xz")
    assert len(rows) == 1475 and max(map(len, rows["references"])) == 29
    assert all(row["response"] == row["references"][0] for row in rows.select(range(50)))


def test_lists_of_outputs_outside_a_task_file_are_refused():
    with pytest.raises(UserError, match=r"gpt4llm_comparison.*row 1: `output` must be a text"):
        corpus.load("$RECORDED_DATA/instructions/gpt4llm_comparison_subset_1095.json.xz")
