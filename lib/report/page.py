"""Write the report of a run: one page that opens anywhere, with the notebook of every stage folded inside.

Where report.html would exceed 5 MB, the stages stay in pages of their own, and report.zip holds them all.
"""

import zipfile
from itertools import takewhile
from pathlib import Path

import nbformat
import pandas as pd
import yaml
from markupsafe import Markup

from lib import files, show
from lib.plots import colour
from lib.report import facts, render, scores, tables
from lib.runner import folders

MAX_BYTES = 5_000_000  # of a page that can still be mailed


def write(run: Path) -> Path:
    """Write report.html, or else pages of the stages and report.zip; return the path of what to send."""
    content, stages = _content(run), list(_stages(run).values())
    bodies = [Markup(render.body(read(stage["folder"]), level=3, fold_code=True)) for stage in stages]
    text = render.page("report.html.j2", stages=stages, bodies=bodies, **content)
    path, archive = run / "report.html", run / "report.zip"
    archive.unlink(missing_ok=True)
    if is_large := len(text.encode()) > MAX_BYTES:
        text = render.page("report.html.j2", stages=stages, bodies=[], **content)
        with files.whole(archive) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as packed:
            packed.writestr(path.name, text)
            for stage in stages:
                save(run / stage["link"], render.notebook_page(read(stage["folder"]), stage["name"]))
                packed.write(run / stage["link"], stage["link"])
    save(path, text)
    return archive if is_large else path


def _content(run: Path) -> dict:
    """Gather everything that stands above the stages."""
    summary, table, records = tables.summary(run), tables.stages(run), list(tables.records(run).values())
    arms = scores.compared(summary, "primary")
    trunk, branches = flow(run, arms)
    once = table["folder"][table["arm"] == "all"]
    methods = {name.partition("/")[0] for name in table["notebook"]}
    return {
        "title": show.plain(summary.get("title", summary["run"])),
        "question": show.plain(summary.get("question", "")),
        "summary": summary,
        "when": max(record["started"] for record in records)[:10],
        "facts": facts.facts(run, summary),
        "spread": scores.INTERVALS,
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


def as_table(table: pd.DataFrame) -> Markup:
    """Return a table as HTML; empty if it has no line."""
    return Markup(render.sanitized(table.to_html(escape=True, border=0))) if len(table) else Markup("")


def flow(run: Path, arms: list[str]) -> tuple[list[dict], dict[str, list[dict]]]:
    """Return the first stages, which all these arms share, and those of each arm alone; of the first seed."""
    table, drawn = tables.stages(run), _stages(run)
    first = table[table["seed"] == table["seed"].min()]
    boxes = {arm: [drawn[folder] for folder in first["folder"][first["arm"] == arm]] for arm in arms}
    side_by_side = zip(*boxes.values(), strict=False)
    shared = len(list(takewhile(lambda stages: all(stage == stages[0] for stage in stages), side_by_side)))
    return boxes[arms[0]][:shared], {arm: stages[shared:] for arm, stages in boxes.items()}


def _arms(summary: dict) -> pd.DataFrame:
    """Tabulate the parameters that each arm sets."""
    arms = (summary.get("study") or {}).get("arms") or {}
    lines = {arm: ", ".join(f"{k}: {v}" for k, v in (arms.get(arm) or {}).items()) for arm in summary["arms"]}
    return pd.DataFrame({"sets": {arm: text for arm, text in lines.items() if text}})


def _cost(table: pd.DataFrame) -> pd.DataFrame:
    """Tabulate stages, seconds, oracle calls and money by notebook; a shared stage counts once."""
    once = table[table["arm"] != "all"].drop_duplicates("folder")
    metrics = [folders.metrics(folder) for folder in once["folder"]]
    each = once[["notebook", "seconds"]].assign(stages=1)
    each["oracle calls"] = [values.get("oracle.calls", 0) for values in metrics]
    each["USD"] = [values.get("oracle.usd", 0) for values in metrics]
    sums = each.astype({"USD": float}).groupby("notebook", sort=False).sum(skipna=False)
    shown = sums[["stages", "seconds", "oracle calls"]].map("{:,.0f}".format)
    return shown.assign(USD=sums["USD"].map("{:,.2f}".format).replace("nan", "unknown")).rename_axis(None)


def _stages(run: Path) -> dict[Path, dict]:
    """Return every stage once, by its folder: what it says of itself, whom it serves, where its page is."""
    table, stages = tables.stages(run), {}
    for folder, users in table[table["arm"] != "all"].groupby("folder", sort=False):
        record, path = folders.record(folder), folder.relative_to(run).as_posix()
        arms, seeds = (", ".join(map(str, users[name].unique())) for name in ("arm", "seed"))
        stages[folder] = {
            "folder": folder,
            "name": record["name"],
            "title": tables.title(record),
            "says": tables.sentence(record),
            "serves": f"{arms} · seed {seeds}",
            "seconds": record["seconds"],
            "anchor": path.replace("/", "-").replace("@", "-"),
            "link": f"{path}/{folders.STAGE_PAGE}",
        }
    return stages


def read(stage: Path) -> nbformat.NotebookNode:
    """Read the executed notebook of a stage; of one by hand, which has none, write its parameters."""
    if (path := stage / "notebook.ipynb").is_file():
        return nbformat.read(path, as_version=4)
    record = folders.record(stage)
    values = record["parameters"].items()
    lines = [f"| `{name}` | {show.code(value).replace('|', '¦')} |" for name, value in values]
    text = f"# {tables.title(record)}\n\n{record['says']}\n\nThis stage ran by hand, with these parameters. "
    text += "Its outputs are in the notebook.\n\n| parameter | value |\n| --- | --- |\n" + "\n".join(lines)
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text)])


def save(path: Path, text: str) -> None:
    """Write a text at once or not at all."""
    with files.whole(path) as partial:
        partial.write_text(text, encoding="utf-8")
