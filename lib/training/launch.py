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
from typing import NamedTuple

from datasets import Dataset, load_from_disk
from transformers import AutoTokenizer

from lib import files, paths
from lib.errors import UserError
from lib.training.settings import Settings

LOOK_EVERY_S = 0.5
# what stands before the words of `launch`: their process ends with this one, and so do all that it starts
WITH_PARENT = """import os, sys
from lib import files
files.die_with_parent(int(sys.argv[1]))
os.execv(sys.argv[2], sys.argv[2:])"""


class Job(NamedTuple):
    """One training: a student (a folder or a hub name) on encoded rows, which ends as `folder`/student."""

    student: str
    tokenizer: object
    encoded: Dataset
    folder: Path
    settings: Settings
    seed: int


def train(job: Job, report: Callable[[int, int], None]) -> list[dict]:
    """Run `job.settings.launch` with `-m lib.training.sft` until the student is there; returns the losses.

    Raises UserError with what the processes said, or the end of their log.
    """
    place = job.folder / "work/job"
    shutil.rmtree(place, ignore_errors=True)
    job.encoded.save_to_disk(place / "rows")
    job.tokenizer.save_pretrained(place / "tokenizer")
    plain = asdict(replace(job.settings, launch=""))
    told = {"student": job.student, "settings": plain, "seed": job.seed, "folder": str(job.folder.resolve())}
    files.write_json(place / "job.json", told)
    _run([*job.settings.command(), "-m", "lib.training.sft", str(place.resolve())], place, report)
    losses = json.loads((place / "losses.json").read_text())
    shutil.rmtree(place)
    return losses


def read(place: Path) -> Job:
    """The job that `train` wrote down, as one of its processes takes it up."""
    told = json.loads((place / "job.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(place / "tokenizer", padding_side="left")
    encoded, settings = load_from_disk(str(place / "rows")), Settings(**told["settings"])
    return Job(told["student"], tokenizer, encoded, Path(told["folder"]), settings, told["seed"])


def _run(words: list[str], place: Path, report: Callable[[int, int], None]) -> None:
    words = [sys.executable, "-c", WITH_PARENT, str(os.getpid()), *words]
    with (place / "log.txt").open("w") as log:
        process = subprocess.Popen(
            words,
            cwd=paths.ROOT,
            env=os.environ
            | {"PYTHONPATH": os.pathsep.join([str(paths.ROOT), os.environ.get("PYTHONPATH", "")])},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            while process.poll() is None:
                time.sleep(LOOK_EVERY_S)
                if told := files.read_json(place / "progress.json"):
                    report(told["done"], told["total"])
        finally:
            process.terminate()
            process.wait()
    if process.returncode:
        raise UserError(_why(place, process.returncode))


def _why(place: Path, code: int) -> str:
    """What a process said, else the last lines that all of them wrote."""
    if (place / "error.txt").exists():
        return (place / "error.txt").read_text()
    end = "\n".join((place / "log.txt").read_text().strip().splitlines()[-5:])
    return f"the processes of launch ended with {code}; the end of {paths.short(place / 'log.txt')}:\n{end}"


# What the processes say


def note(place: Path, done: int, total: int) -> None:
    """How far they are."""
    files.write_json(place / "progress.json", {"done": done, "total": total})


@contextmanager
def told(place: Path) -> Iterator[None]:
    """A UserError of a process is written down, and ends it."""
    try:
        yield
    except UserError as error:
        (place / "error.txt").write_text(str(error))
        sys.exit(1)
