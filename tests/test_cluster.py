"""The nodes of a Ray cluster answer and call: one is killed, one prompt is poison, and at the end nothing is missing."""

import asyncio
import contextlib
import os
import signal
import time
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from chat_server import ChatServer

from lib import settings, student
from lib.errors import UserError
from lib.oracle import prices
from lib.oracle.chat import Endpoint, OverBudget, Request
from lib.oracle.ledger import Ledger

os.environ.update(settings.RAY)
pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[scale]'")

STUDENT = Path(__file__).parents[1] / "lib/gym/student"
PROMPTS = [[{"role": "user", "content": f"{'long ' * (i % 7)}question {i}"}] for i in range(24)]
HOW = {"samples": 2, "temperature": 0.7, "max_new_tokens": 24, "batch_size": 2}
# a node without all that it can do without: every process of it imports Ray for seconds
SMALL = {"object_store_memory": 100_000_000, "include_dashboard": False}
SMALL |= {"include_log_monitor": False, "no_monitor": True}


@pytest.fixture(scope="module")
def local():
    return student.answer(student.load(STUDENT), PROMPTS, **HOW)


def spread(**how) -> student.Spread:
    return student.choose(STUDENT, "ray", **how)


@pytest.fixture
def ledger(tmp_path):
    opened = Ledger(tmp_path / "ledger.sqlite")
    yield opened
    opened.close()


def asking(n: int) -> list[Request]:
    return [Request([{"role": "user", "content": f"question {i}"}], "test") for i in range(n)]


def echo(body: dict) -> str:
    return "You said: " + body["messages"][-1]["content"]


def endpoint(server: ChatServer, ledger: Ledger, **how) -> Endpoint:
    return Endpoint("a-model", ledger, server.url, "a run", engine="ray", **{"timeout_s": 5, **how})


# A Ray of its own


@pytest.mark.slow  # a minute, most of it Ray's start
def test_where_no_cluster_is_named_one_is_started_here_and_nothing_else_changes(local, ledger, monkeypatch):
    from lib import cluster

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    try:
        assert student.answer(spread(actors=1), PROMPTS, **HOW) == local
        with ChatServer(echo) as server:
            (reply,) = endpoint(server, ledger).chat(asking(1))
        assert reply.text == "You said: question 0" and len(list(ledger.rows())) == 1
    finally:
        cluster.ray.shutdown()


# A cluster


def patiently(start):
    """Ray gives its own processes 30 s to start, which a busy machine may not keep."""
    for _ in range(2):
        with contextlib.suppress(Exception):
            return start()
    return start()


class Nodes:
    """A cluster of two, of which one can be killed and comes back for the next test."""

    def __init__(self, cluster):
        self.cluster, self.second = cluster, None

    def both(self) -> None:
        own = {"num_cpus": 1, "resources": {"second": 1}}
        self.second = self.second or patiently(lambda: self.cluster.add_node(**own, **SMALL))

    def kill_one(self) -> None:
        self.cluster.remove_node(self.second, allow_graceful=False)
        self.second = None


@pytest.fixture(scope="module")
def started():
    from ray.cluster_utils import Cluster

    from lib import cluster as ours

    os.environ["KEY_OF_A_NODE"] = "sk-a-secret"  # set there when Ray was started
    cluster = patiently(lambda: Cluster(initialize_head=True, head_node_args={"num_cpus": 1, **SMALL}))
    os.environ["RAY_ADDRESS"] = cluster.address
    ours.join()
    yield Nodes(cluster)
    del os.environ["RAY_ADDRESS"], os.environ["KEY_OF_A_NODE"]
    ours.ray.shutdown()
    cluster.shutdown()


@pytest.fixture
def nodes(started):
    started.both()
    return started


# Responses of the student


@pytest.mark.slow
def test_a_node_is_killed_midway_and_the_replies_are_those_of_a_student_loaded_here(
    nodes, local, tmp_path, monkeypatch
):
    from lib import cluster

    class Together(cluster.Answering):
        """Answers once the other node does, too."""

        def __call__(self, row: dict) -> dict:
            (tmp_path / cluster.ray.get_runtime_context().get_node_id()).touch()
            until = time.monotonic() + 120
            while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < until:
                time.sleep(0.1)
            return super().__call__(row)

    monkeypatch.setattr(cluster, "Answering", Together)
    seen = []

    def report(done: int, total: int) -> None:
        seen.append(done)
        if len(seen) == 3:
            nodes.kill_one()

    replies = student.answer(spread(), PROMPTS, report=report, **HOW)
    assert not nodes.second and seen == list(range(2, 25, 2))
    assert replies == local


@pytest.mark.slow
def test_a_poisoned_prompt_costs_its_batch_alone_and_the_same_call_asks_for_that_alone(
    nodes, local, tmp_path, monkeypatch
):
    from lib import cluster

    asked, made = [], cluster._asked
    monkeypatch.setattr(
        cluster, "_asked", lambda who, left, how: asked.append(len(left)) or made(who, left, how)
    )
    poison = PROMPTS[7][0]["content"].replace("q", "\ud800")  # half a character: no tokenizer takes it
    prompts = [*PROMPTS[:7], [{"role": "user", "content": poison}], *PROMPTS[8:]]
    for _ in range(2):
        with pytest.raises(
            UserError, match=r"1 of \d+ batches \(2 prompts\) could not be answered, .*: TypeError"
        ):
            student.answer(spread(), prompts, folder=tmp_path, **HOW)
    assert student.answer(spread(), PROMPTS, folder=tmp_path, **HOW) == local
    assert asked == [12, 1, 1, 1, 1] and len(list(tmp_path.iterdir())) == 12  # what fails, twice


@pytest.mark.slow
def test_a_batch_that_kills_whoever_is_asked_is_given_up_and_the_others_are_answered(nodes, monkeypatch):
    from lib import cluster

    class Deadly(cluster.Answering):
        def __call__(self, row: dict) -> dict:
            if row["number"] == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().__call__(row)

    monkeypatch.setattr(cluster, "Answering", Deadly)
    seen = []
    with pytest.raises(UserError, match=r"1 of 12 batches .*: whoever was asked for it died"):
        student.answer(spread(), PROMPTS, report=lambda *done: seen.append(done), **HOW)
    assert seen[-1] == (22, 24)


@pytest.mark.slow
def test_a_process_whose_device_is_lost_ends_and_another_one_answers(nodes, local, tmp_path, monkeypatch):
    from lib import cluster

    class AcceleratorError(RuntimeError):
        """As CUDA's: once raised, every further call in that process fails, too."""

    class Sick(cluster.Answering):
        def __init__(self, *given):
            super().__init__(*given)
            whole, lost = self.answer, []

            def answer(batch, how):
                with contextlib.suppress(FileExistsError):  # the first process that is asked
                    (tmp_path / "lost").touch(exist_ok=False)
                    lost.append(True)
                if lost:
                    raise AcceleratorError("an illegal memory access was encountered")
                time.sleep(1)  # so that the sick one is asked again
                return whole(batch, how)

            self.answer = answer

    def noted(*given):
        for row in asked(*given):
            failures.extend([row["failed"]] if row["failed"] else [])
            yield row

    asked, failures = cluster._asked, []
    monkeypatch.setattr(cluster, "_asked", noted)
    monkeypatch.setattr(cluster, "Answering", Sick)
    assert student.answer(spread(), PROMPTS, **HOW) == local
    assert failures == ["AcceleratorError: an illegal memory access was encountered"]


@pytest.mark.slow
def test_where_all_batches_fail_the_rest_is_not_asked_and_it_is_said_why(nodes, monkeypatch):
    from lib import cluster

    class Failing(cluster.Answering):
        def __call__(self, row: dict) -> dict:
            self.answer = None
            return super().__call__(row)

    monkeypatch.setattr(cluster, "Answering", Failing)
    monkeypatch.setattr(cluster, "SICK", 3)
    with pytest.raises(UserError, match="3 batches in a row could not be answered, the last for: TypeError"):
        student.answer(spread(), PROMPTS, **HOW)


@pytest.mark.slow
def test_where_the_last_node_that_could_answer_is_gone_it_is_said_and_what_came_is_kept(
    nodes, local, tmp_path, monkeypatch
):
    from lib import cluster

    monkeypatch.setattr(cluster, "LOOK_S", 0.5)
    monkeypatch.setattr(cluster, "GONE_S", 3)
    with monkeypatch.context() as on_the_second:
        on_the_second.setattr(cluster, "_pool", lambda n: (1, {"num_cpus": 1, "resources": {"second": 1}}))
        with pytest.raises(
            UserError, match="no node .* is left that could answer. What was answered is kept"
        ):
            student.answer(
                spread(),
                PROMPTS,
                folder=tmp_path,
                report=lambda *done: nodes.second and nodes.kill_one(),
                **HOW,
            )
    assert 0 < len(list(tmp_path.iterdir())) < 12
    assert student.answer(spread(), PROMPTS, folder=tmp_path, **HOW) == local


@pytest.mark.slow
def test_a_node_that_lacks_the_student_says_so(nodes, tmp_path):
    asked = spread()._replace(place=str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="the node .* cannot load the student: the student folder .*nowhere"):
        student.answer(asked, PROMPTS, **HOW)


@pytest.mark.slow
def test_a_prompt_without_room_is_not_asked(nodes):
    long = [{"role": "user", "content": "long " * 2000}]
    (reply,), (none,) = student.answer_fitting(spread(), [PROMPTS[0], long], max_new_tokens=8)
    assert reply.text and none.finish == "no room"


# Calls to the oracle


def holders(path: Path) -> set[int]:
    """The processes that hold this file open."""
    found = set()
    for fd in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            found |= {int(fd.parts[2])} if fd.readlink() == path else set()
    return found


@pytest.mark.slow
def test_nodes_make_the_calls_and_this_process_alone_holds_the_ledger(nodes, ledger):
    holding, callers = set(), set()

    def reply(body: dict) -> str:
        holding.update(holders(ledger.path))
        callers.update(connected(server.url))
        return echo(body)

    with ChatServer(reply) as server:
        server.delay_s = 0.05
        replies = endpoint(server, ledger, concurrency=4).chat(asking(20))
        assert [reply.text for reply in replies] == [f"You said: question {i}" for i in range(20)]
        assert len(list(ledger.rows())) == 20
        assert holding == {os.getpid()} and len(callers - {os.getpid()}) == 2
        before = set(callers)
        endpoint(server, ledger, concurrency=4).chat(asking(40))
        assert callers == before  # who was started for the first calls makes the others, too


def connected(url: str) -> set[int]:
    """The processes with a connection to this server."""
    port = urlsplit(url).port
    return {
        one.pid
        for one in psutil.net_connections("tcp")
        if one.raddr and one.raddr.port == port and one.status == "ESTABLISHED"
    }


@pytest.mark.slow
def test_a_node_is_killed_midway_and_only_its_calls_under_way_are_made_twice(nodes, ledger):
    with ChatServer(echo) as server:
        server.delay_s = 0.2
        asked = endpoint(server, ledger, concurrency=8)

        def report(done: int) -> None:
            if 20 <= done < 100 and nodes.second:
                nodes.kill_one()

        replies = asked.chat(asking(160), report)
        assert [reply.text for reply in replies] == [f"You said: question {i}" for i in range(160)]
        assert not nodes.second and asked.failed == 0 and len(list(ledger.rows())) == 160
        assert sum(server.asked.values()) <= 160 + 8
        assert asked.chat(asking(160)) == replies and sum(server.asked.values()) <= 160 + 8


@pytest.mark.slow
def test_the_budget_stops_nodes_within_the_calls_in_flight(nodes, ledger, monkeypatch):
    monkeypatch.setattr(prices, "of", lambda model: prices.Price(50_000, 100_000))  # USD 1 a call
    with ChatServer(echo) as server, pytest.raises(OverBudget):
        endpoint(server, ledger, concurrency=4, budget_usd=10).chat(asking(60))
    assert 10 <= len(list(ledger.rows())) <= 10 + 4


@pytest.mark.slow
def test_a_call_that_fails_on_a_node_is_counted_and_not_stored(nodes, ledger, monkeypatch):
    fault = lambda body, nth: "500" if body["messages"][0]["content"] == "question 1" else None  # noqa: E731
    with ChatServer(echo, fault) as server:
        asked = endpoint(server, ledger, tries=2)
        replies = asked.chat(asking(3))
        assert [reply.text is None for reply in replies] == [False, True, False]
        assert "500" in replies[1].finish
        assert asked.failed == 1 and len(list(ledger.rows())) == 2
        server.fault = lambda body, nth: None
        assert asked.chat(asking(3))[1].text == "You said: question 1"


@pytest.mark.slow
def test_a_call_that_brings_nothing_back_is_made_once_more_by_another_node(nodes, ledger):
    dropped = lambda body, nth: "dropped" if nth == 1 and "question 1" in str(body) else None  # noqa: E731
    with ChatServer(echo, dropped) as server:
        asked = endpoint(server, ledger, tries=1)
        replies = asked.chat(asking(20))
        assert [reply.text for reply in replies] == [f"You said: question {i}" for i in range(20)]
        assert asked.failed == 0 and sum(server.asked.values()) == 20 + 11  # 1 and 10 to 19


@pytest.mark.slow
def test_where_no_node_can_call_it_is_said_why(nodes, ledger, monkeypatch):
    from lib.oracle import nodes as callers

    class Lacking(callers.Caller):
        def __init__(self, *how):
            raise ModuleNotFoundError("No module named 'openai'")

    monkeypatch.setattr(callers, "Caller", Lacking)
    with (
        ChatServer(echo) as server,
        pytest.warns(UserWarning, match="the node .* makes no calls"),
        pytest.raises(UserError, match="no node .* is left to make calls .*No module named 'openai'"),
    ):
        endpoint(server, ledger).chat(asking(3))


@pytest.mark.slow
def test_calls_that_nobody_waits_for_any_more_end_at_the_nodes_too(nodes, ledger):
    from lib.oracle.nodes import Callers

    async def interrupted(url: str) -> None:
        async with Callers(url, "NO_KEY", 4, 60, 6) as callers:
            body = {"model": "m", "messages": [{"role": "user", "content": "a"}]}
            calls = [asyncio.create_task(callers.post("", body, dict)) for _ in range(4)]
            await asyncio.sleep(5)
            assert server.running == 4
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)

    with ChatServer(echo, lambda body, nth: "hang") as server:
        asyncio.run(interrupted(server.url))
        until = time.monotonic() + 20
        while server.running and time.monotonic() < until:
            time.sleep(0.1)
        assert not server.running and sum(server.asked.values()) == 4


@pytest.mark.slow
def test_a_refused_key_ends_the_calls_and_is_not_shown(nodes, ledger, monkeypatch):
    monkeypatch.delenv("KEY_OF_A_NODE")  # this process has none
    with ChatServer(echo, lambda body, nth: "401") as server:
        with pytest.raises(UserError, match=f"{server.url} refuses a-model") as error:
            endpoint(server, ledger, concurrency=1, key_from="KEY_OF_A_NODE").chat(asking(30))
        assert sum(server.asked.values()) == 1
    assert "no: Bearer" in str(error.value) and "sk-a-secret" not in str(error.value)
