"""Training in other processes, by a command such as `accelerate launch`, on one or several devices."""

import os
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

from datasets import Dataset, load_from_disk
from transformers import AutoTokenizer

from lib import files, paths
from lib.errors import UserError
from lib.models.types import Report
from lib.training.config import TrainingConfig

POLL_S = 0.5
# stands before the command, whose process then ends with this one, and its children with it
WITH_PARENT = """import os, sys
from lib import files
files.die_with_parent(int(sys.argv[1]))
os.execv(sys.argv[2], sys.argv[2:])"""


class Job(NamedTuple):
    """One training: a student (a folder or a hub name) and encoded rows become `folder`/student."""

    student: str
    tokenizer: object
    encoded: Dataset
    folder: Path
    config: TrainingConfig
    seed: int


def train(job: Job, report: Report) -> list[dict]:
    """Run `job.config.launch` with `-m lib.training.sft` and return the losses.

    Raises UserError with the error of a process, or with the end of the log.
    """
    folder = (job.folder / "work/job").resolve()
    shutil.rmtree(folder, ignore_errors=True)
    job.encoded.save_to_disk(folder / "rows")
    job.tokenizer.save_pretrained(folder / "tokenizer")
    config = asdict(replace(job.config, launch=""))
    settings = {"student": job.student, "config": config, "seed": job.seed}
    files.write_json(folder / "job.json", settings | {"folder": str(job.folder.resolve())})
    code = _run([*job.config.command(), "-m", "lib.training.sft", str(folder)], folder, report)
    result = files.read_json(folder / "result.json") or {}
    if code:
        log = folder / "log.txt"
        end = "\n".join(log.read_text().strip().splitlines()[-5:])
        ended = f"launch={job.config.launch}: it ended with {code}."
        raise UserError(result.get("error") or f"{ended} Read {paths.short(log)}, which ends:\n{end}")
    shutil.rmtree(folder)
    return result["losses"]


def read(folder: Path) -> Job:
    """Read the job that `train` wrote, in one of its processes."""
    settings = files.read_json(folder / "job.json")
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer", padding_side="left")
    encoded, config = load_from_disk(str(folder / "rows")), TrainingConfig(**settings["config"])
    return Job(settings["student"], tokenizer, encoded, Path(settings["folder"]), config, settings["seed"])


def _run(words: list[str], folder: Path, report: Report) -> int:
    """Run a command in the project's root, report the progress that it writes, return its exit code."""
    words = [sys.executable, "-c", WITH_PARENT, str(os.getpid()), *words]
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(words, cwd=paths.ROOT, stdout=log, stderr=subprocess.STDOUT)
        try:
            while process.poll() is None:
                time.sleep(POLL_S)
                if progress := files.read_json(folder / "progress.json"):
                    report(*progress)
        finally:
            process.terminate()
            process.wait()
    return process.returncode
