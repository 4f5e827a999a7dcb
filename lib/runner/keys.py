"""The key of a stage: one hash of everything that decides what the stage writes.

What counts:
- the code cells, and the lib modules that they import, directly or through others: the syntax, not comments;
- the data files beside these modules;
- the declared parameters but ONLY_HOW; of RESERVED, `seed` and `round` where a cell uses them;
- the content of files and folders that parameters name, as paths, patterns or addresses;
- the chat templates that params/models.yaml has for students that parameters name;
- files in params/prompts and params/tasks whose name stands in a parameter, a cell or one of the modules;
- the keys of input stages, and the content of other inputs;
- the versions of the LIBRARIES and of SCORING that cells and modules import.

Modules that only show (plots, show, report) or run (errors, paths, runner, stage, run) are left out.
"""

import ast
import glob
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from lib import paths
from lib.errors import UserError
from lib.models import catalog
from lib.runner import folders

SHOWING = {"plots.py", "show.py", "report"}
RUNNING = {"errors.py", "paths.py", "run.py", "stage.py", "runner"}
RESERVED = ("run", "arm", "seed", "round", "params_file")
# parameters that change speed, cost or caching, but not results
ONLY_HOW = {"budget_usd", "hardware"}
LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "bitsandbytes")
BEHIND = {"transformers": {"accelerate"}, "peft": {"bitsandbytes"}}  # what a library runs by itself
SCORING = ("alpaca_eval", "lm_eval")


class Source(NamedTuple):
    """What counts of a cell or module."""

    shape: str  # hash of the syntax
    names: frozenset[str]
    texts: frozenset[str]  # parts of f-strings included
    imports: frozenset[tuple[str, ...]]  # ("lib", "oracle", "llm"), …


def stage_key(
    notebook: dict, values: dict, inputs: dict[str, Path | None], also: object = None, showing: bool = False
) -> str:
    """Compute the key of a notebook (its JSON) with these parameter values and inputs.

    `also` is anything else that decides the result; `showing` counts plots and report, for a page of figures.
    """
    cells = code_cells(notebook)
    used = modules(cells, showing)
    sources = [*cells, *used.values()]
    used_names = frozenset().union(*(cell.names for cell in cells))
    left_out = {*inputs, *ONLY_HOW, *RESERVED} - ({"seed", "round"} & used_names)
    counted = {name: value for name, value in values.items() if name not in left_out}
    student, url = catalog.split(values.get("student") or "")
    if url:
        counted["student"] = student
    texts = {*_texts(counted), *map(catalog.chat_template, _texts(values))}
    files = {path for text in texts for path in _named_files(text)}
    files |= _beside(used) | _prompts_and_tasks(texts.union(*(source.texts for source in sources)))
    parts = {
        "code": [cell.shape for cell in cells],
        "modules": {paths.short(path): module.shape for path, module in used.items()},
        "parameters": counted,
        "models": _sent_to(values),
        "served": bool(url) and "learning_rate" not in values,  # not where; and who trains asks none
        "files": {_name(path): folders.digest(path) for path in sorted(files)},
        "inputs": {name: path and input_key(path) for name, path in inputs.items()},
        "versions": versions(name[0] for source in sources for name in source.imports if name),
        "also": also,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _sent_to(values: dict) -> list:
    """Return what models.yaml decides of the replies to a stage's calls."""
    names = [str(values.get(name) or "exact") for name in ("oracle", "judge", "benchmark_judge")]
    entries = [catalog.listed().get(name) for name in names if name != "exact" and not catalog.split(name)[1]]
    return [(entry.request({"temperature": 0, "max_tokens": 0}), entry.json) for entry in entries if entry]


def input_key(path: Path) -> str:
    """Return the key of the stage that holds an input and the path in it, else a hash."""
    folder = folders.stage_of(path)
    if folder and folders.is_complete(folder):
        return f"{folders.record(folder)['key']}/{path.relative_to(folder)}"
    return folders.digest(path)


def new_plan(
    name: str, key: str, values: dict, inputs: dict[str, Path | None], run: str, threads: str | None = None
) -> dict:
    """Return what a stage is about to do; stage.json repeats it. `run` names its arm, too: "demo/tapir"."""
    run, arm = folders.run_and_arm(run)
    return {
        "name": name,
        "run": run,
        "arm": arm,
        "key": key,
        "parameters": values,
        "inputs": {name: path and str(path) for name, path in inputs.items()},
        "commit": commit(),
        "threads": int(threads or os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1),
        "versions": {"python": sys.version.split()[0]} | versions(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "started_at": time.time(),
    }


def commit() -> str:
    """Return the git commit, with a plus where files differ; "none" outside git."""
    words = ["git", "describe", "--always", "--exclude=*", "--abbrev=12", "--dirty=+"]
    try:
        return subprocess.check_output(words, cwd=paths.ROOT, stderr=subprocess.DEVNULL, text=True).strip()
    except (OSError, subprocess.CalledProcessError):
        return "none"


def versions(imported: Iterable[str] = LIBRARIES) -> dict[str, str]:
    """Read the versions of those libraries that decide a result and are imported."""
    names = set(imported)
    names = names.union(*(BEHIND.get(name, ()) for name in names))
    return {name: _version(name) for name in (*LIBRARIES, *SCORING) if name in names}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "none"


# --- code


def code_cells(notebook: dict) -> list[Source]:
    """Read the code cells, without magics and the parameters cell."""
    cells = [c for c in notebook["cells"] if c["cell_type"] == "code" and "parameters" not in tags(c)]
    lines = ("".join(cell["source"]).splitlines() for cell in cells)
    python = ([line for line in each if not line.lstrip().startswith(("%", "!"))] for each in lines)
    return [_read("\n".join(each)) for each in python]


def tags(cell: dict) -> list[str]:
    return cell.get("metadata", {}).get("tags", [])


@cache
def parse(source: str, path: object = "a cell") -> ast.Module:
    """Parse a cell or module. Raises UserError naming path and line."""
    try:
        return compile(source, str(path), "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except SyntaxError as error:
        raise UserError(f"{path}, line {error.lineno}: {error.msg}") from None


@cache
def _read(source: str, path: Path | None = None) -> Source:
    tree = parse(source, path or "a cell")
    nodes = list(ast.walk(tree))
    package = path.relative_to(paths.ROOT).parent.parts if path else ()
    imports: set[tuple[str, ...]] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            imports |= {tuple(alias.name.split(".")) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            base += tuple(node.module.split(".")) if node.module else ()
            imports |= {base, *((*base, alias.name) for alias in node.names)}
    constants = (node.value for node in nodes if isinstance(node, ast.Constant))
    return Source(
        hashlib.sha256(ast.dump(tree).encode()).hexdigest(),
        frozenset(node.id for node in nodes if isinstance(node, ast.Name)),
        frozenset(value for value in constants if isinstance(value, str)),
        frozenset(imports),
    )


def modules(cells: Iterable[Source], showing: bool = False) -> dict[Path, Source]:
    """Return the lib modules that cells import, lazily or through others, too."""
    left_out = RUNNING if showing else RUNNING | SHOWING
    result: dict[Path, Source] = {}
    seen: set[tuple[str, ...]] = set()
    waiting = {name for cell in cells for name in cell.imports}
    while waiting:
        seen.add(name := waiting.pop())
        for path in _files_of_module(name):
            if path not in result and path.relative_to(paths.ROOT / "lib").parts[0] not in left_out:
                result[path] = _read(path.read_text(encoding="utf-8"), path)
                waiting |= result[path].imports - seen
    return dict(sorted(result.items()))


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


def _named_files(text: str) -> list[Path]:
    """Return what a parameter names: a path or the files of a pattern. A bare word is no folder."""
    text = paths.recorded_file(text) or text
    path = paths.local(text)
    if os.path.isfile(path) or ("/" in text and text.strip("./") and os.path.isdir(path)):
        return [path]
    return paths.matching(text) if "/" in text and glob.has_magic(text) else []


def _name(path: Path) -> str:
    """Name a file as the key does: one that was fetched by its address alone, wherever it lies."""
    return paths.short(str(path).removeprefix(f"{paths.downloads()}/"))


def _beside(used: Iterable[Path]) -> set[Path]:
    """Return the data files in the rooms of lib that these modules are in."""
    rooms = {path.parent for path in used} - {paths.ROOT / "lib"}
    result = {path for room in rooms for path in room.rglob("*") if path.is_file()}
    return {path for path in result if path.suffix != ".py" and "__pycache__" not in path.parts}


def _prompts_and_tasks(words: set[str]) -> set[Path]:
    """Return the prompts and tasks that words name; "rate_" names all that begin so."""
    files = [p for name in ("prompts", "tasks") for p in (paths.ROOT / "params" / name).glob("*.*")]
    beginnings = tuple(word for word in words if word.endswith("_"))
    return {p for p in files if {p.stem, p.name, paths.short(p)} & words or p.stem.startswith(beginnings)}
