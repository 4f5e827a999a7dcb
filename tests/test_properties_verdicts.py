"""Whatever a judge says: the scores that it states, or none; and no reply keeps its reader busy."""

import contextlib
import re
import signal

import pytest
from generated import always, texts
from hypothesis import strategies as st

from lib.evaluation import mt_bench
from lib.oracle import replies
from lib.self_guide import labels
from lib.tapir import judge

NAMES = ["Math", "Code", "Code Debug", "Reasoning", "C++"]
ANSWERS = ("entailment", "not_entailment", "A", "B", "-1", "1", "yes")
scores = st.integers(0, 10) | st.integers(0, 100).map(lambda tenth: tenth / 10)
# what verdicts are made of, in any order
WORDS = ["Assistant 1", "Assistant 2", "'s score", "Score", "Rating", "tuple", "not", "non"]
WORDS += ["/10", "/5", " out of "]
SIGNS = [": ", ", ", " ", "\n", "(", ")", "[[", "]]", "[", "]", "**", "-", "–", ".", "3,5", "9 8", "١"]
TAGS = ["<think>", "</think>", "<instruction>", "</instruction>", "<input>", "</input>", "I'm sorry, but"]
parts = st.sampled_from([*NAMES, *ANSWERS, *WORDS, *SIGNS, *TAGS])
replies_of_parts = st.lists(parts | scores.map(str) | texts, max_size=12).map("".join)


@always(300, 3000, reply=replies_of_parts)
def test_what_is_read_stands_in_the_reply_and_is_in_range(reply):
    for score in judge.read_scores(reply) or ():
        assert 0 <= score <= 10 and stands(score, reply)
    for scale, (low, high) in judge.SCALES.items():
        rating = judge.read_rating(reply, scale)
        assert rating is None or low <= rating <= high and stands(rating, reply.strip().partition("\n")[0])
    rated = mt_bench.read_rating(reply)
    assert rated is None or 0 <= rated <= 10 and stands(rated, reply)
    label, answer = replies.label(reply, NAMES), labels.read(reply, ANSWERS)
    assert label is None or label in NAMES and label.casefold() in reply.casefold()
    assert answer is None or answer in ANSWERS
    new = replies.new_instruction(reply)
    assert new is None or new[0].strip() and all(part in reply for part in new)


def stands(score: float, text: str) -> bool:
    """Whether a number of this value is written in a text."""
    written = re.findall(r"[0-9]+(?:\.[0-9]*)?", text)
    return any(float(number) == score for number in written)


wordy = st.text("abcdefg hijklm,.!?\n", max_size=40)
STATED = ["{} {}\n{}", "{}, {}\n{}", "**{} {}**\n{}", "Scores: {} {}\n{}", "{}/10 {}/10\n{}"]
STATED += ["Well.\nAssistant 1: {}/10\nAssistant 2: {}/10\n\n{}", "So the tuple is ({}, {}). {}"]


@always(200, 1500, a=scores, b=scores, form=st.sampled_from(STATED), more=wordy)
def test_scores_stated_in_the_form_asked_for_are_read_as_they_are(a, b, form, more):
    assert judge.read_scores(form.format(a, b, more)) == (a, b)
    assert judge.read_scores(f"<think>{a + 1} {b}</think>\n{form.format(a, b, more)}") == (a, b)


different = st.lists(st.tuples(scores, scores), min_size=2, max_size=4, unique=True)


@always(200, 1500, pair=different, zero=st.booleans())
def test_statements_that_differ_are_none(pair, zero):
    tuples = " ".join(f"The tuple is ({a}{'.0' * (zero and isinstance(a, int))}, {b})." for a, b in pair)
    assert judge.read_scores(f"Let me see.\n{tuples}") is None
    each = "\n".join(f"Assistant 1: {a}/10\nAssistant 2: {b}/10" for a, b in pair)
    assert judge.read_scores(f"Let me see.\n{each}\n") is None


@always(100, 1000, rating=scores, scale=st.sampled_from(list(judge.SCALES)), more=wordy)
def test_a_rating_is_read_on_its_own_scale_and_no_other(rating, scale, more):
    low, high = judge.SCALES[scale]
    inside = rating if low <= rating <= high else None
    for form in ("{}", "Score: {}", "**{}**", "{}/{high:g}", "{} out of {high:g}", "{} (out of {high:g})"):
        assert judge.read_rating(f"{form.format(rating, high=high)}\n{more}", scale) == inside
    others = "{}/100", "{}-9", "{} – 9", "{},7", "{} (out of 10)", "{} of my rules say", "Step {}", "-{}"
    for form in others:
        assert judge.read_rating(form.format(rating), scale) is None


READERS = {
    "scores": judge.read_scores,
    "rating": lambda text: judge.read_rating(text, "accuracy"),
    "mt_bench": mt_bench.read_rating,
    "label": lambda text: replies.label(text, NAMES[1:3]),  # each label takes its own time
    "answer": lambda text: labels.read(text, ANSWERS[1:3]),
    "substring": lambda text: labels.read_substring(text, ANSWERS[1:3]),
    "instruction": replies.new_instruction,
    "refusal": replies.is_refusal,
    "same": lambda text: replies.same(text, text),
}
UNITS = ["(", " ", "*", "9", "9 ", " 9 9 9", "1.", "[", "[[", "[[1", "a", "a ", "-", "_", "\n", "tuple "]
UNITS += ["not ", "not-", "Code ", "Assistant 1: 8\nAssistant 2: 9\n", "Assistant 1:", "</think>"]
UNITS += ["i am so very "]
UNITS += ["<instruction>", "<instruction></instruction>\n", "<instruction></instruction><input>", "score"]
UNITS += ["Score: ", "é\u0301", "C++", "\u202e", "\x00"]
HEADS = ["", "score:", "tuple", "[[1", "[1", "not", "<instruction>", "<instruction></instruction>"]
HEADS += ["Assistant 1: 8", "1 1", "4"]


@contextlib.contextmanager
def ending(seconds: int):
    """Fail after so many seconds: a reader that looks at each sign once takes a hundredth of them."""

    def fail(*_):
        raise AssertionError(f"no end after {seconds} s")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    "head", [HEADS[0], *(pytest.param(head, marks=pytest.mark.slow) for head in HEADS[1:])]
)
def test_a_reader_comes_to_the_end_of_a_reply_of_any_length(reader, head):
    for unit in UNITS:
        with ending(20):
            READERS[reader](head + unit * (100_000 // len(unit)) + "x")
