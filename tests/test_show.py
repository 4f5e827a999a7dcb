"""What notebooks show of rows: whole texts, the hardest first, the row that is followed."""

import json

import pytest

from lib import records, show
from lib.errors import UserError
from lib.gym import world
from lib.oracle import estimate

LONG = "Why is the sky blue in the middle of the day, and red in the evening? " * 3
ROWS = records.build(
    [
        {"instruction": LONG, "task": "Physics", "mfd": 1.0, "student_response": "Light."},
        {"instruction": "Add 2 and 3.", "task": "Math", "mfd": 8.0, "student_response": "4"},
        {"instruction": "Add 2 and 2.", "task": "Math", "mfd": None, "student_response": "4"},
    ]
)


def test_the_first_rows_show_whole_texts():
    page = show.head(ROWS, "task", "instruction", n=1).data
    assert LONG in page and page.index("Physics") < page.index(LONG)


def test_a_null_is_a_dash():
    assert ">–<" in show.head(ROWS, "task", "instruction", "oracle_response", n=1).data
    assert ">–<" in show.head(ROWS, "task", "oracle_response", n=1).data


def test_no_rows_show_nothing():
    assert show.head(ROWS.select([]), "instruction") is None


def test_a_run_shows_the_hardest_rows_first(monkeypatch):
    monkeypatch.setenv("STAGE", "/any")
    page = show.browse(ROWS, "instruction", n=2).data
    assert page.index("Add 2 and 3.") < page.index(LONG) and "Add 2 and 2." not in page


def test_rows_are_browsed_by_task_and_mfd():
    table = ROWS.to_pandas()[["id", "task", "mfd", "instruction"]]
    controls, page = show.browser(table, ["instruction"]).children
    tasks, mfd, number = controls.children
    assert page.value.startswith("3 rows") and LONG in page.value
    tasks.value = "Math"
    assert page.value.startswith("2 rows") and "Add 2 and 3." in page.value
    number.value = 2
    assert "Add 2 and 2." in page.value
    mfd.value = (0.0, 9.0)  # leaves out what was not read
    assert page.value.startswith("1 rows") and "Add 2 and 3." in page.value and number.value == 1
    tasks.value, mfd.value = "Physics", (5.0, 9.0)
    assert page.value.startswith("0 rows")


def judged(*rows: tuple) -> object:
    """Build rows of (family, level, instruction, hard); the oracle is right about all of them."""
    about = [json.dumps({"family": family, "level": level, "answer": "a"}) for family, level, *_ in rows]
    return records.build(
        {"instruction": text, "hard": hard, "meta": meta, "oracle_response": "Answer: a"}
        for (*_, text, hard), meta in zip(rows, about, strict=True)
    )


def test_the_row_that_is_followed_is_the_shortest_hard_one_of_the_lowest_level():
    rows = judged(
        ("spell_backward", 2, "a", True),
        ("spell_backward", 1, "aaa", True),
        ("spell_backward", 1, "aa", True),
        ("spell_backward", 1, "a", False),
        ("chain_sum", 1, "a", True),
    )
    assert world.pick_example(rows, "spell_backward") == 2
    with pytest.raises(UserError, match="family=letter_counting: no hard row of this kind. Raise"):
        world.pick_example(rows, "letter_counting")


def test_siblings_are_held_out_and_of_the_same_family_and_level():
    row = world.corpus(60, 0)[0]
    siblings = world.unseen_siblings(row, "dev", 3, trained=world.corpus(60, 0))
    kinds = {(about["family"], about["level"]) for about in map(json.loads, siblings["meta"])}
    about = json.loads(row["meta"])
    assert len(siblings) == 3 and kinds == {(about["family"], about["level"])}
    with pytest.raises(ValueError, match="held-out instances among the trained rows"):
        world.unseen_siblings(row, "dev", 3, trained=siblings)


def test_judging_takes_a_response_a_label_and_two_verdicts_for_each_row_that_lacks_them():
    bare, verdict = {"instruction": "a"}, [{"order": "oracle_first", "attempt": 1, "reply": "1 2"}]
    answered = {"instruction": "b", "oracle_response": "b", "task": "Math"}
    rows = records.build([bare, answered, answered | {"verdicts": verdict}])
    assert estimate.judging_calls(rows, 0) == {"answer": 1, "classify": 1, "judge": 4}
    assert estimate.judging_calls(records.build([bare, bare | {"instruction": "c"}]), 1)["classify"] == 1
    assert estimate.judging_calls(rows.select([2]), 0) == {}  # a recording
