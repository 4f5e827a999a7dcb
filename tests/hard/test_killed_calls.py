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
from lib.models.chat import Endpoint
from lib.models.ledger import Ledger
from lib.oracle.llm import LLMOracle

pytestmark = pytest.mark.slow

ROWS, KILLS, CONCURRENCY = 2000, 20, 64


def say(body: dict) -> str:
    asked = body["messages"][-1]["content"]
    return "9 3\nbecause" if asked.startswith("Two assistants") else f"A response to: {asked}"


def stage(url: str, place: Path, signs=None):
    """2,000 rows answered and judged, as notebook 2 does it."""
    rows = records.build({"instruction": f"Question {i}", "student_response": "no"} for i in range(ROWS))
    oracle = LLMOracle(Endpoint(Model("m", url, concurrency=CONCURRENCY), Ledger(place)))
    if signs:
        signs.send("asking")
    return oracle.score(oracle.answer(rows))


def test_a_stage_killed_twenty_times_ends_whole_and_asks_hardly_more_than_it_needs(tmp_path):
    place, rng, fresh = tmp_path / "ledger.sqlite", Random(20), multiprocessing.get_context("forkserver")
    fresh.set_forkserver_preload(["lib.oracle.llm", "test_killed_calls"])
    with ChatServer(say) as server:
        server.delay_s = 0.1  # some 6,000 calls, 64 at once: ten seconds and more without the kills
        for _ in range(KILLS):
            ours, theirs = fresh.Pipe()
            process = fresh.Process(target=stage, args=(server.url, place, theirs))
            process.start()
            assert ours.recv() == "asking"
            before = sum(server.asked.values())
            while sum(server.asked.values()) == before:  # a busy machine takes its time
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 0.4))
            process.kill()
            process.join()
            assert process.exitcode == -signal.SIGKILL, "the stage ended before it was killed"
        rows = stage(server.url, place)
        requests = sum(server.asked.values())
    assert rows["oracle_response"][:] == [f"A response to: Question {i}" for i in range(ROWS)]
    assert set(rows["oracle_score"]) == {6.0}
    assert 3 * ROWS < requests <= 3 * ROWS + KILLS * CONCURRENCY
    assert list(Ledger(place, read_only=True).faults()) == []
