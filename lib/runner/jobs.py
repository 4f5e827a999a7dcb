"""Stages that run side by side, each in a thread, with its kernel, its share of the cores and its GPU."""

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import chdir
from dataclasses import dataclass, field
from pathlib import Path

from lib import files, paths
from lib.runner import execute, folders, provenance
from lib.runner.plan import Planned
from lib.runner.terminal import Line

LOOK_S = 0.2  # between two looks at what the stages do


@dataclass
class Task:
    """A stage whose inputs are there."""

    position: int  # in the plan
    stage: Planned
    key: str
    stored: Path  # its folder in the store
    inputs: dict[str, Path | None]
    values: dict  # parameters that differ from the notebook's defaults
    later: list[dict]  # what comes after it in its arm
    run: str
    line: Line


@dataclass
class Job:
    """A task under way. Afterwards `status` is done or reused, or `error` holds what went wrong."""

    task: Task
    slot: int
    environment: dict[str, str]
    kernels: list[int] = field(default_factory=list)
    status: str = "done"
    error: BaseException | None = None

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def start(self) -> None:
        self.started = time.monotonic()
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        execute.stop(self.kernels)
        self.thread.join(10)

    def is_running(self) -> bool:
        """Return whether the task goes on, and show how far it is."""
        self._watch()
        return self.thread.is_alive()

    def _watch(self) -> None:
        part = folders.part_of(self.task.stored)
        self.task.line.update(files.read_json(part / "progress.json") or {})

    def _work(self) -> None:
        try:
            with folders.reserve(self.task.stored, self.task.line.note):
                if folders.recover(self.task.stored):  # another run was faster
                    self.status = "reused"
                else:
                    self._execute()
        except BaseException as error:  # raised again in the main thread
            self.error = error

    def _execute(self) -> None:
        task, stage = self.task, self.task.stage
        if damage := folders.damage(task.stored):
            task.line.note(f"{damage}, so it is not reused")
        part = folders.open_part(folders.part_of(task.stored))
        for name in ("progress.json", "stage.json"):
            (part / name).unlink(missing_ok=True)
        threads = self.environment.get("OMP_NUM_THREADS")
        work = provenance.new_plan(stage.name, task.key, stage.values, task.inputs, task.run, threads)
        files.write_json(part / "plan.json", work | {"later": task.later})
        notebook = folders.notebook_path(stage.notebook)
        execute.run_notebook(notebook, part, task.values, self.kernels, self.environment)
        self._watch()  # what was announced since the last look
        provenance.complete(work, part, task.stored)


def work(next_task: Callable[[set[Path]], Task | None], workers: int) -> Iterator[Job]:
    """Run tasks, at most `workers` at once, and yield each job that ended, whether well or not.

    `next_task` gets the folders that are being worked on and returns a task that can start, or None.
    After an error no other is started. Whatever ends the loop, Ctrl-C too, stops the kernels.
    """
    running: list[Job] = []
    free, failed = list(range(workers)), False
    gpus = _gpus() if workers > 1 else []
    try:
        with chdir(paths.ROOT):  # papermill changes it, for all threads, and changes it back
            while True:
                while free and not failed and (task := next_task({job.task.stored for job in running})):
                    running.append(Job(task, slot := free.pop(0), _environment(slot, workers, gpus)))
                    running[-1].start()
                if not running:
                    return
                running[0].thread.join(LOOK_S)
                for job in [job for job in running if not job.is_running()]:
                    running.remove(job)
                    free.append(job.slot)
                    failed = failed or job.error is not None
                    yield job
    finally:
        for job in running:
            job.stop()


def _environment(slot: int, workers: int, gpus: list[str]) -> dict[str, str]:
    """Give a kernel its share of the cores, unless $OMP_NUM_THREADS is set, and one GPU, round robin."""
    if workers == 1:
        return {}
    share = max(1, (os.cpu_count() or 1) // workers)
    own = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS") or str(share)}
    return own | ({"CUDA_VISIBLE_DEVICES": gpus[slot % len(gpus)]} if gpus else {})


def _gpus() -> list[str]:
    """List the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [name for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name.strip()]
    words = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    try:
        return subprocess.run(words, capture_output=True, text=True, check=True, timeout=30).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return []
