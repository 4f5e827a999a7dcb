"""Read a run: its summary, its finished stages, and where their files lie."""

from pathlib import Path

import pandas as pd

from lib import files, paths, show
from lib.errors import UserError
from lib.evaluation import registry
from lib.runner import display, folders
from lib.runner import summary as summaries

ABSENT = "absent"  # in the metadata of an output that says why there is no other


def summary(run: Path) -> dict:
    """Return summary.json, with the benchmarks that the embedded world stood in for as `stand_ins`.

    What was done by hand is summarised anew. Raises UserError if the run has no finished stage.
    """
    if is_by_hand(run) and run.is_dir():
        files.write_json(run / "summary.json", summaries.by_hand())
    notebooks = {notebook_of(record) for record in records(run).values() if stands_in(record)}
    return _finished(run)[0] | {"stand_ins": sorted(registry.benchmark(name).prefix for name in notebooks)}


def _finished(run: Path) -> tuple[dict, list[dict]]:
    """Return summary.json, and its lines of stages that have a record and, save by hand, a notebook."""
    summary = files.read_json(run / "summary.json") or {}
    places = ((line, run / line["folder"]) for line in summary.get("stages", ()) if "folder" in line)
    needed = "" if is_by_hand(run) else "notebook.ipynb"
    lines = [line for line, at in places if folders.record(at) and (at / needed).exists()]
    if not lines or not summary.get("arms"):
        do = f"Do {summary.get('command', f'python -m lib.run params/{run.name}.yaml')}."
        do = 'Run notebooks first, or set run = "demo" to report on a run.' if is_by_hand(run) else do
        raise UserError(f"{paths.short(run)}: no stage of this run is finished. {do}")
    return summary, lines


def is_by_hand(run: Path) -> bool:
    """Say whether a folder holds what notebooks opened by hand wrote."""
    return run == folders.outputs() / folders.BY_HAND


def stages(run: Path, notebook: str = "", first_round: int = 0) -> pd.DataFrame:
    """Tabulate the finished stages: notebook, round, arm, seed, status, seconds, folder.

    With `notebook`, those of one notebook, from the round `first_round` on.
    """
    table = pd.DataFrame(_finished(run)[1])
    table[["notebook", "round"]] = table["name"].str.split("@", expand=True)
    table = table.assign(round=table["round"].astype(int), folder=[run / path for path in table["folder"]])
    return table[(table["notebook"] == notebook) & (table["round"] >= first_round)] if notebook else table


def places(run: Path, notebook: str) -> dict[tuple[str, int], Path]:
    """Return {(arm, seed): folder} of a notebook, in the latest round of each arm."""
    table = stages(run, notebook).sort_values("round", kind="stable")
    return {(row.arm, row.seed): row.folder for row in table.itertuples()}


def parameter(run: Path, notebook: str, name: str) -> object:
    """Return a parameter of a notebook as the last arm that ran it had it; None if no arm did."""
    folders_of = list(places(run, notebook).values())
    return folders.record(folders_of[-1])["parameters"].get(name) if folders_of else None


def is_embedded(run: Path) -> bool:
    """Say whether the corpus is the embedded world's, where every row's task and answer are known."""
    return parameter(run, "tapir/1_data_selection", "source") == "gym"


def say_absent(text: str) -> None:
    """Say why a section has nothing to show; a page leaves the section out."""
    display.show(text, metadata={ABSENT: True})


# --- records of stages


def records(run: Path) -> dict[Path, dict]:
    """Return {folder: record} of the stages of a run, each once."""
    return {folder: folders.record(folder) for folder in stages(run)["folder"]}


def notebook_of(record: dict) -> str:
    """Return the notebook of a stage's record: "tapir/4_training" of the stage tapir/4_training@2."""
    return record["name"].partition("@")[0]


def stands_in(record: dict) -> bool:
    """Say whether a stage asked the embedded world in place of its benchmark."""
    benchmark = registry.benchmark(notebook_of(record))
    return benchmark is not None and benchmark.is_stand_in(record["parameters"])


def title(record: dict) -> str:
    """Name a stage for a reader: "Training, round 2", "Stand-in for MT-Bench"."""
    notebook, _, number = record["name"].partition("@")
    benchmark = registry.benchmark(notebook)
    if benchmark:
        words = f"{'stand-in for ' * stands_in(record)}{benchmark.name}"
    else:
        words = notebook.rpartition("/")[2].lstrip("0123456789_").replace("_", " ")
        words += f", round {number}" * (number != "0")
    return words[:1].upper() + words[1:]


def sentence(record: dict) -> str:
    """Return what a stage said of its result, without the marks of Markdown; empty if it said nothing."""
    return show.plain(record.get("says", "")).replace("**", "").replace("`", "")
