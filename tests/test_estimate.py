"""What a stage is about to ask is said before it asks: calls, tokens, money, minutes."""

import pytest

from lib import records
from lib.gym.oracle import ExactOracle
from lib.models import paid
from lib.models.catalog import Model
from lib.models.server import ServerBackend
from lib.models.types import Completion
from lib.oracle import estimate
from lib.oracle.llm import LLMOracle
from lib.tapir.tasks import Task, calls_ahead

# of 100 and 200 tokens
ROWS = records.build({"instruction": f"{i:03} {'x' * 396}", "corpus_response": "y" * 800} for i in range(10))
URL = "http://127.0.0.1:9/v1"


@pytest.fixture
def make(ledger):
    def make(name="listed", budget_usd=None, ledger_only=False, judge_scores="text", **entry):
        model = Model(name, URL, price=(1, 10) if name == "listed" else None, **entry)
        backend = ServerBackend(model, ledger, "a run", budget_usd=budget_usd, ledger_only=ledger_only)
        return LLMOracle(backend, labels=("Math",), judge_scores=judge_scores)

    return make


def store(backend: ServerBackend, purpose: str, n: int, completion_tokens: int) -> None:
    """Store calls of two seconds each."""
    usage = {"prompt_tokens": 0, "completion_tokens": completion_tokens}
    for i in range(n):
        pending = paid.pending(backend, [], {}, purpose, i)
        call = paid.answered_call(backend, pending, {"usage": usage}, Completion("4"), seconds=2)
        backend.ledger.store([call])


def test_calls_tokens_and_money_follow_from_the_rows(make):
    (answers,) = estimate.estimate(make(), ROWS, {}, {"answer": 1000, "judge": 0})
    assert (answers.calls, answers.prompt_tokens, answers.completion_tokens) == (1000, 100_000, 200_000)
    assert answers.usd == pytest.approx(0.1 + 2.0)
    assert answers.minutes == pytest.approx(1000 * estimate.SECONDS / 60 / 64)


def test_a_judgement_reads_two_responses_and_the_prompt(make):
    (judged,) = estimate.estimate(make(), ROWS, {"judge": "z" * 40}, {"judge": 1})
    assert judged.prompt_tokens == 100 + 2 * 200 + 10


def test_what_the_ledger_knows_of_such_calls_counts_more_than_a_guess(make):
    oracle = make()
    store(oracle.backend, "answer", estimate.ENOUGH, completion_tokens=50)
    (answers,) = estimate.estimate(oracle, ROWS, {}, {"answer": 64})
    assert answers.completion_tokens == 64 * 50 and answers.minutes == pytest.approx(2 / 60)
    (judged,) = estimate.estimate(oracle, ROWS, {}, {"judge": 1})
    assert judged.prompt_tokens == 100 + 2 * 50


@pytest.mark.parametrize(("judge_scores", "tokens"), [("text", 150), ("expected", 8), ("preference", 1)])
def test_a_verdict_by_log_probabilities_is_as_long_as_they_are_asked_for(make, judge_scores, tokens):
    """Even where the ledger holds longer ones of the same judge, in words."""
    oracle = make(judge_scores=judge_scores)
    (judged,) = estimate.estimate(oracle, ROWS, {}, {"judge": 10})
    assert judged.completion_tokens == 10 * tokens
    store(oracle.judge, "judge", estimate.ENOUGH, completion_tokens=200)
    (judged,) = estimate.estimate(oracle, ROWS, {}, {"judge": 10})
    assert judged.completion_tokens == 10 * (200 if judge_scores == "text" else tokens)


def test_limits_a_minute_and_batches_count(make):
    slow = estimate.estimate(make(requests_per_minute=10), ROWS, {}, {"answer": 1000})
    slower = estimate.estimate(make(tokens_per_minute=1000), ROWS, {}, {"answer": 1000})
    assert (slow[0].minutes, slower[0].minutes) == (100, 300)
    (half,) = estimate.estimate(make(batch=True), ROWS, {}, {"answer": 1000})
    assert half.usd == pytest.approx(1.05)


def test_the_sentence_says_what_is_left_of_the_budget_and_that_it_will_not_do(make):
    sentence = make(budget_usd=1).estimate(ROWS, answer=1000).splitlines()[0]
    assert sentence.startswith("About 1,000 calls, 300,000 tokens, USD 2.10, 1 min")
    assert sentence.endswith("USD 1.00 of the budget are left: the stage will stop there")
    assert make(budget_usd=9).estimate(ROWS, answer=1000).splitlines()[0].endswith("are left")


def test_a_stage_that_goes_on_is_not_held_against_what_it_has_paid_itself(make):
    oracle = make(budget_usd=2.5)
    store(oracle.backend, "answer", 1, completion_tokens=100_000)  # a dollar
    assert oracle.estimate(ROWS, answer=1000).splitlines()[0].endswith("USD 1.50 of the budget are left")


def test_from_the_ledger_alone_nothing_is_about_to_be_spent(make):
    assert make(ledger_only=True).estimate(ROWS, answer=1000) == ""


def test_an_unknown_price_is_said_and_nothing_asked_is_nothing_said(make):
    assert "at an unknown price" in make("another").estimate(ROWS, answer=1, judge=2)
    assert make().estimate(ROWS, answer=0) == ExactOracle().estimate(ROWS, answer=5) == ""


def test_a_pool_that_is_short_of_rows_asks_for_those_it_lacks():
    taxonomy = {"Math": Task(0.5, "worked"), "Art": Task(0.25, "none"), "Law": Task(0.25, "detailed")}
    selected = records.build({"instruction": str(i), "task": "Math" if i < 6 else "Art"} for i in range(7))
    ahead = calls_ahead(selected, taxonomy, 20, expand=True, refine=True)  # 10, 5 and 5; no parent for Law
    assert ahead == {"expand": 4 + 4, "classify": 8, "answer": 8, "refine": 10, "judge": 20}
    kept = calls_ahead(selected, taxonomy, 20, expand=False, refine=True)
    assert kept == {"expand": 0, "classify": 0, "answer": 0, "refine": 6, "judge": 12}
