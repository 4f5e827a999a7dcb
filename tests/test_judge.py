"""A verdict is read exactly or counted as unread; a score is the mean of both orders or null."""

import pytest

from lib import judge, records


def verdict(order, reply, attempt=1, finish="stop"):
    return {"order": f"{order}_first", "attempt": attempt, "reply": reply, "finish": finish}


def pairs(*replies, lengths=()):
    """Rows from (reply with the oracle first, reply with the student first)."""
    return records.build(
        {
            "instruction": f"question {i}",
            "verdicts": [verdict("oracle", one), verdict("student", other)],
            "oracle_response": "x" * (lengths[i] if lengths else 1),
            "student_response": "x",
        }
        for i, (one, other) in enumerate(replies)
    )


READ = {
    "9 8.5\nBoth assistants are helpful.": (9, 8.5),
    "\n10 1": (10, 1),
    "7, 6\n": (7, 6),
    "9/10 8/10": (9, 8),
    "**8 7**\nIt is.": (8, 7),
    "(8, 7)": (8, 7),
    "Scores: 8 7": (8, 7),
    "0 0\n\nNeither responds.": (0, 0),
    "8 9\n\nAssistant 1: 7\nAssistant 2: 6": (8, 9),
    "First, f(2) = 39.\n\nAssistant 1: 1 (wrong)\nAssistant 2: 3 (steps)\n\nThe tuple is (1, 3).": (1, 3),
    "First, I solve it.\nAssistant 1: 3/10\nAssistant 2: 3/10\n\nBoth are wrong.": (3, 3),
    "Let us see. The output tuple is (10, 1). Assistant 1 is better.": (10, 1),
}
UNREAD = [
    "",
    "On a scale of 1 to 10, I rate both highly.",
    "9",
    "9 8 7",
    "11 9",
    "-1 5",
    "eight nine",
    "9 8 are my scores",
    "Assistant 1: 8\nThe other says nothing.",
    "Assistant 1: 3 errors\nAssistant 2: 2 errors",
    "Assistant 1: 10 - 2 = 8\nAssistant 2: 10 - 3 = 7",
    "Assistant 1: 8\nAssistant 2: 9\n\nThe tuple is (9, 8).",
    "The endpoints (2, 4) and (1, 3) are given.",
]


@pytest.mark.parametrize("reply", READ)
def test_stated_scores_are_read(reply):
    assert judge.read_scores(reply) == READ[reply]


@pytest.mark.parametrize("reply", UNREAD)
def test_other_numbers_are_no_scores(reply):
    assert judge.read_scores(reply) is None


def test_a_score_is_the_mean_of_both_orders_each_given_to_its_side():
    assert judge.mean_scores([verdict("oracle", "9 4"), verdict("student", "6 8")]) == (8.5, 5)


def test_one_order_alone_gives_no_score():
    assert judge.mean_scores([verdict("oracle", "9 4"), verdict("student", "I cannot say")]) == (None, None)
    assert judge.mean_scores([verdict("oracle", "9 4")]) == judge.mean_scores([]) == (None, None)


def test_the_latest_readable_attempt_counts():
    replies = [
        verdict("oracle", "7 7", 2),
        verdict("oracle", "9 4", 1),
        verdict("oracle", "hm", 3),
        verdict("student", "5 5"),
    ]
    assert judge.mean_scores(replies) == (6, 6)


def test_apply_fills_scores_and_leaves_a_row_without_verdicts_as_it_is():
    recorded = {"instruction": "Name a river.", "oracle_score": 9.0, "student_score": 3.0}
    rows = judge.apply(records.build([*pairs(("9 4", "6 8"), ("9 4", "hm")), recorded]))
    assert rows["oracle_score"][:] == [8.5, None, 9.0]
    assert rows["student_score"][:] == [5.0, None, 3.0]


TALLIED = [
    [verdict("oracle", "hm"), verdict("oracle", "9 8", 2), verdict("student", "8 9", finish="length")],
    [verdict("oracle", "hm"), verdict("student", "Assistant 1 is", finish="length")],
]


def test_a_verdict_is_counted_once_as_read_unread_or_cut():
    tally = judge.tally(records.build({"instruction": "x", "verdicts": one} for one in TALLIED))
    assert tally == {"read": 2, "unread": 1, "cut": 1, "missing": 0, "total": 4}


def test_a_row_that_was_not_judged_counts_as_two_missing_verdicts_and_one_with_recorded_scores_as_none():
    unjudged, scored = {"instruction": "x"}, {"instruction": "x", "student_score": 3.0, "oracle_score": 9.0}
    tally = judge.tally(records.build([unjudged, scored]))
    assert (tally["missing"], tally["total"]) == (2, 2)
    with pytest.raises(judge.Unread, match="2 missing because there was no response to judge, or no reply"):
        judge.check(tally)


def test_the_tally_is_a_sentence():
    assert (
        judge.describe({"read": 998, "unread": 0, "cut": 0, "missing": 0, "total": 998})
        == "998 of 998 verdicts read"
    )
    full = judge.describe({"read": 998, "unread": 1, "cut": 1, "missing": 0, "total": 1000})
    assert full == "998 of 1,000 verdicts read (1 unread, 1 cut at the token limit)"


def test_too_many_unread_verdicts_are_an_error_that_names_the_share():
    judge.check({"read": 95, "unread": 3, "cut": 2, "missing": 0, "total": 100})
    judge.check({"read": 0, "unread": 0, "cut": 0, "missing": 0, "total": 0})
    with pytest.raises(
        judge.Unread, match=r"6\.0% of the verdicts could not be read, more than max_unread \(5\.0%\)"
    ):
        judge.check({"read": 94, "unread": 4, "cut": 2, "missing": 0, "total": 100})


def test_orders_agree_when_they_name_the_same_winner_and_a_tie_is_an_outcome():
    rows = pairs(("9 4", "4 9"), ("9 4", "9 4"), ("7 7", "7 8"), ("7 7", "8 8"))
    assert judge.order_agreement(rows) == 0.5


def test_the_edge_of_the_first_position_is_found():
    assert judge.position_edge(pairs(("8 7", "8 7"), ("9 8", "9 8"))) == 1
    assert judge.position_edge(pairs(("8 7", "7 8"), ("9 3", "3 9"))) == 0


def test_length_correlation_is_one_when_longer_always_scores_more():
    assert (
        judge.length_correlation(pairs(("9 4", "4 9"), ("8 7", "7 8"), ("3 9", "9 3"), lengths=(30, 20, 10)))
        == 1
    )


def test_hard_sets_overlap_where_both_orders_see_the_gap():
    rows = pairs(("9 4", "4 9"), ("9 7", "8 9"), ("9 8", "5 9"), ("7 7", "7 7"), ("9 1", "hm"))
    assert judge.hard_set_overlap(rows, 2) == pytest.approx(1 / 3)
    assert judge.hard_set_overlap(rows, 1) == 1


def test_noise_recovers_what_was_planted():
    import numpy as np

    draw = np.random.default_rng(0)
    scores = (
        5 + 0.8 * draw.standard_normal((4000, 4)) + [0.3, 0, 0.3, 0]
    )  # two orders, shown first and second
    noise = judge.noise(pairs(*[(f"{a:.4f} {b:.4f}", f"{c:.4f} {d:.4f}") for a, b, c, d in scores]))
    assert noise["spread"] == pytest.approx(0.8, abs=0.03)
    assert noise["edge"] == pytest.approx(0.3, abs=0.04)
    assert noise["unread"] == 0


def test_what_two_orders_say_is_read_anew_when_verdicts_change():
    agreed, split = pairs(("9 5", "5 9")), pairs(("9 5", "9 5"))
    assert judge.order_agreement(agreed) == judge.order_agreement(agreed) == 1
    assert judge.order_agreement(records.update(agreed, verdicts=split["verdicts"][:])) == 0
