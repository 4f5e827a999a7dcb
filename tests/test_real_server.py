"""A real server with a model that can't judge: the stage ends by naming the share of verdicts it could not read."""

import json
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from lib.errors import UserError
from lib.oracle.ledger import Ledger
from lib.run import run_study

STUDENT = Path(__file__).parents[1] / "lib/gym/student"
STUDY = """
stages: [tapir/1_data_selection, tapir/2_oracle_judging]
params:
  {{source: {folder}/rows.json, oracle: {student}, oracle_url: "{url}", ledger: {folder}/ledger.sqlite, student_from: {student},
   samples: 1, temperature: 0, max_new_tokens: 2, oracle_max_tokens: 200, judge_max_tokens: 16}}
"""


@pytest.fixture
def url():
    """`transformers serve` with the embedded student."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    words = [
        Path(sys.executable).with_name("transformers"),
        "serve",
        STUDENT,
        "--port",
        str(port),
        "--device",
        "cpu",
    ]
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(f"http://localhost:{port}/health", server)
        yield f"http://localhost:{port}/v1"
    finally:
        server.kill()
        server.wait()


def _wait(url: str, server: subprocess.Popen) -> None:
    for _ in range(600):
        assert server.poll() is None, "the server ended"
        try:
            return urllib.request.urlopen(url, timeout=1).close()
        except OSError:
            time.sleep(0.1)
    raise TimeoutError(url)


def test_a_real_model_that_can_t_judge_fails_the_stage_with_its_unread_share(url, tmp_path, monkeypatch):
    monkeypatch.setenv("OUTPUTS", str(tmp_path / "outputs"))
    rows = [{"instruction": f"Add {i} and {i}.", "input": "", "output": str(2 * i)} for i in range(4)]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    (tmp_path / "study.yaml").write_text(STUDY.format(folder=tmp_path, student=STUDENT, url=url))
    with pytest.raises(
        UserError, match=r"(\d+\.\d%) of the verdicts could not be read, more than max_unread"
    ):
        run_study(tmp_path / "study.yaml")
    calls = list(Ledger(tmp_path / "ledger.sqlite", read_only=True).rows())
    answers = [json.loads(call.response)["choices"][0] for call in calls if call.purpose == "answer"]
    whole = sum(one["finish_reason"] == "stop" and bool(one["message"]["content"]) for one in answers)
    assert len(answers) == len(rows) and whole
    assert sum(call.purpose == "judge" for call in calls) == 4 * whole  # both orders, and each once more
