"""What a stage's record says about how it was made: commit, versions, inputs, time, and every file."""

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

from lib import files, paths
from lib.runner import digests, folders


def new_plan(
    name: str, key: str, values: dict, inputs: dict[str, Path | None], run: str, threads: str | None = None
) -> dict:
    """Return what a stage is about to do; stage.json repeats it."""
    return {
        "name": name,
        "run": run,
        "key": key,
        "parameters": values,
        "inputs": {name: path and str(path) for name, path in inputs.items()},
        "commit": commit(),
        "threads": int(threads or os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1),
        "versions": {"python": sys.version.split()[0]} | digests.versions(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "started_at": time.time(),
    }


def complete(plan: dict, part: Path, final: Path) -> None:
    """Close the books of a stage: plan, its own sentence, duration and every file go to stage.json."""
    says = (files.read_json(part / "progress.json") or {}).get("says", "")
    folders.clear(part)
    seconds = round(time.time() - plan["started_at"], 1)
    about = {"says": says, "seconds": seconds, "files": digests.listing(part)}
    folders.complete(part, final, plan | about)


def command(path: str | Path, overrides: dict[str, object], name: str) -> str:
    """The command that repeats a run."""
    words = ["python", "-m", "lib.run", paths.short(Path(path).resolve())]
    words += [word for key, value in overrides.items() for word in ("-p", f"{key}={value}")]
    return shlex.join(words + (["--run", name] if name != Path(path).stem else []))


def commit() -> str:
    """The git commit, with a plus where tracked files differ; "none" outside git."""
    shown = _git("rev-parse", "--short=12", "HEAD")
    return (shown + "+" * bool(_git("status", "--porcelain", "--untracked-files=no"))) if shown else "none"


def _git(*words: str) -> str:
    try:
        done = subprocess.run(["git", *words], cwd=paths.ROOT, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
