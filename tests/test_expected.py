"""Expected scores: what a judge's log-probabilities say of the two scores that it writes."""

import gzip
import json
from math import log

import pytest

from lib import paths
from lib.models.types import Completion
from lib.oracle import expected
from lib.tapir import judge


def token(text, **others):
    """A written token with its candidates: probabilities by token."""
    candidates = [{"token": name, "logprob": log(p)} for name, p in others.items()]
    return {"token": text, "top_logprobs": candidates}


def scores(*tokens, text=""):
    text = text or "".join(each["token"] for each in tokens)
    return expected.scores(Completion(text, logprobs=list(tokens)), "a judge")


SPACE = token(" ", **{" ": 1.0})
SEVEN = token("7", **{"7": 1.0})


def test_a_score_is_the_mean_of_its_candidates():
    eight = token("8", **{"8": 0.6, "6": 0.3, "Sure": 0.1})
    assert scores(eight, SPACE, SEVEN) == pytest.approx(((8 * 0.6 + 6 * 0.3) / 0.9, 7))


def test_a_ten_of_two_tokens_is_told_from_a_one_by_the_token_after_it():
    each, zero = token("1", **{"1": 0.8, "9": 0.2}), token("0", **{"0": 0.75, " ": 0.25})
    assert scores(SEVEN, SPACE, each, zero) == pytest.approx((7, 0.6 * 10 + 0.2 * 1 + 0.2 * 9))


def test_a_one_that_was_not_written_may_mean_ten_and_is_left_out():
    assert scores(token("8", **{"8": 0.5, "1": 0.5}), SPACE, SEVEN) == (8, 7)


def test_spaces_and_brackets_inside_a_token_do_not_matter():
    first, second = token("(8", **{"(8": 0.5, "(6": 0.5}), token(" 7", **{" 7": 0.5, " 5": 0.5})
    comma, end = token(",", **{",": 1.0}), token(")", **{")": 1.0})
    assert scores(first, comma, second, end) == pytest.approx((7, 6))


@pytest.mark.parametrize("text", ["Both are good.", "8", "On a scale of 1 to 10, both"])
def test_a_reply_that_states_no_two_scores_has_none(text):
    assert scores(*(token(part, **{part: 1.0}) for part in text)) is None


OTHER_FORMS = ["8.5 7", "0 8", "8/10 10/10", "Assistant 1: 1\nAssistant 2: 1"]


@pytest.mark.parametrize("text", [*OTHER_FORMS, '{"assistant_1": 8, "assistant_2": 7}'])
def test_scores_in_another_form_than_asked_for_have_no_expectation(text):
    assert judge.read_scores(text) and scores(*(token(part, **{part: 1.0}) for part in text)) is None


def test_a_sentencepiece_token_and_a_token_without_candidates_are_read():
    first, second = token("▁8", **{"▁8": 0.5, "▁6": 0.5}), token("▁7", **{"▁7": 1.0})
    assert scores(first, second, text="8 7") == (7, 7)
    assert scores(first | {"top_logprobs": None}, second, text="8 7") is None


def test_recorded_preferences_of_alpaca_eval_are_their_log_probabilities():
    path = paths.recorded_data() / "alpaca_eval/gpt-3.5-turbo-1106/annotations.json.gz"
    if not path.is_file():
        pytest.skip(f"recorded data is absent ({path})")
    recorded = [row for row in json.loads(gzip.decompress(path.read_bytes())) if row["raw_completion"]]
    assert len(recorded) > 700
    for row in recorded:
        candidates = row["raw_completion"]["logprobs"]["content"][0]["top_logprobs"]
        values = {"m": 1.0, "M": 2.0}
        mean = expected.expectation(expected.weights_of(candidates, values), values)
        shown = row["preference"], 3 - row["preference"]  # half of the pairs were shown the other way round
        assert min(abs(mean - preference) for preference in shown) < 1e-7  # " M" counts here, not there
