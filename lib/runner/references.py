"""What a `<x>_from` parameter means: "tapir/4_training@{round-1}/student", "tapir/3_refinement/pool.parquet?", a path."""

import os
import re
from pathlib import Path
from typing import NamedTuple

from lib import paths
from lib.errors import UserError
from lib.runner import folders, params

REFERENCE = re.compile(r"(?P<notebook>[^@]+)@(?P<round>-?\d+)(?:/(?P<rest>.+))?")


HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def with_hub_student(values: dict) -> dict:
    """Return the parameters of a notebook with a hub name in `student_from` moved to `student`, which loads it."""
    name = values.get("student_from") or ""
    if "student" not in values or not HUB_NAME.fullmatch(name) or os.path.exists(paths.local(name)):
        return values
    is_stage = os.path.isfile(folders.notebook_path(name))
    return values if is_stage else values | {"student": name, "student_from": ""}


class Reference(NamedTuple):
    """A file or folder of a stage; round None means the latest, optional (a "?" behind it) that there may be none."""

    notebook: str
    round: int | None
    rest: str
    optional: bool


def read(text: str, round: int, name: str) -> Path | Reference | None:
    """A path that exists, or a reference to an earlier stage.

    None where the text is empty or means a round before the first. Raises UserError for anything else.
    """
    text = fill_round(text, round)
    if not text:
        return None
    path = paths.local(text)
    if os.path.exists(path):
        return path
    found = _split(text.removesuffix("?"), text.endswith("?"))
    if not found or not os.path.isfile(folders.notebook_path(found.notebook)):
        raise UserError(f"{name} is {text!r:.200}, which is neither a file nor the stage of a notebook")
    inside = Path(found.rest)
    if inside.is_absolute() or ".." in (*inside.parts, *Path(found.notebook).parts):
        raise UserError(
            f"{name} is {text!r:.200}, which leaves the stage: name a file in it, or another place by its own path"
        )
    return None if found.round is not None and found.round < 0 else found


def fill_round(text: str, round: int) -> str:
    """Put numbers for {round}, {round-1} and {round+1}; any other brace is refused."""
    filled = re.sub(r"\{round([+-]1)?\}", lambda m: str(round + int(m[1] or 0)), text)
    if "{" in filled or "}" in filled:
        raise UserError(f"{text!r:.200}: only {{round}}, {{round-1}} and {{round+1}} may stand in braces")
    return filled


def _split(text: str, optional: bool) -> Reference | None:
    if found := REFERENCE.fullmatch(text):
        return Reference(found["notebook"], int(found["round"]), found["rest"] or "", optional)
    parts = text.split("/")
    for n in range(len(parts), 0, -1):
        if os.path.isfile(folders.notebook_path("/".join(parts[:n]))):
            return Reference("/".join(parts[:n]), None, "/".join(parts[n:]), optional)
    return None


def find(text: str, where: dict, name: str) -> Path | None:
    """Look a reference up on disk, in the run, arm and seed of `where`. Raises UserError naming the notebook to run."""
    means = read(text, where["round"] or 0, name)
    if not isinstance(means, Reference):
        return means
    notebook, number, rest, optional = means
    number = _latest(notebook, where) if number is None else number
    folder = folders.stage_folder(where["run"], where["arm"], where["seed"], notebook, number)
    if not folders.is_complete(folder):
        if optional:
            return None
        raise UserError(
            f"{name}: {notebook}@{number} has no result in {paths.short(folder)}. Run notebooks/{notebook}.ipynb "
            f'first (round = {number}), or set run and arm (run = "demo", arm = "tapir") to read what a run wrote'
        )
    return folder.resolve() / rest


def _latest(notebook: str, where: dict) -> int:
    """The last round that has a result, up to this one where there is one; where none has the notebook's own, for the error to name."""
    first = folders.stage_folder(where["run"], where["arm"], where["seed"], notebook, 0)
    numbers = (path.name.rpartition("@")[2] for path in first.parent.glob(f"{first.name[:-1]}*"))
    until = float("inf") if where["round"] is None else where["round"]
    there = [int(n) for n in numbers if n.isdigit() and int(n) <= until]
    whole = [n for n in there if folders.is_complete(first.with_name(f"{first.name[:-1]}{n}"))]
    return max(whole) if whole else _own_round(notebook)


def _own_round(notebook: str) -> int:
    """The round that a notebook opened by hand is in."""
    path = folders.notebook_path(notebook)
    declared = params.declared(params.read_notebook(path), path)
    return declared["round"].default if "round" in declared else 0
