"""A server that both runs of a test ask, and an undisturbed run that several tests hold theirs against."""

import asyncio

import pytest
import small
from chat_server import ChatServer


class Server(ChatServer):
    """A chat server that, while it is `held`, answers nobody."""

    held = False
    waiting = False  # whether somebody asked meanwhile

    async def _answer(self, request):
        while self.held:
            self.waiting = True
            await asyncio.sleep(0.05)
        return await super()._answer(request)


@pytest.fixture(scope="session")
def serving():
    with Server(small.ORACLE) as server:
        yield server


@pytest.fixture(autouse=True)
def nothing_runs_on():
    yield
    while small.started:
        small.kill(small.family(small.started.pop()))


@pytest.fixture
def server(serving):
    """As if it had been asked nothing yet."""
    serving.counts.clear()
    serving.held, serving.waiting, serving.delay_s = False, False, 0.0
    return serving


@pytest.fixture(scope="session")
def judged(serving, tmp_path_factory):
    """An undisturbed run of the stages that ask the oracle; to be copied, not changed."""
    run = small.Place(tmp_path_factory.mktemp("judged"), serving.url, small.JUDGED)
    serving.held, before = False, serving.counts.total()
    run.finish()
    run.calls = serving.counts.total() - before
    return run
