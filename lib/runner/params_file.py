"""A params file as text: YAML whose keys are known, over the file that it extends."""

from pathlib import Path

import yaml

from lib.errors import UserError
from lib.runner import params

KEYS = (
    *("extends", "title", "question", "stages", "arms", "params"),
    *("primary", "comparisons", "seeds", "exploratory_seeds"),
)


def read(path: Path, above: tuple[Path, ...] = ()) -> dict:
    """The entries of a params file. Raises UserError naming the file, and the entry or line."""
    if not path.is_file():
        raise UserError(f"there is no params file {path}")
    if path.resolve() in above:
        raise UserError(f"{path} extends itself")
    try:
        text = yaml.load(path.read_text(encoding="utf-8"), _Loader) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: {' '.join(str(error).split())}") from None
    check_mapping(text, f"{path}")
    for key in text:
        if key not in KEYS:
            raise UserError(
                f"{path}: unknown entry {key}{params.nearest(str(key), KEYS)}; parameters go under `params`"
            )
    check_mapping(text.setdefault("params", None) or {}, f"{path}: params")
    text["params"] = text["params"] or {}
    if base := text.pop("extends", None):
        below = read(path.parent / str(base), (*above, path.resolve()))
        text = below | text | {"params": _merge(below["params"], text["params"])}
    return text


class _Loader(yaml.SafeLoader):
    """Refuses a key written twice, of which YAML would silently take the last."""


def _unique(loader: _Loader, node: yaml.MappingNode) -> dict:
    keys = [loader.construct_object(key) for key, _ in node.value]
    for key in keys:
        if keys.count(key) > 1:
            raise yaml.YAMLError(f"{key} stands twice, line {node.start_mark.line + 1} on")
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique)


def _merge(below: dict, above: dict) -> dict:
    both = {
        k: _merge(below[k], v)
        for k, v in above.items()
        if isinstance(v, dict) and isinstance(below.get(k), dict)
    }
    return below | above | both


def check_mapping(value: object, where: str) -> None:
    if not isinstance(value, dict):
        raise UserError(f"{where} must be `name: value` lines, not {value!r}")
