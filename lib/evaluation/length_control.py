"""Compute AlpacaEval's length-controlled win rate: that at equal lengths.

The regression is the `alpaca_eval` package's. Its interval is ours: the package's `lc_standard_error` is the
spread of fitted preferences, far too small for one.
"""

import os
from collections.abc import Callable
from unittest import mock

import numpy as np
import pandas as pd
from huggingface_hub import hf_hub_download
from joblib import Parallel, delayed

from lib import files, paths
from lib.evaluation import alpaca, annotators, statistics

FEATURES = "df_gamed.csv"  # on the hub: each instruction's difficulty, two verbose copies of the reference
REFERENCE, INSTRUCTIONS = "gpt4_1106_preview", 805  # that the difficulties were fitted with
FEWEST = 50  # outputs
NEEDED = ["preference", "output_1", "output_2", "generator_1", "generator_2"]  # columns of verdicts


def why_not(pairs: pd.DataFrame, annotator: str, judge: str) -> str:
    """Say why there is no length-controlled win rate; empty where there is one."""
    published = annotators.model(annotators.PUBLISHED)
    fitted = "its difficulties were fitted"
    if annotator != annotators.PUBLISHED or judge != published:
        return f"{fitted} on verdicts of {annotators.PUBLISHED} by {published}, not of {annotator} by {judge}"
    if set(pairs["generator_1"]) != {REFERENCE}:
        return f"{fitted} with {REFERENCE} as the reference, not {pairs['generator_1'].iloc[0]}"
    if len(pairs) != INSTRUCTIONS:
        return f"{fitted} to {INSTRUCTIONS} instructions, by their place, not to {len(pairs)}"
    outputs = pairs.dropna(subset=["output_2"])
    if REFERENCE in set(outputs["generator_2"]) and (outputs["output_1"] != outputs["output_2"]).any():
        return f"the outputs name {REFERENCE} as their generator, but differ from its outputs"
    few = f"a regression needs {FEWEST} outputs or more, not {len(outputs)}"
    return few if len(outputs) < FEWEST else ""


def features(source: str) -> str:
    """Return the path of the difficulties, fetched from the hub where none is named."""
    if source:
        return str(paths.local(source))
    return hf_hub_download(alpaca.REPOSITORY, FEATURES, repo_type="dataset")


def win_rate(verdicts: pd.DataFrame, features: str) -> float:
    """Compute the length-controlled win rate in percent.

    The verdicts' index is the instruction's place in the evaluation set, so that some may be missing.
    """
    with annotators.quiet():
        from alpaca_eval.metrics import get_length_controlled_winrate, glm_winrate

        # the package fetches the features from the hub at each fit
        with mock.patch.object(glm_winrate, "hf_hub_download", lambda **file: features):
            options = {"save_weights_dir": None, "is_add_glm_preference_inplace": False}
            result = get_length_controlled_winrate(verdicts, **options)
    return result["length_controlled_winrate"]


def interval(
    verdicts: pd.DataFrame, features: str, resamples: int, seed: int, report: Callable[[int], None]
) -> tuple[float, float]:
    """Compute its 95 % interval in percent, by a fit to each resample of instructions."""
    rng = np.random.default_rng(seed)
    draws = [rng.integers(len(verdicts), size=len(verdicts)) for _ in range(resamples)]
    jobs = (delayed(win_rate)(verdicts[NEEDED].iloc[draw], features) for draw in draws)
    fits = []
    workers = {"initializer": files.die_with_parent, "initargs": (os.getpid(),)}
    for fit in Parallel(n_jobs=-1, return_as="generator", **workers)(jobs):
        fits.append(fit)
        report(len(fits))
    low, high = np.percentile(fits, statistics.LEVEL)
    return float(low), float(high)
