"""A notebook's place in a run: what it reads, where it writes, how far it is.

    stage = open_stage("tapir/4_training", globals())
    student = load(stage.input("student_from"))
    for n in range(100): stage.report_progress(n, 100, "steps")
    stage.write_metrics({"training.loss": 0.61})
    stage.close("300 rows, loss 0.61.")

Started by the runner, a notebook finds its folder in $STAGE. Opened by hand, it works in outputs/interactive.
"""

import math
import os
import time
from pathlib import Path

from lib import files, models, paths
from lib.errors import UserError
from lib.runner import by_hand, display, folders

SHOW_EVERY_S = 0.5
_open: list["Stage"] = []  # the stage of this kernel, until it is closed or another one is opened


def open_stage(notebook: str, values: dict) -> "Stage":
    """Open the stage of a notebook; `values` are its globals().

    By hand, these get the values of `params_file`, and cells say where the globals differ from them later.
    Raises UserError when an input is missing, or another process works on the stage.
    """
    _release()
    if part := os.environ.get("STAGE"):
        stage = Stage(Path(part), files.read_json(Path(part) / "plan.json"))
        if stage.name.rpartition("@")[0] != notebook:
            raise UserError(f"this notebook is {stage.name}, but opens {notebook}. Correct the name.")
        display.show(display.header(stage._plan, stage.folder, {}))
    else:
        opened = by_hand.prepare(notebook, values)
        stage = Stage(folders.open_part(opened.part, wait_s=2), opened.plan, opened)
        display.show(display.header(opened.plan, stage.folder, opened.origins))
        display.show("\n".join(f"- {note}" for note in opened.notes))
        opened.watch()
    _open.append(stage)
    return stage


class Stage:
    """An open stage. `folder` is the place to write rows, students and pictures."""

    def __init__(self, part: Path, plan: dict, opened: by_hand.Opened | None = None):
        self.name: str = plan["name"]
        self._folder = part
        self._closed = False
        self._plan = plan
        self._opened = opened  # None under the runner, which completes the stage itself
        self._lock = files.lock(part / "lock", folders.KERNEL_GONE_S, paths.short(part))
        self._metrics: dict = {}
        self._announced = ""
        self._started = self._shown = time.monotonic()
        self._cell = 0  # that shows progress

    @property
    def parameters(self) -> dict:
        """The value of every parameter that the notebook declares."""
        return self._plan["parameters"]

    @property
    def is_by_hand(self) -> bool:
        """Whether a reader opened it, who may set other parameters in later notebooks."""
        return self._opened is not None

    @property
    def run(self) -> str:
        """The name of the run."""
        return self._plan["run"]

    @property
    def arm(self) -> str:
        """The arm of the run; "all" for a report."""
        return self._plan["arm"]

    @property
    def seed(self) -> int:
        """The seed of the run that made it, whether the notebook uses one or not."""
        return self._plan.get("seed", 0)

    @property
    def engine(self) -> str:
        """What generates the student's responses in this run (`lib.models.choose`)."""
        return self._plan.get("engine", "local")

    @property
    def folder(self) -> Path:
        """The place to write to. Raises UserError once a stage opened by hand is closed."""
        if self._closed:
            raise UserError(f"{self.name} is closed. To change it, {by_hand.AGAIN}.")
        return self._folder

    @property
    def work(self) -> Path:
        """A folder for what a restart goes on with; it is gone once the stage is complete."""
        (self.folder / "work").mkdir(exist_ok=True)
        return self.folder / "work"

    @property
    def run_folder(self) -> Path:
        """The folder of the run, outputs/<run>, where summary.json lies."""
        return folders.outputs() / self.run

    def input(self, name: str) -> Path | None:
        """Return the file or folder that a parameter `<x>_from` means, None for none."""
        path = self._plan["inputs"][name]
        if path and not Path(path).exists():
            raise UserError(f"{self.name}: {name} means {path}, which the stage before it did not write")
        return Path(path) if path else None

    def student(self) -> Path | str | None:
        """Return the student of `student_from`, else the one that `student` names.

        None without either.
        Raises UserError in a round above 1 that starts from the round before, where that trained none.
        """
        trained, round = self.input("student_from"), self.parameters.get("round") or 0
        if trained is None and "{round-1}" in self.parameters["student_from"] and round > 1:
            raise UserError(f"{self.name}: no student of round {round - 1}. Run tapir/4_training first.")
        return models.at_server_of(trained, self.parameters["student"]) or self.parameters["student"] or None

    def record_of(self, name: str) -> dict:
        """Return the parameters and inputs of the stage that wrote an input, empty where none did."""
        path = self.input(name)
        return (path and folders.record_of(path)) or {"parameters": {}, "inputs": {}}

    def student_of(self, name: str) -> Path | str | None:
        """Return the student of the stage that wrote an input; None where that had none."""
        record = self.record_of(name)
        trained, named = record["inputs"].get("student_from"), record["parameters"].get("student") or ""
        return models.at_server_of(trained, named) or named or None

    def later(self, notebook: str) -> list[dict]:
        """Return the parameters of each later stage of a notebook in this arm; by hand of its params_file."""
        stages = self._opened.later if self._opened else self._plan.get("later", ())
        return [later["parameters"] for later in stages if later["notebook"] == notebook]

    def report_progress(self, done: int, total: int | None = None, label: str = "rows") -> None:
        """Show that `done` of `total` are done, at most twice a second."""
        now, done, total = time.monotonic(), int(done), None if total is None else int(total)  # NumPy's, too
        if done == 0:
            self._started = self._shown = now
            self._note({"label": label, "done": done, "total": total})
        if total is not None and done >= total or now - self._shown >= SHOW_EVERY_S:
            self._shown = now
            self._note({"label": label, "done": done, "total": total})
            before, self._cell = self._cell, display.cell()
            text = display.sentence(done, total, label, now - self._started)
            display.show(text, display_id=f"progress {self._cell}", update=before == self._cell)

    def announce(self, text: str) -> None:
        """Show what is about to be spent, its first line in the terminal, too."""
        if text:
            display.show(text)
            self._announced = text.splitlines()[0]
            self._note({})

    def _note(self, progress: dict) -> None:
        announced = {"announced": self._announced} if self._announced else {}
        files.write_json(self.folder / "progress.json", progress | announced)

    def write_metrics(self, metrics: dict[str, float | None]) -> None:
        """Add numbers ("gym.accuracy") to metrics.json; NaN and infinity become null."""
        for name, value in metrics.items():
            value = value.item() if hasattr(value, "item") else value  # of numpy
            if value is not None and type(value) not in (int, float):
                raise UserError(f"the metric {name} must be a number or None, not {value!r}")
            self._metrics[name] = value if value is not None and math.isfinite(value) else None
        files.write_json(self.folder / "metrics.json", self._metrics)

    def close(self, says: str = "") -> Path:
        """Show and record the result in one sentence of Markdown, which reports print, and end the stage.

        By hand, the folder replaces that of an earlier result.
        Raises UserError where the record would be false: a parameter or a cell changed since.
        """
        if self._opened and not self._closed and (difference := self._opened.difference()):
            raise UserError(f"{self.name} is not recorded: {difference}.")
        self._note({"closed": True, "says": says})
        if says:
            say(says)
        if self._opened is None:
            return self.folder
        folders.complete(self._plan, self.folder, self._opened.final)
        _release()
        say(f"Written to `{paths.short(self._opened.final)}`.")
        return self._opened.final


def say(text: str) -> None:
    """Show one sentence of Markdown below the cell."""
    display.show(text)


def _release() -> None:
    """End the stage that this kernel opened before."""
    while _open:
        stage = _open.pop()
        stage._lock.close()
        stage._closed = True
        if stage._opened:
            stage._opened.end()
