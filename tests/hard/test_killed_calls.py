"""A stage of oracle calls, killed over and over: nothing stored is asked again, and at the end nothing is missing."""

import multiprocessing
import signal
import time
from pathlib import Path
from random import Random

import pytest
from chat_server import ChatServer

from lib import records
from lib.models.catalog import Model
from lib.models.ledger import Ledger
from lib.models.server import ServerBackend
from lib.oracle.llm import LLMOracle

pytestmark = pytest.mark.slow

ROWS, KILLS, CONCURRENCY = 2000, 20, 64


def say(body: dict) -> str:
    prompt = body["messages"][-1]["content"]
    return "9 3\nbecause" if prompt.startswith("Two assistants") else f"A response to: {prompt}"


def stage(url: str, path: Path, signs=None):
    """2,000 rows answered and judged, as notebook 2 does it."""
    rows = records.build({"instruction": f"Question {i}", "student_response": "no"} for i in range(ROWS))
    oracle = LLMOracle(ServerBackend(Model("m", url, concurrency=CONCURRENCY), Ledger(path)))
    if signs:
        signs.send("asking")
    return oracle.score(oracle.answer(rows))


def test_a_stage_killed_twenty_times_ends_whole_and_asks_hardly_more_than_it_needs(tmp_path):
    path, rng, fresh = tmp_path / "ledger.sqlite", Random(20), multiprocessing.get_context("forkserver")
    fresh.set_forkserver_preload(["lib.oracle.llm", "test_killed_calls"])
    with ChatServer(say) as server:
        server.delay_s = 0.1  # some 6,000 calls, 64 at once: ten seconds and more without the kills
        for _ in range(KILLS):
            receiver, sender = fresh.Pipe()
            process = fresh.Process(target=stage, args=(server.url, path, sender))
            process.start()
            assert receiver.recv() == "asking"
            before = sum(server.counts.values())
            while sum(server.counts.values()) == before:  # a busy machine takes its time
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 0.4))
            process.kill()
            process.join()
            assert process.exitcode == -signal.SIGKILL, "the stage ended before it was killed"
        rows = stage(server.url, path)
        requests = sum(server.counts.values())
    assert rows["oracle_response"][:] == [f"A response to: Question {i}" for i in range(ROWS)]
    assert set(rows["oracle_score"]) == {6.0}
    assert 3 * ROWS < requests <= 3 * ROWS + KILLS * CONCURRENCY
    assert list(Ledger(path, read_only=True).faults()) == []
