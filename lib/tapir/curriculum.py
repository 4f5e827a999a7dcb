"""The curriculum: what is hard for this student, and how much of it each round teaches (TAPIR, section 3)."""

from random import Random

from datasets import Dataset, concatenate_datasets

from lib import records
from lib.errors import UserError


def mfd(oracle_score: float | None, student_score: float | None) -> float | None:
    """Model fitting difficulty: the oracle's score minus the student's, -9 to 9; None where one is unread.

    High means hard for *this* student. Public texts on TAPIR print the opposite sign and still keep the high
    ones; the sign is fixed here.
    """
    if oracle_score is None or student_score is None:
        return None
    return oracle_score - student_score


def is_hard(value: float | None, threshold: float) -> bool | None:
    """Whether an MFD counts as hard (at least `threshold`); None stays None: neither hard nor easy."""
    return None if value is None else value >= threshold


def share_of_hard(round: int, alpha: float, alpha_step: float) -> float:
    """alpha_r = alpha + (r - 1) * alpha_step, the share of hard rows in round r (counted from 1).

    Raises UserError outside [0, 1].
    """
    share = alpha + (round - 1) * alpha_step
    if not -1e-9 <= share <= 1 + 1e-9:
        raise UserError(
            f"alpha={alpha} and alpha_step={alpha_step} give a share of {share:g} in round {round}"
        )
    return min(max(share, 0.0), 1.0)


def draw_round(
    hard: tuple[Dataset, list[int]],
    rest: tuple[Dataset, list[int]],
    share: float,
    rows: int,
    tokens: int,
    seed: int,
) -> Dataset:
    """D_r: `share` of its rows from the pool of hard rows, the others from the rest, without replacement.

    Each side is (rows, response tokens row by row). The size is `rows`, or, where `tokens` is above 0, the
    number of rows whose response tokens come nearest to it. Raises UserError naming both numbers when a side
    has too few rows.
    """
    sides = [_shuffled(lengths, f"{seed} {name}") for (_, lengths), name in ((hard, "hard"), (rest, "rest"))]
    size = _size_for(tokens, share, [sums for _, sums in sides]) if tokens else rows
    wanted = _counts(size, share)
    for name, count, (order, _) in zip(("hard", "other"), wanted, sides, strict=True):
        if count > len(order):
            raise UserError(
                f"the round needs {count} {name} rows and has {len(order)}: lower its size or alpha"
            )
    orders = [order[:count] for count, (order, _) in zip(wanted, sides, strict=True)]
    return concatenate_datasets(
        [records.take_rows_in_order(hard[0], orders[0]), records.take_rows_in_order(rest[0], orders[1])]
    )


def _counts(size: int, share: float) -> tuple[int, int]:
    hard = round(size * share)
    return hard, size - hard


def _shuffled(tokens: list[int], seed: str) -> tuple[list[int], list[int]]:
    """The positions of rows in a random order, and the running sum of their tokens (its entry 0 is 0)."""
    order = list(range(len(tokens)))
    Random(seed).shuffle(order)
    sums = [0]
    for i in order:
        sums.append(sums[-1] + tokens[i])
    return order, sums


def _size_for(tokens: int, share: float, sums: list[list[int]]) -> int:
    """The number of rows whose tokens come nearest to the budget; raises UserError when all rows do not reach it."""

    def total(size: int) -> int:
        return sum(side[count] for count, side in zip(_counts(size, share), sums, strict=True))

    size = 0
    while total(size) < tokens:
        size += 1
        if any(count >= len(side) for count, side in zip(_counts(size, share), sums, strict=True)):
            raise UserError(
                f"a round of {tokens} response tokens with a share of {share:g} hard rows runs out of rows at "
                f"{total(size - 1)} tokens: lower round_tokens or alpha, or enlarge the pool or the corpus"
            )
    return min((size, max(size - 1, 1)), key=lambda n: abs(total(n) - tokens))


def realised_shares(rows: Dataset, pool_ids: set[str], tokens: list[int]) -> dict[str, float]:
    """The share of pool rows in a round, by rows and by response tokens."""
    inside = [row_id in pool_ids for row_id in rows["id"][:]]
    counted = sum(t for t, from_pool in zip(tokens, inside, strict=True) if from_pool)
    return {"rows": sum(inside) / len(inside), "tokens": counted / sum(tokens)}
