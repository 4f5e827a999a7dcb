"""Run a study: python -m lib.run params/demo.yaml [-p name=value …] [--run NAME] [--jobs N]

Stages that nothing has changed for are not run again; after a kill, the same command goes on.
All runs share their stages in outputs/store; `--clean` lists those that no run links to.
"""

import argparse
import os
import shlex
import shutil
import sys
from pathlib import Path

from lib import files, paths
from lib.errors import UserError, for_user, one_line
from lib.report import pages
from lib.runner import folders, params, session
from lib.runner.plan import plan
from lib.runner.study import load


def main(words: list[str] | None = None) -> int:
    """Run the command; return the exit code: 0, 1 after an error, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m lib.run", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("params", type=Path, nargs="?", help="a YAML file, such as params/demo.yaml")
    add("-p", dest="overrides", action="append", default=[], metavar="[arm.]name=value")
    add("--run", help="name of the run, and of its folder in outputs (default: the file's)")
    add("--ledger", metavar="PATH", help="the file that keeps every call (default: outputs/ledger.sqlite)")
    add("--ledger-only", action="store_true", help="ask no model: the ledger answers")
    add("--engine", metavar="NAME", help="of students' responses: local, ray or ray:4 (docs/cluster.md)")
    add("--jobs", type=int, default=1, metavar="N", help="stages that run side by side")
    add("--plan", action="store_true", help="check everything and list the stages, but run none")
    add("--clean", nargs="?", const="list", choices=("list", "yes"), help="list or remove unused stages")
    given = parser.parse_args(words)
    if not given.clean and not given.params or given.jobs < 1:
        parser.error("name a params file, such as params/demo.yaml, and at least one job")
    os.environ |= {"LEDGER": os.path.abspath(given.ledger)} if given.ledger else {}
    os.environ |= {"ENGINE": given.engine} if given.engine else {}
    os.environ |= {"LEDGER_ONLY": "1"} if given.ledger_only else {}
    try:
        overrides = read_overrides(given.overrides)
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


def read_overrides(texts: list[str]) -> dict[str, str]:
    """Read -p's name=value: paths of the shell's folder are resolved. Raises UserError without "="."""
    overrides = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"-p {text}: write name=value")
        overrides[name.strip()] = paths.from_shell(name.strip(), value)
    return overrides


def clean(confirmed: bool) -> None:
    """List the stages that no run links to; remove them where that is confirmed."""
    unused = folders.unused()
    for folder in unused:
        size = sum(path.stat().st_size for path in folders.files_of(folder))
        print(f"{size / 1e6:12,.1f} MB  {paths.short(folder)}")
        if confirmed:
            shutil.rmtree(folder)
            folder.with_suffix(".lock").unlink(missing_ok=True)
    if unused and not confirmed:
        print("These can be removed: python -m lib.run --clean=yes")


def show_plan(path: str | Path, overrides: dict[str, object] | None = None, name: str | None = None) -> None:
    """List the stages of a run. Raises UserError where `run_study` would at its start."""
    run = _prepare(path, overrides, name)
    session.check(run.planned)
    print("\n".join(stage.label for stage in run.planned))


def run_study(
    path: str | Path, overrides: dict[str, object] | None = None, name: str | None = None, workers: int = 1
) -> dict:
    """Run every stage that needs it, `workers` at once; return what is in summary.json.

    Raises UserError before anything runs when the study is not right, and after a stage failed.
    """
    run = _prepare(path, overrides, name, workers)
    for folder in map(run.link, run.planned):
        if folder.is_dir() and not folder.is_symlink():
            raise UserError(f"{paths.short(folder)} is in the way. Move it, or choose another --run.")
    run.folder.mkdir(parents=True, exist_ok=True)
    with files.lock(run.folder / "lock", 0, f"the run {run.name}"):
        summary = _run_all(run)
    try:
        report = pages.write_report(run.folder)
    except UserError:
        raise
    except Exception as error:
        reason = one_line(f"{type(error).__name__}: {error}")
        raise UserError(
            f"all stages of {run.name} are recorded, but their report cannot be drawn ({reason}). "
            f"Do python -m lib.report {run.name}, which shows the whole error."
        ) from error
    print(paths.short(report))
    return summary


def _prepare(
    path: str | Path, overrides: dict[str, object] | None, name: str | None, workers: int = 1
) -> session.Run:
    """Plan a run; print what its params file inherits and has no use for."""
    overrides, name = overrides or {}, Path(path).stem if name is None else name
    study = load(path, overrides)
    planned, engine = plan(study, name), study.engine
    if study.unused:
        names = ", ".join(one_line(each, 60) for each in study.unused)
        print(f"{path} inherits what it has no use for, and leaves it out: {names}")
    if edited := params.uncommitted(study.declared, study.params):
        print(f"defaults that are not committed: {', '.join(edited)}")
    words = ["python", "-m", "lib.run", paths.short(Path(path).resolve())]
    words += [word for key, value in overrides.items() for word in ("-p", f"{key}={value}")]
    words += ["--ledger", os.environ["LEDGER"]] if os.environ.get("LEDGER") else []
    words += ["--engine", engine] if os.environ.get("ENGINE") else []
    words += ["--run", name] if name != Path(path).stem else []
    return session.Run(study, name, shlex.join(words), planned, workers)


def _run_all(run: session.Run) -> dict:
    """Run all stages; in any case write summary.json and remove an outdated report."""
    status, before = "failed", files.read_json(run.folder / "summary.json")
    try:
        run.run_stages(once=False)
        run.compare()
        run.run_stages(once=True)
        status = "complete"
    except KeyboardInterrupt:
        status = "partial"
        raise
    finally:
        summary = run.summary(status)
        pages.withdraw(run.folder, before, summary)
        files.write_json(run.folder / "summary.json", summary)
    return summary


if __name__ == "__main__":
    sys.exit(main())
