"""AlpacaEval's length-controlled win rate: what the win rate would be, were the model's outputs as long as the reference's.

The regression is the `alpaca_eval` package's; its interval is ours: the package's `lc_standard_error` is the spread of fitted
preferences, far too small for one.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from unittest import mock

import numpy as np
import pandas as pd
from joblib import cpu_count

from lib import paths
from lib.errors import UserError
from lib.evaluation import alpaca, annotators, recordings, statistics
from lib.files import die_with_parent

FEATURES = (
    "df_gamed.csv"  # on the hub: how difficult each instruction is, and two verbose copies of the reference
)
COLUMNS = ("index", "model", "preference", "std_delta_len", "instruction_difficulty", "not_gamed_baseline")
REFERENCE = "gpt4_1106_preview"
FEWEST = 50  # outputs
WORTH = 20  # fits that are worth another process, which takes seconds to begin


def why_not(pairs: pd.DataFrame, annotator: str, judge: str) -> str:
    """Why there is no length-controlled win rate; empty where there is one."""
    asked = annotators.model(annotators.PUBLISHED)
    if annotator != annotators.PUBLISHED or judge != asked:
        return f"its difficulties were fitted on the verdicts of {annotators.PUBLISHED} by {asked}, not of {annotator} by {judge}"
    if set(pairs["generator_1"]) != {REFERENCE}:
        given = ", ".join(sorted(set(pairs["generator_1"])))
        return f"its difficulties were fitted with {REFERENCE} as the reference, not {given}"
    if (n := int(pairs["output_2"].notna().sum())) < FEWEST:
        return f"a regression needs {FEWEST} outputs or more, not {n}"
    return ""


def features(source: str, instructions: int) -> str:
    """The file of difficulties, from the hub where none is named. Raises UserError for one that is none, or of another evaluation set."""
    path = (
        str(paths.local(source))
        if source
        else recordings.hub_file(alpaca.REPOSITORY, FEATURES, "lc_features")
    )
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise UserError(f"lc_features: {path} cannot be read as CSV ({error})") from None
    if lacking := set(COLUMNS) - set(table):
        raise UserError(
            f"lc_features: {path} lacks the columns {', '.join(sorted(lacking))}: it must be alpaca_eval's {FEATURES}"
        )
    each = table.drop_duplicates("index")["index"]
    if len(each) != instructions or not (each == each.index).all():  # as the package looks them up
        raise UserError(
            f"lc_features: {path} must begin with the {instructions} instructions of reference_outputs in their order; it is of {len(each)}"
        )
    return path


def win_rate(verdicts: pd.DataFrame, features: str) -> float:
    """The length-controlled win rate in percent. The index of the verdicts says which instruction each is, so that some may be missing."""
    with annotators.quiet(), _from(features):
        from alpaca_eval.metrics import get_length_controlled_winrate

        how = {"save_weights_dir": None, "is_add_glm_preference_inplace": False}
        return get_length_controlled_winrate(verdicts, **how)["length_controlled_winrate"]


def interval(
    verdicts: pd.DataFrame,
    features: str,
    resamples: int,
    seed: int = 0,
    report: Callable[[int], None] = lambda done: None,
) -> tuple[float, float]:
    """Its 95 % interval in percent: the regression is fitted again to instructions drawn with replacement, `resamples` times.

    A fit takes a fifth of a second: they are made by as many processes as there are cores.
    """
    rng = np.random.default_rng(seed)
    draws = [rng.integers(len(verdicts), size=len(verdicts)) for _ in range(resamples)]
    needed = verdicts[["preference", "output_1", "output_2", "generator_1", "generator_2"]]
    begun = os.getpid(), needed, features
    workers = min(cpu_count(), 1 + resamples // WORTH)
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_begin, initargs=begun)
    try:
        fitted = []
        for value in pool.map(_refit, draws):
            fitted.append(value)
            report(len(fitted))
    finally:
        pool.shutdown(cancel_futures=True)
    return tuple(map(float, np.percentile(fitted, statistics.LEVEL)))


_given: list = []  # to a process: the verdicts and the features


def _begin(parent: int, *given) -> None:
    die_with_parent(parent)
    _given[:] = given


def _refit(drawn: np.ndarray) -> float:
    verdicts, features = _given
    return win_rate(verdicts.iloc[drawn], features)


@contextmanager
def _from(features: str) -> Iterator[None]:
    """The package takes this file from the hub at each fit."""
    from alpaca_eval.metrics import glm_winrate

    with mock.patch.object(glm_winrate, "hf_hub_download", lambda **where: features):
        yield
