"""Where a model is loaded from, by hub name or from a folder: safetensors or GGUF.

Pickles are refused, and none of a model's code is run.
"""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from safetensors import SafetensorError

from lib import paths
from lib.errors import UserError, named
from lib.models import catalog

# left out, transformers asks at the terminal, of a run that nobody watches, too
OWN_CODE = {"trust_remote_code": False}


@contextmanager
def loading(kind: str, name: str | Path) -> Iterator[str]:
    """Yield where `name` is loaded from; an error inside becomes one UserError that names the model."""
    try:
        yield locate(kind, name)
    except (OSError, ValueError, ImportError, SafetensorError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(f"the {kind} {name} cannot be loaded, from disk or from the hub: {reason}") from None


def locate(kind: str, name: str | Path) -> str:
    """Find a model: the absolute path of a folder or GGUF file, or a hub name as it is.

    A folder's one GGUF file stands for the folder. A GGUF file on the hub is written owner/name/file.gguf.
    Raises UserError for a folder that does not exist or holds no weights, or several GGUF files.
    """
    name = catalog.split(name)[0]  # where a server answers for the student, it is trained from there
    path = paths.local(str(name))
    if not os.path.exists(path):
        if not re.fullmatch(r"\w[\w.-]*(/[\w.-]+)?|\w[\w.-]*(/[\w.-]+){2,}\.gguf", str(name)):
            raise UserError(f"the {kind} folder {name} does not exist")
        return _unpackable(kind, str(name))
    if not list(path.glob("*.safetensors")):
        path = _gguf_file(kind, name, path)
    for index in path.glob("*.safetensors.index.json"):  # one of pickles beside it is not read
        _check_index(index, f"the {kind} folder {name}")
    return _unpackable(kind, str(path.absolute()))


def _gguf_file(kind: str, name: str | Path, path: Path) -> Path:
    files = [path] if path.suffix == ".gguf" else sorted(path.glob("*.gguf"))
    if len(files) > 1:
        listed = named([file.name for file in files])
        raise UserError(
            f"{kind}={name}: the folder holds {len(files)} GGUF files ({listed}). Name the path of one of "
            "them."
        )
    if not files:
        raise UserError(
            f"the {kind} folder {name} has no *.safetensors weights (pickled weights are refused), and no "
            "GGUF file"
        )
    return files[0]


def _unpackable(kind: str, location: str) -> str:
    if location.endswith(".gguf") and not find_spec("gguf"):
        raise UserError(
            f"{kind}={location}: a GGUF file needs the package gguf. Run pip install -e '.[real]'."
        )
    return location


def source(location: str) -> tuple[str, dict[str, str]]:
    """What `from_pretrained` takes for a place: a folder or hub name, and the GGUF file in it as keyword."""
    if not location.endswith(".gguf"):
        return location, {}
    parts = location.split("/")
    end = -1 if os.path.isabs(location) else 2  # on the hub: owner/name
    return "/".join(parts[:end]), {"gguf_file": "/".join(parts[end:])}


def _check_index(index: Path, where: str) -> None:
    """Raises UserError for a list of weights that names any but safetensors beside it."""
    try:
        files = {str(file) for file in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        files = {f"no weights in {index.name}"}
    if strange := {file for file in files if not re.fullmatch(r"[\w.-]+\.safetensors", file)}:
        raise UserError(
            f"{where} has an index of weights that names {named(strange)}: only safetensors beside it are "
            "loaded"
        )


def template(path: str) -> str:
    """The text of a chat template's file."""
    try:
        return paths.local(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UserError(f"the chat template {path} cannot be read: {reason}") from None
