"""What a stage costs whose calls are all in the ledger: `python -m bench ledger`."""

import tempfile
import time
from pathlib import Path

import chat_server
from bench import local
from bench.lines import alone

from lib.models import paid
from lib.models.catalog import Model
from lib.models.ledger import Ledger
from lib.models.server import ServerBackend
from lib.models.types import Completion, SamplingParams

CALLS, AT_A_TIME, MOST_S = 100_000, 10_000, 10
SAMPLING = SamplingParams()
URL = "http://localhost:1/v1"  # nobody is asked there


def measure() -> list[dict]:
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / "full.sqlite")
        endpoint = ServerBackend(Model("m", URL), ledger, ledger_only=True)
        requests = local.requests(CALLS, "full")
        fill(endpoint, requests, 2 * local.REPLY)
        started = time.perf_counter()
        replies = endpoint.generate(requests, SAMPLING, purpose="judge")
        took = time.perf_counter() - started
        ledger.close()
    assert {reply.text for (reply,) in replies} == {2 * local.REPLY}
    return [alone(f"a stage over {CALLS:,} calls that the ledger holds", "s", took, MOST_S)]


def fill(endpoint: ServerBackend, requests: list, reply: str) -> None:
    """Store calls with this reply, as the endpoint itself would."""
    response = chat_server.completion({"model": "m"}, reply, "stop")
    for start in range(0, len(requests), AT_A_TIME):
        some = requests[start : start + AT_A_TIME]
        sampling = {"temperature": SAMPLING.temperature, "max_tokens": SAMPLING.max_tokens}
        calls = (paid.pending(endpoint, prompt, sampling, "judge", 1) for prompt in some)
        endpoint.ledger.store(
            paid.answered_call(endpoint, call, response, Completion(reply)) for call in calls
        )
