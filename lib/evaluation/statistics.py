"""Scores with intervals: stratified means, and two arms compared on the same rows; responses scored against references."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import t

RESAMPLES = 2000
LEVEL = (2.5, 97.5)  # percentiles of a 95 % interval
FEW = 20  # rows or groups that differ; fewer bound what an interval and a p may claim
DRAWN = 2_000_000  # scores that resampling holds at once

# An evaluation stage writes scores.parquet in long form: metric, stratum, weight (of the stratum in that
# metric), id, score (null where nothing could be read), and where several rows belong together, as the turns of
# one question do, `group`: they are resampled together. A metric is the weighted mean of its strata's means.


def means(scores: pd.DataFrame) -> dict[str, float]:
    """Every metric of a stage's scores."""
    return {metric: _estimate(_strata(rows)) for metric, rows in scores.groupby("metric")}


def bootstrap_interval(scores: pd.DataFrame, seed: int = 0) -> dict[str, tuple[float, float]]:
    """The 95 % interval of every metric, rows resampled within their stratum."""
    return {
        metric: _percentiles(_resampled(_strata(rows), np.random.default_rng(seed)))
        for metric, rows in scores.groupby("metric")
    }


def compare(folders_a: list[Path], folders_b: list[Path], seed: int = 0) -> dict[str, dict[str, float]]:
    """{metric: {"difference", "low", "high", "p", "n"}} of arm a over arm b; entry i of both lists is the same seed.

    Rows are paired by metric and id; n of them have a score in both arms and all seeds, the others do not
    count. p is two-sided, of no difference. The interval resamples seeds, then rows within their stratum;
    with one seed it holds row sampling only. Where no row has a score in both arms the numbers are None,
    without p. Raises ValueError when the two arms were not scored on the same rows.
    """
    pairs = [_paired(_read(a), _read(b)) for a, b in zip(folders_a, folders_b, strict=True)]
    return {metric: _difference(rows, seed) for metric, rows in _by_metric(pairs)}


def _difference(seeds: list[pd.DataFrame], seed: int) -> dict[str, float | None]:
    estimate, draws, rows = _drawn(seeds, seed)
    if not len(rows):
        return {"difference": None, "low": None, "high": None, "n": 0}
    low, high, least = _bounds_of_few(estimate, rows)
    bounds = {"low": min(_percentiles(draws)[0], low), "high": max(_percentiles(draws)[1], high)}
    return {"difference": estimate} | bounds | {"p": max(_p(draws), least), "n": len(rows)}


def _bounds_of_few(estimate: float, rows: pd.DataFrame) -> tuple[float, float, float]:
    """Bound the interval and the p of few rows that differ: (low, high, least p).

    Three rows that one arm won resample to themselves alone. But an outcome that k rows or groups did not
    show may still have a share of 1 - 0.025 ** (1 / k) (Clopper and Pearson, 1934): the interval reaches to
    where that share of the largest difference, for or against, would put the mean. No sign test of k rows has
    a p below 2 / 2 ** k. Both say "no difference" up to k = 5.
    """
    each = np.concatenate([sums / sizes for _, sums, sizes in _strata(rows)])
    k = np.count_nonzero(each)
    if not 0 < k < FEW:
        return estimate, estimate, 0.0
    unseen = 1 - 0.025 ** (1 / k)
    reach = unseen * np.abs(each).max() * k / len(each)
    return float((1 - unseen) * estimate - reach), float((1 - unseen) * estimate + reach), 2.0 ** (1 - k)


def holm(ps: list[float]) -> list[float]:
    """p-values corrected for their number, in their order (Holm, 1979)."""
    order, corrected, least = sorted(range(len(ps)), key=ps.__getitem__), [0.0] * len(ps), 0.0
    for rank, i in enumerate(order):
        least = corrected[i] = max(least, min(1.0, ps[i] * (len(ps) - rank)))
    return corrected


def _read(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(Path(folder) / "scores.parquet")


def _paired(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    both = a.merge(
        b, on=["metric", "id"], suffixes=("", "_b"), how="outer", indicator=True, validate="one_to_one"
    )
    alone = (both["_merge"] != "both").sum()
    if alone:
        raise ValueError(f"{alone} rows were scored in one arm alone: evaluate both on the same rows")
    return both.assign(score=both["score"] - both["score_b"])


def across_seeds(folders: list[Path], seed: int = 0) -> dict[str, dict[str, float]]:
    """{metric: {"mean", "low", "high"}} of one arm over its seeds, in the way `compare` makes its intervals, which end where
    scores do; a metric in which no row has a score is left out."""
    tables, found = [_read(folder) for folder in folders], {}
    for metric, seeds in _by_metric(tables):
        estimate, draws, rows = _drawn(seeds, seed)
        if len(rows):
            low, high = _percentiles(draws)
            scores = pd.concat(seeds)["score"]
            ends = {"mean": estimate, "low": low, "high": high}
            found[metric] = {name: min(max(it, scores.min()), scores.max()) for name, it in ends.items()}
    return found


def _by_metric(seeds: list[pd.DataFrame]) -> Iterator[tuple[str, list[pd.DataFrame]]]:
    """Yield every metric with its rows, a table a seed."""
    for metric in sorted(set(seeds[0]["metric"])):
        yield metric, [table[table["metric"] == metric] for table in seeds]


def _drawn(seeds: list[pd.DataFrame], seed: int) -> tuple[float, np.ndarray, pd.DataFrame]:
    """The estimate of one metric, what it might have been, and the rows it rests on.

    Every seed saw the same rows: rows are resampled for the mean over the seeds. What another training could have
    given is added as a t interval over the seeds would have it, n - 1 degrees of freedom.
    """
    rng, whole = np.random.default_rng(seed), _mean_over(seeds).dropna(subset=["score"])
    effects = np.array([_estimate(_strata(rows[rows["id"].isin(whole["id"])])) for rows in seeds])
    draws = _resampled(_strata(whole), rng)
    if len(seeds) > 1:
        levels = (np.arange(RESAMPLES) + 0.5) / RESAMPLES
        spread = effects.std(ddof=1) / np.sqrt(len(seeds))
        draws += spread * rng.permutation(t.ppf(levels, len(seeds) - 1))
    return float(effects.mean()), draws, whole


def _mean_over(seeds: list[pd.DataFrame]) -> pd.DataFrame:
    """Every row's score as the mean over the seeds, null where one is; raises ValueError where they were not scored on the same rows."""
    grouped = pd.concat(seeds).groupby(["stratum", "id"], sort=False)
    if (grouped.size() != len(seeds)).any():
        raise ValueError("the seeds were not scored on the same rows: evaluate all of them alike")
    kept = grouped[[name for name in ("weight", "group") if name in seeds[0]]].first()
    return kept.assign(score=grouped["score"].sum(min_count=len(seeds)) / len(seeds)).reset_index()


Strata = list[tuple[float, np.ndarray, np.ndarray]]  # weight; sum and number of the scores of each group


def _strata(rows: pd.DataFrame) -> Strata:
    rows, found = rows.dropna(subset=["score"]), []
    for _, stratum in rows.groupby("stratum"):
        sums, sizes = stratum["score"].to_numpy(float), np.ones(len(stratum))
        if "group" in stratum:
            together = stratum.groupby("group", sort=False)["score"]
            sums, sizes = together.sum().to_numpy(float), together.size().to_numpy(float)
        found.append((stratum["weight"].iloc[0], sums, sizes))
    return found


def _estimate(strata: Strata) -> float:
    """nan where nothing could be read."""
    total = sum(weight * sums.sum() / sizes.sum() for weight, sums, sizes in strata)
    return float(total / sum(weight for weight, *_ in strata)) if strata else float("nan")


def _resampled(strata: Strata, rng: np.random.Generator) -> np.ndarray:
    """Resampled means; a few resamples are drawn at a time, which gives the draws that all at once would."""
    total = np.zeros(RESAMPLES)
    for weight, sums, sizes in strata:
        step = max(1, DRAWN // len(sums))
        for start in range(0, RESAMPLES, step):
            part = slice(start, min(start + step, RESAMPLES))
            picks = rng.integers(len(sums), size=(part.stop - start, len(sums)))
            total[part] += weight * sums[picks].sum(axis=1) / sizes[picks].sum(axis=1)
    return total / sum(weight for weight, *_ in strata) if strata else np.full(RESAMPLES, np.nan)


def _p(draws: np.ndarray) -> float:
    """How often the draws lie on the rarer side of zero, both sides together; never below what so few draws can show."""
    rarer = min((draws <= 0).mean(), (draws >= 0).mean())
    return float(min(1.0, 2 * max(rarer, 1 / RESAMPLES)))


def _percentiles(draws: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(draws, LEVEL)
    return float(low), float(high)


# Responses against references: shares in [0, 1]. Each raises ValueError where predictions and references are not
# as many, where there are none, and where a prediction has no reference.
