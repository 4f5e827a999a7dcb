"""Outlook: what a round will lack is known once the rows are judged, before expansion is paid."""

import re

import pytest

from lib import records
from lib.tapir import outlook
from lib.tapir.tasks import Task

TAXONOMY = {"Math": Task(0.5, "worked"), "Code": Task(0.3, "code"), "Other": Task(0.2, "none")}


def training(round=1, **values):
    return {"round": round, "alpha": 0.5, "alpha_step": 0.2, "round_rows": 0, "round_tokens": 0} | values


def test_a_round_of_rows_draws_its_share_of_them():
    assert outlook.hard_rows(training(2, round_rows=40), 100, 0, 0) == 28


def test_a_round_without_a_size_is_as_large_as_the_rest():
    assert outlook.hard_rows(training(), 100, 0, 0) == 50


def test_a_round_of_tokens_draws_as_many_rows_as_these_hold():
    assert outlook.hard_rows(training(round_tokens=3000), 0, pool_tokens=20, rest_tokens=10) == 100


def test_expansion_fills_only_tasks_that_have_a_selected_row():
    labels = ["Math", "Math", None, "Code"]
    assert outlook.most_pool_rows(labels, TAXONOMY, 100, expand=True) == 80
    assert outlook.most_pool_rows(labels, TAXONOMY, 100, expand=False) == 4


def test_a_round_that_lacks_rows_is_named_with_its_numbers_and_the_ways_out():
    trainings = [training(0), training(1, round_rows=40), training(2, round_rows=40)]
    [(sentence, certain)] = outlook.shortages(trainings, pool=(24, 10.0), rest=(500, 10.0))
    assert certain and "Round 2 draws 28 hard rows, and the pool can hold 24." in sentence
    for way_out in ("alpha", "round_rows", "threshold", "judged_rows"):
        assert way_out in sentence


def test_a_shortage_that_is_counted_in_tokens_is_an_estimate():
    [(sentence, certain)] = outlook.shortages([training(round_tokens=1000)], (10, 20.0), (500, 10.0))
    assert not certain and "about 33 hard rows" in sentence


class Oracle:
    max_tokens = 200

    def __init__(self, cut):
        self.cut = cut


@pytest.mark.parametrize(
    ("lost", "cut", "says"),
    [
        (0, 0, ""),
        (4, 4, "4 of 24 rows .* 4 of them were cut at oracle_max_tokens=200: raise it"),
        (3, 0, "3 of 24 rows .* asks again"),
    ],
)
def test_responses_that_the_oracle_did_not_end_are_said_with_the_way_out(lost, cut, says):
    sentence = outlook.without_response(lost, 24, Oracle(cut))
    assert re.search(says, sentence) if says else sentence == ""


def test_lengths_are_those_of_the_responses_that_are_there():
    rows = records.build([{"instruction": "a", "response": "12345678"}, {"instruction": "b"}])
    assert outlook.response_tokens(rows, "response") == 2.0
    assert outlook.response_tokens(rows, "oracle_response") == 0.0
