"""Ctrl-C during oracle calls, in a notebook and in a terminal: it stops soon, keeps what was answered, and goes on."""

import signal
import subprocess
import sys
import time

import pytest
from chat_server import ChatServer
from jupyter_client.manager import KernelManager

from lib.models.ledger import Ledger

SOON_S = 2.0
CODE = """
from lib import models
from lib.models.types import SamplingParams
asked = models.connect("m@" + {url!r}, {place!r}, concurrency=8)
print("asking", flush=True)
prompts = [[{{"role": "user", "content": str(i)}}] for i in range({calls})]
replies = asked.generate(prompts, SamplingParams())
print(len(replies), "answered", flush=True)
"""
CALLS = 2000


@pytest.fixture
def server():
    with ChatServer(lambda body: "yes") as made:
        made.delay_s = 0.05  # 2,000 calls, 8 at once: 12 seconds
        yield made


def stored(place) -> int:
    return len(list(Ledger(place, read_only=True).rows()))


def test_in_a_terminal(server, tmp_path):
    place = tmp_path / "ledger.sqlite"
    words = [sys.executable, "-c", CODE.format(place=str(place), url=server.url, calls=CALLS)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "asking\n"
    time.sleep(1)
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert time.monotonic() - started < SOON_S and "KeyboardInterrupt" in said
    assert 0 < stored(place) < CALLS and sum(server.counts.values()) <= stored(place) + 8
    server.delay_s = 0
    assert f"{CALLS} answered" in subprocess.run(words, capture_output=True, text=True).stdout
    assert sum(server.counts.values()) <= CALLS + 8


def test_in_a_notebook(server, tmp_path):
    place, kernel = tmp_path / "ledger.sqlite", KernelManager()
    kernel.start_kernel()
    client = kernel.blocking_client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        # with stop_on_error a kernel gives up what comes right behind an error
        client.execute(CODE.format(place=str(place), url=server.url, calls=CALLS), stop_on_error=False)
        while sum(server.counts.values()) < 50:
            time.sleep(0.05)
        started = time.monotonic()
        kernel.interrupt_kernel()
        reply = client.get_shell_msg(timeout=60)["content"]
        assert time.monotonic() - started < SOON_S and reply["ename"] == "KeyboardInterrupt"
        before = stored(place)
        assert 0 < before < CALLS and sum(server.counts.values()) <= before + 8
        server.delay_s = 0
        client.execute(f"assert len(asked.generate(prompts, SamplingParams())) == {CALLS}")
        assert client.get_shell_msg(timeout=60)["content"]["status"] == "ok"  # the same kernel goes on
        assert sum(server.counts.values()) <= CALLS + 8
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)
