"""Run a study: python -m lib.run params/demo.yaml [-p name=value …] [--run NAME]

Stages that nothing has changed for are not run again; a killed run goes on where it was with the same command.
All runs share their stages in outputs/store; `--clean` lists those that no run links to.
"""

import argparse
import sys
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from lib import files, paths
from lib.errors import UserError, for_user, one_line
from lib.report import pages
from lib.runner import digests, folders, keys, params, provenance, summary, terminal
from lib.runner.execute import run_notebook
from lib.runner.plan import Planned, plan, source
from lib.runner.study import Study, contrasts, load


def main(words: list[str] | None = None) -> int:
    """The command; returns the exit code: 0, 1 after an error, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m lib.run", description=__doc__.splitlines()[0])
    parser.add_argument("params", type=Path, nargs="?", help="a YAML file, such as params/demo.yaml")
    parser.add_argument("-p", dest="overrides", action="append", default=[], metavar="[arm.]name=value")
    parser.add_argument("--run", help="name of the run, and of its folder in outputs (default: the file's)")
    parser.add_argument(
        "--plan", action="store_true", help="check everything and list the stages, but run none"
    )
    parser.add_argument(
        "--clean", nargs="?", const="list", choices=("list", "yes"), help="list or remove unused stages"
    )
    given = parser.parse_args(words)
    if not given.clean and not given.params:
        parser.error("name a params file, such as params/demo.yaml")
    try:
        if given.clean:
            clean(given.clean == "yes")
        else:
            overrides = dict(map(_pair, given.overrides))
            (show_plan if given.plan else run_study)(given.params, overrides, given.run)
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


@dataclass
class Run:
    """One run of a study: where it lies, and what is done."""

    study: Study
    name: str
    folder: Path
    command: str  # that repeats it
    planned: list[Planned]
    checked: bool = False  # whether the settings of all stages are
    done: list[tuple[Planned, Path]] = field(default_factory=list)  # with the first link to its files
    places: dict[Path, Path] = field(default_factory=dict)  # a stage in the store -> the first link to it
    lines: list[dict] = field(default_factory=list)  # of summary.json
    together: dict = field(default_factory=dict)  # what several stages say together


def run_study(path: str | Path, overrides: dict[str, object] | None = None, name: str | None = None) -> dict:
    """Run every stage that needs it and return the content of summary.json.

    Raises UserError before anything runs when the study is not right, and after a stage failed.
    """
    study, name = load(path), Path(path).stem if name is None else name
    planned = plan(study, name, overrides or {})
    run = Run(study, name, folders.outputs() / name, provenance.command(path, overrides or {}, name), planned)
    for place in (run.folder, *(run.folder / arm for arm in study.arms)):
        folders.check_inside(place)
    for stage in planned:
        folders.check_link(_place(run, stage))
    run.folder.mkdir(parents=True, exist_ok=True)
    with files.lock(run.folder / "lock", 0, f"the run {name}"):
        _list_unused(study)
        return _run_all(run)


def show_plan(path: str | Path, overrides: dict[str, object] | None = None, name: str | None = None) -> None:
    """List the stages that `run_study` would go through. Raises UserError for what it would refuse before the first of them."""
    study = load(path)
    planned = plan(study, Path(path).stem if name is None else name, overrides or {})
    _check(planned)
    _list_unused(study)
    print("\n".join(stage.label for stage in planned))


def _list_unused(study: Study) -> None:
    if study.unused:
        names = ", ".join(one_line(name, 60) for name in study.unused)
        print(f"{study.path} inherits what it has no use for, and leaves it out: {names}")


def _run_all(run: Run) -> dict:
    status, before = "failed", files.read_json(run.folder / "summary.json")
    try:
        for stage in [p for p in run.planned if not p.once]:
            _do(run, stage)
        named, primary = contrasts(run.study), run.study.text.get("primary") or []
        run.together = summary.comparisons(named, primary, run.done, run.folder / "comparisons.json")
        for name, why in run.together.get("apart", {}).items():
            print(f"cannot compare {name}: {why}")
        _write_summary(run)  # what a page about the run reads
        for stage in [p for p in run.planned if p.once]:
            _do(run, stage)
        status = "complete"
    except KeyboardInterrupt:
        status = "partial"
        raise
    finally:
        found = _summary(run, status)
        pages.withdraw(run.folder, before, found)
        files.write_json(run.folder / "summary.json", found)
    print(paths.short(_report(run)))
    return found


def _report(run: Run) -> Path:
    """Write the report. Raises UserError where that fails: the stages are recorded all the same."""
    try:
        return pages.write_report(run.folder)
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


def _write_summary(run: Run) -> None:
    """What is there so far; a run that is all there says so once, at its end."""
    files.write_json(run.folder / "summary.json", _summary(run, "partial"))


def _summary(run: Run, status: str) -> dict:
    about = {
        key: run.study.text[key]
        for key in ("title", "question", "metric", "primary")
        if key in run.study.text
    }
    arms = summary.arms(run.done)
    for arm, bounds in run.together.get("intervals", {}).items():
        arms[arm]["metrics"] |= bounds
    return {
        "run": run.name,
        "status": status,
        "arms": arms,
        "command": run.command,
        "comparisons": run.together.get("comparisons", {}),
        "stages": run.lines,
        "oracle": summary.oracle(folder for _, folder in run.done),
        "study": run.study.text,
        "apart": run.together.get("apart", {}),
        **about,
    }


# --- one stage


def _do(run: Run, stage: Planned) -> None:
    """Reuse or run a stage, link to it, and write it down."""
    line = {"name": stage.name, "arm": stage.arm, "seed": stage.seed}
    label, started = stage.label, time.monotonic()
    terminal.begin(label)
    try:
        stored, status = _reuse_or_execute(run, stage, label)
    except UserError as error:
        seconds = round(time.monotonic() - started, 1)
        run.lines.append(line | {"status": "failed", "seconds": seconds})
        terminal.end(label, f"failed {seconds:.0f} s")
        raise UserError(f"{label} {error}") from None
    record = folders.record(stored)
    digests.remember(stored, record)
    place = _place(run, stage)
    folders.link(place, stored)
    place = run.places.setdefault(stored, place)
    run.done.append((stage, place))
    about = {"seconds": record["seconds"], "folder": place.relative_to(run.folder).as_posix()}
    run.lines.append(line | {"status": status} | about)
    terminal.end(label, "reused" if status == "reused" else f"done {record['seconds']:.0f} s")
    if status == "done":
        _write_summary(run)
    pages.attempt(place, f"the same command again, or {_draw(run)}, which shows the whole error")


def _place(run: Run, stage: Planned) -> Path:
    return folders.stage_folder(run.name, stage.arm, stage.seed, stage.notebook, stage.round)


def _reuse_or_execute(run: Run, stage: Planned, label: str) -> tuple[Path, str]:
    """Return the folder of a stage in the store, and whether it was done or reused."""
    notebook = params.read_notebook(folders.notebook_path(stage.notebook))
    inputs = _inputs(run, stage)
    key = keys.stage_key(notebook, stage.values, inputs, _also(run, stage), showing=stage.once)
    stored = folders.stored(stage.notebook, key)
    if folders.is_complete(stored):
        return stored, "reused"
    _check_once(run)
    with folders.reserve(stored):
        part = folders.part_of(stored)
        if folders.is_complete(part):  # an earlier start ended before it could move it
            folders.move(part, stored)
        if folders.is_complete(stored):  # another run was faster
            return stored, "reused"
        if damage := folders.damage(stored):
            print(f"{damage}, so it is not reused …", end=" ", flush=True)
        _execute(run, stage, stored, key, inputs, label)
    return stored, "done"


def _inputs(run: Run, stage: Planned) -> dict[str, Path | None]:
    """Return where the inputs lie in the store. Raises UserError for one that was not written."""
    places = {id(p): folder for p, folder in run.done}
    found = {}
    for name in stage.values:
        if name.endswith("_from"):
            means = source(stage, name, [p for p, _ in run.done])
            found[name] = places[id(means[0])].resolve() / means[1] if isinstance(means, tuple) else means
            if found[name] and not found[name].exists():
                raise UserError(
                    f"cannot start: {name} means {paths.short(found[name])}, which that stage did not write"
                )
    return found


def _also(run: Run, stage: Planned) -> object:
    """Return what else decides a page about the run: all of the run."""
    if not stage.once:
        return None
    done = [folders.record(folder)["key"] for p, folder in run.done if not p.once]
    return run.name, done, run.together, run.study.text


def _check_once(run: Run) -> None:
    """Check all settings before the first stage runs: a mistake in the last must cost nothing."""
    if not run.checked:
        _check(run.planned)
        run.checked = True
        _write_summary(run)  # a crash must not leave an earlier run's summary


def _execute(run: Run, stage: Planned, stored: Path, key: str, inputs: dict, label: str) -> None:
    part = folders.open_part(folders.part_of(stored))
    for name in ("progress.json", "stage.json"):
        (part / name).unlink(missing_ok=True)
    work = provenance.new_plan(stage.name, key, stage.values, inputs, run.name)
    files.write_json(part / "plan.json", work | {"later": _later(run, stage)})
    announced: list[str] = []
    watch = partial(terminal.show, label, part, announced)
    run_notebook(folders.notebook_path(stage.notebook), part, _to_set(run, stage), watch)
    watch()  # what was announced since its last look
    provenance.complete(work, part, stored)


def _later(run: Run, stage: Planned) -> list[dict]:
    """What comes after a stage in its arm: it can say early what a later one will lack."""
    after = run.planned[run.planned.index(stage) + 1 :]
    ours = [p for p in after if (p.arm, p.seed) == (stage.arm, stage.seed)]
    return [{"notebook": p.notebook, "parameters": p.values} for p in ours]


def _check(planned: list[Planned]) -> None:
    """Raise UserError for a setting that any of the stages would refuse."""
    from lib.runner import preflight

    for stage in planned:
        try:
            preflight.check(stage.notebook, stage.values)
        except UserError as error:
            raise UserError(f"cannot start: {stage.name} ({stage.arm}): {error}") from None


def _to_set(run: Run, stage: Planned) -> dict:
    """Values that differ from the notebook's defaults; the reserved ones always."""
    declared = run.study.declared[stage.notebook]
    return {n: v for n, v in stage.values.items() if n in keys.RESERVED or v != declared[n].default}


if __name__ == "__main__":
    sys.exit(main())
