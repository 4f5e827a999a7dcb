"""A real server answers for the student as the student does here."""

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
from lib.models.server import ServerBackend

pytestmark = pytest.mark.slow  # a server that imports for ten seconds before it answers

STUDENT = Path(__file__).parents[1] / "lib/gym/student"


@pytest.fixture(scope="module")
def url():
    """`transformers serve` with the embedded student."""
    port = free_port()
    words = [Path(sys.executable).with_name("transformers"), "serve", STUDENT, "--port", str(port)]
    words += [
        "--device",
        "cpu",
        "--dtype",
        "float32",
    ]  # as it is loaded here; its weights are kept in half of that
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        # it imports for ten seconds, and for minutes on a busy machine
        wait(f"http://localhost:{port}/health", server, seconds=180)
        yield f"http://localhost:{port}/v1"
    finally:
        server.kill()
        server.wait()


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
