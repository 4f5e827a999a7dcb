"""Compare runs: what differs between their settings, their scores, and their arms paired by instance."""

from itertools import product
from pathlib import Path

import pandas as pd

from lib.errors import UserError
from lib.report import facts, page, render, scores, tables
from lib.runner import folders, keys
from lib.runner.summary import differences as compare_stages
from lib.runner.summary import scored

MAX_PAIRS = 6  # of arms of two runs that share no name


def write(runs: list[Path], to: Path | None = None) -> Path:
    """Write the page that compares these runs, and return its path.

    Raises UserError if two have the same name, or one has no finished stage.
    """
    if len({run.name for run in runs}) < len(runs):
        raise UserError("runs: two of them have the same name. Rename the folder of one.")
    summaries = {run: tables.summary(run) for run in runs}
    differences, apart = _against_first(summaries)
    stand_ins = {name for summary in summaries.values() for name in summary["stand_ins"]}
    metrics = [summary["metric"] for summary in summaries.values() if summary.get("metric")]
    joint = {"arms": {}, "comparisons": differences, "stand_ins": stand_ins, "metric": (metrics or [None])[0]}
    shown = {run.name: scores.scores(summary) for run, summary in summaries.items()}
    lines = [table.rename(index=lambda arm, name=name: f"{name}: {arm}") for name, table in shown.items()]
    about = pd.DataFrame({run.name: facts.facts(run, summary) for run, summary in summaries.items()})
    content = {
        "title": " against ".join(run.name for run in runs),
        "spread": "95 % intervals; a difference is paired by instance over the seeds that both runs have",
        "facts": page.as_table(about.fillna("").replace("\n", "; ", regex=True)),
        "settings": page.as_table(settings(runs)),
        "scores": page.as_table(pd.concat(lines).fillna("")),
        "differences": page.as_table(scores.differences(joint)),
        "apart": apart,
        "commands": {run.name: summary["command"] for run, summary in summaries.items()},
    }
    path = to or folders.outputs() / f"{'-against-'.join(run.name for run in runs)}.html"
    page.save(path, render.page("compare.html.j2", **content))
    return path


def settings(runs: list[Path]) -> pd.DataFrame:
    """Tabulate the parameters of notebooks that differ, a column per run; several values are listed."""
    values: dict[str, dict[str, set]] = {}
    for run in runs:
        for record in tables.records(run):
            notebook = tables.notebook_of(record)
            for name, value in {} if notebook.startswith("report") else record["parameters"].items():
                if name not in keys.RESERVED:
                    values.setdefault(f"{notebook}: {name}", {}).setdefault(run.name, set()).add(str(value))
    table = pd.DataFrame(values).T.map(lambda listed: ", ".join(sorted(listed)), na_action="ignore")
    return table[table.nunique(axis=1) > 1].fillna("")


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
        pairs = shared or list(product(arms, first_arms))[:MAX_PAIRS]
        for arm, other in pairs:
            label = f"{run.name}: {arm} − {first.name}: {other}"
            try:
                compared = compare_stages(scored(arm, done[run]), scored(other, done[first]))
            except ValueError as error:
                apart.append(f"{label}: {error}")
            else:
                differences |= {label: compared} if compared else {}
    return differences, apart
