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
endpoint = models.connect("m@" + {url!r}, {path!r}, concurrency=8)
print("asking", flush=True)
prompts = [[{{"role": "user", "content": str(i)}}] for i in range({calls})]
replies = endpoint.generate(prompts, SamplingParams())
print(len(replies), "answered", flush=True)
"""
CALLS = 600


@pytest.fixture
def server():
    with ChatServer(lambda body: "yes") as started_server:
        started_server.delay_s = 0.15  # 600 calls, 8 at once: 11 seconds
        yield started_server


def stored(path) -> int:
    return len(list(Ledger(path, read_only=True).rows()))


def test_in_a_terminal(server, tmp_path):
    path = tmp_path / "ledger.sqlite"
    words = [sys.executable, "-c", CODE.format(path=str(path), url=server.url, calls=CALLS)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "asking\n"
    time.sleep(1)
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, complaint = process.communicate()
    assert time.monotonic() - started < SOON_S and "KeyboardInterrupt" in complaint
    assert 0 < stored(path) < CALLS and sum(server.counts.values()) <= stored(path) + 8
    server.delay_s = 0
    assert f"{CALLS} answered" in subprocess.run(words, capture_output=True, text=True).stdout
    assert sum(server.counts.values()) <= CALLS + 8


def test_in_a_notebook(server, tmp_path):
    path, kernel = tmp_path / "ledger.sqlite", KernelManager()
    kernel.start_kernel()
    client = kernel.blocking_client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        # with stop_on_error a kernel gives up what comes right behind an error
        client.execute(CODE.format(path=str(path), url=server.url, calls=CALLS), stop_on_error=False)
        while sum(server.counts.values()) < 20:
            time.sleep(0.05)
        started = time.monotonic()
        kernel.interrupt_kernel()
        reply = client.get_shell_msg(timeout=60)["content"]
        assert time.monotonic() - started < SOON_S and reply["ename"] == "KeyboardInterrupt"
        before = stored(path)
        assert 0 < before < CALLS and sum(server.counts.values()) <= before + 8
        server.delay_s = 0
        client.execute(f"assert len(endpoint.generate(prompts, SamplingParams())) == {CALLS}")
        assert client.get_shell_msg(timeout=60)["content"]["status"] == "ok"  # the same kernel goes on
        assert sum(server.counts.values()) <= CALLS + 8
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)
