"""Outlook: what a round will lack is known once the rows are judged, before expansion is paid."""

from lib import records
from lib.tapir import outlook
from lib.tapir.tasks import Task

TAXONOMY = {"Math": Task(0.5, "worked"), "Code": Task(0.3, "code"), "Other": Task(0.2, "none")}


def training(round=1, **values):
    return {"round": round, "alpha": 0.5, "alpha_step": 0.2, "round_rows": 0, "round_tokens": 0} | values


def test_expansion_fills_only_tasks_that_have_a_selected_row():
    labels = ["Math", "Math", None, "Code"]
    assert outlook.most_pool_rows(labels, TAXONOMY, 100, expand=True) == 80
    assert outlook.most_pool_rows(labels, TAXONOMY, 100, expand=False) == 4


def later(expand, *trainings):
    """What two hard rows and six others lack for these trainings."""
    hard = records.build(
        {"instruction": f"{i}", "task": "Math", "oracle_response": "x" * 80} for i in range(2)
    )
    rest = records.build({"instruction": f"other {i}", "response": "x" * 80} for i in range(6))
    refinement = {"pool_rows": 8, "expand": expand, "selection": "mfd"}
    return outlook.lacking(hard, rest, TAXONOMY, refinement, list(trainings), student=None)


def test_a_round_that_lacks_rows_is_named_with_its_numbers_and_the_ways_out():
    rounds = training(0), training(1, round_rows=4), training(2, round_rows=8)
    [(sentence, certain)] = later(False, *rounds)
    assert certain and "Round 2 draws 6 hard rows, and the pool can hold 2." in sentence
    for way_out in ("alpha", "round_rows", "threshold", "judged_rows"):
        assert way_out in sentence
    [(expanded, _)] = later(True, *rounds)  # Math has half of a pool of 8
    assert "the pool can hold 4" in expanded
    assert later(True, *rounds[:2]) == [] == later(False)


def test_a_shortage_that_is_counted_in_tokens_is_an_estimate():
    [(sentence, certain)] = later(True, training(round_tokens=400))  # rows of 20 tokens
    assert not certain and "about 10 hard rows, and the pool can hold 4" in sentence
