"""Tabulate SELF-GUIDE's target tasks: a line per task, means over tasks, and what a gain goes with."""

from pathlib import Path

import pandas as pd
from scipy.stats import spearmanr

from lib.errors import named
from lib.evaluation import statistics
from lib.report import tables
from lib.report.scores import ENDS
from lib.self_guide import target
from lib.self_guide.pairs import UNTRAINED

INPUTS, EVALUATION = "self_guide/1_input_generation", "evaluation/natural_instructions"
FEW_SHOT = "ni.gain_over.few_shot."
FEWEST, ENOUGH = 5, 20  # tasks that a mean over tasks takes; tasks after which seeds or students tell more
METRICS = ("exact_match", "rouge_l")
OTHER_COLUMNS = ["self_guide", "gain", "gain_low", "gain_high", "labels", "pairs", "before", "after"]


def tasks(run: Path, summary: dict) -> pd.DataFrame:
    """Tabulate the evaluated arms, each a task, from the lowest few_shot; scores are shares over seeds.

    Columns: task, metric, the score of every line of the task's own table, SELF-GUIDE's gain over few_shot
    with its interval, the share of its own labels that are right, the pairs it was trained on, and `halves`.
    """
    inputs = {arm: folder for (arm, _), folder in tables.places(run, INPUTS).items()}
    evaluated, lines = tables.stages(run, EVALUATION), {}
    for arm, result in summary["arms"].items():
        metric = next((m for m in METRICS if FEW_SHOT + m in result["metrics"]), None)
        if metric:
            seeds = evaluated["folder"][evaluated["arm"] == arm]
            scores = pd.concat([pd.read_parquet(folder / "scores.parquet") for folder in seeds])
            task = target.read(inputs[arm]).target.name if arm in inputs else arm
            lines[arm] = line(result["metrics"], metric) | {"task": task} | halves(scores, metric)
    return pd.DataFrame.from_dict(lines, orient="index").sort_values("few_shot" if lines else [])


def summarise(table: pd.DataFrame, summary: dict) -> str:
    """Say the mean gain over the `tasks`, where it is shown, and what does as well without training."""
    if not len(table):
        return "No arm of this run compares SELF-GUIDE with few_shot. Run evaluation/natural_instructions."
    seeds = max(len(arm["seeds"]) for arm in summary["arms"].values())
    above, below = (table["gain_low"] > 0).sum(), (table["gain_high"] < 0).sum()
    spread = "rows are resampled, not the training" if seeds == 1 else "rows and seeds are resampled"
    gain = f"the student gains **{100 * table['gain'].mean():+.1f} points** over few_shot"
    shown = (
        f"It is shown to gain in {above} and to lose in {below}; {len(table) - above - below} are undecided"
    )
    others = table.reindex(columns=UNTRAINED).astype(float).fillna(-1.0)
    rivals = others.idxmax(axis=1)[others.max(axis=1) >= table["self_guide"]]
    shown += f" (seeds: {seeds}; {spread})."
    if len(rivals):
        names = named(rivals.unique())
        shown += f" In {len(rivals)}, a way without training is as good or better: {names}."
    return f"Over {len(table)} tasks {gain}, on average, by teaching itself. {shown}"


def conclude(table: pd.DataFrame, means: pd.DataFrame, summary: dict) -> str:
    """Say the gain, what else could explain it, what it does not show, and what to run next."""
    if not len(table):
        return summarise(table, summary)
    others = [name for name in ("self_consistency", "shuffled_labels", "demos_only") if name in means.index]
    leads = [
        "{}: {:+.1f} [{:+.1f}, {:+.1f}]".format(name, *100 * means.loc[name, ["lead", "low", "high"]])
        for name in others
    ]
    is_small = max(len(arm["seeds"]) for arm in summary["arms"].values()) == 1
    lines = {
        "Gain": summarise(table, summary),
        "Lead over other explanations, points": "; ".join(leads) or f"none below {FEWEST} tasks",
        "Not shown": "tasks unlike these, and other students",
        "Next": "more seeds" if is_small else "more tasks" if len(table) < ENOUGH else "another student",
    }
    return "\n".join(f"- **{name}**: {text.removesuffix('.')}." for name, text in lines.items())


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
    bounds = statistics.intervals(leads.assign(stratum="", weight=1.0))
    averages = pd.DataFrame({"mean": lines.mean(), "self_guide": lines.mean()})
    averages["lead"] = leads.groupby("metric")["score"].mean()
    averages["self_guide"] += averages["lead"]
    averages[["low", "high"]] = bounds[["low", "high"]]
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
