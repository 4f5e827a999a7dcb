"""Run a study: python -m lib.run params/demo.yaml [-p name=value …] [--run NAME] [--jobs N]

Stages that nothing has changed for are not run again; after a kill, the same command goes on.
All runs share their stages in outputs/store; `--clean` lists those that no run links to.
"""

import argparse
import sys
from contextlib import closing
from functools import partial
from pathlib import Path

from lib import files, paths
from lib.errors import UserError, for_user, one_line
from lib.report import pages
from lib.runner import folders, jobs, provenance, summary
from lib.runner.plan import Planned, plan
from lib.runner.session import Run
from lib.runner.study import Study, contrasts, load
from lib.runner.terminal import Line


def main(words: list[str] | None = None) -> int:
    """Run the command; return the exit code: 0, 1 after an error, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m lib.run", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("params", type=Path, nargs="?", help="a YAML file, such as params/demo.yaml")
    add("-p", dest="overrides", action="append", default=[], metavar="[arm.]name=value")
    add("--run", help="name of the run, and of its folder in outputs (default: the file's)")
    add("--jobs", type=int, default=1, metavar="N", help="stages that run side by side")
    add("--plan", action="store_true", help="check everything and list the stages, but run none")
    add("--clean", nargs="?", const="list", choices=("list", "yes"), help="list or remove unused stages")
    given = parser.parse_args(words)
    if not given.clean and not given.params or given.jobs < 1:
        parser.error("name a params file, such as params/demo.yaml, and at least one job")
    try:
        overrides = dict(map(_pair, given.overrides))
        if given.clean:
            clean(given.clean == "yes")
        elif given.plan:
            show_plan(given.params, overrides, given.run)
        else:
            run_study(given.params, overrides, given.run, given.jobs)
    except (UserError, OSError) as error:
        print(for_user(error), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"-p {text}: write name=value")
    return name.strip(), paths.from_shell(name.strip(), value)


def clean(confirmed: bool) -> None:
    """List the stages that no run links to; remove them where that is confirmed."""
    unused = folders.unused()
    for folder in unused:
        print(f"{folders.size(folder) / 1e6:12,.1f} MB  {paths.short(folder)}")
        if confirmed:
            folders.remove(folder)
    if unused and not confirmed:
        print("These can be removed: python -m lib.run --clean=yes")


def show_plan(path: str | Path, overrides: dict[str, object] | None = None, name: str | None = None) -> None:
    """List the stages of a run. Raises UserError for what `run_study` would refuse at its start."""
    study = load(path)
    planned = plan(study, Path(path).stem if name is None else name, overrides or {})
    _check(planned)
    _list_unused(study)
    print("\n".join(stage.label for stage in planned))


def run_study(
    path: str | Path, overrides: dict[str, object] | None = None, name: str | None = None, workers: int = 1
) -> dict:
    """Run every stage that needs it, `workers` of them side by side, and return the content of summary.json.

    Raises UserError before anything runs when the study is not right, and after a stage failed.
    """
    study, name = load(path), Path(path).stem if name is None else name
    planned = plan(study, name, overrides or {})
    command = provenance.command(path, overrides or {}, name)
    run = Run(study, name, folders.outputs() / name, command, planned, workers)
    for folder in (run.folder, *(run.folder / arm for arm in study.arms)):
        folders.check_inside(folder)
    for stage in planned:
        folders.check_link(run.link(stage))
    run.folder.mkdir(parents=True, exist_ok=True)
    with files.lock(run.folder / "lock", 0, f"the run {name}"):
        _list_unused(study)
        return _run_all(run)


def _list_unused(study: Study) -> None:
    if study.unused:
        names = ", ".join(one_line(name, 60) for name in study.unused)
        print(f"{study.path} inherits what it has no use for, and leaves it out: {names}")


def _check(planned: list[Planned]) -> None:
    """Raise UserError for a setting that any of the stages would refuse."""
    from lib.runner import preflight

    for stage in planned:
        try:
            preflight.check(stage.notebook, stage.values)
        except UserError as error:
            raise UserError(f"cannot start: {stage.name} ({stage.arm}): {error}") from None


def _run_all(run: Run) -> dict:
    status = "failed"
    pages.remove(run.folder)
    try:
        _run_stages(run, once=False)
        named, primary = contrasts(run.study), run.study.text.get("primary") or []
        run.together = summary.comparisons(named, primary, run.done, run.folder / "comparisons.json")
        for name, why in run.together.get("apart", {}).items():
            print(f"cannot compare {name}: {why}")
        run.write_summary()  # what a page about the run reads
        _run_stages(run, once=True)
        status = "complete"
    except KeyboardInterrupt:
        status = "partial"
        raise
    finally:
        result = run.summary(status)
        files.write_json(run.folder / "summary.json", result)
    print(paths.short(_report(run)))
    return result


def _report(run: Run) -> Path:
    """Write the report. Raises UserError where that fails: the stages are recorded all the same."""
    try:
        return pages.draw(run.folder)
    except UserError:
        raise
    except Exception as error:
        reason = one_line(f"{type(error).__name__}: {error}")
        raise UserError(
            f"all stages of {run.name} are recorded, but their report cannot be drawn ({reason}). "
            f"Do {_draw(run)}, which shows the whole error."
        ) from error


def _draw(run: Run) -> str:
    return f"python -m lib.report {run.name}"


# --- stages


def _run_stages(run: Run, once: bool) -> None:
    """Run the stages that are `once` or not. Raises the first error after the stages beside it have ended."""
    sources = {i: run.sources(i) for i, stage in enumerate(run.planned) if stage.once == once}
    errors = []
    with closing(jobs.work(partial(_next_task, run, sources, {}), run.workers)) as ended:
        for job in ended:
            if job.error is None:
                _finish(run, job.task, job.status)
            elif isinstance(job.error, UserError):
                errors.append(_failure(run, job.task.position, job.task.line, job.error, job.seconds))
            else:
                raise job.error
    if errors:
        raise errors[0]


def _next_task(run: Run, waiting: dict[int, set], tasks: dict[int, jobs.Task], busy: set) -> jobs.Task | None:
    """Take the first waiting stage that must run and can start; link those that are finished already."""
    for i in [*waiting]:
        if i not in tasks and waiting[i] <= run.stored.keys():
            tasks[i] = _task(run, i)
        if i not in tasks or tasks[i].stored in busy:
            continue
        del waiting[i]
        tasks[i].line.begin()
        if folders.is_complete(tasks[i].stored):
            _finish(run, tasks[i], "reused")
        else:
            _check_once(run)
            return tasks[i]
    return None


def _task(run: Run, position: int) -> jobs.Task:
    line = Line(run.planned[position].label, run.workers == 1)
    try:
        return run.task(position, line)
    except UserError as error:
        line.begin()
        raise _failure(run, position, line, error, 0) from None


def _check_once(run: Run) -> None:
    """Check all settings before the first stage runs: a mistake in the last must cost nothing."""
    if not run.checked:
        _check(run.planned)
        run.checked = True
        run.write_summary()  # a crash must not leave an earlier run's summary


def _finish(run: Run, task: jobs.Task, status: str) -> None:
    """Link to a stage in the store, write it down and draw its page."""
    seconds, link = folders.record(task.stored)["seconds"], run.link(task.stage)
    folders.link(link, task.stored)
    run.stored[task.position] = task.stored
    run.note(task.position, status, seconds)
    task.line.end("reused" if status == "reused" else f"done {seconds:.0f} s")
    if status == "done":
        run.write_summary()
    pages.attempt(link, f"the same command again, or {_draw(run)}, which shows the whole error")


def _failure(run: Run, position: int, line: Line, error: UserError, seconds: float) -> UserError:
    """Write down that a stage failed, and return its error with the stage's name."""
    run.note(position, "failed", round(seconds, 1))
    line.end(f"failed {seconds:.0f} s")
    return UserError(f"{line.label} {error}")


if __name__ == "__main__":
    sys.exit(main())
