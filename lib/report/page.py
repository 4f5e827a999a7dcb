"""The report of a run: one page that opens anywhere, with every stage's notebook folded inside.

outputs/<run>/report.html; where it would exceed 5 MB the stages stay in pages of their own, and report.zip holds them all.
"""

import zipfile
from collections.abc import Iterable
from pathlib import Path

import nbformat
import pandas as pd
import yaml
from markupsafe import Markup

from lib import files, plots, show
from lib.plots import colour
from lib.report import facts, flow, render, scores, tables
from lib.report.cards.facts import METHODS
from lib.report.cards.wording import PAPERS
from lib.runner import folders

LARGEST = 5_000_000  # bytes of a page that can still be mailed
AUTHORS = {"TAPIR": "Yue et al., EMNLP 2024 Findings", "SELF-GUIDE": "Zhao et al., COLM 2024"}


def write(run: Path) -> Path:
    """Write a run's report and return its path: report.html, or the report.zip beside it where that is needed.

    Raises UserError where the run has no finished stage.
    """
    found = tables.summary(run)
    stages = _stages(run)
    about = _content(run, found)
    whole = _page(about, stages, inside=True) if _pages_size(stages) <= LARGEST else ""
    archive = None if whole and len(whole.encode()) <= LARGEST else run / "report.zip"
    text = _page(about, stages, inside=False) if archive else whole
    (run / "report.zip").unlink(missing_ok=True)
    if archive:
        _save_archive(archive, text, stages)
    save(run / "report.html", text)  # last: where it is there, the report is whole
    return archive or run / "report.html"


def _content(run: Path, found: dict) -> dict:
    """What stands above the stages."""
    table = tables.stages(run)
    arms = tables.compared(found, "primary")
    told = facts.records(run)
    trunk, ways = flow.flow(run, arms)
    return {
        "title": show.plain(found.get("title", found["run"])),
        "question": show.plain(found.get("question", "")),
        "found": found,
        "when": max(record["started"] for record in told)[:10],
        "facts": facts.facts(run, found),
        "spread": spread(found),
        "arms": as_table(_arms(found)),
        "study": yaml.safe_dump(found["study"], sort_keys=False, allow_unicode=True)
        if "study" in found
        else "",
        "missing": len(found["stages"]) - len(table),
        "judged": table["notebook"].eq("tapir/2_oracle_judging").any(),
        "trunk": trunk,
        "ways": ways,
        "colours": {arm: colour(arm) for arm in arms},
        "metric": scores.missing_metric(found),
        "scores": as_table(scores.scores(found)),
        "contrasts": as_table(scores.contrasts(found)),
        "every": as_table(scores.every(found)),
        "analysis": [
            Markup(render.body(_read(row.folder), level=2, fold_code=True, within=True))
            for row in _once(table)
        ],
        "took": as_table(_took(table)),
        "took_figure": _took_figure(table),
        "versions": told[-1]["versions"],
        "threads": sorted({of["threads"] for of in told if "threads" in of}),
        "commits": list(dict.fromkeys(record["commit"] for record in told)),
        "seeds": sorted({int(seed) for of in found["arms"].values() for seed in of["seeds"]}),
        "papers": [
            (name, AUTHORS[name], f"https://arxiv.org/abs/{PAPERS[name]}")
            for folder, name in METHODS.items()
            if table["notebook"].str.startswith(f"{folder}/").any()
        ],
    }


def spread(found: dict) -> str:
    """What the intervals of a summary hold."""
    seeds = sorted({len(of["seeds"]) for of in found["arms"].values()})
    if seeds == [1]:
        return "95 % intervals, rows resampled; one seed: the luck of a training is not in them"
    some = f"{' or '.join(map(str, seeds))} seeds an arm"
    return f"95 % intervals, rows resampled and a t interval over the seeds added ({some}; where it is 1, rows alone)"


def _arms(found: dict) -> pd.DataFrame:
    """A line an arm: what it sets otherwise than the others."""
    study = found.get("study", {})
    arms = {arm: of for arm, of in (study.get("arms") or {}).items() if arm in found["arms"]}
    set_apart = {arm: ", ".join(f"{name}: {value}" for name, value in of.items()) for arm, of in arms.items()}
    table = pd.DataFrame({"sets": set_apart})
    return table[table["sets"] != ""] if len(table) else table


def as_table(table: pd.DataFrame) -> Markup:
    """A table as HTML; empty where it has no line."""
    return Markup(render.sanitized(table.to_html(escape=True, border=0))) if len(table) else Markup("")


def _once(table: pd.DataFrame) -> Iterable:
    return table[table["arm"] == "all"].itertuples()


def _took(table: pd.DataFrame) -> pd.DataFrame:
    """A line a notebook: how many stages ran it, seconds, oracle calls and money; each stage counts once."""
    once = table[table["arm"] != "all"].drop_duplicates("folder")
    metrics = [files.read_json(folder / "metrics.json") or {} for folder in once["folder"]]
    spent = once.assign(
        calls=[of.get("oracle.calls") or 0 for of in metrics],
        usd=pd.Series([of.get("oracle.usd", 0.0) for of in metrics], once.index, float),
    )
    of = spent.groupby("notebook", sort=False)
    took = of.agg(
        stages=("folder", "size"),
        seconds=("seconds", "sum"),
        calls=("calls", "sum"),
        usd=("usd", lambda of: of.sum(skipna=False)),
    )
    shown = {"seconds": "{:,.0f}", "calls": "{:,.0f}", "usd": "{:,.2f}"}
    took = took.assign(**{name: took[name].map(form.format) for name, form in shown.items()}).replace(
        "nan", "unknown"
    )
    return took.rename(columns={"calls": "oracle calls", "usd": "USD"}).rename_axis(None)


def _took_figure(table: pd.DataFrame) -> Markup:
    once = table[table["arm"] != "all"].drop_duplicates("folder")
    minutes = once.groupby("notebook", sort=False)["seconds"].sum() / 60
    if len(minutes) < 2:
        return Markup("")
    figure = plots.bars({"minutes": minutes.to_dict()}, "Time by stage", "minutes", percent=False)
    return render.figure(figure)


# --- stages


def _stages(run: Path) -> list[dict]:
    """Every stage, each once, with the arms and seeds that it serves."""
    table = tables.stages(run)
    found = []
    for folder, of in table[table["arm"] != "all"].groupby("folder", sort=False):
        record, first = folders.record(folder), of.iloc[0]
        arms = ", ".join(dict.fromkeys(of["arm"]))
        found.append(
            {
                "folder": folder,
                "anchor": flow.anchor(folder, run),
                "name": first["name"],
                "serves": f"{arms} · seed {', '.join(map(str, dict.fromkeys(of['seed'])))}",
                "seconds": record["seconds"],
                "link": folder.relative_to(run).as_posix() + "/notebook.html",
            }
        )
    return found


def _page(about: dict, stages: list[dict], inside: bool) -> str:
    if inside:
        stages = [
            one | {"body": Markup(render.body(_read(one["folder"]), level=3, fold_code=True))}
            for one in stages
        ]
    return render.page("report.html.j2", stages=stages, inside=inside, **about)


def _pages_size(stages: list[dict]) -> int:
    return sum(path.stat().st_size for one in stages if (path := one["folder"] / "notebook.html").is_file())


def _save_archive(path: Path, text: str, stages: list[dict]) -> None:
    """The report, and the stages' pages where its links look for them."""
    with files.whole(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("report.html", text)
        for one in stages:
            archive.writestr(one["link"], render.notebook_page(_read(one["folder"]), one["name"]))


def _read(folder: Path):
    return nbformat.read(folder / "notebook.ipynb", as_version=4)


def save(path: Path, text: str) -> None:
    """Write at once or not at all."""
    with files.whole(path) as partial:
        partial.write_text(text, encoding="utf-8")
