"""Compare a judge with recorded verdicts on the same pairs.

A pair's gap is the mean over both orders of (score of the first response - score of the second); its winner
is the gap's sign, 0 a tie. Verdicts that were recorded in one order only have the gap of that order.
"""

import json
from collections.abc import Callable

import numpy as np
import pandas as pd
from datasets import Dataset
from scipy.stats import rankdata

from lib import records
from lib.evaluation.statistics import LEVEL
from lib.tapir import fitness, judge

RESAMPLES = 1000
WINNERS = (-1, 0, 1)  # the second response, none, the first
DELTA = 2  # TAPIR's threshold
MIN_OVERLAP = 1 / 3  # of the hard pairs at DELTA: half of each of two sets of one size [ours]
MIN_KAPPA = 0.4  # from which on agreement is called moderate (Landis and Koch, 1977)
MIN_PAIRS = 20  # that a statement about a judge needs [ours]
MIN_MODELS = 3  # that a line through win rates is fitted to [ours]


def gaps(rows: Dataset, both: bool = False) -> np.ndarray:
    """Return each pair's gap, of shape (rows,); NaN unless all its orders were read.

    These are the orders of its verdicts, or with `both` two: a call that failed leaves none.
    """
    values, shown = fitness.gaps_by_order(rows), orders(rows) | both
    unread = (shown & np.isnan(values)).any(axis=1) | ~shown.any(axis=1)
    sums = np.where(shown, values, 0).sum(axis=1)
    return np.where(unread, np.nan, sums / np.maximum(shown.sum(axis=1), 1))


def orders(rows: Dataset) -> np.ndarray:
    """Say which of judge.ORDERS have a verdict, read or not; of shape (rows, 2)."""
    shown = ({verdict["order"] for verdict in row["verdicts"]} for row in records.iter_rows(rows, "verdicts"))
    return np.array([[order in each for order in judge.ORDERS] for each in shown], bool).reshape(-1, 2)


def _winner_agreement(a: np.ndarray, b: np.ndarray) -> float:
    return float((np.sign(a) == np.sign(b)).mean())


def _kappa(a: np.ndarray, b: np.ndarray) -> float:
    by_chance = sum((np.sign(a) == winner).mean() * (np.sign(b) == winner).mean() for winner in WINNERS)
    return float((_winner_agreement(a, b) - by_chance) / (1 - by_chance)) if by_chance < 1 else np.nan


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1]) if len(a) > 1 else np.nan


def _overlap_at(threshold: float) -> Callable[[np.ndarray, np.ndarray], float]:
    return lambda a, b: fitness.overlap(a >= threshold, b >= threshold)


MEASURES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "winner_agreement": _winner_agreement,
    "kappa": _kappa,  # Cohen's, over win, tie and loss
    "gap_correlation": _rank_correlation,  # Spearman's
    **{f"hard_overlap_{threshold}": _overlap_at(threshold) for threshold in fitness.THRESHOLDS},  # Jaccard
}


def agreement(judged: np.ndarray, recorded: np.ndarray) -> pd.DataFrame:
    """Measure the agreement of two judges' gaps on the pairs that both read: score, low, high by measure.

    Intervals (95 %) resample pairs. NaN where a measure is not defined.
    """
    both_read = ~np.isnan(judged) & ~np.isnan(recorded)
    a, b, rng = judged[both_read], recorded[both_read], np.random.default_rng(0)
    picks = rng.integers(len(a), size=(RESAMPLES, len(a))) if len(a) else []
    lines = {}
    with np.errstate(invalid="ignore", divide="ignore"):
        for name, measure in MEASURES.items():
            draws = [measure(a[pick], b[pick]) for pick in picks]
            low, high = np.nanpercentile(draws, LEVEL) if np.isfinite(draws).any() else (np.nan, np.nan)
            lines[name] = (measure(a, b) if len(a) else np.nan, low, high)
    return pd.DataFrame.from_dict(lines, orient="index", columns=["score", "low", "high"])


def of_two_orders(correlation: float) -> float:
    """Return how two means over both orders would correlate, by how one order does with the other.

    Spearman-Brown: a judge as good as the recorded one, but for noise, cannot be expected to do better.
    """
    return 2 * correlation / (1 + correlation)


def metrics(measured: pd.DataFrame, rows: Dataset, recorded: np.ndarray, both: bool) -> dict[str, float]:
    """Return the metrics of a judge whose verdicts are in `rows`, by name; `both` as in `gaps`."""
    own, tally, own_gaps = fitness.agreement(rows), judge.tally(rows), gaps(rows, both)
    shown = max((orders(rows) | both).sum(), 1)
    decided = own.first + own.second
    values = {f"judge.{name}": score for name, score in measured["score"].items()}
    for end in ("low", "high"):
        values |= {f"judge.{name}_{end}": value for name, value in measured[end].items()}
    return values | {
        "judge.order_agreement": own.order_agreement,
        "judge.first_place_share": own.first / decided if decided else float("nan"),
        "judge.length_correlation": own.length_correlation,
        "judge.unread": float(1 - tally["read"] / shown),
        "judge.truncated": float(tally["cut"] / shown),
        "judge.n": int((~np.isnan(own_gaps) & ~np.isnan(recorded)).sum()),
    }


def scores(rows: Dataset, judged: np.ndarray, recorded: np.ndarray) -> pd.DataFrame:
    """Tabulate what holds of single pairs, as other benchmarks' scores: 1 or 0, null where it is unknown."""
    both_read, signs = ~np.isnan(judged) & ~np.isnan(recorded), np.sign(fitness.gaps_by_order(rows))
    columns = {
        "judge.winner_agreement": np.where(both_read, np.sign(judged) == np.sign(recorded), np.nan),
        "judge.order_agreement": np.where(np.isnan(signs).any(1), np.nan, signs[:, 0] == signs[:, 1]),
    }
    table = pd.DataFrame(columns, dtype=float).assign(id=rows["id"][:])
    return table.melt("id", var_name="metric", value_name="score").assign(stratum="", weight=1.0)


def describe_fitness(
    measured: pd.DataFrame, by_length: pd.DataFrame, metrics: dict[str, float], unfit: str = ""
) -> str:
    """Say in words what a judge is fit for; `unfit` is the sentence of `fitness.unfit`.

    It may choose rows where its gaps follow the recorded ones more closely than the lengths of the responses
    do, by the low end of its interval, and its hard pairs overlap the recorded ones by MIN_OVERLAP. It may
    report where the low end of kappa is MIN_KAPPA. The rules are ours.
    """
    if metrics["judge.n"] < MIN_PAIRS:
        return f"**Not known**: only {metrics['judge.n']:,} pairs were read by both. {unfit}".strip()
    correlation, kappa = measured.loc["gap_correlation"], measured.loc["kappa"]
    length, hard = by_length.loc["gap_correlation", "score"], measured.loc[f"hard_overlap_{DELTA}"]
    readable = metrics["judge.unread"] <= judge.MAX_UNREAD and not unfit
    is_better = correlation["low"] > max(np.nan_to_num(length), 0)
    uses = {
        "choosing rows": readable and is_better and hard["score"] >= MIN_OVERLAP,
        "reporting": readable and kappa["low"] >= MIN_KAPPA,
    }
    fit = [use for use, holds in uses.items() if holds]
    head = f"**Fit for {' and for '.join(fit) or 'neither choosing rows nor reporting'}**"
    return (
        f"{head}: its gaps correlate with the recorded ones by {_interval(correlation)}, the lengths of the "
        f"responses do by {length:.2f}; the hard pairs at δ = {DELTA} overlap by {_interval(hard)}; κ of the "
        f"winners is {_interval(kappa)}. {unfit}"
    ).strip()


def _interval(line: pd.Series) -> str:
    if np.isnan(line["score"]):
        return "an undefined amount"
    return f"{line['score']:.2f} [{line['low']:.2f}, {line['high']:.2f}]"


def win_rates(pairs: Dataset, judged: np.ndarray, recorded: np.ndarray) -> pd.DataFrame:
    """Tabulate AlpacaEval's models: pairs, win rates in percent, recorded, by this judge, and calibrated.

    A win counts 1, a tie half, over the pairs that both judges read; a recorded one counts as its share, so
    that over all pairs it is the published win rate. The calibrated one is that of a line from judged to
    recorded rates, fitted to all other models, and `error` its distance from the recorded rate; null for
    fewer than MIN_MODELS others. Empty without pairs of AlpacaEval.
    """
    table = pd.DataFrame({"gap": judged, "recorded": recorded, "source": pairs["source"][:]})
    table["meta"] = pairs["meta"][:]
    table = table[table["source"] == "alpaca_eval"].dropna(subset=["gap", "recorded"])
    table["model"] = [json.loads(meta)["models"][1] for meta in table["meta"]]
    table["judged"] = 50 * (1 - np.sign(table["gap"]))
    table["recorded"] = 100 * (9 - table["recorded"]) / 18
    grouped = table.groupby("model")
    rates = grouped[["recorded", "judged"]].mean().assign(pairs=grouped.size(), calibrated=np.nan)
    for model in rates.index:
        others = rates.drop(index=model)
        if len(others) >= MIN_MODELS and others["judged"].nunique() > 1:
            line = np.polyfit(others["judged"], others["recorded"], 1)
            rates.loc[model, "calibrated"] = np.clip(np.polyval(line, rates.loc[model, "judged"]), 0, 100)
    rates["error"] = (rates["calibrated"] - rates["recorded"]).abs()
    return rates[["pairs", "recorded", "judged", "calibrated", "error"]]
