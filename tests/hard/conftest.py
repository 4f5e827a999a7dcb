"""A server that all runs of a test ask, and an end for whatever a failed test leaves behind."""

import pytest
import small
from chat_server import ChatServer


@pytest.fixture
def server():
    with ChatServer(small.ORACLE) as started_server:
        yield started_server


@pytest.fixture(autouse=True)
def nothing_runs_on():
    yield
    while small.started:
        small.kill(small.family(small.started.pop()))
