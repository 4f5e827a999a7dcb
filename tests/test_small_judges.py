"""Small judges behind a server: scores by their log-probabilities, and an end after forty useless verdicts."""

from math import log

import pytest
from chat_server import ChatServer

from lib import records
from lib.errors import UserError
from lib.models.catalog import Model
from lib.models.server import ServerBackend
from lib.oracle.llm import LLMOracle
from lib.tapir import judge


def completion(*tokens):
    """What a server says that writes these tokens, each with its candidates and their probabilities."""
    content = [
        {"token": text, "top_logprobs": [{"token": name, "logprob": log(p)} for name, p in others.items()]}
        for text, others in tokens
    ]
    message = {"role": "assistant", "content": "".join(text for text, _ in tokens)}
    choice = {"index": 0, "message": message, "logprobs": {"content": content}, "finish_reason": "stop"}
    return {"choices": [choice]}


def better_first(body):
    """Whether the response "right" is shown first."""
    text = body["messages"][-1]["content"]
    return text.index("right") < text.index("wrong")


def pairs(n):
    columns = {"oracle_response": "right", "student_response": "wrong"}
    return records.build([{"instruction": f"Row {i}", **columns} for i in range(n)])


@pytest.fixture
def ask(ledger):
    """Judge so many pairs by a server that replies like this; returns the oracle, the server and the rows."""

    def score(reply, n=2, **settings):
        with ChatServer(reply) as server:
            backend = ServerBackend(Model("m", server.url, timeout_s=5), ledger, tries=2)
            oracle = LLMOracle(backend, **settings)
            return oracle, server, oracle.score(pairs(n))

    return score


def blind_but_expecting(body):
    """Writes "8 7" whatever it is shown; its probabilities know better."""
    high, low = {"8": 0.6, "9": 0.4}, {"7": 0.5, "3": 0.5}
    first, second = (high, low) if better_first(body) else ({"8": 0.6, "2": 0.4}, {"7": 0.5, "9": 0.5})
    return completion(("8", first), (" ", {" ": 1.0}), ("7", second))


def test_expected_scores_are_kept_with_the_verdict_and_become_the_rows_scores(ask):
    _, server, judged = ask(blind_but_expecting, judge_scores="expected")
    row = judged[0]
    assert [v["reply"] for v in row["verdicts"]] == ["8 7", "8 7"]
    assert row["verdicts"][0]["expected"] == pytest.approx([8.4, 5.0])
    assert (row["oracle_score"], row["student_score"]) == pytest.approx(((8.4 + 8) / 2, (5.0 + 5.6) / 2))
    assert judge.tally(judged)["read"] == 4 and server.bodies[0]["top_logprobs"] == 20


def test_by_its_words_the_same_judge_prefers_the_first_place_and_is_refused_after_forty_verdicts(ask, ledger):
    with pytest.raises(UserError, match="first in 40 of 40 verdicts .*judge_scores=expected"):
        ask(blind_but_expecting, n=25, unfit_judge="refuse")
    assert len(list(ledger.rows())) == 40  # no more are paid
    oracle, server, _ = ask(blind_but_expecting, n=25, judge_scores="expected", unfit_judge="refuse")
    assert not oracle.warning and len(server.bodies) == 50


def test_a_warning_goes_on_with_an_unfit_judge_and_stands_in_its_account(ask):
    oracle, _, judged = ask(lambda body: "8 6", n=25, unfit_judge="warn")
    assert judge.tally(judged)["read"] == 50 and "m is unfit to choose rows by" in oracle.describe()


def test_a_judge_with_few_pairs_or_without_the_check_is_not_refused(ask):
    assert judge.tally(ask(lambda body: "8 6", n=19, unfit_judge="refuse")[2])["read"] == 38
    assert judge.tally(ask(lambda body: "8 6", n=21)[2])["read"] == 42


def test_a_judge_without_log_probabilities_is_named(ask):
    with pytest.raises(UserError, match="judge_scores: m gives no log-probabilities of other tokens"):
        ask(lambda body: "8 7", judge_scores="expected")
