"""Measure from its two orders whether a judge is fit to choose rows by."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from datasets import Dataset

from lib import records
from lib.errors import UserError
from lib.tapir import judge

PILOT = 20  # pairs that are judged in both orders before all others: forty verdicts
ONE_PLACE = 0.9  # share of the verdicts with a winner from which on the place decides
FEWEST = 10  # verdicts with a winner that this share is computed from
THRESHOLDS = (1, 2, 3)  # of MFD, at which the hard rows of the two orders are compared


class UnfitJudge(UserError):
    """The judge's verdicts cannot be read, or do not depend on the responses."""


class Agreement(NamedTuple):
    """What the two orders say, over pairs that were read in both."""

    pairs: int
    same: int  # pairs whose two orders have the same outcome; a tie is an outcome, too
    first: int  # verdicts that prefer the response shown first
    second: int
    position_bias: float  # mean advantage, in points, of the response shown first
    spread: float  # sd, in points, of a score in one order around its mean, were the errors independent
    length_correlation: float  # Spearman: oracle - student in score (mean of orders), in characters
    hard_overlap: dict[int, float]  # Jaccard, by threshold, of the pairs that each order alone calls hard

    @property
    def order_agreement(self) -> float:
        """Share of pairs whose two orders have the same outcome, 0 to 1."""
        return self.same / self.pairs if self.pairs else float("nan")

    @property
    def same_by_chance(self) -> float:
        """Pairs in which a judge that sees only the places would agree with itself."""
        first, second = (count / max(2 * self.pairs, 1) for count in (self.first, self.second))
        return self.pairs * (2 * first * second + (1 - first - second) ** 2)


def agreement(rows: Dataset, reference: str = "oracle_response") -> Agreement:
    """Compare the gaps, `reference`'s score - student's, of both orders."""
    scores = [judge.latest(row["verdicts"]) for row in records.iter_rows(rows, "verdicts")]
    both = {i: pair for i, pair in enumerate(scores) if pair.keys() >= set(judge.ORDERS)}
    gaps = np.array([[pair[order][0] - pair[order][1] for order in judge.ORDERS] for pair in both.values()])
    gaps = gaps.reshape(-1, 2)
    oracle_first, student_first = gaps.T
    advantage = oracle_first - student_first  # twice that of the place
    shown_first = np.concatenate([oracle_first, -student_first])
    responses = records.iter_rows(rows, reference, "student_response")
    lengths = [len(row[reference] or "") - len(row["student_response"] or "") for row in responses]
    return Agreement(
        pairs=len(gaps),
        same=int((np.sign(oracle_first) == np.sign(student_first)).sum()),
        first=int((shown_first > 0).sum()),
        second=int((shown_first < 0).sum()),
        position_bias=float(pd.Series(advantage).mean() / 2),
        spread=float(pd.Series(advantage).std() / 2),
        length_correlation=_spearman(gaps.mean(axis=1), [lengths[i] for i in both]),
        hard_overlap={threshold: _overlap(gaps >= threshold) for threshold in THRESHOLDS},
    )


def _spearman(a, b) -> float:
    return float(pd.Series(a).rank().corr(pd.Series(b, dtype=float).rank()))


def _overlap(hard: np.ndarray) -> float:
    either = hard.any(axis=1).sum()
    return float(hard.all(axis=1).sum() / either) if either else float("nan")


def averages(rows: Dataset) -> dict[str, tuple[float, float]]:
    """Return the mean (oracle, student) score by order, over the verdicts read."""
    scores = [judge.latest(row["verdicts"]) for row in records.iter_rows(rows, "verdicts")]
    by_order = {order: [pair[order] for pair in scores if order in pair] for order in judge.ORDERS}
    return {
        order: tuple(sum(side) / len(side) for side in zip(*pairs, strict=True))
        for order, pairs in by_order.items()
    }


def check(rows: Dataset, model: str) -> str:
    """Say why the judge `model` is unfit, with the ways out; empty for a fit one."""
    trust, reasons = agreement(rows), []
    decided, most = trust.first + trust.second, max(trust.first, trust.second)
    if decided >= FEWEST and most >= ONE_PLACE * decided:
        side = "first" if most == trust.first else "second"
        reasons += [f"it prefers the response shown {side} in {most} of {decided} verdicts with a winner"]
    if trust.pairs and trust.same <= trust.same_by_chance:
        reasons += [
            f"its two orders have the same outcome in {trust.same} of {trust.pairs} pairs, where a judge "
            f"that sees only the places would reach {trust.same_by_chance:.1f}"
        ]
    if 2 * trust.pairs < len(rows):
        counts = judge.describe(judge.tally(rows))
        reasons = [f"{counts}, both orders of {trust.pairs} of {len(rows)} pairs"]
    if not reasons:
        return ""
    return (
        f"The judge {model} is unfit to choose rows by: {', and '.join(reasons)}. Take another judge "
        "(judge), or let a small one score by its probabilities (judge_scores=expected); "
        "unfit_judge=warn goes on with this one."
    )
