"""The reuse key: everything that decides what a stage writes, in one hash.

Code cells, the lib modules they import, declared parameters, the content of every file that a parameter, prompt
or taxonomy names, the content of the inputs, and the versions of the libraries that train and score.
Comments and formatting do not count. The modules that only show or only run things are left out.
"""

import ast
import glob
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import yaml

from lib import paths
from lib.errors import UserError
from lib.runner import digests, folders

SHOWING = {"plots.py", "show.py"}  # and all of lib/report
RUNNING = {"errors.py", "paths.py", "run.py", "stage.py"}  # and all of lib/runner
RESERVED = ("run", "arm", "seed", "round")
# a call is the same, whoever made, kept or paid it, and however fast it came; so is a reply, however many actors there are
ONLY_HOW = {"ledger", "ledger_only", "budget_usd", "oracle_batch", "actors"}
ONLY_HOW |= {"concurrency", "timeout_s", "requests_per_minute", "tokens_per_minute"}
PRICES = paths.ROOT / "params/prices.yaml"  # what a call costs changes none


def stage_key(
    notebook: dict, values: dict, inputs: dict[str, Path | None], also: object = None, showing: bool = False
) -> str:
    """The key of a notebook (its JSON) with these parameter values and these folders or files as inputs.

    `also` is anything else that decides the result; `showing` counts plots and report in, for a page of pictures.
    """
    code = code_cells(notebook)
    used = modules(code, showing)
    counted = {name: value for name, value in values.items() if name not in inputs and _counts(name, code)}
    files = named_files(counted.values()) | mentioned_files(code, used)
    parts = {
        "code": [_shape(source) for source in code],
        "modules": {paths.short(path): _shape(text, path) for path, text in used.items()},
        "parameters": counted,
        "files": {paths.short(path): digests.digest(path) for path in sorted(files)},
        "inputs": {name: path and digests.digest(path) for name, path in inputs.items()},
        "versions": digests.versions(_packages(code, used)),
        "also": also,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


# --- code


def code_cells(notebook: dict) -> list[str]:
    """Sources of the code cells, without the parameters cell (its values count by themselves) and magics."""
    cells = [c for c in notebook["cells"] if c["cell_type"] == "code" and "parameters" not in tags(c)]
    return [_without_magics("".join(cell["source"])) for cell in cells]


def tags(cell: dict) -> list[str]:
    return cell.get("metadata", {}).get("tags", [])


def _without_magics(source: str) -> str:
    return "\n".join(line for line in source.splitlines() if not line.lstrip().startswith(("%", "!")))


@cache
def parse(source: str, path: object = "a cell") -> ast.Module:
    """The syntax tree of a cell or module. Raises UserError naming path and line."""
    try:
        return compile(source, str(path), "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except SyntaxError as error:
        raise UserError(f"{path}, line {error.lineno}: {error.msg}") from None


@cache
def _shape(source: str, path: object = "a cell") -> str:
    return hashlib.sha256(ast.dump(parse(source, path)).encode()).hexdigest()


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _counts(name: str, code: list[str]) -> bool:
    """run, arm and what oracle calls may cost never count; seed and round where the code uses them, so that other arms can share the stage."""
    if name in ONLY_HOW:
        return False
    if name not in RESERVED:
        return True
    return name in ("seed", "round") and any(name in _names(source) for source in code)


@cache
def _names(source: str) -> frozenset[str]:
    return frozenset(node.id for node in ast.walk(parse(source)) if isinstance(node, ast.Name))


def modules(code: Iterable[str], showing: bool = False) -> dict[Path, str]:
    """Files of the lib modules that code imports, directly or through others, lazy imports included, with their texts; sorted."""
    left_out = {paths.ROOT / "lib" / name for name in (RUNNING if showing else RUNNING | SHOWING)}
    left_out |= set((paths.ROOT / "lib/runner").glob("*.py"))
    left_out |= set() if showing else set((paths.ROOT / "lib/report").glob("*.py"))
    found: dict[Path, str] = {}
    seen: set[tuple[str, ...]] = set()
    waiting = {name for source in code for name in _imported(source)}
    while waiting:
        seen.add(name := waiting.pop())
        for path in set(_files_of_module(name)) - found.keys() - left_out:
            found[path] = _text(path)
            waiting |= set(_imported(found[path], path)) - seen
    return dict(sorted(found.items()))


@cache
def _imported(source: str, path: Path | None = None) -> frozenset[tuple[str, ...]]:
    """The names that a cell, or the module at path, imports, in their parts: ("lib", "oracle", "chat"), …"""
    package = path.relative_to(paths.ROOT).parent.parts if path else ()
    found: set[tuple[str, ...]] = set()
    for node in ast.walk(parse(source, path or "a cell")):
        if isinstance(node, ast.Import):
            found |= {tuple(alias.name.split(".")) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            base += tuple(node.module.split(".")) if node.module else ()
            found |= {base, *((*base, alias.name) for alias in node.names)}
    return frozenset(found)


def _packages(code: Iterable[str], used: dict[Path, str]) -> set[str]:
    """The packages that cells and modules import, lazy imports included."""
    each = [*map(_imported, code), *(_imported(text, path) for path, text in used.items())]
    return {name[0] for names in each for name in names if name}


def _files_of_module(name: tuple[str, ...]) -> Iterator[Path]:
    """The files under lib that the import of a name means: the module's, and the __init__.py of every package on the way to it."""
    for n in range(1, len(name) + 1 if name[:1] == ("lib",) else 0):
        path = paths.ROOT.joinpath(*name[:n])
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.is_file():
                yield file


# --- files


def named_files(values: Iterable[object]) -> set[Path]:
    """Files and folders named by texts inside values or by words of these (a command's), and by the texts inside a YAML file that
    they name."""
    bases = [paths.ROOT, paths.ROOT / "params"]
    found: set[Path] = set()
    texts = set(_texts(list(values)))
    waiting = texts | {word for text in texts for word in text.split()}
    seen: set[str] = set()
    while waiting:
        text = waiting.pop()
        seen.add(text)
        for path in _existing(text, bases) - found:
            found.add(path)
            if path.suffix in (".yaml", ".yml") and path.is_file():
                waiting |= set(_texts(_read_yaml(path))) - seen
    return found


def mentioned_files(code: Iterable[str], used: dict[Path, str]) -> set[Path]:
    """Files that the code itself names: "params/prompts/judge.md", or "words.txt" beside the module.

    "prompts" alone means the whole folder of prompts.
    """
    prompts = paths.ROOT / "params/prompts"
    words = {paths.ROOT: frozenset().union(*map(_words, code))}
    for path, text in used.items():
        words[path.parent] = words.get(path.parent, frozenset()) | _words(text, path)
    found: set[Path] = set()
    for beside, of in words.items():
        found |= {path for word in of for path in _existing(word, [paths.ROOT, beside])}
        found |= {
            beside / word for word in of if beside != paths.ROOT and _is_data(os.path.join(beside, word))
        }
        found |= {prompts} if "prompts" in of and prompts.is_dir() else set()
    return {path for path in found if path.suffix != ".py" and path != PRICES and _belongs(path)}


@cache
def _words(source: str, path: object = "a cell") -> frozenset[str]:
    """The texts in code that could be names of files."""
    texts = {
        n.value
        for n in ast.walk(parse(source, path))
        if isinstance(n, ast.Constant) and isinstance(n.value, str)
    }
    return frozenset(text for text in texts if text.strip("./") and not set(text) & set(" \n\0"))


def _is_data(path: str) -> bool:
    return (
        os.path.isdir(path)
        and os.path.basename(path) != "__pycache__"
        and not os.path.exists(os.path.join(path, "__init__.py"))
    )


def _belongs(path: Path) -> bool:
    """Part of the project: a folder of the machine or of results that code happens to name is not."""
    path = path.resolve()
    return path.is_relative_to(paths.ROOT) and not path.is_relative_to(folders.outputs())


def _existing(text: str, bases: list[Path]) -> set[Path]:
    """A bare word names a file only; a folder is meant where there is a slash."""
    text = paths.expand(text)
    if not 0 < len(text) < 500 or "\n" in text or "\0" in text or text.strip("./") == "":
        return set()
    there = os.path.exists if "/" in text else os.path.isfile
    candidates = [os.path.join(base, text) for base in bases]
    candidates.append(os.path.join(paths.ROOT, "params/prompts", f"{text}.md"))
    candidates.append(os.path.join(paths.ROOT, "params/tasks", f"{text}.yaml"))
    several = set(paths.matching(text)) if "/" in text and glob.has_magic(text) else set()
    return several | {Path(path) for path in candidates if there(path)}


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)


def _read_yaml(path: Path) -> object:
    try:
        return yaml.safe_load(_text(path))
    except (yaml.YAMLError, ValueError):
        return None  # its reader refuses it; its content counts all the same
