"""The parameters that a notebook declares, and values of their types."""

import ast
import json
import subprocess
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, FiniteFloat, StrictBool, StrictStr, TypeAdapter, ValidationError

from lib import files
from lib.errors import UserError
from lib.runner import folders
from lib.runner.keys import parse, tags

SECRET = ("_key", "_token")


def _no_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("a bool is no number")
    return value


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


Whole = Annotated[int, BeforeValidator(_no_bool)]
Real = Annotated[FiniteFloat, BeforeValidator(_no_bool)]  # YAML reads 2e-5 as a text, which pydantic converts
TYPES = {
    "int": TypeAdapter(Whole),
    "float": TypeAdapter(Real),
    "bool": TypeAdapter(StrictBool),
    "str": TypeAdapter(StrictStr),
    "list[str]": TypeAdapter(Annotated[list[StrictStr], BeforeValidator(_listed)]),  # one text is a list, too
    "list[int]": TypeAdapter(list[Whole]),
    "list[float]": TypeAdapter(list[Real]),
    "list[dict[str, str]]": TypeAdapter(list[dict[StrictStr, StrictStr]]),
    "dict[str, float]": TypeAdapter(dict[StrictStr, Real]),
}


@dataclass(frozen=True)
class Parameter:
    name: str
    kind: str  # as annotated, a key of TYPES
    default: object


def read_notebook(path: Path) -> dict:
    """Read a notebook's JSON. Raises UserError naming the file."""
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        return notebook | {"cells": list(notebook["cells"])}
    except FileNotFoundError:
        raise UserError(f"there is no notebook {path}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not a notebook: {error}") from None


def declared(notebook: dict, path: object) -> dict[str, Parameter]:
    """Read the parameters of a notebook, by name, from its cell with that tag.

    Raises UserError for a line that is not `name: type = literal`, an unknown type, a default of another
    type, and a secret, which belongs in the environment.
    """
    tagged = [
        cell for cell in notebook["cells"] if cell["cell_type"] == "code" and "parameters" in tags(cell)
    ]
    source = "".join(tagged[0]["source"]) if tagged else ""
    result = {}
    for line in parse(source, f"{path}, parameters cell").body:
        where = f"{path}, parameters cell, line {line.lineno}"
        if not (isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and line.value):
            raise UserError(f"{where}: write every parameter as `name: type = value  # help`")
        name, kind = line.target.id, ast.unparse(line.annotation)
        if name.endswith(SECRET):
            raise UserError(f"{where}: {name} looks like a secret. Set keys in the environment.")
        if kind not in TYPES:
            raise UserError(f"{where}: {name} has the unknown type {kind}. Use one of {', '.join(TYPES)}.")
        try:
            default = ast.literal_eval(line.value)
        except ValueError:
            raise UserError(f"{where}: the default of {name} must be a plain value, not computed") from None
        result[name] = Parameter(name, kind, coerce(default, kind, f"{where}: {name}"))
    return result


def committed(path: Path) -> dict[str, object] | None:
    """Return the defaults of a notebook at git's last commit, by name; None where git cannot tell."""
    command = ["git", "show", f"HEAD:./{path.name}"]
    try:
        text = subprocess.check_output(command, cwd=path.parent, stderr=subprocess.DEVNULL, text=True)
        return {name: parameter.default for name, parameter in declared(json.loads(text), path).items()}
    except (OSError, subprocess.CalledProcessError, ValueError, LookupError, UserError):
        return None


def uncommitted(declared: dict[str, dict[str, Parameter]], given: Container[str]) -> list[str]:
    """List defaults of notebooks that differ from git's last commit and act, as no value is `given`."""
    texts = []
    for notebook, parameters in declared.items():
        before = committed(folders.notebook_path(notebook)) or {}
        now = {n: p.default for n, p in parameters.items() if n in before and n not in given}
        texts += [f"{notebook} {n}={now[n]!r} ({before[n]!r})" for n in now if now[n] != before[n]]
    return texts


def coerce(value: object, kind: str, name: str) -> object:
    """Convert a value to its declared type: "2e-5" to a number, an int to a float.

    Raises UserError naming the parameter for any other difference.
    """
    try:
        return TYPES[kind].validate_python(value)
    except ValidationError:
        raise UserError(f"{name} must be {kind}, not {type(value).__name__}: {value!r:.60}") from None


def from_text(text: object, kind: str | None, name: str) -> object:
    """Read the value of `-p name=text`: YAML, unless the parameter is a str."""
    if isinstance(text, str) and kind != "str":
        text = files.load_yaml(text, name)
    return coerce(text, kind, name) if kind else text
