"""Write the report of a run: one page that opens anywhere, with the notebook of every stage folded inside.

Where report.html would exceed 5 MB, the stages stay in pages of their own, and report.zip holds them all.
"""

import zipfile
from pathlib import Path

import nbformat
import pandas as pd
import yaml
from markupsafe import Markup

from lib import files, show
from lib.plots import colour
from lib.report import facts, flow, render, scores, tables
from lib.runner import folders

MAX_BYTES = 5_000_000  # of a page that can still be mailed


def write(run: Path) -> Path:
    """Write report.html, and report.zip if that is too large; return the path of what to send.

    Raises UserError if the run has no finished stage.
    """
    content, stages = _content(run), _stages(run)
    bodies = [Markup(render.body(read(stage["folder"]), level=3, fold_code=True)) for stage in stages]
    with_bodies = [stage | {"body": body} for stage, body in zip(stages, bodies, strict=True)]
    text = render.page("report.html.j2", stages=with_bodies, inside=True, **content)
    archive = run / "report.zip"
    archive.unlink(missing_ok=True)
    if is_large := len(text.encode()) > MAX_BYTES:
        text = render.page("report.html.j2", stages=stages, inside=False, **content)
        _save_archive(archive, text, stages)
    save(run / "report.html", text)  # last: if it exists, the report is complete
    return archive if is_large else run / "report.html"


def _content(run: Path) -> dict:
    """Gather everything that stands above the stages."""
    summary, table, records = tables.summary(run), tables.stages(run), tables.records(run)
    arms = scores.compared(summary, "primary")
    trunk, branches = flow.flow(run, arms)
    once = table["folder"][table["arm"] == "all"]
    methods = {name.partition("/")[0] for name in table["notebook"]}
    return {
        "title": show.plain(summary.get("title", summary["run"])),
        "question": show.plain(summary.get("question", "")),
        "summary": summary,
        "when": max(record["started"] for record in records)[:10],
        "facts": facts.facts(run, summary),
        "spread": spread(summary),
        "arms": as_table(_arms(summary)),
        "study": yaml.safe_dump(summary.get("study"), sort_keys=False, allow_unicode=True),
        "missing": len(summary["stages"]) - len(table),
        "judged": table["notebook"].eq("tapir/2_oracle_judging").any(),
        "trunk": trunk,
        "branches": branches,
        "colours": {arm: colour(arm) for arm in arms},
        "metric": scores.missing_metric(summary),
        "scores": as_table(scores.scores(summary)),
        "differences": as_table(scores.differences(summary)),
        "analysis": [Markup(render.body(read(page), level=2, fold_code=True, within=True)) for page in once],
        "cost": as_table(_cost(table)),
        "versions": records[-1]["versions"],
        "threads": sorted({record["threads"] for record in records if "threads" in record}),
        "commits": list(dict.fromkeys(record["commit"] for record in records)),
        "seeds": sorted({int(seed) for arm in summary["arms"].values() for seed in arm["seeds"]}),
        "papers": [paper for folder, paper in facts.PAPERS.items() if folder in methods],
    }


def spread(summary: dict) -> str:
    """Say what the intervals of a summary hold."""
    seeds = sorted({len(arm["seeds"]) for arm in summary["arms"].values()})
    if seeds == [1]:
        return "95 % intervals, rows resampled; one seed: the luck of a training is not in them"
    numbers = f"{' or '.join(map(str, seeds))} seeds an arm"
    return f"95 % intervals, rows resampled and a t interval over seeds added ({numbers}; of one, rows alone)"


def as_table(table: pd.DataFrame) -> Markup:
    """Return a table as HTML; empty if it has no line."""
    return Markup(render.sanitized(table.to_html(escape=True, border=0))) if len(table) else Markup("")


def _arms(summary: dict) -> pd.DataFrame:
    """Tabulate the parameters that each arm sets."""
    arms = (summary.get("study") or {}).get("arms") or {}
    lines = {arm: ", ".join(f"{k}: {v}" for k, v in (arms.get(arm) or {}).items()) for arm in summary["arms"]}
    return pd.DataFrame({"sets": {arm: text for arm, text in lines.items() if text}})


def _cost(table: pd.DataFrame) -> pd.DataFrame:
    """Tabulate stages, seconds, oracle calls and money by notebook; a shared stage counts once."""
    once = table[table["arm"] != "all"].drop_duplicates("folder")
    metrics = [folders.metrics(folder) for folder in once["folder"]]
    calls, usd = ([values.get(f"oracle.{name}", 0) for values in metrics] for name in ("calls", "usd"))
    once = once.assign(stages=1, calls=calls, usd=pd.Series(usd, once.index, float))
    sums = once.groupby("notebook", sort=False)[["stages", "seconds", "calls"]].sum()
    money = once.groupby("notebook", sort=False)["usd"].sum(min_count=1, skipna=False)
    shown = sums.map("{:,.0f}".format).assign(usd=money.map("{:,.2f}".format).replace("nan", "unknown"))
    return shown.rename(columns={"calls": "oracle calls", "usd": "USD"}).rename_axis(None)


def _stages(run: Path) -> list[dict]:
    """List every stage once, with the arms and seeds that it serves."""
    table, stages = tables.stages(run), []
    for folder, users in table[table["arm"] != "all"].groupby("folder", sort=False):
        arms, seeds = (", ".join(map(str, users[name].unique())) for name in ("arm", "seed"))
        stage = {"folder": folder, "name": users.iloc[0]["name"], "serves": f"{arms} · seed {seeds}"}
        stage |= {"anchor": flow.anchor(folder, run), "seconds": folders.record(folder)["seconds"]}
        stages.append(stage | {"link": folder.relative_to(run).as_posix() + f"/{folders.STAGE_PAGE}"})
    return stages


def _save_archive(path: Path, text: str, stages: list[dict]) -> None:
    """Pack the report, and the stages' pages where its links look for them."""
    with files.whole(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("report.html", text)
        for stage in stages:
            archive.write(stage["folder"] / folders.STAGE_PAGE, stage["link"])


def read(stage: Path) -> nbformat.NotebookNode:
    """Read the executed notebook of a stage."""
    return nbformat.read(stage / "notebook.ipynb", as_version=4)


def save(path: Path, text: str) -> None:
    """Write a text at once or not at all."""
    with files.whole(path) as partial:
        partial.write_text(text, encoding="utf-8")
