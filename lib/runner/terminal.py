"""One line a stage: with a bar on a terminal, with none in a log."""

import shutil
import sys
from pathlib import Path

from lib import files

BAR = 24  # characters


def begin(label: str, rest: str = "") -> None:
    """Begin a stage's line, or on a terminal draw it again."""
    if sys.stdout.isatty():
        print("\r\x1b[K" + f"{label} … {rest}"[: shutil.get_terminal_size().columns - 1], end="", flush=True)
    else:
        print(f"{label} … ", end="", flush=True)


def end(label: str, result: str) -> None:
    """End a stage's line."""
    print(f"\r\x1b[K{label} … {result}" if sys.stdout.isatty() else result, flush=True)


def show(label: str, part: Path, told: list[str]) -> None:
    """What a stage under way announces, once (`told` holds what was), and on a terminal its bar."""
    progress = files.read_json(part / "progress.json") or {}
    if (announced := progress.get("announced")) and announced not in told:
        told.append(announced)
        print(("\r\x1b[K" if sys.stdout.isatty() else "\n  ") + announced, flush=True)
    if not sys.stdout.isatty() or not progress.get("label"):
        return
    done, total = progress["done"], progress["total"]
    filled = int(BAR * min(1, done / total)) if total else 0
    count = f"[{'█' * filled}{'·' * (BAR - filled)}] {done:,}/{total:,}" if total else f"{done:,}"
    begin(label, f"{count} {progress['label']}")
