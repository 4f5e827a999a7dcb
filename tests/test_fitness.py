"""Fitness: a judge whose verdicts do not depend on the responses is found by its first verdicts."""

import random

import pytest

from lib import corpus, paths, records
from lib.tapir import fitness, judge


def rows(*pairs):
    """Rows whose verdicts are these: the reply with the oracle first, and with the student first."""
    verdicts = [
        [
            {"order": order, "attempt": 1, "reply": reply, "finish": "stop"}
            for order, reply in zip(judge.ORDERS, pair, strict=True)
        ]
        for pair in pairs
    ]
    return records.build([{"instruction": f"{i}", "verdicts": v} for i, v in enumerate(verdicts)])


def test_a_judge_that_always_prefers_the_first_place_is_unfit():
    why = fitness.check(rows(*[("8 6", "8 6")] * 20), "small")
    assert "judge small" in why and "first in 40 of 40 verdicts" in why and "0 of 20 pairs" in why


def test_a_judge_that_sees_only_ties_is_unfit():
    assert "20 of 20 pairs" in fitness.check(rows(*[("7 7", "7 7")] * 20), "small")


def test_a_judge_that_draws_its_verdicts_does_not_agree_with_itself():
    rng = random.Random(0)
    drawn = [tuple(f"{rng.randint(1, 9)} {rng.randint(1, 9)}" for _ in judge.ORDERS) for _ in range(400)]
    measured = fitness.agreement(rows(*drawn))
    assert measured.same == pytest.approx(measured.same_by_chance, rel=0.15)


@pytest.mark.parametrize("oracle_wins", [20, 18, 10])
def test_a_judge_that_sees_who_is_better_is_fit_even_where_one_side_always_is(oracle_wins):
    fair = [("9 3", "3 9")] * oracle_wins + [("3 9", "9 3")] * (20 - oracle_wins)
    assert not fitness.check(rows(*fair), "large")


def test_a_judge_of_which_most_cannot_be_read_is_unfit():
    assert "10 of 40 verdicts read" in fitness.check(rows(*[("9 3", "Fine.")] * 10, *[("?", "?")] * 10), "m")


@pytest.mark.parametrize("name", ["koala", "vicuna", "wizardlm"])
def test_the_recorded_gpt_4_judge_is_never_taken_for_an_unfit_one(name):
    path = paths.recorded_data() / f"judged_pairs/cherry_llm/{name}_wrap_reviews_gpt4.json.xz"
    if not path.is_file():
        pytest.skip(f"recorded data is absent ({path})")
    pairs = corpus.load(str(path), "cherry_llm:first")
    for start in range(0, len(pairs) - fitness.PILOT + 1, fitness.PILOT):
        assert not fitness.check(pairs.select(range(start, start + fitness.PILOT)), "gpt-4")
