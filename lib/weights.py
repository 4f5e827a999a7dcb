"""Where a model is loaded from, by hub name or from a folder: safetensors alone, pickles are refused, and none of its code is run."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from lib import paths
from lib.errors import UserError, named

# left out, transformers asks at the terminal, of a run that nobody watches, too
OWN_CODE = {"trust_remote_code": False}


@contextmanager
def loading(kind: str, name: str | Path) -> Iterator[str]:
    """Where `name` is to be loaded from; what fails inside becomes one UserError that says which model of what kind."""
    try:
        yield place(kind, name)
    except (OSError, ValueError, ImportError, SafetensorError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(f"the {kind} {name} cannot be loaded, from disk or from the hub: {reason}") from None


def place(kind: str, name: str | Path) -> str:
    """A folder below the project's root or anywhere else, or a hub name as it is.

    Raises UserError when the folder does not exist or has no safetensors weights.
    """
    path = paths.local(str(name))
    if not os.path.exists(path):
        if not re.fullmatch(r"\w[\w.-]*(/[\w.-]+)?", str(name)):
            raise UserError(f"the {kind} folder {name} does not exist")
        return str(name)
    if not list(path.glob("*.safetensors")):
        raise UserError(
            f"the {kind} folder {name} has no *.safetensors weights (pickled weights are refused)"
        )
    for index in path.glob("*.safetensors.index.json"):  # one of pickles beside it is not read
        _check_index(index, f"the {kind} folder {name}")
    return str(path.absolute())


def _check_index(index: Path, where: str) -> None:
    """Raises UserError for a list of weights that names any but safetensors beside it."""
    try:
        files = {str(file) for file in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        files = {f"no weights in {index.name}"}
    if strange := {file for file in files if not re.fullmatch(r"[\w.-]+\.safetensors", file)}:
        raise UserError(
            f"{where} has an index of weights that names {named(strange)}: only safetensors beside it are loaded"
        )


def template(place: str) -> str:
    """The text of a chat template's file."""
    try:
        return paths.local(place).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UserError(f"the chat template {place} cannot be read: {reason}") from None
