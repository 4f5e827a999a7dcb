"""Find the rows that are hard for a student, and draw a round with them (TAPIR, 3)."""

from random import Random

import numpy as np
from datasets import Dataset, concatenate_datasets

from lib import records
from lib.errors import UserError

THRESHOLD = 2.0  # the paper's, from secondary sources
Side = tuple[Dataset, list[int]]  # rows, and the response tokens of each


def mfd(oracle_score: float | None, student_score: float | None) -> float | None:
    """Return the model fitting difficulty, -9 to 9; None where a score is unread.

    The oracle's score - the student's: high means hard for *this* student. Public texts on TAPIR print the
    opposite sign and still keep the high ones; the sign is fixed here.
    """
    if oracle_score is None or student_score is None:
        return None
    return oracle_score - student_score


def is_hard(value: float | None, threshold: float) -> bool | None:
    """Say whether an MFD reaches `threshold`; None, neither hard nor easy, stays None."""
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


def draw_round(hard: Side, rest: Side, share: float, rows: int, tokens: int, seed: int) -> Dataset:
    """Draw D_r without replacement: a share of hard rows, the others from the rest.

    The size is `rows`, or, where `tokens` is above 0, the number of rows whose response tokens come nearest
    to it. Raises UserError naming both numbers where a side has too few rows.
    """
    hard_order, rest_order = _shuffled(hard, f"{seed} hard"), _shuffled(rest, f"{seed} rest")
    size = rows
    if tokens:
        drawn = (hard[1], hard_order), (rest[1], rest_order)
        sums = [np.cumsum([0, *(counts[i] for i in order)]) for counts, order in drawn]
        size = _size_for(tokens, share, *sums)
    hard_rows = round(size * share)
    parts = (hard, hard_order, hard_rows, "hard"), (rest, rest_order, size - hard_rows, "other")
    return concatenate_datasets([_take(*part) for part in parts])


def _shuffled(side: Side, seed: str) -> list[int]:
    positions = list(range(len(side[1])))
    Random(seed).shuffle(positions)
    return positions


def _take(side: Side, order: list[int], count: int, name: str) -> Dataset:
    if count > len(order):
        change = "lower" if name == "hard" else "raise"  # alpha is the share of hard rows
        raise UserError(
            f"alpha: the round needs {count} {name} rows, and there are {len(order)}. Lower round_rows or "
            f"round_tokens, or {change} alpha."
        )
    return records.take_rows(side[0], order[:count])


def _size_for(tokens: int, share: float, hard_sums: np.ndarray, rest_sums: np.ndarray) -> int:
    """Return the number of rows whose tokens come nearest to `tokens`.

    The sums are the response tokens of a side's first 0, 1, 2, … rows.
    """
    sizes = np.arange(len(hard_sums) + len(rest_sums))
    hard = np.rint(sizes * share).astype(int)
    enough = (hard < len(hard_sums)) & (sizes - hard < len(rest_sums))
    totals = hard_sums[hard[enough]] + rest_sums[(sizes - hard)[enough]]
    if totals[-1] < tokens:
        raise UserError(
            f"round_tokens={tokens}: with a share of {share:g} hard rows it has {totals[-1]} tokens at most. "
            "Lower round_tokens or alpha, or enlarge the pool or the corpus."
        )
    size = int(np.searchsorted(totals, tokens))
    return min((size, max(size - 1, 1)), key=lambda n: abs(totals[n] - tokens))


def realised_shares(rows: Dataset, pool_ids: set[str], tokens: list[int]) -> dict[str, float]:
    """Return the share of pool rows in a round, by rows and by response tokens."""
    hard = [row_id in pool_ids for row_id in rows["id"][:]]
    hard_tokens = sum(count for count, is_hard in zip(tokens, hard, strict=True) if is_hard)
    return {"rows": sum(hard) / len(hard), "tokens": hard_tokens / sum(tokens)}
