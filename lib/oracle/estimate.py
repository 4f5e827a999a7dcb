"""What a stage is about to ask: calls, tokens, money and minutes, said before the first call is made."""

from typing import NamedTuple

from datasets import Dataset

from lib import records
from lib.models import prices

ENOUGH = 20  # calls of a kind in the ledger, from which on their means are better than our guesses
SECONDS = 5.0  # that a call takes, where nothing is known
UNKNOWN = 1000  # characters of a response, where nothing is known
JUDGED = ("judge", "rate")  # what the judge is asked, and not the oracle
SHORT = {"classify": 5, "judge": 150, "rate": 100}  # tokens of replies that are no responses
SAMPLE = 1000  # rows that lengths are taken from
HEAD = [
    "| | model | calls | prompt tokens | completion tokens | USD |",
    "| --- | --- | --: | --: | --: | --: |",
]


class Ahead(NamedTuple):
    """The calls of one purpose; tokens are those of all of them, `usd` is None where the price is unknown."""

    purpose: str
    model: str
    calls: int
    prompt_tokens: float
    completion_tokens: float
    usd: float | None
    minutes: float


def estimate(oracle, rows: Dataset, prompts: dict[str, str], calls: dict[str, int]) -> list[Ahead]:
    """What so many calls of each purpose about such rows will take; `prompts` are the templates, by purpose.

    Lengths come from the rows and, once it holds enough calls of that kind, from the ledger, as do the seconds a call takes.
    """
    shown = rows.select(range(min(SAMPLE, len(rows))))
    asked = _mean(sum(len(turn["content"]) for turn in records.messages(row)) for row in shown)
    told = _mean(len(text) for text in shown["corpus_response"] if text)
    asked, told = (characters / prices.CHARACTERS_A_TOKEN for characters in (asked, told or UNKNOWN))
    told = _known(oracle.endpoint, "answer")[0] or told
    given = {
        "answer": asked,
        "classify": asked,
        "judge": asked + 2 * told,
        "rate": asked + told,
        "expand": asked,
        "refine": asked + told,
    }
    replied = {"answer": told, "expand": asked, "refine": told} | SHORT
    return [
        ahead(
            oracle.judge if purpose in JUDGED else oracle.endpoint,
            purpose,
            n,
            given[purpose] + len(prompts.get(purpose, "")) / prices.CHARACTERS_A_TOKEN,
            replied[purpose],
        )
        for purpose, n in calls.items()
        if n
    ]


def ahead(endpoint, purpose: str, calls: int, prompt: float, completion: float) -> Ahead:
    """So many calls of a kind, with about so many tokens each; what the ledger knows of such calls counts more."""
    known, seconds = _known(endpoint, purpose)
    completion = known or completion
    price = prices.usd(endpoint.price, calls * prompt, calls * completion)
    share = prices.batch_share() if endpoint.batch else 1
    minutes = [calls * (seconds or SECONDS) / 60 / endpoint.concurrency]
    minutes += [calls / endpoint.requests_per_minute] if endpoint.requests_per_minute else []
    minutes += (
        [calls * (prompt + completion) / endpoint.tokens_per_minute] if endpoint.tokens_per_minute else []
    )
    usd = None if price is None else price * share
    return Ahead(purpose, endpoint.model, calls, calls * prompt, calls * completion, usd, max(minutes))


def _known(endpoint, purpose: str) -> tuple[float | None, float | None]:
    """Mean completion tokens and seconds of such calls in the ledger; None where they are few."""
    calls, *means = endpoint.ledger.means(endpoint.model, purpose)
    return tuple(means) if calls >= ENOUGH else (None, None)


def _mean(values) -> float:
    values = list(values)
    return sum(values) / max(len(values), 1)


def describe(ahead: list[Ahead], endpoint) -> str:
    """One sentence, and below it a table by purpose (markdown); empty where nothing is asked."""
    if not ahead or endpoint.ledger_only:
        return ""
    calls, known = sum(one.calls for one in ahead), [one.usd for one in ahead if one.usd is not None]
    money = f"USD {sum(known):,.2f}" if len(known) == len(ahead) else "at an unknown price"
    tokens = sum(one.prompt_tokens + one.completion_tokens for one in ahead)
    spent = f"{money}, {_time(ahead, endpoint)}{_budget(known, endpoint)}"
    lines = [f"About {calls:,} calls, {tokens:,.0f} tokens, {spent}", "", *HEAD, *map(_line, ahead)]
    return "\n".join([*lines, "", "What the ledger holds already is not asked again."])


def _line(one: Ahead) -> str:
    usd = "unknown" if one.usd is None else f"{one.usd:,.2f}"
    sizes = f"{one.calls:,} | {one.prompt_tokens:,.0f} | {one.completion_tokens:,.0f}"
    return f"| {one.purpose} | {one.model} | {sizes} | {usd} |"


def _time(ahead: list[Ahead], endpoint) -> str:
    if endpoint.batch:
        return "in batches, each within a day"
    minutes = sum(one.minutes for one in ahead)
    return f"{minutes:,.0f} min" if minutes >= 1 else "less than a minute"


def _budget(known: list[float], endpoint) -> str:
    if endpoint.budget_usd is None:
        return ""
    left = endpoint.budget_usd - endpoint.ledger.spent(endpoint.run)
    _, before = endpoint.ledger.of_stage(endpoint.run, endpoint.stage)  # which is not paid again
    enough = "" if sum(known) <= left + (before or 0) else ": the stage will stop there"
    return f"; USD {left:,.2f} of the budget are left{enough}"
