"""A verdict is read exactly or counted as unread; a score is the mean of both orders or null."""

import json
import random

import numpy as np
import pytest

from lib import corpus, paths, records
from lib.errors import UserError
from lib.tapir import fitness, judge


def verdict(order, reply, attempt=1, finish="stop"):
    return {"order": f"{order}_first", "attempt": attempt, "reply": reply, "finish": finish}


def pairs(*replies, lengths=()):
    """Rows from (reply with the oracle first, reply with the student first)."""
    return records.build(
        {
            "instruction": f"question {i}",
            "verdicts": [verdict("oracle", oracle_first), verdict("student", student_first)],
            "oracle_response": "x" * (lengths[i] if lengths else 1),
            "student_response": "x",
        }
        for i, (oracle_first, student_first) in enumerate(replies)
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
# forms of judges that did as they were asked, in their own way
NATURAL = ["8\t7", "8\u00a07", "8\u20097", "8\n7", "8\r\n7\n\nBoth are good.", "```\n8 7\n```"]
NATURAL += ["```text\n8 7\n```\nBoth are good.", "`8 7`", '"8 7"', "> 8 7", "# 8 7"]
NATURAL += ["Here are my scores:\n8 7", "Here are my scores:\n8 7\n\nAssistant 1: 9\nAssistant 2: 6"]
NATURAL += ["Sure!\n\n8 7\nBoth are good.", "My evaluation:\n```\n8 7\n```", "Scores:\n8\n7", "**8** **7**"]
NATURAL += ["*8* *7*", "**Scores:** 8 7", "**Assistant 1:** 8/10\n**Assistant 2:** 7/10"]
NATURAL += ["### Assistant 1: 8\n### Assistant 2: 7", "\\boxed{8 7}", "$\\boxed{8, 7}$"]
NATURAL += ["\\boxed{8} \\boxed{7}", "8/10 7/10", "8 / 10, 7 / 10", "8 | 7", "8 and 7", "[8, 7]", "(8,7)"]
NATURAL += ["Scores: 8, 7", "Ratings: 8 7", "Final scores: 8 7", "The scores are: 8 7"]
NATURAL += ["Both are good.\n\nFinal scores: 8 7", "Scores (Assistant 1, Assistant 2): 8 7"]
NATURAL += [
    "Both are good.\nIn conclusion, the scores are (8, 7) for Assistant 1 and Assistant 2, respectively."
]
NATURAL += ["The scores for Assistant 1 and Assistant 2 are 8 and 7, respectively."]
NATURAL += ["Assistant 1 score: 8\nAssistant 2 score: 7", "Assistant 1's score: 8\nAssistant 2's score: 7"]
NATURAL += ["Assistant 1's score is 8. Assistant 2's score is 7."]
NATURAL += ["Score for Assistant 1: 8\nScore for Assistant 2: 7"]
NATURAL += ["- Assistant 1: 8 out of 10\n- Assistant 2: 7 out of 10", "Assistant 1: 8, Assistant 2: 7"]
NATURAL += ["Assistant 1: 8 Assistant 2: 7", "Assistant A: 8\nAssistant B: 7"]
NATURAL += ["| Assistant 1 | 8 |\n| Assistant 2 | 7 |", "assistant_1: 8\nassistant_2: 7"]
NATURAL += ['{"assistant_1": 8, "assistant_2": 7}']
NATURAL += ['```json\n{"Assistant 1": 8.0, "Assistant 2": "7/10"}\n```']
NATURAL += ['Here is my verdict:\n{"score_1": 8, "score_2": 7, "explanation": "Both are good."}']
NATURAL += ['{"scores": {"assistant1": 8, "assistant2": 7}}']
NATURAL += ['{"assistant_1": {"score": 8, "reason": "good"}, "assistant_2": {"score": 7, "reason": "good"}}']
NATURAL += ['{"scores": [8, 7]}', '{"first": 8, "second": 7}']
NATURAL += ['{"assistant_1": 8, "assistant_2": 7, "explanation": "Both', "8 7</s>", "8 7<|im_end|>"]
NATURAL += ["Response 1: 8\nResponse 2: 7", "[THINK]9 9[/THINK]8 7"]
NATURAL += ["analysisBoth are good.assistantfinal8 7"]
UNREAD = ["", "On a scale of 1 to 10, I rate both highly.", "9", "9 8 7", "11 9", "-1 5", "eight nine"]
UNREAD += ["9 8 are my scores", "Assistant 1: 8\nThe other says nothing."]
UNREAD += ["Assistant 1: 3 errors\nAssistant 2: 2 errors", "Assistant 1: 10 - 2 = 8\nAssistant 2: 10 - 3 = 7"]
UNREAD += ["Assistant 1: 8\nAssistant 2: 9\n\nThe tuple is (9, 8)."]
UNREAD += ["The endpoints (2, 4) and (1, 3) are given.", "on a scale of 1 to 10"]
UNREAD += ["The points (10, 4) lie on the line."]
UNREAD += ["I would score both highly, as they find the points (10, 4)."]
UNREAD += ["The sample input is:\n3 4\nBoth pass.", "Both assistants gave the wrong result:\n10 4"]
UNREAD += ["The answer is \\boxed{3, 4}.", "The test scores are (7, 8) in the table."]
UNREAD += ["In the match the scores are 3 and 2 for Team A and Team B.", "The scores are not (8, 7).", "8,5"]
UNREAD += ["8,5\nBoth are good.", "Assistant 1: 8,5\nAssistant 2: 7,5", "8\n7\n6", "8 - 7", "8 * 7"]
UNREAD += ["8 ** 7 ** 6", "8/100 7/100", "3/5 4/5", "2026-11-27", "9/10", "The clock shows 8:07"]
UNREAD += ["\\boxed{8}", "Scores: 8, 7\nScores: 7, 8", "Assistant 1: 8\nAssistant 2: 7\nAssistant 1: 6"]
UNREAD += ["Assistant 1 is 8 years old.\nAssistant 2 is 7 years old.", "1. 8\n2. 7", '{"assistant_1": 8}']
UNREAD += ['{"assistant_1": 8, "assistant_2": null}', '{"assistant_1": true, "assistant_2": false}']
UNREAD += ['{"assistant_1": 8, "assistant_2": 17}', '{"x": 8, "y": 7}']
UNREAD += ["For the input\n" + '{"a": 3, "b": 4} both fail.']
UNREAD += ["<think>Assistant 1: 9\nAssistant 2: 2\nbut wait", "<think>8 7"]
# of judges that answer, count or contradict themselves instead of scoring the pair
UNREAD += ["Sure, here is the answer:\n3 5", "Certainly! The roots are:\n2\n3", "1 8\n2 7", "Sure!\n1 8\n2 7"]
UNREAD += ["Answers:\nAssistant 1: 4\nAssistant 2: 5\nThe correct answer is 4."]
UNREAD += ["Number of errors:\nAssistant 1: 2 (minor)\nAssistant 2: 5 (major)"]
UNREAD += ["Assistant 1: 7 (correct)\nAssistant 2: 9 (incorrect; 3 + 4 = 7)"]
UNREAD += ["Assistant 1: 8 (out of 20)\nAssistant 2: 7 (out of 20)"]
UNREAD += ["| | Accuracy | Overall |\n| Assistant 1 | 3 | 8 |\n| Assistant 2 | 9 | 4 |"]
UNREAD += [
    "Helpfulness: Assistant 1: 8, Assistant 2: 7.\nOverall, Assistant 1: 3/10. So Assistant 1 deserves 4/10."
]


@pytest.mark.parametrize("reply", READ)
def test_stated_scores_are_read(reply):
    assert judge.read_scores(reply) == READ[reply]


@pytest.mark.parametrize("reply", NATURAL)
def test_natural_forms_of_the_same_statement_are_read(reply):
    assert judge.read_scores(reply) == (8, 7)


@pytest.mark.parametrize("reply", UNREAD)
def test_other_numbers_are_no_scores(reply):
    assert judge.read_scores(reply) is None


def test_a_score_is_the_mean_of_both_orders_each_given_to_its_side():
    assert judge.mean_scores([verdict("oracle", "9 4"), verdict("student", "6 8")]) == (8.5, 5)


def test_one_order_alone_gives_no_score():
    assert judge.mean_scores([verdict("oracle", "9 4"), verdict("student", "I cannot say")]) == (None, None)
    assert judge.mean_scores([verdict("oracle", "9 4")]) == judge.mean_scores([]) == (None, None)


def test_the_latest_readable_attempt_counts():
    attempts = [verdict("oracle", reply, n) for reply, n in (("7 7", 2), ("9 4", 1), ("hm", 3))]
    assert judge.mean_scores([*attempts, verdict("student", "5 5")]) == (6, 6)


def test_apply_fills_scores_and_leaves_a_row_without_verdicts_as_it_is():
    recorded = {"instruction": "Name a river.", "oracle_score": 9.0, "student_score": 3.0}
    rows = judge.apply(records.build([*pairs(("9 4", "6 8"), ("9 4", "hm")), recorded]))
    assert rows["oracle_score"][:] == [8.5, None, 9.0]
    assert rows["student_score"][:] == [5.0, None, 3.0]


def test_a_verdict_is_counted_once_as_read_unread_cut_or_missing():
    verdicts = [
        [verdict("oracle", "hm"), verdict("oracle", "9 8", 2), verdict("student", "8 9", finish="length")],
        [verdict("oracle", "hm"), verdict("student", "Assistant 1 is", finish="length")],
    ]
    tally = judge.tally(records.build({"instruction": "x", "verdicts": pair} for pair in [*verdicts, []]))
    assert tally == {"read": 2, "unread": 1, "cut": 1, "missing": 2, "total": 6}


def test_too_many_unread_verdicts_are_an_error_that_names_the_share():
    judge.check({"read": 95, "unread": 3, "cut": 2, "missing": 0, "total": 100})
    judge.check({"read": 0, "unread": 0, "cut": 0, "missing": 0, "total": 0})
    with pytest.raises(UserError, match=r"6\.0% of the verdicts could not be read .*, more than 5%"):
        judge.check({"read": 94, "unread": 4, "cut": 2, "missing": 0, "total": 100})
    judge.check({"read": 0, "unread": 98, "cut": 2, "missing": 0, "total": 100}, "warn")


@pytest.mark.parametrize(
    "counts, remedy",
    [
        (
            {"cut": 60, "unread": 9, "missing": 4},
            "60 cut at the token limit.* extra: {max_tokens",
        ),
        ({"cut": 6, "unread": 60, "missing": 4}, "state no scores: read some of the replies"),
        ({"cut": 6, "unread": 9, "missing": 60}, "Raise oracle_max_tokens if responses were cut"),
    ],
)
def test_the_most_frequent_cause_of_unread_verdicts_is_named_with_its_remedy(counts, remedy):
    with pytest.raises(UserError, match=remedy):
        judge.check({"read": 100 - sum(counts.values()), "total": 100} | counts)


def test_orders_agree_when_they_name_the_same_winner_and_a_tie_is_an_outcome():
    rows = pairs(("9 4", "4 9"), ("9 4", "9 4"), ("7 7", "7 8"), ("7 7", "8 8"))
    assert fitness.agreement(rows).order_agreement == 0.5


def test_the_edge_of_the_first_position_is_found():
    assert fitness.agreement(pairs(("8 7", "8 7"), ("9 8", "9 8"))).position_bias == 1
    assert fitness.agreement(pairs(("8 7", "7 8"), ("9 3", "3 9"))).position_bias == 0


def test_length_correlation_is_one_when_longer_always_scores_more():
    rows = pairs(("9 4", "4 9"), ("8 7", "7 8"), ("3 9", "9 3"), lengths=(30, 20, 10))
    assert fitness.agreement(rows).length_correlation == 1


def test_hard_sets_overlap_where_both_orders_see_the_gap():
    rows = pairs(("9 4", "4 9"), ("9 7", "8 9"), ("9 8", "5 9"), ("7 7", "7 7"), ("9 1", "hm"))
    overlap = fitness.agreement(rows).hard_overlap
    assert overlap[2] == pytest.approx(1 / 3) and overlap[1] == 1


def test_noise_recovers_what_was_planted():
    noise = 0.8 * np.random.default_rng(0).standard_normal((1500, 4))  # two orders, shown first and second
    scores = 5 + noise + [0.3, 0, 0.3, 0]
    measured = fitness.agreement(pairs(*[(f"{a:.4f} {b:.4f}", f"{c:.4f} {d:.4f}") for a, b, c, d in scores]))
    assert measured.spread == pytest.approx(0.8, abs=0.03)
    assert measured.position_bias == pytest.approx(0.3, abs=0.04)


@pytest.mark.parametrize("name", ["assistant", "id"])
def test_scores_in_a_list_of_objects_are_those_of_the_sides_that_they_name(name):
    text = json.dumps([{name: 2, "score": 7}, {name: 1, "score": 8}])
    assert judge.read_scores(text) == judge.read_scores(f'{{"scores": {text}}}') == (8, 7)


# Fitness


@pytest.mark.parametrize(
    "replies, why",
    [
        ([("8 6", "8 6")] * 20, "first in 40 of 40 verdicts"),  # always the first place
        ([("7 7", "7 7")] * 20, "20 of 20 pairs"),  # ties alone
        ([("9 3", "Fine.")] * 10 + [("?", "?")] * 10, "10 of 40 verdicts read"),
    ],
)
def test_a_judge_whose_verdicts_do_not_depend_on_the_responses_is_unfit(replies, why):
    assert why in fitness.check(pairs(*replies), "small")


def test_a_judge_that_draws_its_verdicts_does_not_agree_with_itself():
    rng = random.Random(0)
    drawn = [tuple(f"{rng.randint(1, 9)} {rng.randint(1, 9)}" for _ in judge.ORDERS) for _ in range(400)]
    measured = fitness.agreement(pairs(*drawn))
    assert measured.same == pytest.approx(measured.same_by_chance, rel=0.15)


@pytest.mark.parametrize("oracle_wins", [20, 18, 10])
def test_a_judge_that_sees_who_is_better_is_fit_even_where_one_side_always_is(oracle_wins):
    fair = [("9 3", "3 9")] * oracle_wins + [("3 9", "9 3")] * (20 - oracle_wins)
    assert not fitness.check(pairs(*fair), "large")


@pytest.mark.parametrize("name", ["koala", "vicuna", "wizardlm"])
def test_the_recorded_gpt_4_judge_is_never_taken_for_an_unfit_one(name):
    path = paths.recorded_data() / f"judged_pairs/cherry_llm/{name}_wrap_reviews_gpt4.json.xz"
    if not path.is_file():
        pytest.skip(f"recorded data is absent ({path})")
    recorded = corpus.load(str(path), "cherry_llm:first")
    for start in range(0, len(recorded) - fitness.PILOT + 1, fitness.PILOT):
        assert not fitness.check(recorded.select(range(start, start + fitness.PILOT)), "gpt-4")
