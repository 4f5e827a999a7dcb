"""A params file: YAML over the file that it extends, and the stages that it lists."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated

from jinja2 import TemplateSyntaxError, meta
from jinja2.sandbox import SandboxedEnvironment
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from lib import files
from lib.errors import UserError, named, nearest, one_line
from lib.runner.keys import RESERVED

CONDITIONS = SandboxedEnvironment()


class File(TypedDict, total=False):
    """The entries of a params file."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)
    extends: str
    title: str
    question: str
    metric: str
    stages: list[str | dict]
    arms: dict[str, dict[str, object] | None]
    seeds: list[int]
    engine: str  # that generates the student's responses: local, ray or ray:4; it changes no result
    threads: Annotated[int, Field(ge=1)]  # of each stage, so that --jobs changes no result
    exploratory_seeds: list[int]
    primary: list[str]
    comparisons: list[str]
    params: dict[str, object]


FILE = TypeAdapter(File)


@dataclass(frozen=True)
class Entry:
    """One line under `stages`."""

    notebook: str
    values: dict
    when: str = "true"
    once: bool = False


def read(path: Path, above: tuple[Path, ...] = ()) -> tuple[dict, dict]:
    """Read a params file: its entries with those that it extends, and its own."""
    try:
        content = files.load_yaml(path.read_text(encoding="utf-8"), f"{path}") or {}
    except (OSError, ValueError) as error:  # a name that no file can have, too
        raise UserError(f"{one_line(path)} cannot be read: {one_line(error)}") from None
    if path.resolve() in above:
        raise UserError(f"{path} extends itself")
    own = {"params": {}} | _entries(content, path)
    base = own.pop("extends", None)
    below = read(path.parent / base, (*above, path.resolve()))[0] if base else {"params": {}}
    arms = _merge_arms(below.get("arms", {}), own.get("arms", {}))
    return below | own | {"params": _merge(below["params"], own["params"]), "arms": arms}, own


def _entries(content: object, path: Path) -> dict:
    """Check the entries of a file; those without a value are left out."""
    if isinstance(content, dict):
        content = {name: value for name, value in content.items() if value is not None}
    try:
        return FILE.validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = named([".".join(map(str, first["loc"])) or "content"])
        if first["type"] == "extra_forbidden":
            near = nearest(where, File.__annotations__)
            raise UserError(f"{path}: unknown entry {where}{near}. Put parameters under `params`.") from None
        raise UserError(f"{path}: {where}={first['input']!r:.60}: {first['msg']}") from None


def _merge(below: dict, above: dict) -> dict:
    both = [n for n in above if isinstance(above[n], dict) and isinstance(below.get(n), dict)]
    return below | above | {name: _merge(below[name], above[name]) for name in both}


def _merge_arms(below: dict, above: dict) -> dict:
    """Merge arms by name, inherited ones first; `arm: null` leaves an inherited one out."""
    own = {a: below.get(a, {}) | (v or {}) for a, v in above.items() if v is not None or a not in below}
    return {arm: values for arm, values in below.items() if arm not in above} | own


def block(item: object, path: object) -> tuple[object, list[Entry]]:
    if not isinstance(item, dict) or "repeat" not in item:
        return None, [_entry(item, path)]
    if set(item) != {"repeat", "stages"} or not isinstance(item["stages"], list):
        raise UserError(f"{path}: a repeat has the entries `repeat` and `stages`, not {item!r:.60}")
    if item["repeat"] in RESERVED:
        raise UserError(f"{path}: repeat={item['repeat']}: the runner sets this name itself. Rename it.")
    return item["repeat"], [_entry(inner, path) for inner in item["stages"]]


def _entry(item: object, path: object) -> Entry:
    [(notebook, values)] = item.items() if isinstance(item, dict) and len(item) == 1 else [(item, None)]
    values = {} if values is None else values
    if not isinstance(notebook, str) or not isinstance(values, dict):
        raise UserError(
            f"{path}: {item!r:.60} is no stage. "
            "Write a notebook's name, or `name: {when: …, once: …, parameter: value}`."
        )
    when = "true" if values.get("when") is None else str(values["when"])
    own = {name: value for name, value in values.items() if name not in ("when", "once")}
    try:
        condition(when)
    except (TemplateSyntaxError, RecursionError, MemoryError):
        raise UserError(f"{path}: when={when!r:.60} is no condition. Compare names and numbers.") from None
    return Entry(notebook, own, when, values.get("once") is True)


@cache
def condition(text: str) -> tuple[Callable, set[str]]:
    """Compile a `when`; return a function of its values, and the names that it takes."""
    names = meta.find_undeclared_variables(CONDITIONS.parse(f"{{{{ {text} }}}}"))
    return CONDITIONS.compile_expression(text, undefined_to_none=False), names - set(RESERVED)
