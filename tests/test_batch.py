"""Calls by the Batch API: collected whatever happens in between, and never ordered twice."""

import json
import multiprocessing
import os
import signal
import threading
import time

import pytest
from batch_server import BatchServer
from chat_server import ChatServer
from test_chat import DOLLAR, Asked, asking, echo, endpoint

from lib import files
from lib.errors import UserError
from lib.models import batch, paid
from lib.models.catalog import Model
from lib.models.ledger import Ledger
from lib.models.types import SamplingParams


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("A_KEY", "sk-of-the-batches")


def by_batch(server, ledger, **options):
    return endpoint(server, ledger, batch=True, poll_s=0.01, **options)


def pending(backend):
    return paid.pending(backend, asking(1)[0], {"max_tokens": 5}, "test", 9)


def test_replies_come_in_the_order_of_the_requests_and_are_kept(ledger):
    with BatchServer(echo) as server:
        backend = by_batch(server, ledger)
        replies = backend.chat(asking(50))
        assert [reply.text for reply in replies] == [f"You said: question {i}" for i in range(50)]
        assert (backend.sent, backend.cached, backend.failures) == (50, 0, {})
        assert backend.chat(asking(50)) == replies and len(server.batches) == 1
        assert endpoint(server, ledger).chat(asking(50)) == replies and not server.bodies  # the same calls


def test_few_calls_are_made_at_once(ledger):
    with BatchServer(echo) as server:
        assert by_batch(server, ledger).chat(asking(3))[2].text == "You said: question 2"
        assert len(server.bodies) == 3 and not server.batches


def test_many_calls_are_several_batches_under_way_at_once(ledger, monkeypatch):
    monkeypatch.setattr(batch, "FILE_CALLS", 30)
    with BatchServer(echo, polls=5) as server:
        assert len(by_batch(server, ledger).chat(asking(100))) == 100
        files = [server.files[each["input_file_id"]] for each in server.batches.values()]
        assert [len(file.splitlines()) for file in files] == [30, 30, 30, 10]


def test_a_call_costs_half(ledger):
    with BatchServer(echo) as server:
        by_batch(server, ledger, price=DOLLAR).chat(asking(40))
    assert ledger.spent("a run") == 20


def test_a_batch_that_could_exceed_the_budget_is_not_ordered(ledger):
    params = SamplingParams(max_tokens=10)  # at most a dollar each, in a batch
    with BatchServer(echo) as server:
        with pytest.raises(UserError, match="budget_usd=30: .*may cost USD 40.00"):
            by_batch(server, ledger, price=DOLLAR, budget_usd=30).chat(asking(40), params=params)
        assert not server.batches and ledger.spent("a run") == 0
        by_batch(server, ledger, price=DOLLAR, budget_usd=41).chat(asking(40), params=params)
    assert ledger.spent("a run") == 20  # they used half of what they might


def test_what_a_batch_might_have_cost_is_free_again_once_it_is_collected(ledger, monkeypatch):
    monkeypatch.setattr(batch, "FILE_CALLS", 20)
    params = SamplingParams(max_tokens=10)  # 20 dollars a batch, at most
    with BatchServer(echo) as server:
        with pytest.raises(UserError, match="budget_usd=30"):
            by_batch(server, ledger, price=DOLLAR, budget_usd=30).chat(asking(40), params=params)
        assert len(server.batches) == 1 and ledger.spent("a run") == 10 and ledger.under_way() == 0
        again = by_batch(server, ledger, price=DOLLAR, budget_usd=30)
        assert len(again.chat(asking(40), params=params)) == 40


def test_a_call_without_a_result_is_counted_and_asked_again_by_the_next_start(ledger):
    with BatchServer(echo) as server:
        server.lost = lambda body: "question 7" in body["messages"][0]["content"]
        backend = by_batch(server, ledger)
        replies = backend.chat(asking(40))
        assert [i for i, reply in enumerate(replies) if reply.failed] == [7] and backend.failures.total() == 1
        server.lost = lambda body: False
        assert by_batch(server, ledger).chat(asking(40))[7].text == "You said: question 7"
    # the one call left was made at once, so counted twice
    assert sum(server.counts.values()) + len(server.bodies) == 42


def test_an_unusable_result_is_paid_counted_by_its_cause_and_not_stored(ledger):
    half = {"choices": [{"message": {"content": "half"}, "finish_reason": "error"}]}
    with BatchServer(lambda body: half if "question 7" in str(body) else "yes") as server:
        backend = by_batch(server, ledger, price=DOLLAR)
        replies = backend.chat(asking(40))
    assert [i for i, reply in enumerate(replies) if reply.failed] == [7]
    assert "the reply ended with 'error'" in replies[7].finish_reason and backend.failures.total() == 1
    assert len(list(ledger.rows())) == 39 and ledger.spent("a run") == 20


def test_a_batch_that_is_refused_says_why_and_leaves_nothing_behind(ledger):
    with BatchServer(echo, status="failed") as server:
        with pytest.raises(UserError, match="refuses the batch batch-2: your limit of calls is reached"):
            by_batch(server, ledger).chat(asking(40))
        server.status = "completed"
        assert len(by_batch(server, ledger).chat(asking(40))) == 40


def test_a_server_without_the_batch_api_is_named(ledger):
    with (
        ChatServer(echo) as server,
        pytest.raises(UserError, match="the Batch API of .* fails: .*remove batch from"),
    ):
        by_batch(server, ledger, tries=1).chat(asking(40))


def order(url: str, file, questions: int, poll_s: float) -> None:
    backend = Asked(Model("a-model", url, batch=True), Ledger(file), "a run", poll_s=poll_s)
    backend.chat(asking(questions))


def killed(server: BatchServer, file, at_once: bool) -> Ledger:
    """The ledger of a process that ordered 40 calls and was killed while its batch was made, or under way."""
    process = multiprocessing.get_context("spawn").Process(target=order, args=(server.url, file, 40, 0.01))
    server.polls = 1_000_000
    if at_once:
        server.on_batch = lambda: os.kill(process.pid, signal.SIGKILL)
    process.start()
    while process.is_alive() and not any(b["looks"] > 3 for b in server.batches.values()):
        time.sleep(0.01)
    process.kill()
    process.join()
    server.on_batch, server.polls = lambda: None, 2
    return Ledger(file)


@pytest.mark.parametrize("at_once", [True, False])
def test_killed_at_any_moment_a_batch_is_collected_and_not_ordered_again(tmp_path, at_once):
    with BatchServer(echo) as server:
        again = killed(server, tmp_path / "killed.sqlite", at_once)
        assert len(by_batch(server, again).chat(asking(10))) == 10  # though so few would be asked at once
        replies = by_batch(server, again).chat(asking(60))  # 20 more than before
        again.close()
        assert [reply.text for reply in replies] == [f"You said: question {i}" for i in range(60)]
        assert len(server.batches) == 2 and set(server.counts.values()) == {1}


def test_a_bad_line_among_the_results_costs_only_itself(ledger):
    def results(lines):
        half = json.loads(lines[3])
        half["response"]["body"]["choices"][0]["message"]["content"] = "\ud83d"
        strange = ["[1]", "{}", '{"custom_id": "nobody", "response": null}', lines[1][:-30], "\udcff"]
        no_usage = lines[2].replace('"usage": {', '"usage": 5, "x": {')
        return [lines[0], *strange, no_usage, json.dumps(half), *lines[4:]]

    with BatchServer(echo) as server:
        server.results = results
        replies = by_batch(server, ledger).chat(asking(40))
        assert [i for i, reply in enumerate(replies) if reply.failed] == [1]
        assert replies[3].text == "\ufffd" and len(list(ledger.rows())) == 39 and not ledger.under_way()


def test_what_is_under_way_is_collected_and_not_paid_again_though_batches_are_given_up(tmp_path):
    with BatchServer(echo) as server:
        again = killed(server, tmp_path / "killed.sqlite", at_once=False)
        assert len(endpoint(server, again, poll_s=0.01).chat(asking(45))) == 45
        assert set(server.counts.values()) == {1} and len(server.batches) == 1
        assert again.under_way() == 0


def test_an_endpoint_that_is_out_of_reach_for_a_while_ends_no_batch(ledger):
    with BatchServer(echo, polls=10) as server:
        threading.Timer(0.1, setattr, (server, "down", True)).start()
        threading.Timer(1.0, setattr, (server, "down", False)).start()
        assert len(by_batch(server, ledger, tries=1).chat(asking(40))) == 40


def test_a_batch_that_is_gone_is_forgotten(ledger):
    with BatchServer(echo) as server:
        server.on_batch = server.batches.clear
        with pytest.raises(UserError, match="no such batch"):
            by_batch(server, ledger).chat(asking(40))
        server.on_batch = lambda: None
        assert len(by_batch(server, ledger).chat(asking(40))) == 40


def test_a_batch_that_was_never_made_is_ordered_anew(ledger):
    with BatchServer(echo) as server:
        backend = by_batch(server, ledger)
        ledger.order("a token", server.url, [pending(backend)])
        backend.chat(asking(40))
        assert not ledger.nameless(server.url) and len(server.batches) == 1


def test_a_batch_that_another_process_is_having_made_is_not_forgotten(ledger, monkeypatch):
    monkeypatch.setattr(batch, "ORDERING_S", 0)
    with BatchServer(echo) as server:
        backend = by_batch(server, ledger)
        with files.lock(ledger.path.with_name("ledger.sqlite-ordering")):
            ledger.order("a token", server.url, [pending(backend)])
            with pytest.raises(UserError, match=f"in use by process {os.getpid()}"):
                backend.chat(asking(40))
        assert ledger.nameless(server.url) == {"a token"} and not server.batches
