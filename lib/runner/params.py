"""The parameters that a notebook declares, and values of their types."""

import ast
import difflib
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lib import files
from lib.errors import UserError, named
from lib.runner.keys import parse, tags

SECRET = ("_key", "_token")


@dataclass(frozen=True)
class Parameter:
    name: str
    kind: str  # as annotated: int, float, bool, str, list[str], dict[str, float] …
    default: object


def read_notebook(path: Path) -> dict:
    """The notebook's JSON. Raises UserError naming the file."""
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        return notebook | {"cells": list(notebook["cells"])}
    except FileNotFoundError:
        raise UserError(f"there is no notebook {path}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not a notebook: {error}") from None


def declared(notebook: dict, path: object) -> dict[str, Parameter]:
    """Read the parameters of a notebook, by name; none where no cell is tagged "parameters".

    Raises UserError for a line that is not `name: type = literal`, an unknown type, a default of another
    type, and a secret, which belongs in the environment.
    """
    statements = parse(_cell(notebook), f"{path}, parameters cell").body
    parameters = [_parameter(statement, path) for statement in statements]
    return {parameter.name: parameter for parameter in parameters}


def _cell(notebook: dict) -> str:
    sources = [
        "".join(c["source"])
        for c in notebook["cells"]
        if c["cell_type"] == "code" and "parameters" in tags(c)
    ]
    return sources[0] if sources else ""


def _parameter(statement: ast.stmt, path: object) -> Parameter:
    where = f"{path}, parameters cell, line {statement.lineno}"
    if not (
        isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and statement.value
    ):
        raise UserError(f"{where}: write every parameter as `name: type = value  # help`")
    name, kind = statement.target.id, ast.unparse(statement.annotation)
    if name.endswith(SECRET):
        raise UserError(f"{where}: {name} looks like a secret. Set keys in the environment.")
    try:
        return Parameter(name, kind, coerce(ast.literal_eval(statement.value), kind, f"{where}: {name}"))
    except ValueError:
        raise UserError(f"{where}: the default of {name} must be a plain value, not a computed one") from None


# --- values


def coerce(value: object, kind: str, name: str) -> object:
    """Convert a value to its declared type: a text such as "2e-5" to a number, an int to a float.

    Raises UserError naming the parameter for any other difference.
    """
    if kind.startswith(("list", "dict")):
        return _coerce_collection(value, kind, name)
    if kind not in ("int", "float", "bool", "str"):
        raise UserError(
            f"{name}: unknown type {kind}; use int, float, bool, str, list[...] or dict[str, ...]"
        )
    wrong = UserError(f"{name} must be {kind}, not {_kind_of(value)}: {value!r:.60}")
    if kind in ("bool", "str"):
        if type(value).__name__ != kind:
            raise wrong
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float, str) if kind == "float" else (int, str)):
        raise wrong
    try:
        number = float(value) if kind == "float" else int(value)
    except (ValueError, OverflowError):
        raise wrong from None
    if kind == "float" and not math.isfinite(number):
        raise wrong
    return number


def _kind_of(value: object) -> str:
    return "null" if value is None else type(value).__name__


def _coerce_collection(value: object, kind: str, name: str) -> object:
    outer, _, inner = kind.removesuffix("]").partition("[")
    if type(value).__name__ != outer:
        raise UserError(f"{name} must be {kind}, not {_kind_of(value)}: {value!r:.60}")
    if not inner:
        return value
    if outer == "list":
        return [coerce(part, inner, f"{name}[{i}]") for i, part in enumerate(value)]
    of_key, _, of_value = inner.partition(",")
    return {
        coerce(k, of_key.strip(), name): coerce(v, of_value.strip(), f"{name}.{named([k])}")
        for k, v in value.items()
    }


def from_text(text: object, kind: str | None, name: str) -> object:
    """Return the value of `-p name=text`: YAML unless the parameter is a str or has no kind."""
    if isinstance(text, str) and kind != "str":
        text = files.load_yaml(text, name)
    return coerce(text, kind, name) if kind else text


def nearest(name: str, names: Iterable[str]) -> str:
    """Return " (did you mean …?)" for the nearest known name, or an empty text."""
    close = difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f" (did you mean {close[0]}?)" if close else ""
