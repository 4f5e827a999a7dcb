"""A rewrite is kept only where the judge does not score it lower."""

import json

import pytest

from lib import records
from lib.gym import world
from lib.gym.oracle import ExactOracle
from lib.tapir import refine, tasks

TAXONOMY = tasks.load_taxonomy("params/tasks/gym.yaml")


class Spoiled(ExactOracle):
    """Rewrites that lose the answer."""

    def refine(self, rows, styles):
        return [text and text.replace("Answer: ", "Answer: not ") for text in super().refine(rows, styles)]


@pytest.fixture(scope="module")
def rows():
    oracle = ExactOracle()
    return oracle.classify(oracle.answer(world.corpus(150, seed=0)))


def can_be_refined(row):
    return TAXONOMY[row["task"]].refine == "worked" and json.loads(row["meta"])["steps"] != ""


def count_worked(rows) -> int:
    return sum(TAXONOMY[task].refine == "worked" for task in rows["task"])


def test_an_exact_judge_keeps_every_right_rewrite(rows):
    refined, counts, _ = refine.refine(rows, ExactOracle(judge_noise=0), TAXONOMY)
    able = sum(map(can_be_refined, rows))
    assert counts == refine.NOTHING | {"refined": able, "kept": able, "unusable": count_worked(rows) - able}
    for row in refined:
        assert row["response_from"] == ("refined" if can_be_refined(row) else "oracle")
        assert row["response"] == (row["refined_response"] or row["oracle_response"])
        assert world.credit(json.loads(row["meta"]), row["response"]) == 1


def test_an_exact_judge_rejects_every_rewrite_that_loses_the_answer(rows):
    refined, counts, _ = refine.refine(rows, Spoiled(judge_noise=0), TAXONOMY)
    able = sum(map(can_be_refined, rows))
    unusable = count_worked(rows) - able
    assert counts == refine.NOTHING | {"refined": able, "rejected": able, "unusable": unusable}
    assert refined["response"][:] == rows["oracle_response"][:]
    assert set(refined["response_from"]) == {"oracle"} and set(refined["refined_response"]) == {None}


def test_an_unread_verdict_keeps_the_first_response(rows):
    class Unreadable(ExactOracle):
        def _verdict(self, *pair):
            return super()._verdict(*pair) | {"reply": "Both responses have their merits."}

    refined, counts, _ = refine.refine(rows, Unreadable(), TAXONOMY)
    assert counts["unread"] == counts["refined"] > 0 and counts["kept"] == counts["rejected"] == 0
    assert set(refined["response_from"]) == {"oracle"}


def test_a_comparison_without_a_reply_is_unread_whatever_the_row_was_scored_before(rows):
    class Silent(ExactOracle):
        def compare(self, rows, a, b):
            return [[] for _ in range(len(rows))]

    scored = records.update(rows, student_score=[9.0] * len(rows), oracle_score=[1.0] * len(rows))
    _, counts, tally = refine.refine(scored, Silent(), TAXONOMY)
    assert counts["unread"] == counts["refined"] > 0 and tally["missing"] == 2 * counts["refined"]


def test_what_the_row_was_judged_on_before_stays(rows):
    sampled = [json.dumps(json.loads(meta) | {"samples": ["Answer: a"]}) for meta in rows["meta"]]
    responded = records.update(rows, meta=sampled, student_response=["Answer: a"] * len(rows))
    judged = ExactOracle(judge_noise=0).score(responded)
    refined, _, _ = refine.refine(judged, ExactOracle(judge_noise=0), TAXONOMY)
    for name in ("id", "meta", "verdicts", "student_response", "student_score", "oracle_score"):
        assert refined[name][:] == judged[name][:]


def test_rows_that_no_task_refines_train_on_the_oracles_response(rows):
    plain = rows.filter(lambda row: row["task"] == "Format")
    refined, counts, _ = refine.refine(plain, ExactOracle(), TAXONOMY)
    assert counts == refine.NOTHING
    assert refined["response"][:] == plain["oracle_response"][:]
