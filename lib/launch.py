"""Training outside the notebook: what a command such as `accelerate launch` does on several devices, and how far it is."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from datasets import Dataset

from lib import paths, runs
from lib.errors import UserError
from lib.runner import folders
from lib.settings import Settings

LOOK_EVERY_S = 0.5


def train(
    student: str | Path,
    tokenizer,
    encoded: Dataset,
    folder: Path,
    settings: Settings,
    seed: int,
    report: Callable[[int, int], None],
) -> list[dict]:
    """Run `settings.launch` with `-m lib.sft` until `folder`/student is there; returns the losses.

    Raises UserError with what the processes said, or the end of their log.
    """
    job = folder / "work/job"
    shutil.rmtree(job, ignore_errors=True)
    encoded.save_to_disk(job / "rows")
    tokenizer.save_pretrained(job / "tokenizer")
    plain = asdict(replace(settings, launch=""))
    told = {"student": str(student), "settings": plain, "seed": seed, "folder": str(folder.resolve())}
    folders.write_json(job / "job.json", told)
    _run([*settings.command(), "-m", "lib.sft", str(job.resolve())], job, report)
    losses = json.loads((job / "losses.json").read_text())
    shutil.rmtree(job)
    return losses


def _run(words: list[str], job: Path, report: Callable[[int, int], None]) -> None:
    parent = os.getpid()
    with (job / "log.txt").open("w") as log:
        process = subprocess.Popen(
            words,
            cwd=paths.ROOT,
            env=os.environ
            | {"PYTHONPATH": os.pathsep.join([str(paths.ROOT), os.environ.get("PYTHONPATH", "")])},
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: runs.die_with_parent(parent),
        )
        try:
            while process.poll() is None:
                time.sleep(LOOK_EVERY_S)
                if told := folders.read_json(job / "progress.json"):
                    report(told["done"], told["total"])
        finally:
            process.terminate()
            process.wait()
    if process.returncode:
        raise UserError(_why(job, process.returncode))


def _why(job: Path, code: int) -> str:
    """What a process said, else the last lines that all of them wrote."""
    if (job / "error.txt").exists():
        return (job / "error.txt").read_text()
    end = "\n".join((job / "log.txt").read_text().strip().splitlines()[-5:])
    return f"the processes of launch ended with {code}; the end of {folders.short(job / 'log.txt')}:\n{end}"


# What the processes say


def note(job: Path, done: int, total: int) -> None:
    """How far they are."""
    folders.write_json(job / "progress.json", {"done": done, "total": total})


@contextmanager
def told(job: Path) -> Iterator[None]:
    """A UserError of a process is written down, and ends it."""
    try:
        yield
    except UserError as error:
        (job / "error.txt").write_text(str(error))
        sys.exit(1)
