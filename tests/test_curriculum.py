"""What is hard for a student, and how much of it a round teaches."""

import pytest

from lib import records
from lib.errors import UserError
from lib.tapir import curriculum


def rows(name, n):
    return records.build({"instruction": f"{name} {i}"} for i in range(n))


def side(name, n, tokens=1):
    return rows(name, n), [tokens] * n


def test_mfd_is_high_when_the_oracle_beats_the_student_and_none_where_a_score_is_unread():
    assert curriculum.mfd(oracle_score=10, student_score=1) == 9
    assert curriculum.mfd(oracle_score=6, student_score=6) == 0
    assert curriculum.mfd(oracle_score=1, student_score=10) == -9
    assert curriculum.mfd(None, 5) is curriculum.mfd(5, None) is None


def test_a_row_is_hard_from_the_threshold_on_and_neither_where_unread():
    assert curriculum.is_hard(2.0, threshold=2) is True
    assert curriculum.is_hard(1.9, threshold=2) is False
    assert curriculum.is_hard(None, threshold=2) is None


def test_the_share_of_hard_rows_rises_by_the_step():
    assert [curriculum.share_of_hard(r, 0.3, 0.2) for r in (1, 2, 3)] == pytest.approx([0.3, 0.5, 0.7])
    assert curriculum.share_of_hard(3, 0.5, 0.25) == 1.0
    assert curriculum.share_of_hard(4, 0.3, -0.1) == 0.0


@pytest.mark.parametrize(("alpha", "step", "share"), [(0.8, 0.2, "1.2"), (0.3, -0.2, "-0.1")])
def test_a_share_outside_zero_to_one_is_refused_with_the_values_that_gave_it(alpha, step, share):
    with pytest.raises(UserError, match=f"alpha={alpha}.*alpha_step={step}.*{share} in round 3"):
        curriculum.share_of_hard(3, alpha, step)


def test_a_round_draws_its_share_without_replacement():
    drawn = curriculum.draw_round(side("hard", 5), side("easy", 9), share=0.3, rows=10, tokens=0, seed=1)
    assert len(set(drawn["id"])) == 10
    assert sum(text.startswith("hard") for text in drawn["instruction"]) == 3


@pytest.mark.parametrize("budget", [7, 100, 333])
def test_a_token_budget_is_met_to_half_a_row(budget):
    lengths = [3 + i % 7 for i in range(80)]
    pool, rest = (rows("hard", 80), lengths), (rows("easy", 80), lengths[::-1])
    drawn = curriculum.draw_round(pool, rest, share=0.5, rows=0, tokens=budget, seed=2)
    tokens = dict(zip([*pool[0]["id"], *rest[0]["id"]], [*pool[1], *rest[1]], strict=True))
    assert abs(sum(tokens[row_id] for row_id in drawn["id"]) - budget) <= max(lengths) / 2
    assert abs(sum(text.startswith("hard") for text in drawn["instruction"]) - len(drawn) / 2) <= 0.5


@pytest.mark.parametrize(
    ("hard", "easy", "size", "message"),
    [
        (2, 9, {"rows": 10, "tokens": 0}, "needs 3 hard rows, and there are 2"),
        (9, 2, {"rows": 10, "tokens": 0}, "needs 7 other rows, and there are 2"),
        (2, 9, {"rows": 0, "tokens": 1000}, "round_tokens=1000.*it has [0-9]+ tokens at most"),
    ],
)
def test_a_shortfall_names_both_numbers(hard, easy, size, message):
    with pytest.raises(UserError, match=message):
        curriculum.draw_round(side("hard", hard), side("easy", easy), share=0.3, seed=1, **size)


def test_a_budget_smaller_than_any_row_still_teaches_one():
    assert len(curriculum.draw_round(side("hard", 3, 9), side("easy", 3, 9), 0.0, 0, tokens=2, seed=1)) == 1


def test_a_round_is_a_function_of_its_seed():
    def drawn(seed):
        return list(curriculum.draw_round(side("hard", 30), side("easy", 30), 0.5, 10, 0, seed)["id"])

    assert drawn(1) == drawn(1)
    assert set(drawn(1)) != set(drawn(2))


def test_realised_shares_count_rows_and_tokens():
    three = rows("row", 3)
    shares = curriculum.realised_shares(three, pool_ids={three["id"][0]}, tokens=[6, 1, 1])
    assert shares == {"rows": pytest.approx(1 / 3), "tokens": 0.75}
