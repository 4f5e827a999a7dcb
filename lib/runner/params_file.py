"""A params file as text: YAML whose keys are known, over the file that it extends."""

from pathlib import Path

from lib import files
from lib.errors import UserError, named, one_line
from lib.runner import params

KEYS = (
    *("extends", "title", "question", "stages", "arms", "params"),
    *("metric", "primary", "comparisons", "seeds", "exploratory_seeds"),
)
TEXTS = ("title", "question", "extends", "metric")


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
            raise UserError(
                f"{path}: unknown entry {named([key])}{params.nearest(str(key), KEYS)}; parameters go under `params`"
            )
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
