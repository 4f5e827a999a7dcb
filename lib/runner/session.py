"""A run under way: runs the stages that need it, in the order of their inputs, and writes summary.json."""

import sys
from contextlib import chdir
from dataclasses import dataclass, field
from pathlib import Path

from lib import files, paths
from lib.errors import UserError
from lib.runner import folders, keys, params, summary
from lib.runner.display import Line
from lib.runner.execute import Job
from lib.runner.plan import Planned, later_stages
from lib.runner.study import Study

LOOK_S = 0.2  # between two looks at what the stages do
ABOUT = ("title", "question", "metric", "primary")  # of a params file, in summary.json


def check(planned: list[Planned]) -> None:
    """Raise UserError for a setting that any of the stages would refuse."""
    from lib.runner import preflight

    for stage in planned:
        try:
            preflight.check(stage.notebook, stage.values)
        except UserError as error:
            raise UserError(f"cannot start: {stage.name} ({stage.arm}): {error}") from None


@dataclass
class Run:
    """One run of a study."""

    study: Study
    name: str
    command: str  # that repeats it
    planned: list[Planned]
    workers: int = 1  # stages that run side by side
    checked: bool = False  # whether the settings of all stages are, before the first one runs
    together: dict = field(default_factory=dict)  # comparisons and intervals

    @property
    def folder(self) -> Path:
        return folders.outputs() / self.name

    def link(self, stage: Planned) -> Path:
        """Return where the run has its link to a stage."""
        return folders.stage_folder(self.name, stage.arm, stage.seed, stage.notebook, stage.round)

    @property
    def done(self) -> list[tuple[Planned, Path]]:
        """The finished stages in their order, each with the run's first link to its files."""
        first: dict[Path, Path] = {}
        return [(p, first.setdefault(p.folder, self.link(p))) for p in self.planned if p.folder]

    # --- stages

    def run_stages(self, once: bool) -> None:
        """Run the stages that are `once` or not, at most `workers` side by side.

        After an error no other is started; it is raised once the stages beside it have ended. Whatever ends
        the loop, Ctrl-C too, stops the kernels.
        """
        waiting: dict[Planned, Job | None] = {stage: None for stage in self.planned if stage.once == once}
        running: list[Job] = []
        errors: list[UserError] = []
        try:
            with chdir(paths.ROOT):  # papermill changes it, for all threads, and changes it back
                while self._start_jobs(waiting, running) if not errors else running:
                    running[0].thread.join(LOOK_S)
                    for job in [job for job in running if not job.is_running()]:
                        running.remove(job)
                        if job.error is None:
                            self._finish(job)
                        else:
                            errors.append(self._failure(job))
        finally:
            for job in running:
                job.stop()
        if errors:
            raise errors[0]

    def _start_jobs(self, waiting: dict[Planned, Job | None], running: list[Job]) -> list[Job]:
        """Start waiting stages whose inputs are there; link to finished ones. Each job is prepared once."""
        for stage in [*waiting]:
            if len(running) == self.workers:
                break
            if not all(source.folder for source in stage.sources):
                continue
            waiting[stage] = job = waiting[stage] or self._job(stage)
            if job.folder in [other.folder for other in running]:  # another arm runs the same stage
                continue
            del waiting[stage]
            if folders.is_complete(job.folder):
                job.status = "reused"
                self._finish(job)
            else:
                if not self.checked:
                    check(self.planned)
                    self.checked = True
                    self.write_summary()  # a crash must not leave an earlier run's summary
                slot = min(set(range(self.workers)) - {other.slot for other in running})
                running.append(job)
                job.start(slot, self.workers, self.study.text.get("threads"))
        return running

    def _job(self, stage: Planned) -> Job:
        """Prepare a stage whose sources are finished."""
        inputs = {
            name: value[0].folder / value[1] if isinstance(value, tuple) else value
            for name, value in stage.inputs.items()
        }
        also = None
        if stage.once:  # a page about the run: all of the run decides it
            done = [folders.record(folder)["key"] for p, folder in self.done if not p.once]
            also = self.name, done, self.together, self.study.text
        notebook = params.read_notebook(folders.notebook_path(stage.notebook))
        key = keys.stage_key(notebook, stage.values, inputs, also, showing=stage.once)
        declared = self.study.declared[stage.notebook]
        given = {n: v for n, v in stage.values.items() if n in keys.RESERVED or v != declared[n].default}
        later = later_stages(self.planned, stage)
        line = Line(stage.label, self.workers == 1 and sys.stdout.isatty())
        return Job(stage, f"{self.name}/{stage.arm}", key, inputs, given, later, self.study.engine, line)

    def _finish(self, job: Job) -> None:
        """Link to a stage in the store, and write it down."""
        stage = job.stage
        folders.link(self.link(stage), job.folder)
        stage.folder, stage.status = job.folder, job.status
        stage.seconds = folders.record(job.folder)["seconds"]
        job.line.end("reused" if job.status == "reused" else f"done {stage.seconds:.0f} s")
        if job.status == "done":
            self.write_summary()

    def _failure(self, job: Job) -> UserError:
        """Return the error of a failed stage, with its name; raise any but a UserError."""
        if not isinstance(job.error, UserError):
            raise job.error
        job.stage.status = "failed"
        job.line.end(f"failed {job.stage.seconds:.0f} s")
        return UserError(f"{job.stage.label} {job.error}")

    # --- summary.json

    def compare(self) -> None:
        """Compare the arms; print which cannot be compared, and why."""
        primary = self.study.text.get("primary", [])
        cache = self.folder / "comparisons.json"
        self.together = summary.comparisons(self.study.contrasts, primary, self.done, cache)
        for name, why in self.together["apart"].items():
            print(f"cannot compare {name}: {why}")
        self.write_summary()  # what a page about the run reads

    def write_summary(self) -> None:
        """Write what is there so far; a run that is complete says so once, at its end."""
        files.write_json(self.folder / "summary.json", self.summary("partial"))

    def summary(self, status: str) -> dict:
        """Return the content of summary.json."""
        text = self.study.text
        about = {"command": self.command, "study": text} | {n: text[n] for n in ABOUT if n in text}
        return summary.content(self.name, status, self.planned, self.done, self.together) | about
