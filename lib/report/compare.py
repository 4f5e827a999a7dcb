"""Several runs side by side: what differs between them, what each scored, and their arms against the first run's, paired by instance."""

from itertools import product
from pathlib import Path

import pandas as pd
from markupsafe import Markup

from lib import plots
from lib.errors import UserError
from lib.evaluation import registry
from lib.report import facts, page, render, scores, tables
from lib.runner import folders, keys, summary

MOST_PAIRS = 6  # of arms of two runs that share no name


def write(runs: list[Path], to: Path | None = None) -> Path:
    """Write the page that compares these runs and return its path. Raises UserError where one has no finished stage."""
    if len({run.name for run in runs}) < len(runs):
        raise UserError("two of these runs have the same name: rename the folder of one")
    found = {run.name: tables.summary(run) for run in runs}
    paths = dict(zip(found, runs, strict=True))
    differences, apart = _against_first(paths, found)
    stand_ins = {name for of in found.values() for name in of["stand_ins"]}
    metric = next((of["metric"] for of in found.values() if of.get("metric")), None)
    against = {"arms": {}, "comparisons": differences, "stand_ins": stand_ins, "metric": metric}
    content = {
        "title": " against ".join(found),
        "spread": "95 % intervals; a difference is paired by instance over the seeds that both runs have",
        "facts": page.as_table(
            pd.DataFrame({name: facts.facts(paths[name], of) for name, of in found.items()})
            .fillna("")
            .replace("\n", "; ", regex=True)
        ),
        "settings": page.as_table(settings(paths)),
        "scores": page.as_table(_scores(found)),
        "contrasts": page.as_table(scores.contrasts(against)),
        "figure": _figure(against),
        "apart": apart,
        "commands": {name: of["command"] for name, of in found.items()},
    }
    path = to or folders.outputs() / f"{'-against-'.join(found)}.html"
    page.save(path, render.page("compare.html.j2", **content))
    return path


def settings(runs: dict[str, Path]) -> pd.DataFrame:
    """A line a parameter of a notebook that differs between the runs, a column a run; what arms set apart is listed. A notebook
    that one run alone went through is none."""
    each = {name: _settings(run) for name, run in runs.items()}
    named = dict.fromkeys(key for of in each.values() for key in of)
    lines = {key: {name: of[key] for name, of in each.items() if key in of} for key in named}
    differing = {key: line for key, line in lines.items() if len(set(line.values())) > 1}
    return pd.DataFrame.from_dict(differing, orient="index", columns=list(runs) if not differing else None)


def _settings(run: Path) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    for record in facts.records(run):
        notebook = record["name"].partition("@")[0]
        for name, value in record["parameters"].items():
            if name not in keys.RESERVED and not record["name"].startswith("report"):
                found.setdefault(f"{notebook}: {name}", []).append(str(value))
    return {key: ", ".join(sorted(set(values))) for key, values in found.items()}


def _scores(found: dict[str, dict]) -> pd.DataFrame:
    """The scores of all arms, a line each: "run: arm"."""
    tables_of = {name: scores.scores(of) for name, of in found.items()}
    parts = [
        table.rename(index=lambda arm, name=name: f"{name}: {arm}")
        for name, table in tables_of.items()
        if len(table)
    ]
    return pd.concat(parts).fillna("") if parts else pd.DataFrame()


def _against_first(runs: dict[str, Path], found: dict[str, dict]) -> tuple[dict[str, dict], list[str]]:
    """{"b: arm - a: arm": {metric: …}} of every later run's arms against the first run's of the same name, and what could not be paired, and why."""
    first, *others = runs
    differences, apart = {}, []
    for name in others:
        ours, theirs = found[name]["arms"], found[first]["arms"]
        pairs = [(arm, arm) for arm in ours if arm in theirs] or list(product(ours, theirs))[:MOST_PAIRS]
        for arm, other in pairs:
            label = f"{name}: {arm} − {first}: {other}"
            try:
                differences[label] = summary.differences(
                    _scored(runs[name], arm), _scored(runs[first], other)
                )
            except ValueError as error:
                apart.append(f"{label}: {error}")
    return {label: of for label, of in differences.items() if of}, apart


def _scored(run: Path, arm: str) -> dict[str, dict[int, Path]]:
    return summary.scored(arm, ((row, row.folder) for row in tables.stages(run).itertuples()))


def _figure(against: dict) -> Markup:
    """The differences in the headline metric."""
    metric = scores.headline(against)
    each = {label: scores.difference(against, label, metric) for label in against["comparisons"]}
    shown = {
        label: tuple(it[end] for end in ("difference", "low", "high")) for label, it in each.items() if it
    }
    if not shown:
        return Markup("")
    how, title = registry.metric(metric), f"Differences in {scores.label(metric, against)}"
    return render.figure(plots.intervals(shown, title, how.unit, True, how.scale, how.decimals))
