"""A params file: YAML over the file that it extends, and the stages that it lists."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from jinja2 import TemplateSyntaxError, meta
from jinja2.sandbox import SandboxedEnvironment

from lib import files
from lib.errors import UserError, named, one_line
from lib.runner import params
from lib.runner.keys import RESERVED

KEYS = (
    *("extends", "title", "question", "stages", "arms", "params"),
    *("metric", "primary", "comparisons", "seeds", "exploratory_seeds"),
)
TEXTS = ("title", "question", "extends", "metric")


CONDITIONS = SandboxedEnvironment()


@dataclass(frozen=True)
class Entry:
    """One line under `stages`."""

    notebook: str
    values: dict
    when: str | None = None
    once: bool = False


def read(path: Path, above: tuple[Path, ...] = ()) -> tuple[dict, dict]:
    """Read a params file: its entries over those of the file that it extends, and its own alone.

    Raises UserError naming the file, and the entry or line.
    """
    try:
        there = path.is_file()
    except OSError:  # a name that no file can have
        there = False
    if not there:
        raise UserError(f"there is no params file {one_line(path)}")
    if path.resolve() in above:
        raise UserError(f"{path} extends itself")
    try:
        text = files.load_yaml(path.read_text(encoding="utf-8"), f"{path}") or {}
    except (UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    check_mapping(text, f"{path}")
    for key, value in text.items():
        if key not in KEYS:
            near = params.nearest(str(key), KEYS)
            raise UserError(f"{path}: unknown entry {named([key])}{near}. Put parameters under `params`.")
        if key in TEXTS and not isinstance(value, str | None):
            raise UserError(f"{path}: {key} must be a text, not {value!r:.60}")
    check_mapping(text.setdefault("params", None) or {}, f"{path}: params")
    text["params"] = text["params"] or {}
    base = text.pop("extends", None)
    below = read(path.parent / base, (*above, path.resolve()))[0] if base else {"params": {}}
    return below | text | {"params": _merge(below["params"], text["params"])}, text


def _merge(below: dict, above: dict) -> dict:
    both = {
        k: _merge(below[k], v)
        for k, v in above.items()
        if isinstance(v, dict) and isinstance(below.get(k), dict)
    }
    return below | above | both


def check_mapping(value: object, where: str) -> None:
    if not isinstance(value, dict):
        raise UserError(f"{where} must be `name: value` lines, not {value!r:.60}")


# --- its stages


def stages(text: dict, path: object) -> list[Entry | tuple[object, list[Entry]]]:
    """Read the stages: entries, and (times, entries) for a repeat. Raises UserError naming the entry."""
    return [_stage(entry, path) for entry in list_of(text, "stages", path)]


def list_of(text: dict, key: str, path: object) -> list:
    value = text.get(key) or []
    whole = key.endswith("seeds")
    if not isinstance(value, list) or (whole and any(type(seed) is not int for seed in value)):
        raise UserError(f"{path}: {key} must be a list{' of whole numbers' * whole}, not {value!r:.60}")
    if key == "stages" and not value:
        raise UserError(f"{path}: no stages; name at least one notebook under `stages`")
    return value


def _stage(entry: object, path: object) -> Entry | tuple[object, list[Entry]]:
    if isinstance(entry, dict) and "repeat" in entry:
        if set(entry) != {"repeat", "stages"}:
            raise UserError(f"{path}: a repeat has the entries `repeat` and `stages`, not {named(entry)}")
        if entry["repeat"] in RESERVED:
            raise UserError(
                f"{path}: repeat={entry['repeat']}: the runner sets this name itself. "
                "Write a number or a name such as rounds."
            )
        return entry["repeat"], [_entry(inner, path) for inner in list_of(entry, "stages", path)]
    return _entry(entry, path)


def _entry(entry: object, path: object) -> Entry:
    if isinstance(entry, str):
        entry = {entry: {}}
    if not isinstance(entry, dict) or len(entry) != 1:
        raise UserError(
            f"{path}: {entry!r:.60} is no stage. "
            "Write a notebook's name, or `name: {when: …, once: …, parameter: value}`."
        )
    [(notebook, values)] = entry.items()
    check_mapping(values or {}, f"{path}: {named([notebook])}")
    values = dict(values or {})
    once, when = values.pop("once", False), values.pop("when", None)
    if when is not None:
        condition(str(when), path)
    return Entry(str(notebook), values, None if when is None else str(when), once is True)


def entries(stages: list) -> Iterator[Entry]:
    for stage in stages:
        yield from [stage] if isinstance(stage, Entry) else stage[1]


def condition(text: str, path: object) -> tuple[Callable, set[str]]:
    """Compile a `when`; return a function of its values, and the names that it takes."""
    try:
        names = meta.find_undeclared_variables(CONDITIONS.parse(f"{{{{ {text} }}}}"))
        return CONDITIONS.compile_expression(text, undefined_to_none=False), names - {"round"}
    except (TemplateSyntaxError, RecursionError, MemoryError):
        raise UserError(
            f"{path}: when={text!r:.60}: this is no condition. Compare names and numbers."
        ) from None
