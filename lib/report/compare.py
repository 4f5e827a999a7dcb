"""Compare runs: what differs between their settings, their scores, and their arms paired by instance."""

from itertools import product
from pathlib import Path

import pandas as pd

from lib.errors import UserError
from lib.report import facts, page, render, scores, tables
from lib.runner import folders, keys, summary

MAX_PAIRS = 6  # of arms of two runs that share no name


def write(runs: list[Path]) -> Path:
    """Write the page that compares these runs, outputs/RUN-against-RUN.html, and return its path.

    Raises UserError if two have the same name, or one has no finished stage.
    """
    names = [run.name for run in runs]
    if len(set(names)) < len(names):
        raise UserError(f"runs={', '.join(names)}: two have the same name. Rename the folder of one.")
    summaries = {run: tables.summary(run) for run in runs}
    differences, apart = _against_first(summaries)
    stand_ins = {name for each in summaries.values() for name in each["stand_ins"]}
    metric = next(filter(None, (each.get("metric") for each in summaries.values())), None)
    joint = {"arms": {}, "comparisons": differences, "stand_ins": stand_ins, "metric": metric}
    shown = {run.name: scores.scores(each) for run, each in summaries.items()}
    lines = [table.rename(index=lambda arm, name=name: f"{name}: {arm}") for name, table in shown.items()]
    about = pd.DataFrame({run.name: facts.facts(run, each) for run, each in summaries.items()})
    content = {
        "title": " against ".join(names),
        "spread": scores.INTERVALS,
        "facts": page.as_table(about.fillna("").replace("\n", "; ", regex=True)),
        "settings": page.as_table(settings(runs)),
        "scores": page.as_table(pd.concat(lines).fillna("")),
        "differences": page.as_table(scores.differences(joint)),
        "apart": apart,
        "commands": {run.name: each["command"] for run, each in summaries.items()},
    }
    path = folders.outputs() / f"{'-against-'.join(names)}.html"
    page.save(path, render.page("compare.html.j2", **content))
    return path


def settings(runs: list[Path]) -> pd.DataFrame:
    """Tabulate the parameters of notebooks that differ, a column per run; several values are listed."""
    lines = [
        {"parameter": f"{stage.notebook}: {name}", "run": run.name, "value": str(value)}
        for run in runs
        for stage in tables.stages(run).itertuples()
        for name, value in folders.record(stage.folder)["parameters"].items()
        if name not in keys.RESERVED and stage.arm != folders.ALL_ARMS
    ]
    table = pd.DataFrame(lines, columns=["parameter", "run", "value"]).drop_duplicates()
    table = table.sort_values("value").pivot_table("value", "parameter", "run", ", ".join)
    return table[table.nunique(axis=1) > 1].fillna("").rename_axis(None).rename_axis(None, axis="columns")


def _against_first(summaries: dict[Path, dict]) -> tuple[dict[str, dict], list[str]]:
    """Compare the arms of every later run with those of the first of the same name.

    Returns {"b: arm - a: arm": {metric: …}}, and the pairs that could not be compared, each with the reason.
    """
    first, *others = summaries
    done = {run: [(row, row.folder) for row in tables.stages(run).itertuples()] for run in summaries}
    differences, apart = {}, []
    for run in others:
        arms, first_arms = summaries[run]["arms"], summaries[first]["arms"]
        shared = [(arm, arm) for arm in arms if arm in first_arms]
        for arm, other in shared or list(product(arms, first_arms))[:MAX_PAIRS]:
            label = f"{run.name}: {arm} − {first.name}: {other}"
            sides = (summary.scored(arm, done[run]), summary.scored(other, done[first]))
            try:
                compared = summary.differences(*sides)
            except ValueError as error:
                apart.append(f"{label}: {error}")
            else:
                differences |= {label: compared} if compared else {}
    return differences, apart
