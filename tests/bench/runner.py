"""What running a notebook as a stage costs beyond papermill alone, and what a run costs that is all there, in seconds: `make bench`.

Both run the same cells; only a stage is opened and closed around them, its page written and its key taken. The imports of papermill
and of what writes pages, paid once a run, are paid before either is timed."""

import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import redirect_stdout
from pathlib import Path
from statistics import median

import nbformat
import papermill
from bench.lines import alone, compared
from project import Project

from lib import paths
from lib.run import run_study

TURNS, STAGES, UNCHANGED = 3, 4, 20
MOST_BEYOND_S, MOST_UNCHANGED_S = 1.5, 3.0
CELLS = ("x = 10 * step + round", "print(x)")  # another stage each round
# imported by no kernel, for nobody calls it; all of it counts in the key
METHOD = """def method():
    from lib import corpus, models
    from lib.tapir import curriculum, judge, refine
    from lib.training import sft
"""
STUDY = "stages: [{repeat: %d, stages: [trivial]}]\nparams: {step: %d}"


def measure() -> list[dict]:
    with tempfile.TemporaryDirectory() as folder:
        project = _project(Path(folder).resolve())
        papermill_s, suite_s = _in_turns(project)
        unchanged_s = _unchanged(project)
    stage = compared(
        "a trivial notebook, as a stage",
        "s",
        suite_s,
        papermill_s,
        f"papermill {papermill.__version__} alone",
    )
    return [
        stage | {"bound": f"≤ {MOST_BEYOND_S} s more", "holds": suite_s - papermill_s <= MOST_BEYOND_S},
        alone(f"a whole run of {UNCHANGED} stages, all reused", "s", unchanged_s, MOST_UNCHANGED_S),
    ]


def _project(root: Path) -> Project:
    """A project with all of lib, so that keys are as long to take as real ones."""
    project = Project(root)
    shutil.copytree(paths.ROOT / "lib", root / "lib", dirs_exist_ok=True)
    shutil.copytree(paths.ROOT / "params", root / "params", dirs_exist_ok=True)
    os.environ.pop("OUTPUTS", None)
    os.environ["PYTHONPATH"] = str(root)
    paths.ROOT = root
    project.notebook("trivial", "step: int = 0  # of the benchmark", *CELLS, METHOD)
    return project


def _in_turns(project: Project) -> tuple[float, float]:
    """Median seconds a notebook of papermill alone, and of the runner; in turns, so that a machine's mood falls on both."""
    bare = _without_stage(project.root / "notebooks/trivial.ipynb", project.root / "bare.ipynb")
    bare_s, suite_s = [], []
    for turn in range(TURNS + 1):
        started = time.perf_counter()
        for n in range(STAGES):
            _papermill(bare, project.root / f"{turn}-{n}.ipynb", {"step": turn, "round": n})
        between = time.perf_counter()
        _run(project.params(STUDY % (STAGES, turn), f"turn_{turn}"))
        bare_s.append((between - started) / STAGES)
        suite_s.append((time.perf_counter() - between) / STAGES)
    return median(bare_s[1:]), median(suite_s[1:])  # the first turn imports


def _run(study: Path) -> None:
    """Run a study whose stages are all to be run."""
    with redirect_stdout(io.StringIO()):
        summary = run_study(study)
    assert {stage["status"] for stage in summary["stages"]} == {"done"}


def _without_stage(notebook: Path, bare: Path) -> Path:
    """The notebook without the cells that open and close its stage."""
    content = nbformat.read(notebook, as_version=4)
    content.cells = [cell for cell in content.cells if "stage" not in cell.source]
    nbformat.write(content, bare)
    return bare


def _papermill(notebook: Path, copy: Path, values: dict) -> None:
    options = {"kernel_name": "python3", "language": "python", "progress_bar": False}
    options["extra_arguments"] = ["--IPKernelApp.log_level=50"]  # as the runner asks for
    papermill.execute_notebook(str(notebook), str(copy), parameters=values, **options)


def _unchanged(project: Project) -> float:
    """Median seconds of the command from its start to its end, where nothing has changed."""
    study = project.params(STUDY % (UNCHANGED, TURNS + 1), "many")
    _run(study)
    took = []
    for _ in range(TURNS):
        started = time.perf_counter()
        words = [sys.executable, "-m", "lib.run", study]
        done = subprocess.run(words, cwd=project.root, check=True, capture_output=True, text=True)
        took.append(time.perf_counter() - started)
        assert done.stdout.count("reused") == UNCHANGED, done.stdout
    return median(took)
