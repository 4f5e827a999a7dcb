"""Scores with intervals: stratified means, and two arms compared on the same rows."""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import t

RESAMPLES = 2000
LEVEL = (2.5, 97.5)  # percentiles of a 95 % interval

# An evaluation stage writes scores.parquet in long form: metric, stratum, weight (of the stratum in that
# metric), id, score. A metric is the weighted mean of its strata's means.


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
    """{metric: {"difference", "low", "high", "p"}} of arm a over arm b; entry i of both lists is the same seed.

    Rows are paired by metric and id; p is two-sided, of no difference. The interval resamples seeds, then rows within their stratum; with one
    seed it holds row sampling only. Raises ValueError when the two arms were not scored on the same rows.
    """
    pairs = [_paired(_read(a), _read(b)) for a, b in zip(folders_a, folders_b, strict=True)]
    return _by_metric(pairs, "difference", seed)


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
    scores do."""
    tables = [_read(folder) for folder in folders]
    ends = pd.concat(tables).groupby("metric")["score"].agg(["min", "max"])
    return {
        metric: {name: min(max(it[name], least), most) for name in ("mean", "low", "high")}
        for metric, it in _by_metric(tables, "mean", seed).items()
        for least, most in [ends.loc[metric]]
    }


def _by_metric(seeds: list[pd.DataFrame], name: str, seed: int) -> dict[str, dict[str, float]]:
    """{metric: {name, "low", "high", "p"}} over tables of scores, one a seed."""
    found = {}
    for metric in sorted(set(seeds[0]["metric"])):
        estimate, draws = _drawn([table[table["metric"] == metric] for table in seeds], seed)
        low, high = _percentiles(draws)
        found[metric] = {name: estimate, "low": low, "high": high, "p": _p(draws)}
    return found


def _drawn(seeds: list[pd.DataFrame], seed: int) -> tuple[float, np.ndarray]:
    """The estimate of one metric, and what it might have been.

    Every seed saw the same rows: rows are resampled for the mean over the seeds. What another training could have
    given is added as a t interval over the seeds would have it, n - 1 degrees of freedom.
    """
    rng = np.random.default_rng(seed)
    effects = np.array([_estimate(_strata(rows)) for rows in seeds])
    draws = _resampled(_strata(_mean_over(seeds)), rng)
    if len(seeds) > 1:
        levels = (np.arange(RESAMPLES) + 0.5) / RESAMPLES
        spread = effects.std(ddof=1) / np.sqrt(len(seeds))
        draws += spread * rng.permutation(t.ppf(levels, len(seeds) - 1))
    return float(effects.mean()), draws


def _mean_over(seeds: list[pd.DataFrame]) -> pd.DataFrame:
    """Every row's score as the mean over the seeds; raises ValueError where they were not scored on the same rows."""
    grouped = pd.concat(seeds).groupby(["stratum", "id"], sort=False)
    if (grouped.size() != len(seeds)).any():
        raise ValueError("the seeds were not scored on the same rows: evaluate all of them alike")
    return grouped.agg({"score": "mean", "weight": "first"}).reset_index()


def _strata(rows: pd.DataFrame) -> list[tuple[float, np.ndarray]]:
    return [(group["weight"].iloc[0], group["score"].to_numpy(float)) for _, group in rows.groupby("stratum")]


def _estimate(strata: list[tuple[float, np.ndarray]]) -> float:
    return float(sum(w * scores.mean() for w, scores in strata) / sum(w for w, _ in strata))


def _resampled(strata: list[tuple[float, np.ndarray]], rng: np.random.Generator) -> np.ndarray:
    total = np.zeros(RESAMPLES)
    for weight, scores in strata:
        picks = rng.integers(len(scores), size=(RESAMPLES, len(scores)))
        total += weight * scores[picks].mean(axis=1)
    return total / sum(w for w, _ in strata)


def _p(draws: np.ndarray) -> float:
    """How often the draws lie on the rarer side of zero, both sides together; never below what so few draws can show."""
    rarer = min((draws <= 0).mean(), (draws >= 0).mean())
    return float(min(1.0, 2 * max(rarer, 1 / RESAMPLES)))


def _percentiles(draws: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(draws, LEVEL)
    return float(low), float(high)
