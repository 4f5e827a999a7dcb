"""Find files: the project's root, and the meaning of a path in a parameter."""

import glob
import os
import re
from pathlib import Path

ABOVE = Path(__file__).resolve().parents[1]
ROOT = ABOVE if (ABOVE / "notebooks").is_dir() else Path.cwd()  # an installed lib has no project around it
FOLDERS = ("source", "student", "gold", "classifier", "benchmarks")  # parameters: one word may be a folder


def recorded_data() -> Path:
    """Return the folder of recorded data: $RECORDED_DATA, else ../shared/data."""
    return (ROOT / os.environ.get("RECORDED_DATA", "../shared/data")).resolve()


def expand(text: str) -> str:
    """Fill in variables and ~; $RECORDED_DATA has a value even when it is not set."""
    for name in ("${RECORDED_DATA}", "$RECORDED_DATA"):
        text = text.replace(name, str(recorded_data())) if name in text else text
    return os.path.expanduser(os.path.expandvars(text))


def local(text: str) -> Path:
    """Resolve a path from the project's root, else from the working directory."""
    below = ROOT / expand(text)
    return below if os.path.exists(below) else Path(expand(text))  # a name too long for a file is none


def from_shell(name: str, text: str) -> str:
    """Resolve the value of `-p name=text` where it is a path in the shell's folder.

    It becomes absolute, or relative to the root where it lies below; so does each part of a list "[a, b]".
    """
    parts = r"[^\s,'\"\[\]]+" if text.startswith("[") else r"(?s).+"
    return re.sub(parts, lambda part: _from_shell(name.rpartition(".")[2], part[0]), text)


def _from_shell(name: str, text: str) -> str:
    """Resolve one path, also of name@url; a bare word names a file, or a folder for FOLDERS."""
    text, at, url = text.partition("@http")
    there = os.path.exists if "/" in text or name in FOLDERS and text != "gym" else os.path.isfile
    pattern = not there(text) and glob.has_magic(text)
    if os.path.isabs(text) or not (glob.glob(text, recursive=True) if pattern else there(text)):
        return text + at + url
    folder = Path.cwd()
    folder = str(folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder)
    return os.path.normpath(os.path.join(glob.escape(folder) if pattern else folder, text)) + at + url


def matching(pattern: str) -> list[Path]:
    """List the files that a pattern with *, ? or [] names, looked for like `local`."""
    for folder in (ROOT, Path.cwd()):
        if matches := glob.glob(os.path.join(glob.escape(str(folder)), expand(pattern)), recursive=True):
            return sorted(map(Path, matches))
    return []


def short(path: Path | str) -> str:
    """Return the path to show: from the project on, where it lies inside."""
    return str(path).removeprefix(f"{ROOT}/")
