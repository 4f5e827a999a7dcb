"""Scores with intervals: stratified means, and two arms compared on the same rows; responses scored against references."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from rapidfuzz.distance import LCSseq
from scipy.stats import t

RESAMPLES = 2000
LEVEL = (2.5, 97.5)  # percentiles of a 95 % interval

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

    Rows are paired by metric and id; n of them have a score in both arms and all seeds, the others do not count. p is two-sided, of no
    difference. The interval resamples seeds, then rows within their stratum; with one seed it holds row sampling only. Raises
    ValueError when the two arms were not scored on the same rows.
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
    """{metric: {name, "low", "high", "p", "n"}} over tables of scores, one a seed."""
    found = {}
    for metric in sorted(set(seeds[0]["metric"])):
        estimate, draws, n = _drawn([table[table["metric"] == metric] for table in seeds], seed)
        low, high = _percentiles(draws)
        found[metric] = {name: estimate, "low": low, "high": high, "p": _p(draws), "n": n}
    return found


def _drawn(seeds: list[pd.DataFrame], seed: int) -> tuple[float, np.ndarray, int]:
    """The estimate of one metric, what it might have been, and of how many rows.

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
    return float(effects.mean()), draws, len(whole)


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
    total = np.zeros(RESAMPLES)
    for weight, sums, sizes in strata:
        picks = rng.integers(len(sums), size=(RESAMPLES, len(sums)))
        total += weight * sums[picks].sum(axis=1) / sizes[picks].sum(axis=1)
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


def exact_match(predictions: list[str], references: list[list[str]]) -> float:
    """The share of predictions that equal one of their references, white space at the ends aside."""
    return _mean(lambda said, gold: said.strip() in {one.strip() for one in gold}, predictions, references)


def rouge_l(predictions: list[str], references: list[list[str]]) -> float:
    """Mean ROUGE-L F1: words, stemmed; of several references the one that is nearest."""
    return _mean(
        lambda said, gold: _scorer().score_multi(gold, said)["rougeL"].fmeasure, predictions, references
    )


def rouge_l_char(predictions: list[str], references: list[list[str]]) -> float:
    """Mean F1 of the longest common subsequence of *characters* with the first reference: what SELF-GUIDE's code computes."""

    def f1(said: str, gold: list[str]) -> float:
        return 2 * LCSseq.similarity(said, gold[0]) / max(len(said) + len(gold[0]), 1)

    return _mean(f1, predictions, references)


@cache
def _scorer():
    from rouge_score.rouge_scorer import RougeScorer  # imports NLTK, which takes seconds

    return RougeScorer(["rougeL"], use_stemmer=True)


def _mean(score: Callable, predictions: list[str], references: list[list[str]]) -> float:
    if not predictions or len(predictions) != len(references) or not all(references):
        raise ValueError(
            f"{len(predictions)} predictions, {len(references)} lists of references, {sum(not one for one in references)} of "
            "them empty: each prediction needs its own list, with one reference or more"
        )
    return float(np.mean([score(said, gold) for said, gold in zip(predictions, references, strict=True)]))
