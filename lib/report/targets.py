"""Tabulate SELF-GUIDE's target tasks: a line per task, means over tasks, and what a gain goes with."""

from pathlib import Path

import pandas as pd
from scipy.stats import spearmanr

from lib.evaluation import statistics
from lib.report import tables
from lib.report.scores import ENDS
from lib.self_guide import target

INPUTS, EVALUATION = "self_guide/1_input_generation", "evaluation/natural_instructions"
FEW_SHOT = "ni.gain_over.few_shot."
FEWEST = 5  # tasks that a mean over tasks takes
METRICS = ("exact_match", "rouge_l")
OTHER_COLUMNS = ["self_guide", "gain", "gain_low", "gain_high", "labels", "pairs", "before", "after"]


def tasks(run: Path, summary: dict) -> pd.DataFrame:
    """Tabulate the evaluated arms, each of which is a task; scores are shares, means over seeds.

    Columns: task, metric, the score of every line of the task's own table, SELF-GUIDE's gain over few_shot
    with its interval, the share of its own labels that are right, the pairs it was trained on, and `halves`.
    """
    inputs = {arm: folder for (arm, _), folder in tables.places(run, INPUTS).items()}
    evaluated = tables.places(run, EVALUATION)
    lines = {}
    for arm, result in summary["arms"].items():
        metric = next((m for m in METRICS if FEW_SHOT + m in result["metrics"]), None)
        if metric:
            seeds = [folder for (evaluated_arm, _), folder in evaluated.items() if evaluated_arm == arm]
            scores = pd.concat([pd.read_parquet(folder / "scores.parquet") for folder in seeds])
            task = target.read(inputs[arm]).target.name if arm in inputs else arm
            lines[arm] = line(result["metrics"], metric) | {"task": task} | halves(scores, metric)
    return pd.DataFrame.from_dict(lines, orient="index")


def line(metrics: dict, metric: str) -> dict[str, object]:
    """Return the scores of one arm in a metric, by line of its table; nan where one is unknown."""
    columns = {"self_guide": f"ni.{metric}"}
    columns |= {n.split(".")[1]: n for n in metrics if n.endswith(f".{metric}") and n.count(".") == 2}
    columns |= {f"gain{end}": FEW_SHOT + metric + end for end in ENDS}
    columns |= {"labels": "self_guide.pairs.accuracy_synthetic", "pairs": "self_guide.pairs.kept"}
    return {"metric": metric} | {name: metrics.get(key, float("nan")) for name, key in columns.items()}


def halves(scores: pd.DataFrame, metric: str) -> dict[str, float]:
    """Compute few_shot's score on every other instance, and SELF-GUIDE's gain over it on those between.

    A start ("before") and a gain ("after") on the same instances would share their luck, and so correlate.
    """
    table = scores.pivot_table(index="id", columns="metric", values="score")
    few_shot, own = table[f"ni.few_shot.{metric}"], table[f"ni.{metric}"]
    return {"before": few_shot[::2].mean(), "after": (own - few_shot)[1::2].mean()}


def means(table: pd.DataFrame) -> pd.DataFrame:
    """Average every line over the tasks that have it, in the metric of most tasks; empty below FEWEST tasks.

    Columns: mean, self_guide over the same tasks, its lead with an interval (tasks resampled), tasks.
    """
    same = table[table["metric"] == table["metric"].mode()[0]].dropna(subset=["self_guide"])
    lines = same.select_dtypes("number").drop(columns=OTHER_COLUMNS, errors="ignore")
    lines = lines.loc[:, lines.count() >= FEWEST]
    if lines.empty:
        return pd.DataFrame()
    leads = lines.rsub(same["self_guide"], axis="index").melt(var_name="metric", value_name="score").dropna()
    bounds = statistics.bootstrap_interval(leads.assign(stratum="", weight=1.0))
    averages = pd.DataFrame({"mean": lines.mean(), "self_guide": lines.mean()})
    averages["lead"] = leads.groupby("metric")["score"].mean()
    averages["self_guide"] += averages["lead"]
    averages[["low", "high"]] = pd.DataFrame(bounds).T
    return averages.assign(tasks=lines.count()).sort_values("mean", ascending=False)


def gain_correlations(table: pd.DataFrame) -> pd.DataFrame:
    """Correlate the gain ("after") with its possible causes, each measured on other instances.

    Columns: rank correlation, p, p_holm (corrected for the number of causes: exploratory), tasks.
    """
    causes = {
        "accuracy before": table["before"],
        "accuracy of its own labels": table["labels"],
        "labels above the accuracy before": table["labels"] - table["before"],
        "pairs": table["pairs"],
    }
    lines = {}
    for name, values in causes.items():
        both = pd.DataFrame({"value": values, "gain": table["after"]}).astype(float).dropna()
        if len(both) >= FEWEST and both["value"].nunique() > 1:
            rho, p = spearmanr(both["value"], both["gain"])
            lines[name] = {"rank correlation": rho, "p": p, "tasks": len(both)}
    shown = pd.DataFrame.from_dict(lines, orient="index")
    return shown.assign(p_holm=statistics.holm(list(shown["p"]))) if len(shown) else shown
