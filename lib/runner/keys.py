"""The key of a stage: one hash of everything that decides what the stage writes.

What counts:
- the code cells, and the lib modules that they import, directly or through others: the syntax, not comments;
- the data files beside these modules;
- the declared parameters: `seed` and `round` where a cell uses them; not `run`, `arm` and ONLY_HOW;
- the content of files and folders that parameters name: as paths, as patterns, or as words of a command;
- files in params/prompts and params/tasks whose name stands in a parameter, a cell or one of the modules;
- the keys of input stages, and the content of other inputs;
- the versions of the libraries in `digests.LIBRARIES` and `digests.SCORING` that cells and modules import.

Modules that only show (plots, show, report) or run (errors, paths, runner, stage, run) are left out.
"""

import ast
import glob
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from lib import paths
from lib.errors import UserError
from lib.runner import digests, folders

SHOWING = {"plots.py", "show.py"}  # and all of lib/report
RUNNING = {"errors.py", "paths.py", "run.py", "stage.py"}  # and all of lib/runner
RESERVED = ("run", "arm", "seed", "round")
# parameters that change speed, cost or caching, but not results
ONLY_HOW = {"budget_usd", "actors"}


def stage_key(
    notebook: dict, values: dict, inputs: dict[str, Path | None], also: object = None, showing: bool = False
) -> str:
    """Compute the key of a notebook (its JSON) with these parameter values and inputs.

    `also` is anything else that decides the result; `showing` counts plots and report, for a page of figures.
    """
    code = code_cells(notebook)
    used = modules(code, showing)
    counted = {name: value for name, value in values.items() if name not in inputs and _counts(name, code)}
    texts = set(_texts(counted))
    files = {path for text in texts for path in _named_files(text)}
    files |= _beside(used) | _prompts_and_tasks(texts.union(*map(_words, [*code, *used.values()])))
    parts = {
        "code": [_shape(source) for source in code],
        "modules": {paths.short(path): _shape(text, path) for path, text in used.items()},
        "parameters": counted,
        "files": {paths.short(path): digests.digest(path) for path in sorted(files)},
        "inputs": {name: path and _input_key(path) for name, path in inputs.items()},
        "versions": digests.versions(_packages(code, used)),
        "also": also,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _input_key(path: Path) -> str:
    """Return the key of the stage that holds an input, and the place in it; else a hash of the content."""
    for folder in (path, *path.parents):
        if (record := folders.record(folder)) and folders.is_complete(folder):
            return f"{record['key']}/{path.relative_to(folder)}"
    return digests.digest(path)


# --- code


def code_cells(notebook: dict) -> list[str]:
    """List the code cells without magics, and without the parameters cell: its values count."""
    cells = [c for c in notebook["cells"] if c["cell_type"] == "code" and "parameters" not in tags(c)]
    return [_without_magics("".join(cell["source"])) for cell in cells]


def tags(cell: dict) -> list[str]:
    return cell.get("metadata", {}).get("tags", [])


def _without_magics(source: str) -> str:
    return "\n".join(line for line in source.splitlines() if not line.lstrip().startswith(("%", "!")))


@cache
def parse(source: str, path: object = "a cell") -> ast.Module:
    """Parse a cell or module. Raises UserError naming path and line."""
    try:
        return compile(source, str(path), "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except SyntaxError as error:
        raise UserError(f"{path}, line {error.lineno}: {error.msg}") from None


@cache
def _shape(source: str, path: object = "a cell") -> str:
    return hashlib.sha256(ast.dump(parse(source, path)).encode()).hexdigest()


def _counts(name: str, code: list[str]) -> bool:
    """Return whether a parameter counts; a stage without `seed` and `round` is shared by all."""
    if name in RESERVED:
        return name in ("seed", "round") and any(name in _names(source) for source in code)
    return name not in ONLY_HOW


@cache
def _names(source: str) -> frozenset[str]:
    return frozenset(node.id for node in ast.walk(parse(source)) if isinstance(node, ast.Name))


@cache
def _words(source: str) -> frozenset[str]:
    """Return the texts in code, parts of f-strings included."""
    constants = (node.value for node in ast.walk(parse(source)) if isinstance(node, ast.Constant))
    return frozenset(value for value in constants if isinstance(value, str))


def modules(code: Iterable[str], showing: bool = False) -> dict[Path, str]:
    """Return {path: text} of the lib modules that code imports, lazily or through others, too; sorted."""
    names = RUNNING if showing else RUNNING | SHOWING
    rooms = [paths.ROOT / "lib" / room for room in (["runner"] if showing else ["runner", "report"])]
    left_out = {paths.ROOT / "lib" / name for name in names}.union(*(room.rglob("*.py") for room in rooms))
    result: dict[Path, str] = {}
    seen: set[tuple[str, ...]] = set()
    waiting = {name for source in code for name in _imported(source)}
    while waiting:
        seen.add(name := waiting.pop())
        for path in set(_files_of_module(name)) - result.keys() - left_out:
            result[path] = path.read_text(encoding="utf-8")
            waiting |= _imported(result[path], path) - seen
    return dict(sorted(result.items()))


@cache
def _imported(source: str, path: Path | None = None) -> frozenset[tuple[str, ...]]:
    """Return the names that a cell, or the module at `path`, imports: ("lib", "oracle", "llm"), …"""
    package = path.relative_to(paths.ROOT).parent.parts if path else ()
    result: set[tuple[str, ...]] = set()
    for node in ast.walk(parse(source, path or "a cell")):
        if isinstance(node, ast.Import):
            result |= {tuple(alias.name.split(".")) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            base += tuple(node.module.split(".")) if node.module else ()
            result |= {base, *((*base, alias.name) for alias in node.names)}
    return frozenset(result)


def _packages(code: Iterable[str], used: dict[Path, str]) -> set[str]:
    each = [*map(_imported, code), *(_imported(text, path) for path, text in used.items())]
    return {name[0] for names in each for name in names if name}


def _files_of_module(name: tuple[str, ...]) -> Iterator[Path]:
    """Yield the module's file, and the __init__.py of every package on the way to it."""
    for n in range(1, len(name) + 1 if name[:1] == ("lib",) else 0):
        path = paths.ROOT.joinpath(*name[:n])
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.is_file():
                yield file


# --- files


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)


def _named_files(text: str) -> Iterator[Path]:
    """Yield what a parameter names: a path, a pattern, or a file in a command. A bare word is no folder."""
    text = text.partition("@http")[0]  # of a student behind a server
    path = paths.local(text)
    if "/" in text and text.strip("./") and os.path.isdir(path):
        yield path
    elif "/" in text and glob.has_magic(text):
        yield from paths.matching(text)
    yield from (path for path in map(paths.local, {text, *text.split()}) if os.path.isfile(path))


def _beside(used: Iterable[Path]) -> set[Path]:
    """Return the data files in the rooms of lib that these modules are in."""
    rooms = {path.parent for path in used} - {paths.ROOT / "lib"}
    result = {path for room in rooms for path in room.rglob("*") if path.is_file()}
    return {path for path in result if path.suffix != ".py" and "__pycache__" not in path.parts}


def _prompts_and_tasks(words: set[str]) -> set[Path]:
    """Return the files of params/prompts and params/tasks that words name, "rate_" all that begin so."""
    files = [p for name in ("prompts", "tasks") for p in (paths.ROOT / "params" / name).glob("*.*")]
    beginnings = tuple(word for word in words if word.endswith("_"))
    return {p for p in files if {p.stem, p.name, paths.short(p)} & words or p.stem.startswith(beginnings)}
