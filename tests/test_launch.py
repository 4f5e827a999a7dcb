"""Training in processes of its own ends with what training in the notebook's process ends with."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tiny import MANY

from lib.errors import UserError
from lib.models import loading
from lib.training import encoding, sft
from lib.training.config import TrainingConfig

HERE = "--num_processes 2 --num_machines 1 --mixed_precision no --dynamo_backend no"
STUDENT = ("model.safetensors", "config.json", "generation_config.json", "chat_template.jinja")
STUDENT += ("tokenizer.json", "tokenizer_config.json")
TWO = f"accelerate launch --multi_gpu {HERE}"  # on CPUs, too
# on CPUs accelerate shares rows alone, not weights: those are test_processes_that_share_a_model's
SHARDED = (
    f"accelerate launch --use_fsdp --fsdp_version 2 --fsdp_auto_wrap_policy TRANSFORMER_BASED_WRAP {HERE}"
)


def train(folder, out, rows=MANY, chat_template="", **options):
    tokenizer, seen = loading.load_tokenizer(folder, chat_template), []
    encoded = encoding.encode(tokenizer, rows, 64)
    settings = TrainingConfig(**{"epochs": 2, "learning_rate": 1e-3, "batch_size": 4} | options)
    losses = sft.train(folder, tokenizer, encoded, out, settings, 0, lambda *at: seen.append(at))
    return losses, seen, loading.load_model(out / "student").state_dict()


@pytest.mark.slow
@pytest.mark.parametrize(
    "launch, options",
    [(TWO, {}), (TWO, {"device_rows": 1, "adapter_rank": 4}), (SHARDED, {"packing": True})],
)
def test_two_processes_teach_what_one_does(folder, tmp_path, launch, options):
    """19 rows in steps of 4: the last step of a pass is completed by a row without loss."""
    losses, _, weights = train(folder, tmp_path / "one", **options)
    shared, seen, same = train(folder, tmp_path / "two", **options, launch=launch)
    assert [entry["step"] for entry in shared] == list(range(1, 11)) and seen[-1] == (10, 10)
    assert [e["loss"] for e in shared] == pytest.approx([e["loss"] for e in losses], rel=1e-3)
    assert max((weights[name] - same[name]).abs().max().item() for name in weights) < 1e-4
    assert {path.name for path in (tmp_path / "two").rglob("*")} == {"work", "student", *STUDENT}


def test_another_process_trains_what_this_one_does(folder, tmp_path):
    losses, _, weights = train(folder, tmp_path / "here")
    others, seen, same = train(folder, tmp_path / "there", launch=sys.executable)
    assert others == losses and seen[-1] == (10, 10)
    assert all(torch.equal(weights[name], same[name]) for name in weights)


@pytest.mark.slow
@pytest.mark.parametrize("lora_r", [0, 2])
def test_processes_that_share_a_model_need_its_weights_in_the_first_alone(folder, tmp_path, lora_r):
    program = Path(__file__).with_name("sharded.py")
    words = [*TrainingConfig(launch=TWO).command(), program, folder, str(lora_r), tmp_path]
    subprocess.run(words, cwd=program.parents[1], check=True, capture_output=True)
    alone = loading.load_model(folder)(torch.tensor([[1, 2, 3]])).logits
    for rank in (0, 1):
        assert torch.allclose(torch.load(tmp_path / f"{rank}.pt"), alone, atol=1e-5)


TWO_REFUSE = {"batch_size": 3, "launch": TWO}, "batch_size=3: 2 processes cannot share it"
ONE_REFUSES = {"learning_rate": 1e30, "launch": sys.executable}, r"learning_rate=1e\+30: the loss became nan"


@pytest.mark.parametrize("options, reason", [pytest.param(*TWO_REFUSE, marks=pytest.mark.slow), ONE_REFUSES])
def test_what_a_process_refuses_is_said(folder, tmp_path, options, reason):
    with pytest.raises(UserError, match=f"^{reason}"):
        train(folder, tmp_path, **options)


def test_a_command_that_fails_shows_the_end_of_its_log(folder, tmp_path):
    with pytest.raises(UserError, match=r"(?s)ended with 2\. Read .*work/job/log.txt.*--nonsense"):
        train(folder, tmp_path, launch=f"{sys.executable} --nonsense")


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, "tests")
import test_launch
test_launch.train(Path(sys.argv[1]), Path(sys.argv[2]), launch=test_launch.TWO, **test_launch.STOPPED)
"""
STOPPED = {"epochs": 40, "save_steps": 3}


def processes_of(job: Path) -> list[int]:
    command = (Path(f"/proc/{pid}/cmdline") for pid in filter(str.isdigit, os.listdir("/proc")))
    return [int(path.parent.name) for path in command if str(job) in _read(path)]


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # it has just ended
        return ""


def until(holds, seconds=90):
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(0.2)
    return holds()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_the_processes_die_with_the_one_that_started_them_and_others_go_on(folder, tmp_path):
    parent = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(folder), str(tmp_path)], cwd=Path(__file__).parents[1]
    )
    job = tmp_path / "work/job"
    assert until((tmp_path / "work/trainer/checkpoint-6").exists)
    assert len(processes_of(job)) == 3  # the launcher and two
    parent.send_signal(signal.SIGKILL)
    assert until(lambda: not processes_of(job), seconds=10)
    _, seen, weights = train(folder, tmp_path, launch=TWO, **STOPPED)
    _, _, whole = train(folder, tmp_path / "whole", launch=TWO, **STOPPED)
    assert seen[0][0] > 3 and all(torch.equal(weights[name], whole[name]) for name in whole)
