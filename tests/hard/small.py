"""A TAPIR and a SELF-GUIDE study as small as they go, started by the real command in processes of its own."""

import glob
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
from scripted import Script, unlike

ROOT = Path(__file__).parents[2]
STUDENT = ROOT / "lib/gym/student"
CONCURRENCY = 4
MODELS = "a-model: {{url: {url}, price: free, concurrency: {concurrency}}}"
RUN = "small"
LONGEST_S = 1800  # of one command, on a machine that is busy with other things
ASKING = """
  oracle: a-model
  judged_rows: 16
  max_new_tokens: 16
"""
TEACHING = """
  round_rows: 12
  round_tokens: 0
  alpha: 0.5
  epochs: 2
  batch_size: 4
  hardware: {folder}/hardware.yaml
"""
SELF_TEACHING = """
  pool_rows: 40
  task: "gym:first_two repeat dashes"
  input_rounds: 2
  output_samples: 3
  validated_rows: 6
  test_rows: 6
  baselines: [demos_only]
  skipped: [self_consistency, constrained, self_icl, synthetic_in_context]
"""
JUDGED = f"""
stages:
  - tapir/1_data_selection
  - repeat: 1
    stages: [tapir/2_oracle_judging: {{{{student_from: {STUDENT}}}}}]
params:
  source: {{source}}{ASKING}
"""
WHOLE = f"""
stages:
  - tapir/1_data_selection
  - tapir/4_training: {{{{alpha: 0, alpha_step: 0}}}}
  - repeat: 1
    stages: [tapir/2_oracle_judging, tapir/3_refinement, tapir/4_training]
  - self_guide/1_input_generation
  - self_guide/2_output_generation
  - self_guide/3_training
  - evaluation/natural_instructions
params:
  source: {{source}}{ASKING}{TEACHING}{SELF_TEACHING}
"""


def _number(text: str) -> int:
    return int(hashlib.sha256(text.encode()).hexdigest(), 16)


def _verdict(text: str) -> str:
    """The longer response gets 9, the shorter one 3 or 4, by the instruction."""
    first, second = (part.split("\n\n")[0] for part in text.split("[Response of assistant ")[1:])
    short = 3 + _number(text.split("[Response")[0]) % 2
    return f"9 {short}\nbecause" if len(first) > len(second) else f"{short} 9\nbecause"


# every reply follows from its request alone, so that two runs are told the same, in whatever order they ask
ORACLE = Script(
    answer=lambda text: f"A long and careful response to: {text} " * 3,
    classify=lambda text: ("Arithmetic", "Ordering")[_number(text) % 2],
    expand=lambda text: f"<instruction>Add {unlike(_number(text))}.</instruction>",
    refine=lambda text: "First one step, then the next one, and so to the end. " * (5 + _number(text) % 4),
    judge=_verdict,
)


CORPUS = [
    {"instruction": f"Add {i} and {unlike(i)}.", "input": "", "output": str(2 * i)} for i in range(100, 140)
]
started: list[subprocess.Popen] = []  # by all places, for a failed test to leave none behind


class Place:
    """A folder of its own for a study's outputs, ledger and corpus, and the command that runs it there."""

    def __init__(self, folder: Path, url: str, study: str = WHOLE):
        folder.mkdir(exist_ok=True)
        self.outputs, self.ledger = folder / "outputs", folder / "ledger.sqlite"
        self.models, self.study = folder / "models.yaml", folder / "study.yaml"
        source = folder / "rows.json"
        source.write_text(json.dumps(CORPUS))
        (folder / "hardware.yaml").write_text("save_steps: 3\n")
        self.study.write_text(study.format(source=source, folder=folder))
        self.models.write_text(MODELS.format(url=url, concurrency=CONCURRENCY))
        self.seen: set[psutil.Process] = set()

    @property
    def folder(self) -> Path:
        return self.outputs / RUN

    def start(self) -> subprocess.Popen:
        """The command, in a process group of its own."""
        words = [sys.executable, "-m", "lib.run", str(self.study), "--run", RUN, "--ledger", str(self.ledger)]
        own = {"OUTPUTS": str(self.outputs), "MODELS": str(self.models), "OMP_NUM_THREADS": "1"}
        environment = os.environ | own | {"PYTHONPATH": str(ROOT)}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(words, cwd=ROOT, env=environment, start_new_session=True, **pipes))
        return started[-1]

    def finish(self) -> dict:
        """The command, which must end well; returns its summary."""
        process = self.start()
        _, complained = process.communicate(timeout=LONGEST_S)
        assert process.returncode == 0, f"ended with {process.returncode}: {complained}"
        return self.summary()

    def summary(self) -> dict:
        return json.loads((self.folder / "summary.json").read_text())

    def stage(self, name: str, arm: str = "main") -> Path:
        return self.folder / arm / "s0" / name

    def find(self, pattern: str) -> list[Path]:
        """What is in the store while others make and move folders, at which `Path.glob` would stumble."""
        return [Path(name) for name in glob.glob(f"{self.outputs}/store/{pattern}", recursive=True)]

    def part(self, name: str) -> Path | None:
        """The folder in which a stage is worked on, once it is."""
        return next(iter(self.find(f"{name.partition('@')[0]}/*.part")), None)

    def forget(self, name: str, arm: str = "main") -> None:
        """Undo a stage: its folder in the store goes, and the link to it."""
        shutil.rmtree(self.stage(name, arm).resolve())
        self.stage(name, arm).unlink()


def wait(condition, seconds: float = LONGEST_S):
    """What a condition comes to, once it is true."""
    until = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < until, "it did not come to that"
        time.sleep(0.02)
    return result


def family(process: subprocess.Popen) -> list[psutil.Process]:
    """A process and all below it that are alive."""
    try:
        first = psutil.Process(process.pid)
        return [first, *first.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def kernel(process: subprocess.Popen) -> psutil.Process | None:
    """The kernel that a runner has started, if it has."""
    for member in family(process)[1:]:
        try:
            if "ipykernel_launcher" in member.cmdline():
                return member
        except psutil.NoSuchProcess:
            continue
    return None


def kill(processes: list[psutil.Process]) -> None:
    for member in processes:
        try:
            member.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue


def alive(processes: set[psutil.Process]) -> list[psutil.Process]:
    return [member for member in processes if member.is_running() and member.status() != psutil.STATUS_ZOMBIE]
