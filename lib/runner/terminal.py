"""The lines that a run prints: one a stage; a bar on a terminal while one stage runs alone."""

import shutil
import sys
import threading
from dataclasses import dataclass, field

BAR = 24  # characters


@dataclass
class Line:
    """The line of a stage; with several stages at once nothing is printed before it ends."""

    label: str
    alone: bool
    announced: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self) -> None:
        if self.alone:
            self._draw("")

    def end(self, result: str) -> None:
        again = f"\r\x1b[K{self.label} … " if sys.stdout.isatty() else ""
        print(f"{again if self.alone else f'{self.label} … '}{result}", flush=True)

    def note(self, text: str) -> None:
        """Print a sentence about the stage, on a line of its own."""
        if self.alone:
            print(("\r\x1b[K" if sys.stdout.isatty() else "\n  ") + text, flush=True)
        else:
            print(f"{self.label}: {text}", flush=True)

    def update(self, progress: dict) -> None:
        """Print what a stage announces, once, and draw its bar on a terminal."""
        announced = progress.get("announced", "")
        with self.lock:  # two threads look
            if announced and announced != self.announced:
                self.announced = announced
                self.note(announced)
        if self.alone and sys.stdout.isatty() and progress.get("label"):
            self._draw(bar(progress["done"], progress["total"], progress["label"]))

    def _draw(self, rest: str) -> None:
        if sys.stdout.isatty():
            text = f"{self.label} … {rest}"[: shutil.get_terminal_size().columns - 1]
            print(f"\r\x1b[K{text}", end="", flush=True)
        else:
            print(f"{self.label} … ", end="", flush=True)


def bar(done: int, total: int | None, label: str) -> str:
    filled = int(BAR * min(1, done / total)) if total else 0
    count = f"[{'█' * filled}{'·' * (BAR - filled)}] {done:,}/{total:,}" if total else f"{done:,}"
    return f"{count} {label}"
