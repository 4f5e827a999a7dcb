"""What the report on target tasks reads: a line a task, means over tasks, and what a gain goes with."""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from lib.evaluation import statistics
from lib.report import tables
from lib.self_guide import target

INPUTS, EVALUATION = "self_guide/1_input_generation", "evaluation/natural_instructions"
FEWEST = 5  # tasks that a mean over tasks takes
METRICS = ("exact_match", "rouge_l")
OWN = {"self_guide", "gain", "gain_low", "gain_high"}  # columns that are no line of a task's table
OWN |= {"labels", "pairs", "before", "after"}


def tasks(run: Path, found: dict) -> pd.DataFrame:
    """One line an arm that was evaluated: its task, metric, the score of every line of its table, SELF-GUIDE's gain over few_shot with its interval,
    how right its own labels are, and how many pairs it was taught. Scores are shares, means over seeds."""
    lines, inputs, evaluated = {}, tables.places(run, INPUTS), tables.places(run, EVALUATION)
    for arm, of in found["arms"].items():
        metrics = of["metrics"]
        metric = next((m for m in METRICS if f"ni.gain_over.few_shot.{m}" in metrics), None)
        if metric:
            scores = [
                pd.read_parquet(folder / "scores.parquet") for (a, _), folder in evaluated.items() if a == arm
            ]
            own = next((folder for (a, _), folder in inputs.items() if a == arm), None)
            name = target.read(own).target.name if own else arm
            lines[arm] = _line(metrics, metric) | {"task": name} | halves(pd.concat(scores), metric)
    return pd.DataFrame.from_dict(lines, orient="index")


def _line(metrics: dict, metric: str) -> dict[str, object]:
    named = [name for name in metrics if name.endswith(f".{metric}") and name.count(".") == 2]
    scores = {name.split(".")[1]: metrics[name] for name in named}
    ends = ("", "_low", "_high")
    gain = {f"gain{end}": metrics.get(f"ni.gain_over.few_shot.{metric}{end}", np.nan) for end in ends}
    known = {"labels": "accuracy_synthetic", "pairs": "kept"}
    own = {name: metrics.get(f"self_guide.pairs.{part}", np.nan) for name, part in known.items()}
    return {"metric": metric, "self_guide": metrics[f"ni.{metric}"]} | scores | gain | own


def halves(scores: pd.DataFrame, metric: str) -> dict[str, float]:
    """few_shot's score on every other instance ("before"), and SELF-GUIDE's gain over it on those between ("after"): a start and a gain on the same
    instances share their luck, and so would seem to go together where nothing does."""
    table = scores.pivot_table(index="id", columns="metric", values="score")
    few_shot, ours = table[f"ni.few_shot.{metric}"], table[f"ni.{metric}"]
    return {"before": few_shot[::2].mean(), "after": (ours - few_shot)[1::2].mean()}


def means(table: pd.DataFrame) -> pd.DataFrame:
    """The mean of every line over the tasks that have it, SELF-GUIDE's over the same, and the lead with its interval, tasks resampled; of the metric
    that the most tasks have. Empty where fewer than FEWEST have a line."""
    same = table[table["metric"] == table["metric"].mode()[0]]
    lines = {}
    for name in sorted(set(same.select_dtypes("number")) - OWN):
        both = same[["self_guide", name]].dropna()
        if len(both) >= FEWEST:
            lead = pd.DataFrame(
                {"metric": name, "stratum": "", "weight": 1.0, "score": both["self_guide"] - both[name]}
            )
            low, high = statistics.bootstrap_interval(lead)[name]
            told = {
                "mean": both[name].mean(),
                "self_guide": both["self_guide"].mean(),
                "lead": lead["score"].mean(),
            }
            lines[name] = told | {"low": low, "high": high, "tasks": len(both)}
    found = pd.DataFrame.from_dict(lines, orient="index")
    return found.sort_values("mean", ascending=False) if len(found) else found


def goes_with(table: pd.DataFrame) -> pd.DataFrame:
    """The rank correlation of the gain ("after") with what may explain it, each of them on other instances: where the student started, how right its
    labels are, and how much more than itself. Exploratory: p_holm corrects for their number."""
    found = {
        "accuracy before": table["before"],
        "accuracy of its own labels": table["labels"],
        "labels above the accuracy before": table["labels"] - table["before"],
        "pairs": table["pairs"],
    }
    lines = {}
    for name, values in found.items():
        both = pd.DataFrame({"value": values, "gain": table["after"]}).astype(float).dropna()
        if len(both) >= FEWEST and both["value"].nunique() > 1:
            rho, p = spearmanr(both["value"], both["gain"])
            lines[name] = {"rank correlation": rho, "p": p, "tasks": len(both)}
    shown = pd.DataFrame.from_dict(lines, orient="index")
    return shown.assign(p_holm=statistics.holm(list(shown["p"]))) if len(shown) else shown
