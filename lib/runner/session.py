"""A run under way: its stages, what each of them needs to start, and summary.json."""

from dataclasses import dataclass, field
from pathlib import Path

from lib import files, paths
from lib.errors import UserError
from lib.runner import folders, keys, params, summary
from lib.runner.jobs import Task
from lib.runner.plan import Planned, source
from lib.runner.study import Study
from lib.runner.terminal import Line

ABOUT = ("title", "question", "metric", "primary")  # of a params file, in summary.json


@dataclass
class Run:
    """One run of a study. A stage goes by its position in `planned`."""

    study: Study
    name: str
    folder: Path
    command: str  # that repeats it
    planned: list[Planned]
    workers: int = 1  # stages that run side by side
    checked: bool = False  # whether the settings of all stages are
    stored: dict[int, Path] = field(default_factory=dict)  # finished stages: their folders in the store
    lines: dict[int, dict] = field(default_factory=dict)  # of summary.json
    together: dict = field(default_factory=dict)  # comparisons and intervals

    def link(self, stage: Planned) -> Path:
        """Return where the run has its link to a stage."""
        return folders.stage_folder(self.name, stage.arm, stage.seed, stage.notebook, stage.round)

    @property
    def done(self) -> list[tuple[Planned, Path]]:
        """The finished stages in their order, each with the run's first link to its files."""
        first: dict[Path, Path] = {}
        stages = [(self.planned[i], self.stored[i]) for i in sorted(self.stored)]
        return [(stage, first.setdefault(stored, self.link(stage))) for stage, stored in stages]

    def sources(self, position: int) -> set[int]:
        """Return the positions of the stages that a stage reads."""
        stage, before = self.planned[position], self.planned[:position]
        inputs = [source(stage, name, before) for name in stage.input_names]
        positions = {id(other): i for i, other in enumerate(before)}
        return {positions[id(means[0])] for means in inputs if isinstance(means, tuple)}

    def task(self, position: int, line: Line) -> Task:
        """Prepare a stage whose sources are finished. Raises UserError for an input that was not written."""
        stage, after = self.planned[position], self.planned[position + 1 :]
        notebook = params.read_notebook(folders.notebook_path(stage.notebook))
        declared = self.study.declared[stage.notebook]
        inputs = self._inputs(stage, self.planned[:position])
        key = keys.stage_key(notebook, stage.values, inputs, self._also(stage), showing=stage.once)
        same = [p for p in after if (p.arm, p.seed) == (stage.arm, stage.seed)]
        return Task(
            position,
            stage,
            key,
            stored=folders.stored(stage.notebook, key),
            inputs=inputs,
            values={n: v for n, v in stage.values.items() if n in keys.RESERVED or v != declared[n].default},
            later=[{"notebook": p.notebook, "parameters": p.values} for p in same],
            run=self.name,
            line=line,
        )

    def _inputs(self, stage: Planned, before: list[Planned]) -> dict[str, Path | None]:
        stored = {id(self.planned[i]): folder for i, folder in self.stored.items()}
        inputs = {}
        for name in stage.input_names:
            means = source(stage, name, before)
            inputs[name] = path = stored[id(means[0])] / means[1] if isinstance(means, tuple) else means
            if path and not path.exists():
                raise UserError(
                    f"cannot start: {name} means {paths.short(path)}, which that stage did not write"
                )
        return inputs

    def _also(self, stage: Planned) -> object:
        """Return what else decides a page about the run: all of the run."""
        if not stage.once:
            return None
        done = [folders.record(folder)["key"] for p, folder in self.done if not p.once]
        return self.name, done, self.together, self.study.text

    def note(self, position: int, status: str, seconds: float) -> None:
        """Write down how a stage ended, for summary.json."""
        stage = self.planned[position]
        line = {"name": stage.name, "arm": stage.arm, "seed": stage.seed}
        self.lines[position] = line | {"status": status, "seconds": seconds}

    def write_summary(self) -> None:
        """Write what is there so far; a run that is complete says so once, at its end."""
        files.write_json(self.folder / "summary.json", self.summary("partial"))

    def summary(self, status: str) -> dict:
        """Return the content of summary.json."""
        arms = summary.arms(self.done)
        for arm, bounds in self.together.get("intervals", {}).items():
            arms[arm]["metrics"] |= bounds
        links = {id(stage): folder.relative_to(self.folder).as_posix() for stage, folder in self.done}
        lines = [(self.lines[i], links.get(id(self.planned[i]))) for i in sorted(self.lines)]
        return {
            "run": self.name,
            "status": status,
            "arms": arms,
            "command": self.command,
            "comparisons": self.together.get("comparisons", {}),
            "stages": [line | ({"folder": link} if link else {}) for line, link in lines],
            "oracle": summary.oracle(folder for _, folder in self.done),
            "study": self.study.text,
            "apart": self.together.get("apart", {}),
            **{key: self.study.text[key] for key in ABOUT if key in self.study.text},
        }
