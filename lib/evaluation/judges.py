"""Compare a judge with recorded verdicts on the same pairs.

A pair's gap is the mean over both orders of (score of the first response - score of the second); its winner
is the gap's sign, 0 a tie. Verdicts that were recorded in one order only have the gap of that order.
"""

import json
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from datasets import Dataset
from scipy.stats import rankdata

from lib import records
from lib.evaluation.statistics import LEVEL
from lib.tapir import fitness, judge

RESAMPLES = 1000
WINNERS = (-1, 0, 1)  # the second response, none, the first
CHOOSING = 1 / 3  # overlap of the hard pairs at DELTA from which on half of those of one are the other's, too
DELTA = 2  # TAPIR's threshold
REPORTING = 0.4  # kappa from which on agreement is called moderate (Landis and Koch, 1977)
FEWEST = 20  # pairs that a verdict on a judge needs
FEWEST_MODELS = 3  # that a line through win rates is fitted and tested on


def gaps(rows: Dataset, orders: Sequence[str] = judge.ORDERS) -> np.ndarray:
    """Return each pair's gap, of shape (rows,); NaN unless all `orders` were read."""
    positions = [judge.ORDERS.index(order) for order in orders]
    return by_order(rows)[:, positions].mean(axis=1)


def by_order(rows: Dataset) -> np.ndarray:
    """Return the gap in each of judge.ORDERS, of shape (rows, 2); NaN where it was not read."""
    latest = (judge.latest(row["verdicts"]) for row in records.iter_rows(rows, "verdicts"))
    gaps = [[np.subtract(*each.get(order, (np.nan, 0))) for order in judge.ORDERS] for each in latest]
    return np.array(gaps, float).reshape(-1, 2)


def recorded_orders(rows: Dataset) -> tuple[str, ...]:
    """Return the orders in which any verdict was recorded."""
    recorded = {
        verdict["order"] for row in records.iter_rows(rows, "verdicts") for verdict in row["verdicts"]
    }
    return tuple(order for order in judge.ORDERS if order in recorded)


def longer(rows: Dataset) -> np.ndarray:
    """Return how many characters longer each first response is: what a judge of lengths alone would say."""
    responses = records.iter_rows(rows, "oracle_response", "student_response")
    return np.array([len(row["oracle_response"]) - len(row["student_response"]) for row in responses], float)


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


def metrics(
    measured: pd.DataFrame, rows: Dataset, recorded: np.ndarray, orders: Sequence[str] = judge.ORDERS
) -> dict[str, float]:
    """Return the metrics of a judge whose verdicts in these `orders` are in `rows`, by name."""
    own, cut, own_gaps = fitness.agreement(rows), judge.tally(rows)["cut"], gaps(rows, orders)
    read, decided = ~np.isnan(by_order(rows)), own.first + own.second
    values = {f"judge.{name}": score for name, score in measured["score"].items()}
    for end in ("low", "high"):
        values |= {f"judge.{name}_{end}": value for name, value in measured[end].items()}
    return values | {
        "judge.order_agreement": own.order_agreement,
        "judge.first_place_share": own.first / decided if decided else float("nan"),
        "judge.length_correlation": own.length_correlation,
        "judge.unread": 1 - read.sum() / (len(rows) * len(orders)),
        "judge.truncated": cut / (len(rows) * len(orders)),
        "judge.n": int((~np.isnan(own_gaps) & ~np.isnan(recorded)).sum()),
    }


def scores(rows: Dataset, judged: np.ndarray, recorded: np.ndarray) -> pd.DataFrame:
    """Tabulate what holds of single pairs, as other benchmarks' scores: 1 or 0, null where it is unknown."""
    both_read, signs = ~np.isnan(judged) & ~np.isnan(recorded), np.sign(by_order(rows))
    columns = {
        "judge.winner_agreement": np.where(both_read, np.sign(judged) == np.sign(recorded), np.nan),
        "judge.order_agreement": np.where(np.isnan(signs).any(1), np.nan, signs[:, 0] == signs[:, 1]),
    }
    table = pd.DataFrame(columns, dtype=float).assign(id=rows["id"][:])
    return table.melt("id", var_name="metric", value_name="score").assign(stratum="", weight=1.0)


def fit_for(
    measured: pd.DataFrame, by_length: pd.DataFrame, metrics: dict[str, float], unfit: str = ""
) -> str:
    """Say in words what a judge is fit for; `unfit` is the sentence of `fitness.unfit`.

    It may choose rows where its gaps follow the recorded ones more closely than the lengths of the responses
    do, by the low end of its interval, and its hard pairs are CHOOSING the recorded ones. It may report where
    the low end of kappa is moderate. The rules are ours.
    """
    if metrics["judge.n"] < FEWEST:
        return f"**Not known**: only {metrics['judge.n']:,} pairs were read by both. {unfit}".strip()
    correlation, kappa = measured.loc["gap_correlation"], measured.loc["kappa"]
    length, hard = by_length.loc["gap_correlation", "score"], measured.loc[f"hard_overlap_{DELTA}"]
    readable = metrics["judge.unread"] <= judge.MAX_UNREAD and not unfit
    uses = {
        "choosing rows": readable and correlation["low"] > max(length, 0) and hard["score"] >= CHOOSING,
        "reporting": readable and kappa["low"] >= REPORTING,
    }
    fit = [use for use, holds in uses.items() if holds]
    head = f"**Fit for {' and for '.join(fit) or 'neither choosing rows nor reporting'}**"
    return (
        f"{head}: its gaps correlate with the recorded ones by {_interval(correlation)}, the lengths of the "
        f"responses do by {length:.2f}; the hard pairs at δ = {DELTA} overlap {_interval(hard)}; κ of the "
        f"winners is {_interval(kappa)}. {unfit}"
    ).strip()


def _interval(line: pd.Series) -> str:
    return f"{line['score']:.2f} [{line['low']:.2f}, {line['high']:.2f}]"


def win_rates(pairs: Dataset, judged: np.ndarray, recorded: np.ndarray) -> pd.DataFrame:
    """Tabulate AlpacaEval's models: pairs, win rates in percent, recorded, by this judge, and calibrated.

    A win counts 1, a tie half, over the pairs that both judges read; a recorded one counts as its share, so
    that over all pairs it is the published win rate. The calibrated one is that of a line from judged to
    recorded rates, fitted to all other models, and `error` its distance from the recorded rate; null for
    fewer than FEWEST_MODELS others. Empty without pairs of AlpacaEval.
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
        if len(others) >= FEWEST_MODELS and others["judged"].nunique() > 1:
            line = np.polyfit(others["judged"], others["recorded"], 1)
            rates.loc[model, "calibrated"] = np.clip(np.polyval(line, rates.loc[model, "judged"]), 0, 100)
    rates["error"] = (rates["calibrated"] - rates["recorded"]).abs()
    return rates[["pairs", "recorded", "judged", "calibrated", "error"]]
