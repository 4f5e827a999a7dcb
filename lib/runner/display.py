"""What people see while stages run: a header and progress in a notebook, one line a stage in a terminal."""

import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lib import paths
from lib.runner import folders

# --- in a notebook


def header(plan: dict, folder: Path, origins: Mapping[str, str]) -> str:
    """Return a small table: what runs, with which parameters, commit and versions.

    `origins` say where values come from that are no defaults: a params file, or by hand.
    """
    work = any(path.name not in folders.OWN_FILES for path in folder.iterdir())
    state = "continued" if work else "new"
    inputs = {name: paths.short(Path(path)) for name, path in plan["inputs"].items() if path}
    versions = ", ".join(f"{name} {version}" for name, version in plan["versions"].items())
    rows = plan["parameters"] | inputs | {"commit": plan["commit"], "versions": versions}
    lines = [f"| `{plan['name']}` | {state} in `{paths.short(folder)}` |", "| --- | --- |"]
    where = {name: f", {'' if origin == 'by hand' else 'from '}{origin}" for name, origin in origins.items()}
    lines += [f"| {name} | {_cell(value)}{where.get(name, '')} |" for name, value in rows.items()]
    return "\n".join(lines)


def _cell(value: object) -> str:
    text = str(value).replace("|", "\\|").replace("`", "'").replace("\n", " ")
    return f"`{text[:300]}`" if text else "empty"


def sentence(done: int, total: int | None, label: str, seconds: float) -> str:
    if total is None:
        return f"{label}: {done:,} after {seconds:.0f} s"
    left = f", about {seconds / done * (total - done):.0f} s left" if 0 < done < total else ""
    return f"{label}: {done:,} of {total:,} in {seconds:.0f} s{left}"


def shell():
    """Return the IPython that runs this, or None."""
    return sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None


def cell() -> int | None:
    """Return the number of the cell that runs; None outside a notebook."""
    return shell().execution_count if shell() else None


def show(text: str, **options) -> None:
    """Show a text as Markdown in a notebook; print it elsewhere."""
    if cell() is None:
        print(text)
    else:
        from IPython.display import Markdown, display

        display(Markdown(text), **options)


# --- in a terminal


@dataclass
class Line:
    """The line of a stage; `is_redrawn` on a terminal while the stage runs alone."""

    label: str
    is_redrawn: bool
    announced: str = ""

    def end(self, result: str) -> None:
        self._print(f"{self.label} … {result}")

    def note(self, text: str) -> None:
        """Print a sentence about the stage, on a line of its own."""
        self._print(f"{self.label}: {text}")

    def update(self, progress: dict) -> None:
        """Print what a stage announces, once, and show its progress on a terminal."""
        announced = progress.get("announced", self.announced)
        if announced != self.announced:
            self.announced = announced
            self.note(announced)
        if self.is_redrawn:
            rest = ""
            if progress.get("label"):
                total = f" of {progress['total']:,}" if progress["total"] else ""
                rest = f"{progress['done']:,}{total} {progress['label']}"
            self._print(f"{self.label} … {rest}"[: shutil.get_terminal_size().columns - 1], end="")

    def _print(self, text: str, end: str = "\n") -> None:
        print(("\r\x1b[K" if self.is_redrawn else "") + text, end=end, flush=True)
