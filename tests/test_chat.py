"""Every call is answered once, kept, and never asked for again, whatever the server does."""

import contextlib
import json
import time
from datetime import date, timedelta
from random import Random

import pytest
from chat_server import ChatServer, reply_of

from lib.errors import UserError
from lib.models import catalog, paid
from lib.models.calls import masked
from lib.models.catalog import Model
from lib.models.completions import Unusable
from lib.models.ledger import Ledger
from lib.models.server import ServerBackend
from lib.models.types import Completion, SamplingParams

FAULTS = ["429", "500", "503", "hang", "dropped", "truncated", "html"]
KEY = "sk-a-secret-that-nobody-may-see"


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("A_KEY", KEY)


def echo(body: dict) -> str:
    return "You said: " + body["messages"][-1]["content"]


def asking(n: int) -> list[list[dict]]:
    return [[{"role": "user", "content": f"question {i}"}] for i in range(n)]


PARAMS = SamplingParams(max_tokens=4096)


class Asked(ServerBackend):
    """A backend that is asked for one completion of each prompt."""

    def chat(self, prompts, report=None, params=PARAMS, **options) -> list[Completion]:
        report = report and (lambda done, total, count=report: count(done))
        answers = self.generate(prompts, params, report, **{"purpose": "test", **options})
        return [completion for (completion,) in answers]


ENTRY = ("price", "timeout_s", "batch", "requests_per_minute", "tokens_per_minute", "limit", "temperature")
DOLLAR = (0, 1_000_000 / 5)  # the price of a model whose replies of five tokens cost a dollar each


def endpoint(server: ChatServer, ledger: Ledger, **options) -> Asked:
    entry = {name: options.pop(name) for name in ENTRY if name in options}
    model = Model("a-model", server.url, key="A_KEY", **{"timeout_s": 5, **entry})
    return Asked(model, ledger, "a run", **options)


def test_replies_come_in_the_order_of_the_requests_of_which_no_more_run_at_once_than_allowed(ledger):
    with ChatServer(echo) as server:
        server.delay_s = 0.02
        replies = endpoint(server, ledger, concurrency=7).chat(asking(50))
        assert server.most == 7
    assert [reply.text for reply in replies] == [f"You said: question {i}" for i in range(50)]
    assert {reply.finish_reason for reply in replies} == {"stop"}


def test_a_stored_call_is_never_made_again_in_this_process_or_another(ledger, tmp_path):
    with ChatServer(echo) as server:
        first = endpoint(server, ledger).chat(asking(20))
        ledger.close()
        again = Ledger(tmp_path / "ledger.sqlite")
        backend = endpoint(server, again)
        assert backend.chat(asking(30))[:20] == first
        again.close()
        assert set(server.counts.values()) == {1} and len(server.counts) == 30
    assert (backend.sent, backend.cached) == (10, 20)


def test_equal_requests_are_one_call_and_another_attempt_is_another(ledger):
    with ChatServer(echo) as server:
        endpoint(server, ledger).chat(asking(1) * 3, attempts=[1, 1, 2])
        assert list(server.counts.values()) == [2]


def test_with_a_fifth_of_the_replies_faulty_every_row_is_answered_and_none_is_asked_again_once_stored(ledger):
    rng = Random(0)
    with ChatServer(echo, lambda body, nth: rng.choice(FAULTS) if rng.random() < 0.2 else None) as server:
        backend = endpoint(server, ledger, timeout_s=0.5, tries=8)
        replies = backend.chat(asking(300))
        before = sum(server.counts.values())
        assert backend.chat(asking(300)) == replies
        assert sum(server.counts.values()) == before
    assert [reply.text for reply in replies] == [f"You said: question {i}" for i in range(300)]


def test_a_call_that_fails_for_good_is_counted_and_not_stored(ledger):
    bad = "question 1"
    fault = lambda body, nth: "500" if body["messages"][0]["content"] == bad else None  # noqa: E731
    with ChatServer(echo, fault) as server:
        backend = endpoint(server, ledger, tries=2)
        replies = backend.chat(asking(3))
        assert [reply.failed for reply in replies] == [False, True, False]
        assert backend.failures.total() == 1 and len(list(ledger.rows())) == 2
        server.fault = lambda body, nth: None
        assert backend.chat(asking(3))[1].text == f"You said: {bad}"


STRANGE = {
    "half a surrogate pair": reply_of("Smile \ud83d"),
    "huge usage": reply_of("yes") | {"usage": {"prompt_tokens": 10**30, "completion_tokens": 1}},
    "negative usage": reply_of("yes") | {"usage": {"prompt_tokens": -5, "completion_tokens": -1}},
    "usage as a list": reply_of("yes") | {"usage": [1, 2]},
    "no usage": reply_of("yes") | {"usage": None},
    "no text": reply_of(None, "length"),
}


@pytest.mark.parametrize("kind", STRANGE)
def test_a_strange_but_whole_reply_is_stored_once_and_read_the_same_from_the_ledger(ledger, kind):
    with ChatServer(lambda body: STRANGE[kind]) as server:
        first = endpoint(server, ledger, price=(1, 1)).chat(asking(3))
        assert endpoint(server, ledger, price=(1, 1)).chat(asking(3)) == first
        assert sum(server.counts.values()) == 3
    assert not any(reply.failed for reply in first) and first[0].text.isascii() == ("half" not in kind)
    assert all(call.usd > 0 for call in ledger.rows())  # what the endpoint does not say is reckoned


UNUSABLE = {
    "half a text": (reply_of("half a te", "error"), "ended with 'error'"),
    "an error": ({"error": {"message": "the provider is down"}}, "the provider is down"),
    "thoughts alone": (
        reply_of(None, reasoning_content="hm"),
        "no text, its thoughts alone",
    ),
}


@pytest.mark.parametrize("kind", UNUSABLE)
def test_a_paid_reply_that_answers_nothing_fails_at_once_and_is_counted_and_never_stored(ledger, kind):
    payload, cause = UNUSABLE[kind]
    waiting = iter([payload])
    with ChatServer(lambda body: next(waiting, "yes")) as server:
        backend = endpoint(server, ledger, price=DOLLAR, concurrency=1, stage="a stage")
        replies = backend.chat(asking(3))
        assert [reply.text for reply in replies] == ["", "yes", "yes"] and cause in replies[0].finish_reason
        assert len(server.bodies) == 3 and len(list(ledger.rows())) == 2 and backend.failures.total() == 1
        assert backend.account()["oracle.usd"] == ledger.spent("a run") == 3
        assert backend.chat(asking(3))[0].text == "yes"  # the next start asks again
    assert [row[3:] for row in ledger.totals()] == [(3, 40, 20, 4.0)]


def test_an_error_that_cost_nothing_is_asked_again_as_one_of_http_is(ledger):
    waiting = iter([{"error": {"message": "overloaded"}, "choices": [], "usage": None}] * 2)
    with ChatServer(lambda body: next(waiting, "yes")) as server:
        assert endpoint(server, ledger).chat(asking(1))[0].text == "yes" and len(server.bodies) == 3


def test_what_unusable_replies_cost_counts_for_the_budget_of_the_run_in_every_start(ledger):
    with ChatServer(lambda body: "yes" if "question 0" in str(body) else reply_of("no", "abort")) as server:
        for _ in range(5):
            some = endpoint(server, ledger, price=DOLLAR, concurrency=1, budget_usd=10)
            with contextlib.suppress(UserError):
                some.chat(asking(4))
        assert len(server.bodies) == ledger.spent("a run") == 10


@pytest.mark.parametrize(
    "message, stops",
    [
        ("Unsupported parameter: 'max_tokens' is not supported with this model.", True),
        ("Unsupported value: 'temperature' does not support 0 with this model.", True),
        ("This model's maximum context length is 4096 tokens; reduce max_tokens.", False),
        ("I do not like this prompt.", False),
    ],
)
def test_a_parameter_that_the_model_refuses_ends_the_stage_at_once_with_the_way_out(ledger, message, stops):
    with ChatServer(echo, lambda body, nth: f"400 {message}") as server:
        with pytest.raises(UserError) as raised:
            endpoint(server, ledger, concurrency=2).chat(asking(200))
        assert (len(server.bodies) <= 2) == stops
    assert ("models probe a-model" in str(raised.value)) == stops


# Models


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "A_KEY"])
def test_a_server_of_ones_own_gets_no_key_whatever_the_environment_holds(ledger, monkeypatch, name):
    monkeypatch.setenv(name, KEY)
    with ChatServer(echo) as server:
        Asked(catalog.find(f"m@{server.url}"), ledger).chat(asking(1))
    assert server.keys == ["Bearer none"]


def test_a_model_is_asked_as_its_entry_says(ledger):
    with ChatServer(echo) as server:
        endpoint(server, ledger, limit="max_completion_tokens", temperature=False).chat(asking(1))
    assert server.bodies[0].keys() == {"model", "messages", "max_completion_tokens"}


def test_a_server_may_move_where_an_entry_names_it_and_its_calls_are_not_made_again(ledger):
    with ChatServer(echo) as first, ChatServer(echo) as second:
        replies = endpoint(first, ledger).chat(asking(3))
        assert endpoint(second, ledger).chat(asking(3)) == replies and not second.bodies
        Asked(catalog.find(f"a-model@{second.url}"), ledger).chat(asking(3))
        assert len(second.bodies) == 3  # another server of one's own may hold another model of the name


@pytest.fixture
def models(tmp_path, monkeypatch):
    """Write models.yaml with these entries."""

    def write(text: str) -> None:
        (tmp_path / "params").mkdir(exist_ok=True)
        (tmp_path / catalog.LIST).write_text(text)
        catalog.listed.cache_clear()

    monkeypatch.setattr(catalog.paths, "ROOT", tmp_path)
    yield write
    catalog.listed.cache_clear()


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{url: http://a/v1, prize: [1, 2]}", "m: there is no field prize. Did you mean price"),
        ("{url: http://a/v1, concurrency: 0}", "m: concurrency: Input should be greater than 0"),
        ("{url: http://a/v1, price: cheap}", "m: price"),
        ("{key: A_KEY}", "m: it has neither url nor, for a student, chat_template"),
    ],
)
def test_a_wrong_entry_is_named_with_its_field(models, entry, message):
    models(f"m: {entry}")
    with pytest.raises(UserError, match=message):
        catalog.find("m")


def test_a_model_that_is_not_listed_is_refused_with_the_nearest_and_the_way_out(models):
    models("big-model: {url: http://a/v1}\nother: {url: http://a/v1}")
    with pytest.raises(UserError, match=r"did you mean big-model\?\). Add an entry .* bigmodel@http://host"):
        catalog.find("bigmodel")


def test_a_student_has_the_template_of_its_entry_by_its_hub_name_or_folder_and_is_no_oracle(models, tmp_path):
    (tmp_path / "my/student").mkdir(parents=True)
    models("a/base: {chat_template: a.jinja}\nmy/student: {chat_template: b.jinja}\nm: {url: http://a/v1}")
    students = ("a/base", "a/base@http://b/v1", "my/student", "./my/student/", str(tmp_path / "my/student"))
    assert [catalog.chat_template(each)[:1] for each in students] == ["a", "a", "b", "b", "b"]
    assert catalog.chat_template("m") == catalog.chat_template("") == catalog.chat_template("a/other") == ""
    with pytest.raises(UserError, match=r"a/base: it is not in params/models.yaml"):
        catalog.find("a/base")


def test_a_model_is_offered_to_its_last_day_and_then_refused_with_what_to_take_instead(models):
    today = date.today()
    models(
        f"a: {{url: http://a/v1, retires: {today}}}\nb: {{url: http://a/v1}}\n"
        f"gone: {{url: http://a/v1, retires: {today - timedelta(days=1)}}}"
    )
    assert catalog.find_offered("a", None).name == "a"
    with pytest.raises(UserError, match="gone: it is no longer offered since .*Take a or b"):
        catalog.find_offered("gone", None)
    assert catalog.find_offered("gone", None, ledger_only=True)  # a ledger with its replies can be read


def test_a_key_that_is_not_set_is_named_before_anything_is_asked(models, monkeypatch):
    models("m: {url: http://a/v1, key: MY_KEY}")
    with pytest.raises(UserError, match="m: there is no key. Set MY_KEY"):
        catalog.find_offered("m", None)


def test_the_models_that_come_with_the_suite_can_be_read():
    assert {"gpt-4.1", "local"} <= catalog.listed().keys()
    assert not any(each.key for each in catalog.listed().values() if "openai.com" not in each.url)


@pytest.mark.parametrize("status", ["401", "404"])
def test_a_refused_key_or_model_stops_at_once_at_any_pace_without_showing_the_key(ledger, status):
    started, pace = time.monotonic(), {"requests_per_minute": 10, "tokens_per_minute": 10}
    with (
        ChatServer(echo, lambda body, nth: status) as server,
        pytest.raises(UserError, match="refuses a-model") as raised,
    ):
        endpoint(server, ledger, concurrency=16, **pace).chat(asking(50))
    assert len(server.counts) < 10 and KEY not in str(raised.value)
    assert time.monotonic() - started < 5


def test_a_server_that_is_down_stops_the_stage_and_says_how_to_go_on(ledger):
    with pytest.raises(UserError, match="calls in a row failed.*Start the same command again"):
        Asked(Model("m", "http://127.0.0.1:9/v1"), ledger, tries=1, concurrency=4).chat(asking(100))


def test_a_full_disk_stops_the_stage_and_what_was_stored_is_kept(ledger):
    ledger._db.execute("PRAGMA max_page_count = 20")  # SQLite then fails as on a full disk
    with ChatServer(echo) as server:
        with pytest.raises(UserError, match="cannot be written .*full"):
            endpoint(server, ledger, concurrency=4).chat(asking(200))
        before = len(list(ledger.rows()))
        assert 0 < before < 200
        ledger._db.execute("PRAGMA max_page_count = 1000000")
        assert len(endpoint(server, ledger).chat(asking(200))) == 200
        assert sum(server.counts.values()) <= 200 + 4


def test_the_budget_is_exceeded_by_the_calls_in_flight_at_most_and_all_of_them_are_kept(ledger):
    with ChatServer(echo) as server:
        server.delay_s = 0.01
        with pytest.raises(UserError, match="budget_usd=20: it is spent .* by the run a run"):
            endpoint(server, ledger, price=DOLLAR, concurrency=4, budget_usd=20).chat(asking(100))
        requests = sum(server.counts.values())
        assert 20 <= requests <= 24 and ledger.spent("a run") == requests
        with pytest.raises(UserError, match="budget_usd=20: it is spent"):
            endpoint(server, ledger, price=DOLLAR, concurrency=4, budget_usd=20).chat(asking(100))
        assert sum(server.counts.values()) == requests


def test_an_oracle_and_its_judge_share_the_budget_of_the_run(ledger):
    with ChatServer(echo) as server:
        models = (Model(name, server.url, price=DOLLAR) for name in ("an-oracle", "a-judge"))
        oracle, judge = (Asked(model, ledger, "a run", concurrency=1, budget_usd=20) for model in models)
        oracle.chat(asking(15))
        with pytest.raises(UserError, match="budget_usd=20: it is spent"):
            judge.chat(asking(15))
        assert ledger.spent("a run") == 20


def test_what_another_process_of_the_run_spends_meanwhile_counts_for_the_budget(ledger, monkeypatch):
    monkeypatch.setattr(paid, "LOOK_S", 0)
    other = Ledger(ledger.path)
    costly = Asked(Model("another", "http://x/v1", price=(0, 90e6)), other, "a run")
    waiting = paid.pending(costly, [], {}, "test", 1)

    def reply(body):
        if len(server.bodies) == 5:
            other.store([paid.answered_call(costly, waiting, {}, Completion(""))])
        return echo(body)

    with ChatServer(reply) as server:
        with pytest.raises(
            UserError, match="USD 9[0-7]"
        ):  # 90 of the other, and its own that are stored by then
            endpoint(server, ledger, price=DOLLAR, concurrency=2, budget_usd=90).chat(asking(100))
        assert 5 <= len(server.bodies) <= 7
    other.close()


def test_a_budget_with_an_unknown_price_is_refused(ledger):
    with pytest.raises(UserError, match="price of a-model is unknown"):
        Asked(Model("a-model", "http://127.0.0.1:9/v1"), ledger, budget_usd=1)


@pytest.mark.parametrize(
    "url", ["localhost:8000", "http://", "ftp://x/v1", "http://x:port/v1", "http://x:99999/v1"]
)
def test_what_is_no_url_is_refused(url):
    with pytest.raises(UserError, match="is no endpoint. Write http"):
        Model("m", url)


@pytest.mark.parametrize("url", [f"http://me:{KEY}@x/v1", f"http://x/v1?api-key={KEY}"])
def test_a_url_that_holds_a_key_is_refused_without_showing_it(url):
    with pytest.raises(UserError, match="the URL of x holds more than an address") as raised:
        Model("m", url)
    assert KEY not in str(raised.value)


def test_a_key_is_masked_before_an_error_is_cut_short():
    long = "x" * 290 + KEY + " is wrong" + "y" * 3000
    for shown in (Unusable(long), f"{'x' * 60} {KEY}"):
        assert KEY[:9] not in masked(shown, Model("m", "http://x/v1", key="A_KEY"))


@pytest.mark.parametrize("strange", [f" {KEY}\n", f"{KEY}\r\n"])
def test_spaces_around_a_key_do_no_harm(ledger, monkeypatch, strange):
    monkeypatch.setenv("A_KEY", strange)
    with ChatServer(echo) as server:
        assert endpoint(server, ledger).chat(asking(1))[0].text == "You said: question 0"


def test_ledger_only_counts_what_is_missing(ledger):
    with ChatServer(echo) as server:
        endpoint(server, ledger).chat(asking(5))
        with pytest.raises(UserError, match="3 of 8 calls are not in the ledger"):
            endpoint(server, ledger, ledger_only=True).chat(asking(8))
        assert len(endpoint(server, ledger, ledger_only=True).chat(asking(5))) == 5


def test_requests_are_spread_over_the_minute(ledger):
    with ChatServer(echo) as server:
        started = time.monotonic()
        endpoint(server, ledger, requests_per_minute=600).chat(asking(6))
        assert time.monotonic() - started >= 0.5


def test_the_ledger_holds_the_whole_reply_and_not_the_key(ledger, tmp_path):
    with ChatServer(echo) as server:
        endpoint(server, ledger).chat(asking(2), purpose="judge")
    (call, _) = ledger.rows()
    assert json.loads(call.response)["usage"]["total_tokens"] == 15
    assert (call.purpose, call.run) == ("judge", "a run")
    assert (call.prompt_tokens, call.completion_tokens, call.usd) == (10, 5, None)
    assert not any(KEY.encode() in path.read_bytes() for path in tmp_path.iterdir())
