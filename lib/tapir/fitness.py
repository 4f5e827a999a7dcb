"""Measure from its two orders whether a judge is fit to choose rows by."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd
from datasets import Dataset

from lib import records
from lib.tapir import judge

PILOT = 20  # pairs that are judged in both orders before all others: forty verdicts
ONE_PLACE = 0.9  # share of the verdicts with a winner from which on the place decides
FEWEST = 10  # verdicts with a winner that this share is computed from
THRESHOLDS = (1, 2, 3)  # of MFD, at which the hard rows of the two orders are compared


class Agreement(NamedTuple):
    """What the two orders say, over pairs that were read in both."""

    pairs: int
    same: int  # pairs whose two orders have the same outcome; a tie is an outcome, too
    first: int  # verdicts that prefer the response shown first
    second: int
    position_bias: float  # mean advantage, in points, of the response shown first
    spread: float  # sd, in points, of a score in one order around its mean, were the errors independent
    length_correlation: float  # Spearman: oracle - student in score (mean of orders), in characters
    hard_overlap: dict[float, float]  # Jaccard, by threshold, of the pairs that each order alone calls hard

    @property
    def order_agreement(self) -> float:
        """Share of pairs whose two orders have the same outcome, 0 to 1."""
        return self.same / self.pairs if self.pairs else float("nan")

    @property
    def same_by_chance(self) -> float:
        """Pairs in which a judge that sees only the places would agree with itself."""
        first, second = (count / max(2 * self.pairs, 1) for count in (self.first, self.second))
        return self.pairs * (2 * first * second + (1 - first - second) ** 2)


def agreement(
    rows: Dataset, reference: str = "oracle_response", thresholds: Iterable[float] = THRESHOLDS
) -> Agreement:
    """Compare the gaps, `reference`'s score - student's, of both orders."""
    gaps = gaps_by_order(rows)
    oracle_first, student_first = both = gaps[~np.isnan(gaps).any(axis=1)].T
    shown_first = np.concatenate([oracle_first, -student_first])
    advantage = pd.Series(oracle_first - student_first) / 2
    by_row = pd.DataFrame({"gap": gaps.mean(axis=1), "length": length_gaps(rows, reference)})
    return Agreement(
        pairs=len(advantage),
        same=int((np.sign(oracle_first) == np.sign(student_first)).sum()),
        first=int((shown_first > 0).sum()),
        second=int((shown_first < 0).sum()),
        position_bias=float(advantage.mean()),
        spread=float(advantage.std()),
        length_correlation=float(by_row.corr("spearman").loc["gap", "length"]),
        hard_overlap={threshold: overlap(*(both >= threshold)) for threshold in thresholds},
    )


def gaps_by_order(rows: Dataset) -> np.ndarray:
    """Return oracle - student in score, of shape (rows, orders), NaN where unread."""
    oracle, student = np.moveaxis(_scores(rows), 2, 0)
    return oracle - student


def length_gaps(rows: Dataset, reference: str = "oracle_response") -> np.ndarray:
    """Return how many characters longer `reference` is than the student's response, of shape (rows,)."""
    responses = records.iter_rows(rows, reference, "student_response")
    return np.array([len(row[reference] or "") - len(row["student_response"] or "") for row in responses])


def _scores(rows: Dataset) -> np.ndarray:
    """Return scores of shape (rows, orders, (oracle, student)), NaN where unread."""
    latest = [judge.latest(row["verdicts"]) for row in records.iter_rows(rows, "verdicts")]
    scores = [[by_order.get(order, (np.nan, np.nan)) for order in judge.ORDERS] for by_order in latest]
    return np.array(scores, float).reshape(-1, 2, 2)


def overlap(hard: np.ndarray, other: np.ndarray) -> float:
    either = (hard | other).sum()
    return float((hard & other).sum() / either) if either else float("nan")


def averages(rows: Dataset) -> dict[str, tuple[float, float]]:
    """Return the mean (oracle, student) score by order, over the verdicts read."""
    means = np.nanmean(_scores(rows), axis=0).tolist()
    return dict(zip(judge.ORDERS, map(tuple, means), strict=True))


def check(rows: Dataset, model: str) -> str:
    """Say why the judge `model` is unfit, with the ways out; empty for a fit one."""
    why = unfit(rows, model)
    return why and (
        f"{why} Take another judge (judge), or try the probabilities of a small one "
        "(judge_scores=expected); params/judge.yaml measures either. unfit_judge=warn goes on with this one."
    )


def unfit(rows: Dataset, model: str) -> str:
    """Say why the judge `model` is unfit; empty for a fit one."""
    measured, reasons = agreement(rows), []
    decided, most = measured.first + measured.second, max(measured.first, measured.second)
    if decided >= FEWEST and most >= ONE_PLACE * decided:
        side = "first" if most == measured.first else "second"
        reasons += [f"it prefers the response shown {side} in {most} of {decided} verdicts with a winner"]
    if measured.same <= measured.same_by_chance:
        reasons += [
            f"its two orders have the same outcome in {measured.same} of {measured.pairs} pairs, where a "
            f"judge that sees only the places would reach {measured.same_by_chance:.1f}"
        ]
    if 2 * measured.pairs < len(rows):
        counts = judge.describe(judge.tally(rows))
        reasons = [f"{counts}, both orders of {measured.pairs} of {len(rows)} pairs"]
    if not reasons:
        return ""
    return f"The judge {model} is unfit to choose rows by: {', and '.join(reasons)}."
