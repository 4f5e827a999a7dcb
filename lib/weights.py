"""Where a model is loaded from, by hub name or from a folder: safetensors alone, pickles are refused."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from lib import paths
from lib.errors import UserError


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
    if not path.exists():
        if not re.fullmatch(r"\w[\w.-]*(/[\w.-]+)?", str(name)):
            raise UserError(f"the {kind} folder {name} does not exist")
        return str(name)
    if not list(path.glob("*.safetensors")):
        raise UserError(
            f"the {kind} folder {name} has no *.safetensors weights (pickled weights are refused)"
        )
    return str(path.absolute())


def template(place: str) -> str:
    """The text of a chat template's file."""
    try:
        return paths.local(place).read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"the chat template {place} cannot be read: {error.strerror}") from None
