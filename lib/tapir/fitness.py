"""Whether a judge is fit to choose rows by: what its verdicts in both orders say after the first forty."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from datasets import Dataset

from lib.errors import UserError
from lib.tapir import judge

PILOT = 20  # pairs that are judged in both orders before all others: forty verdicts
ONE_PLACE = 0.9  # share of the verdicts with a winner from which on the place decides
FEWEST = 10  # verdicts with a winner that this share can be taken of


class UnfitJudge(UserError):
    """The judge's verdicts cannot be read, or do not depend on the responses."""


class Fitness(NamedTuple):
    """Counts over pairs that were read in both orders: two verdicts a pair."""

    pairs: int
    first: int  # verdicts that prefer the response shown first
    second: int
    agreed: int  # pairs whose two orders have the same outcome

    @property
    def chance(self) -> float:
        """Pairs in which a judge that sees only the places would agree with itself."""
        verdicts = max(2 * self.pairs, 1)
        first, second = self.first / verdicts, self.second / verdicts
        return self.pairs * (2 * first * second + (1 - first - second) ** 2)


def measure(rows: Dataset) -> Fitness:
    """Count how the verdicts on these rows depend on the places."""
    gaps = judge.by_order(rows)
    first = pd.concat(
        [gaps["oracle_first"], -gaps["student_first"]]
    )  # score shown first - score shown second
    signs = np.sign(gaps)
    agreed = int((signs["oracle_first"] == signs["student_first"]).sum())
    return Fitness(len(gaps), int((first > 0).sum()), int((first < 0).sum()), agreed)


def reason(fitness: Fitness) -> str:
    """Say why a judge is unfit to choose rows by, with its numbers; empty for a fit one."""
    decided = fitness.first + fitness.second
    place = "first" if fitness.first > fitness.second else "second"
    reasons = []
    if decided >= FEWEST and max(fitness.first, fitness.second) >= ONE_PLACE * decided:
        count = max(fitness.first, fitness.second)
        reasons += [f"it prefers the response shown {place} in {count} of {decided} verdicts with a winner"]
    if fitness.pairs and fitness.agreed <= fitness.chance:
        reasons += [
            f"its two orders have the same outcome in {fitness.agreed} of {fitness.pairs} pairs, where a judge "
            f"that sees only the places would reach {fitness.chance:.1f}"
        ]
    return ", and ".join(reasons)


def check(rows: Dataset, model: str) -> str:
    """Return why the judge `model` is unfit, with the ways out; empty for a fit one."""
    counts, fitness = judge.tally(rows), measure(rows)
    unread = 2 * fitness.pairs < len(rows)
    why = (
        f"{judge.describe(counts)}, both orders of {fitness.pairs} of {len(rows)} pairs"
        if unread
        else reason(fitness)
    )
    return why and (
        f"The judge {model} is unfit to choose rows by: {why}. Take another judge (judge_model), or let a small one score by its "
        "probabilities (judge_scores=expected); unfit_judge=warn goes on with this one."
    )
