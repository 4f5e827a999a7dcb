"""Hashes of files and folders, and versions of the libraries that decide a result."""

import hashlib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

PASSING = ("lock", "plan.json", "progress.json")  # while a stage is worked on
STAGE_PAGE = "notebook.html"  # drawn from notebook.ipynb once the stage is recorded: no part of its result
OWN_FILES = (*PASSING, "stage.json", "metrics.json", "notebook.ipynb", STAGE_PAGE)
CARD = "README.md"  # says what a folder holds, and decides nothing
LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "bitsandbytes")
BEHIND = {"transformers": {"accelerate"}, "peft": {"bitsandbytes"}}  # what a library runs, and nobody imports
SCORING = {"alpaca_eval", "lm_eval"}
_hashes: dict[tuple[str, int, int], str] = {}  # path, size and time of a file -> its hash


def digest(path: Path) -> str:
    """Hash a file, or the names and contents of a folder without a stage's own records and cards."""
    if path.is_file():
        return _file_digest(path)
    files = [(p, p.relative_to(path).as_posix()) for p in files_of(path)]
    lines = [
        f"{name} {_file_digest(p)}"
        for p, name in files
        if name not in OWN_FILES and p.name != CARD and "__pycache__" not in name
    ]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _file_digest(path: Path) -> str:
    status = path.stat()
    version = (str(path), status.st_size, status.st_mtime_ns)
    if version not in _hashes:
        with open(path, "rb") as file:
            _hashes[version] = hashlib.file_digest(file, "sha256").hexdigest()
    return _hashes[version]


def listing(folder: Path) -> dict[str, dict]:
    """List size, time and hash of every file of a stage, for its stage.json."""
    return {p.relative_to(folder).as_posix(): _entry(p) for p in files_of(folder)}


def _entry(path: Path) -> dict:
    status = path.stat()
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns, "sha256": _file_digest(path)}


def versions(imported: Iterable[str] = LIBRARIES) -> dict[str, str]:
    """Read the versions of the libraries that decide what a student learns or scores, of those imported.

    They are read from metadata, and nothing is imported.
    """
    imported = set(imported).union(*(BEHIND.get(name, ()) for name in imported))
    return {name: _version(name) for name in (*LIBRARIES, *sorted(SCORING)) if name in imported}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "none"


def files_of(folder: Path) -> list[Path]:
    """List the files of a stage but its stage.json, in a fixed order."""
    return sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / "stage.json")
