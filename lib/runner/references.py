"""Inputs of a stage: what a parameter `<x>_from` means, in a run and in a notebook opened by hand.

tapir/4_training/student               of the latest round so far, in the same arm and seed
tapir/4_training@{round-1}/student     of the round before; none before round 0
tapir/3_refinement/pool.parquet?       none where no stage wrote it
data/rows.parquet                      a path
"""

import os
import re
from collections.abc import Iterable
from operator import attrgetter
from pathlib import Path

from lib import paths
from lib.errors import UserError
from lib.runner import folders

ROUND = re.compile(r"-?\d+")
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def names(values: dict) -> list[str]:
    """List the parameters that mean a file or folder: of an earlier stage, or a path."""
    return [name for name in values if name.endswith("_from")]


def with_hub_student(values: dict) -> dict:
    """Move a hub name in `student_from` to `student`, which loads it."""
    name = values.get("student_from") or ""
    if "student" not in values or not HUB_NAME.fullmatch(name) or os.path.exists(paths.local(name)):
        return values
    return values if _is_notebook(name) else values | {"student": name, "student_from": ""}


def resolve(
    text: str, round: int | None, stages: Iterable, name: str, advice: str
) -> Path | tuple[object, str] | None:
    """Resolve an input to a path, or to one of the stages and a path inside it.

    `stages` are those of the same arm and seed that ran before, each with `notebook` and `round`; `round` is
    None in a notebook without one.
    None where the text is empty, means a round before the first, or is optional and not there.
    Raises UserError with `advice` where no stage fits.
    """
    text = re.sub(r"\{round([+-]1)?\}", lambda match: str((round or 0) + int(match[1] or 0)), text)
    if "{" in text or "}" in text:
        raise UserError(f"{text!r:.200}: only {{round}}, {{round-1}} and {{round+1}} may stand in braces")
    if not text:
        return None
    path = paths.local(text)
    if os.path.exists(path):
        return path
    notebook, number, rest = _split(text.removesuffix("?"), name)
    if number is not None and number < 0:
        return None
    limit = float("inf") if round is None else round
    same = [stage for stage in stages if stage.notebook == notebook]
    fitting = [s for s in same if (s.round <= limit if number is None else s.round == number)]
    if fitting:
        return max(fitting, key=attrgetter("round")), rest
    if text.endswith("?"):
        return None
    which = notebook if number is None else f"{notebook}@{number}"
    advice = advice.format(notebook=notebook, round=f" (round = {number})" if number is not None else "")
    raise UserError(f"{name}={text!r:.200}: there is no stage {which} before it. {advice}")


def _split(text: str, name: str) -> tuple[str, int | None, str]:
    """Split a reference into notebook, round (None: latest) and path in the stage."""
    parts = text.split("/")
    for n in range(len(parts), 0, -1):
        notebook, at, number = "/".join(parts[:n]).partition("@")
        if _is_notebook(notebook) and (not at or ROUND.fullmatch(number)):
            if ".." in parts or "" in parts[n:]:
                raise UserError(f"{name}={text!r:.200}: this leaves the stage. Name a file in it, or a path.")
            return notebook, int(number) if at else None, "/".join(parts[n:])
    raise UserError(f"{name}={text!r:.200}: this is neither a file nor the stage of a notebook.")


def _is_notebook(name: str) -> bool:
    return os.path.isfile(folders.notebook_path(name))
