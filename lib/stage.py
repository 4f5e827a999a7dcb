"""A notebook's place in a run: what it reads, where it writes, how far it is.

    stage = open_stage("tapir/4_training", globals())
    student = load(stage.input("student_from"))
    for batch in stage.progress(batches, label="steps"): ...
    stage.write_metrics({"training.loss": 0.61})
    stage.close("300 rows, loss 0.61.")

Started by the runner, a notebook finds its folder in $STAGE. Opened by hand, it works in outputs/interactive,
which the runner never touches.
"""

import math
import os
import time
from collections.abc import Iterable, Iterator
from numbers import Integral, Real
from pathlib import Path

from lib import files, paths
from lib.errors import UserError
from lib.runner import display, folders, keys, params, provenance, references

SHOW_EVERY_S = 0.5
RUN_FIRST = (
    "Run notebooks/{notebook}.ipynb first{round}, "
    'or set run and arm (run = "demo", arm = "tapir") to read what a run wrote.'
)
_locks: dict[Path, object] = {}  # held until the kernel ends or closes the stage


def open_stage(notebook: str, values: dict) -> "Stage":
    """Open the stage of a notebook; `values` are its globals(), of which the declared parameters count.

    Raises UserError when an input is missing, or another process works on the stage.
    """
    part = os.environ.get("STAGE")
    if part:
        files.die_with_parent(int(os.environ["STAGE_RUNNER"]))
        stage = Stage(Path(part), files.read_json(Path(part) / "plan.json"))
        if stage.name.rpartition("@")[0] != notebook:
            raise UserError(
                f"this notebook is {stage.name}, but opens the stage {notebook}. Correct the name."
            )
    else:
        stage = _open_by_hand(notebook, values)
    _take(stage.folder)
    display.show(display.header(stage._plan, stage.folder))
    return stage


class Stage:
    """An open stage. `folder` is the place to write rows, students and pictures."""

    def __init__(self, part: Path, plan: dict, final: Path | None = None):
        self.name: str = plan["name"]
        self._folder = part
        self._closed = False
        self._plan = plan
        self._final = final  # None under the runner, which completes the stage itself
        self._metrics: dict = {}
        self._announced = ""
        self._started = self._shown = time.monotonic()
        self._display = self._cell = None

    @property
    def parameters(self) -> dict:
        """The value of every parameter that the notebook declares."""
        return self._plan["parameters"]

    @property
    def folder(self) -> Path:
        """The place to write to. Raises UserError once a stage opened by hand is closed."""
        if self._closed:
            raise UserError(f"{self.name} is closed: to write to it again, run the cell that opens it first")
        return self._folder

    @property
    def work(self) -> Path:
        """A folder for what a restart goes on with; it is gone once the stage is complete."""
        (self.folder / "work").mkdir(exist_ok=True)
        return self.folder / "work"

    @property
    def run_folder(self) -> Path:
        """outputs/<run>, where summary.json lies: for a page about the whole run."""
        return folders.outputs() / self._plan["run"]

    def input(self, name: str) -> Path | None:
        """The file or folder that a parameter `<x>_from` means; None where the parameter is empty."""
        if name not in self._plan["inputs"]:
            names = ", ".join(self._plan["inputs"]) or "none"
            raise UserError(
                f"{self.name}: {name} is no input; inputs are parameters ending in _from ({names})"
            )
        path = self._plan["inputs"][name]
        if path and not Path(path).exists():
            raise UserError(f"{self.name}: {name} means {path}, which the stage before it did not write")
        return Path(path) if path else None

    def student(self) -> Path | str | None:
        """Return the student of an earlier stage (`student_from`), else the one that `student` names.

        None without either.
        Raises UserError in a round above 1 that no round trained a student for.
        """
        trained, round = self.input("student_from"), self.parameters.get("round") or 0
        if trained is None and self.parameters["student_from"] and round > 1:
            raise UserError(
                f"{self.name}: no student of round {round - 1}. Run tapir/4_training for it first."
            )
        return trained or self.parameters["student"] or None

    def later(self, notebook: str) -> list[dict]:
        """Return the parameters of each later stage of a notebook in this arm; none by hand."""
        return [later["parameters"] for later in self._plan.get("later", ()) if later["notebook"] == notebook]

    def progress(self, items: Iterable, total: int | None = None, label: str = "rows") -> Iterator:
        """Yield the items and report how many are done; `total` is for items without a length."""
        total = len(items) if total is None and hasattr(items, "__len__") else total
        self.report_progress(0, total, label)
        for done, item in enumerate(items, 1):
            yield item
            self.report_progress(done, total, label)

    def report_progress(self, done: int, total: int | None = None, label: str = "rows") -> None:
        """Show and write that `done` of `total` are done: at most twice a second, and at the end."""
        now = time.monotonic()
        if done == 0:
            self._started = self._shown = now
            self._note({"label": label, "done": done, "total": total})
        if total is not None and done >= total or now - self._shown >= SHOW_EVERY_S:
            self._shown = now
            self._note({"label": label, "done": done, "total": total})
            self._update(display.bar(done, total, display.sentence(done, total, label, now - self._started)))

    def _update(self, content) -> None:
        """Show a line, or change the one that the cell shows already."""
        if self._display is None or self._cell != display.cell():
            self._display, self._cell = display.show(content, display_id=True), display.cell()
        elif hasattr(self._display, "update"):
            self._display.update(display.markdown(content))

    def announce(self, text: str) -> None:
        """Show what is about to be spent, and its first line in the terminal; "" shows nothing."""
        if text:
            display.show(text)
            self._announced = text.splitlines()[0]
            self._note({})

    def _note(self, progress: dict) -> None:
        announced = {"announced": self._announced} if self._announced else {}
        files.write_json(self.folder / "progress.json", progress | announced)

    def write_metrics(self, metrics: dict[str, float | None]) -> None:
        """Add numbers with dotted names ("gym.accuracy") to metrics.json; NaN and infinity become null."""
        self._metrics |= {name: _number(name, value) for name, value in metrics.items()}
        files.write_json(self.folder / "metrics.json", self._metrics)

    def close(self, says: str = "") -> Path:
        """Show and record the result in one sentence of Markdown, which reports print, and end the stage.

        By hand, the folder replaces that of an earlier result.
        """
        self._note({"closed": True, "says": says})
        if says:
            say(says)
        if self._final is None:
            return self.folder
        provenance.complete(self._plan, self.folder, self._final)
        _release()
        self._closed = True
        say(f"Written to `{paths.short(self._final)}`.")
        return self._final


def say(text: str) -> None:
    """Show one sentence of Markdown below the cell."""
    display.show(text)


# --- by hand


def _open_by_hand(notebook: str, values: dict) -> Stage:
    from lib.runner import preflight

    path = folders.notebook_path(notebook)
    content = params.read_notebook(path)
    declared = params.declared(content, path)
    parameters = {n: params.coerce(values.get(n, p.default), p.kind, n) for n, p in declared.items()}
    parameters = references.with_hub_student(parameters)
    where = {"run": folders.BY_HAND, "arm": "main", "seed": 0, "round": 0}
    where |= {name: parameters[name] for name in keys.RESERVED if name in parameters}
    for name in ("run", "arm"):
        folders.check_plain(where[name], name)
    inputs = _inputs(parameters, references.finished(where["run"], where["arm"], where["seed"]))
    preflight.check(notebook, parameters)
    key = keys.stage_key(content, parameters, inputs)
    final = folders.stage_folder(folders.BY_HAND, where["arm"], where["seed"], notebook, where["round"])
    part = final.with_name(f"{final.name}.{key[: folders.KEY_LENGTH]}.part")
    plan = provenance.new_plan(f"{notebook}@{where['round']}", key, parameters, inputs, where["run"])
    _release()  # of a stage that this kernel opened before
    return Stage(folders.open_part(part, wait_s=2), plan, final)


def _inputs(values: dict, before: list[references.Finished]) -> dict[str, Path | None]:
    """Resolve the inputs among finished stages; without a round of its own a notebook reads the latest."""
    inputs = {}
    for name in [name for name in values if name.endswith("_from")]:
        means = references.resolve(values[name], values.get("round"), before, name, RUN_FIRST)
        inputs[name] = means[0].folder / means[1] if isinstance(means, tuple) else means
    return inputs


# --- locks and death


def _take(folder: Path) -> None:
    """Hold the lock of a folder as long as this kernel lives."""
    if folder not in _locks:
        _locks[folder] = files.lock(folder / "lock", folders.KERNEL_GONE_S, paths.short(folder))


def _release() -> None:
    while _locks:
        _locks.popitem()[1].close()


def _number(name: str, value: object) -> float | int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, Real):
        raise UserError(f"the metric {name} must be a number or None, not {value!r}")
    if isinstance(value, Integral):
        return int(value)
    return float(value) if math.isfinite(value) else None
