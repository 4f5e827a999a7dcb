"""A real server: it answers for the student as the student does here, and a model that can't judge fails its stage."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from llama_server import free_port, wait
from tiny import answer

from lib import models, records
from lib.errors import UserError
from lib.gym import world
from lib.models import catalog
from lib.models.ledger import Ledger
from lib.models.server import ServerBackend
from lib.run import run_study

pytestmark = pytest.mark.slow  # a server that imports for ten seconds before it answers

STUDENT = Path(__file__).parents[1] / "lib/gym/student"
STUDY = """
stages: [tapir/1_data_selection, tapir/2_oracle_judging]
params:
  {{source: {folder}/rows.json, oracle: "{student}@{url}", student_from: {student}, student: "{student}@{url}",
   samples: 1, temperature: 0, max_new_tokens: 2, oracle_max_tokens: 200, judge_max_tokens: 16}}
"""


@pytest.fixture(scope="module")
def url():
    """`transformers serve` with the embedded student."""
    port = free_port()
    words = [
        Path(sys.executable).with_name("transformers"),
        "serve",
        STUDENT,
        "--port",
        str(port),
        "--device",
        "cpu",
        "--dtype",
        "float32",  # as it is loaded here; its weights are kept in half of that
    ]
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        # it imports for ten seconds, and for minutes on a busy machine
        wait(f"http://localhost:{port}/health", server, seconds=180)
        yield f"http://localhost:{port}/v1"
    finally:
        server.kill()
        server.wait()


def test_a_real_model_that_can_t_judge_fails_the_stage_with_its_unread_share(url, tmp_path, monkeypatch):
    monkeypatch.setenv("OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.setenv("LEDGER", str(tmp_path / "ledger.sqlite"))
    rows = [{"instruction": f"Add {i} and {i}.", "input": "", "output": str(2 * i)} for i in range(4)]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    (tmp_path / "study.yaml").write_text(STUDY.format(folder=tmp_path, student=STUDENT, url=url))
    with pytest.raises(UserError, match=r"(\d+\.\d%) of the verdicts could not be read"):
        run_study(tmp_path / "study.yaml")
    calls = list(Ledger(tmp_path / "ledger.sqlite", read_only=True).rows())
    answers = [json.loads(call.response)["choices"][0] for call in calls if call.purpose == "answer"]
    whole = sum(each["finish_reason"] == "stop" and bool(each["message"]["content"]) for each in answers)
    assert len(answers) == len(rows) and whole
    assert sum(call.purpose == "judge" for call in calls) == 4 * whole  # both orders, and each once more


def test_a_server_gives_the_greedy_replies_that_the_student_gives_here(url, tmp_path):
    prompts = [records.messages(row) for row in world.evaluation_set("dev", 1)][:24]
    options = {"max_new_tokens": 64, "batch_size": 8, "folder": tmp_path}
    here = answer(models.choose(STUDENT), prompts, max_new_tokens=64)
    there = answer(models.choose(f"{STUDENT}@{url}"), prompts, **options)
    assert there == here and len({reply.text for (reply,) in here}) > 12
    gone = ServerBackend(catalog.find(f"{STUDENT}@http://127.0.0.1:9/v1"))
    assert answer(gone, prompts, **options) == here  # nothing is left to be asked


def test_a_server_that_was_started_for_another_student_is_told_from_the_right_one(url, tmp_path):
    copy = shutil.copytree(STUDENT, tmp_path / "copy")
    with pytest.raises(UserError, match=f"refuses {copy} .*. Start one with vllm serve {copy}"):
        answer(models.choose(f"{copy}@{url}"), [[{"role": "user", "content": "hi"}]])
