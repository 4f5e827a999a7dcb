"""Which rows are hard for this student, and their share of a round (TAPIR, 3)."""

from itertools import accumulate
from random import Random

from datasets import Dataset, concatenate_datasets

from lib import records
from lib.errors import UserError


def mfd(oracle_score: float | None, student_score: float | None) -> float | None:
    """Model fitting difficulty: oracle's score - student's, -9 to 9; None for unread.

    High means hard for *this* student. Public texts on TAPIR print the opposite sign and still keep the high
    ones; the sign is fixed here.
    """
    if oracle_score is None or student_score is None:
        return None
    return oracle_score - student_score


def is_hard(value: float | None, threshold: float) -> bool | None:
    """Whether an MFD reaches `threshold`; None stays None: neither hard nor easy."""
    return None if value is None else value >= threshold


def share_of_hard(round: int, alpha: float, alpha_step: float) -> float:
    """Return alpha + (r - 1) * alpha_step, the share of hard rows in round r >= 1.

    Raises UserError outside [0, 1].
    """
    share = alpha + (round - 1) * alpha_step
    if not -1e-9 <= share <= 1 + 1e-9:
        raise UserError(
            f"alpha={alpha} and alpha_step={alpha_step} give a share of {share:g} in round {round}. "
            "Keep it in [0, 1]."
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
    """Draw D_r without replacement: a share of hard rows, the others from the rest.

    Each side is (rows, response tokens row by row). The size is `rows`, or, where `tokens` is above 0, the
    number of rows whose response tokens come nearest to it. Raises UserError naming both numbers where a side
    has too few rows.
    """
    orders = [_shuffled(len(side[1]), f"{seed} {name}") for side, name in ((hard, "hard"), (rest, "rest"))]
    lengths = [[side[1][i] for i in order] for side, order in zip((hard, rest), orders, strict=True)]
    sums = [list(accumulate(side, initial=0)) for side in lengths]
    counts = _counts(_size_for(tokens, share, sums) if tokens else rows, share)
    for name, count, order in zip(("hard", "other"), counts, orders, strict=True):
        if count > len(order):
            raise UserError(
                f"the round needs {count} {name} rows and has {len(order)}. Lower its size or alpha."
            )
    parts = zip((hard[0], rest[0]), orders, counts, strict=True)
    return concatenate_datasets([records.take_rows(side, order[:count]) for side, order, count in parts])


def _shuffled(size: int, seed: str) -> list[int]:
    positions = list(range(size))
    Random(seed).shuffle(positions)
    return positions


def _counts(size: int, share: float) -> tuple[int, int]:
    hard = round(size * share)
    return hard, size - hard


def _size_for(tokens: int, share: float, sums: list[list[int]]) -> int:
    """Return the number of rows whose tokens come nearest; `sums` are running ones.

    Raises UserError where all rows together do not reach it.
    """

    def total(size: int) -> int:
        return sum(side[count] for count, side in zip(_counts(size, share), sums, strict=True))

    size = 0
    while total(size) < tokens:
        size += 1
        if any(count >= len(side) for count, side in zip(_counts(size, share), sums, strict=True)):
            raise UserError(
                f"round_tokens={tokens}: a round with a share of {share:g} hard rows runs out of rows at "
                f"{total(size - 1)} tokens. Lower round_tokens or alpha, or enlarge the pool or the corpus."
            )
    return min((size, max(size - 1, 1)), key=lambda n: abs(total(n) - tokens))


def realised_shares(rows: Dataset, pool_ids: set[str], tokens: list[int]) -> dict[str, float]:
    """Return the share of pool rows in a round, by rows and by response tokens."""
    hard = [row_id in pool_ids for row_id in rows["id"][:]]
    hard_tokens = sum(count for count, is_hard in zip(tokens, hard, strict=True) if is_hard)
    return {"rows": sum(hard) / len(hard), "tokens": hard_tokens / sum(tokens)}
