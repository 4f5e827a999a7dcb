"""What the report on target tasks reads: a line a task, means over tasks, and what a gain goes with."""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import bootstrap, spearmanr

from lib import report
from lib.target import read

EVALUATION, INPUTS = "evaluation/natural_instructions", "self_guide/1_input_generation"
FEWEST = 5  # tasks that a mean over tasks takes
METRICS = ("exact_match", "rouge_l")


def tasks(run: Path, found: dict) -> pd.DataFrame:
    """One line an arm that was evaluated: its task, metric, the score of every line of its table, SELF-GUIDE's gain over few_shot with its interval,
    how right its own labels are, and how many pairs it was taught. Scores are shares, means over seeds."""
    lines, folders = {}, report.places(run, INPUTS)
    for arm, of in found["arms"].items():
        metrics = of["metrics"]
        metric = next((m for m in METRICS if f"ni.gain_over.few_shot.{m}" in metrics), None)
        if metric:
            lines[arm] = _line(metrics, metric) | {"task": _name(folders, arm)}
    return pd.DataFrame.from_dict(lines, orient="index")


def _name(folders: dict, arm: str) -> str:
    return next(read(folder).target.name for (of, _), folder in folders.items() if of == arm)


def _line(metrics: dict, metric: str) -> dict[str, object]:
    scores = {
        name.split(".")[1]: value
        for name, value in metrics.items()
        if name.startswith("ni.") and name.endswith(f".{metric}") and name.count(".") == 2
    }
    gain = {f"gain{end}": metrics[f"ni.gain_over.few_shot.{metric}{end}"] for end in ("", "_low", "_high")}
    known = {"labels": "accuracy_synthetic", "labels_validation": "accuracy_validation", "pairs": "kept"}
    own = {name: metrics.get(f"self_guide.pairs.{part}", np.nan) for name, part in known.items()}
    return {"metric": metric, "self_guide": metrics[f"ni.{metric}"]} | scores | gain | own


def means(table: pd.DataFrame) -> pd.DataFrame:
    """The mean of every line over the tasks, SELF-GUIDE's lead over it, and the interval of that, tasks resampled; empty for too few tasks."""
    if len(table) < FEWEST:
        return pd.DataFrame()
    lines = {}
    for name in (name for name in table if name in {"self_guide", *_others(table)}):
        lead = (table["self_guide"] - table[name]).dropna().to_numpy()
        lines[name] = {"mean": table[name].mean(), "tasks": len(lead)}
        if lead.any():
            low, high = bootstrap((lead,), np.mean, rng=0, method="percentile").confidence_interval
            lines[name] |= {"lead of self_guide": lead.mean(), "low": low, "high": high}
    return pd.DataFrame.from_dict(lines, orient="index").sort_values("mean", ascending=False)


def _others(table: pd.DataFrame) -> list[str]:
    return [
        name for name in table.select_dtypes("number") if not name.startswith(("gain", "labels", "pairs"))
    ]


def goes_with(table: pd.DataFrame) -> pd.DataFrame:
    """The rank correlation of the gain with what may explain it: where the student started, how right its labels are, and how much more than itself."""
    found = {
        "accuracy before": table["few_shot"],
        "accuracy of its own labels": table["labels"],
        "labels above the accuracy before": table["labels"] - table["few_shot"],
        "pairs": table["pairs"],
    }
    lines = {}
    for name, values in found.items():
        both = pd.DataFrame({"value": values, "gain": table["gain"]}).astype(float).dropna()
        if len(both) >= FEWEST and both["value"].nunique() > 1:
            rho, p = spearmanr(both["value"], both["gain"])
            lines[name] = {"rank correlation": rho, "p": p, "tasks": len(both)}
    return pd.DataFrame.from_dict(lines, orient="index")
