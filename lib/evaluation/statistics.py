"""Compute means of scores with intervals, and compare two arms on the same rows.

An evaluation stage writes scores.parquet in long form: `metric`, `stratum`, `weight` (of the stratum in that
metric), `id`, `score` (null where nothing could be read) and, where several rows belong together as the turns
of one question do, `group`: groups are resampled whole. A metric is the weighted mean of its strata's means.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import t

RESAMPLES = 2000
LEVEL = (2.5, 97.5)  # percentiles of a 95 % interval
FEW = 20  # rows or groups that differ; fewer bound what an interval and a p may claim
MAX_SCORES = 2_000_000  # that resampling holds at once

Strata = list[tuple[float, np.ndarray, np.ndarray]]  # weight; sum and number of the scores of each group


def means(scores: pd.DataFrame) -> dict[str, float]:
    """Compute every metric of a stage's scores; nan where nothing could be read."""
    return {metric: _mean(_strata(rows)) for metric, rows in scores.groupby("metric")}


def bootstrap_interval(scores: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """Compute the 95 % interval of every metric, rows resampled within their stratum."""
    intervals = {}
    for metric, rows in scores.groupby("metric"):
        draws = _resampled(_strata(rows), np.random.default_rng(0))
        intervals[metric] = tuple(np.percentile(draws, LEVEL).tolist())
    return intervals


def intervals(scores: pd.DataFrame) -> pd.DataFrame:
    """Compute every metric with the ends of its bootstrap interval: score, low, high."""
    bounds = pd.DataFrame.from_dict(bootstrap_interval(scores), orient="index", columns=["low", "high"])
    return bounds.assign(score=means(scores))[["score", "low", "high"]]


def compare(folders_a: list[Path], folders_b: list[Path]) -> dict[str, dict[str, float]]:
    """Compute {metric: {"difference", "low", "high", "p", "n"}} of arm a over arm b.

    Entry i of both lists is the same seed. Rows are paired by metric and id; the n of them with a score in
    both arms and all seeds count. p is two-sided, of no difference. The interval covers the sampling of rows
    and, with several seeds, of trainings. Without such rows the numbers are None, and there is no p. Raises
    ValueError when the two arms were not scored on the same rows.
    """
    pairs = [_paired(_read(a), _read(b)) for a, b in zip(folders_a, folders_b, strict=True)]
    return {metric: _difference(tables) for metric, tables in _by_metric(pairs)}


def across_seeds(folders: list[Path]) -> dict[str, dict[str, float]]:
    """Compute {metric: {"mean", "low", "high"}} of one arm over its seeds.

    Intervals are those of `compare`, but end where scores do. A metric in which no row has a score is left
    out.
    """
    results = {}
    for metric, tables in _by_metric([_read(folder) for folder in folders]):
        mean, draws, rows = _estimated(tables)
        if len(rows):
            scores = pd.concat(tables)["score"]
            ends = np.clip([mean, *np.percentile(draws, LEVEL)], scores.min(), scores.max()).tolist()
            results[metric] = dict(zip(("mean", "low", "high"), ends, strict=True))
    return results


def holm(ps: list[float]) -> list[float]:
    """Correct p-values for their number (Holm, 1979); their order stays."""
    order = np.argsort(ps, kind="stable")
    steps = np.asarray(ps)[order] * np.arange(len(ps), 0, -1)
    corrected = np.maximum.accumulate(np.minimum(steps, 1.0))
    return corrected[np.argsort(order)].tolist()


def _read(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(Path(folder) / "scores.parquet")


def _by_metric(tables: list[pd.DataFrame]) -> Iterator[tuple[str, list[pd.DataFrame]]]:
    """Yield each metric with its rows, one table per seed."""
    for metric in sorted(set(tables[0]["metric"])):
        yield metric, [table[table["metric"] == metric] for table in tables]


def _paired(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """Subtract arm b's scores from arm a's, row by row."""
    keys = ["metric", "id"]
    both = a.merge(b, on=keys, suffixes=("", "_b"), how="outer", indicator=True, validate="one_to_one")
    if unpaired := (both["_merge"] != "both").sum():
        raise ValueError(f"{unpaired} rows were scored in one arm alone. Evaluate both on the same rows.")
    return both.assign(score=both["score"] - both["score_b"])


def _difference(tables: list[pd.DataFrame]) -> dict[str, float | None]:
    mean, draws, rows = _estimated(tables)
    if not len(rows):
        return {"difference": None, "low": None, "high": None, "n": 0}
    low, high = np.percentile(draws, LEVEL).tolist()
    few_low, few_high, least_p = _bounds_of_few(mean, rows)
    rarer = min((draws <= 0).mean(), (draws >= 0).mean())  # share of draws on the rarer side of zero
    p = min(1.0, 2 * max(float(rarer), 1 / RESAMPLES))
    bounds = {"low": min(low, few_low), "high": max(high, few_high)}
    return {"difference": mean} | bounds | {"p": max(p, least_p), "n": len(rows)}


def _bounds_of_few(mean: float, rows: pd.DataFrame) -> tuple[float, float, float]:
    """Bound the interval and the p of few rows that differ: (low, high, least p).

    Three rows that one arm won resample to themselves alone. But an outcome that k rows or groups did not
    show may still have a share of 1 - 0.025 ** (1 / k) (Clopper and Pearson, 1934): the interval reaches to
    where that share of the largest difference, for or against, would put the mean. No sign test of k rows has
    a p below 2 / 2 ** k. Both say "no difference" up to k = 5.
    """
    differences = np.concatenate([sums / sizes for _, sums, sizes in _strata(rows)])
    k = np.count_nonzero(differences)
    if not 0 < k < FEW:
        return mean, mean, 0.0
    unseen = 1 - 0.025 ** (1 / k)
    reach = unseen * np.abs(differences).max() * k / len(differences)
    return float((1 - unseen) * mean - reach), float((1 - unseen) * mean + reach), 2.0 ** (1 - k)


def _estimated(tables: list[pd.DataFrame]) -> tuple[float, np.ndarray, pd.DataFrame]:
    """Estimate one metric over K seeds: the mean, draws around it, rows scored in all.

    Two independent errors add up in the mean of the seeds' means m_1 … m_K: which rows were drawn, and which
    trainings were run. `row_draws` resample the rows' means over the seeds (Efron, 1979). For K trainings,
    (mean(m) - its expectation) / (std(m) / sqrt(K)) follows Student's t with K - 1 degrees of freedom, so
    `seed_draws` are std(m) / sqrt(K) times 2,000 evenly spaced quantiles of that t, in random order: its
    exact distribution, without the noise of drawing. Adding a draw of each draws the sum of both errors; the
    percentiles of these sums are the interval.
    """
    rng, rows = np.random.default_rng(0), _mean_over_seeds(tables).dropna(subset=["score"])
    seed_means = np.array([_mean(_strata(table[table["id"].isin(rows["id"])])) for table in tables])
    row_draws, seed_draws = _resampled(_strata(rows), rng), 0.0
    if len(tables) > 1:
        levels = (np.arange(RESAMPLES) + 0.5) / RESAMPLES
        standard_error = seed_means.std(ddof=1) / np.sqrt(len(tables))
        seed_draws = standard_error * rng.permutation(t.ppf(levels, len(tables) - 1))
    return float(seed_means.mean()), row_draws + seed_draws, rows


def _mean_over_seeds(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Average each row's scores over the seeds, null where a seed has none."""
    grouped = pd.concat(tables).groupby(["stratum", "id"], sort=False)
    if (grouped.size() != len(tables)).any():
        raise ValueError("the seeds were not scored on the same rows. Evaluate all of them alike.")
    others = grouped[[name for name in ("weight", "group") if name in tables[0]]].first()
    return others.assign(score=grouped["score"].sum(min_count=len(tables)) / len(tables)).reset_index()


def _strata(rows: pd.DataFrame) -> Strata:
    strata = []
    for _, stratum in rows.dropna(subset=["score"]).groupby("stratum"):
        group = stratum["group"] if "group" in stratum else np.arange(len(stratum))
        totals = stratum["score"].groupby(group, sort=False).agg(["sum", "size"]).to_numpy(float)
        strata.append((stratum["weight"].iloc[0], *totals.T))
    return strata


def _mean(strata: Strata) -> float:
    total = sum(weight * sums.sum() / sizes.sum() for weight, sums, sizes in strata)
    return float(total / sum(weight for weight, *_ in strata)) if strata else float("nan")


def _resampled(strata: Strata, rng: np.random.Generator) -> np.ndarray:
    """Draw resampled means, a few at a time, which does not change them."""
    totals = np.zeros(RESAMPLES)
    for weight, sums, sizes in strata:
        step = max(1, MAX_SCORES // len(sums))
        for start in range(0, RESAMPLES, step):
            part = slice(start, min(start + step, RESAMPLES))
            picks = rng.integers(len(sums), size=(part.stop - start, len(sums)))
            totals[part] += weight * sums[picks].sum(axis=1) / sizes[picks].sum(axis=1)
    return totals / sum(weight for weight, *_ in strata) if strata else np.full(RESAMPLES, np.nan)
