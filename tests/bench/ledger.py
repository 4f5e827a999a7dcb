"""What a stage costs whose calls are all in the ledger: `python -m bench ledger`."""

import tempfile
import time
from pathlib import Path

import chat_server
from bench import local
from bench.lines import alone

from lib.models.catalog import Model
from lib.models.chat import Endpoint
from lib.models.ledger import Ledger, key

CALLS, AT_A_TIME, MOST_S = 100_000, 10_000, 10
URL = "http://localhost:1/v1"  # nobody is asked there


def measure() -> list[dict]:
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / "full.sqlite")
        endpoint = Endpoint(Model("m", URL), ledger, ledger_only=True)
        requests = local.requests(CALLS, "full")
        fill(endpoint, requests, 2 * local.REPLY)
        started = time.perf_counter()
        replies = endpoint.chat(requests)
        took = time.perf_counter() - started
        ledger.close()
    assert {reply.text for reply in replies} == {2 * local.REPLY}
    return [alone(f"a stage over {CALLS:,} calls that the ledger holds", "s", took, MOST_S)]


def fill(endpoint: Endpoint, requests: list, reply: str) -> None:
    """Store calls with this reply, as the endpoint itself would."""
    response = chat_server.completion({"model": "m"}, reply, "stop")
    for start in range(0, len(requests), AT_A_TIME):
        some = requests[start : start + AT_A_TIME]
        calls = (endpoint.pending(key("m", endpoint.content(request)), request) for request in some)
        endpoint.ledger.store(endpoint.answer(call, response)[0] for call in calls)
