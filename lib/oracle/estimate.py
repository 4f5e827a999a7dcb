"""Estimate the calls, tokens, money and minutes of a stage before its first call."""

from typing import NamedTuple

from datasets import Dataset

from lib import records
from lib.models import catalog
from lib.oracle import expected

ENOUGH = 20  # calls of a purpose in the ledger, from which on their means replace our guesses
SECONDS = 5.0  # of a call, where nothing is known
RESPONSE = 250.0  # tokens, where nothing is known
VERDICT = 150.0  # the same, of a verdict in words
JUDGED = ("judge", "rate")  # purposes that are asked of the judge
SAMPLE = 1000  # rows that lengths are taken from
HEAD = "| | model | calls | prompt tokens | completion tokens | USD |\n| --- | --- | --: | --: | --: | --: |"


class Ahead(NamedTuple):
    """Calls of one purpose and all their tokens; `usd` is None for an unknown price."""

    purpose: str
    model: str
    calls: int
    prompt_tokens: float
    completion_tokens: float
    usd: float | None
    minutes: float  # infinite in batches


def judging_calls(rows: Dataset, labelled_rows: int) -> dict[str, int]:
    """Count the calls that judging takes by purpose: responses, labels, verdicts of rows that lack them.

    `labelled_rows` is the most labels, 0 for all. Rows that all have verdicts are a recording: no calls.
    """
    if all(rows["verdicts"]):
        return {}
    responses, labels = (rows[name][:].count(None) for name in ("oracle_response", "task"))
    verdicts = 2 * sum(not given for given in rows["verdicts"])
    return {"answer": responses, "classify": min(labels, labelled_rows or labels), "judge": verdicts}


def estimate(oracle, rows: Dataset, prompts: dict[str, str], calls: dict[str, int]) -> list[Ahead]:
    """Estimate `calls` by purpose about such rows; `prompts` are their templates.

    Lengths come from the rows and, once it holds ENOUGH calls of that purpose, from the ledger, as do the
    seconds.
    """
    sample = rows.select(range(min(SAMPLE, len(rows))))
    question = _tokens(sum(len(turn["content"]) for turn in records.messages(row)) for row in sample)
    response = _tokens(len(text) for text in sample["corpus_response"] if text) or RESPONSE
    response = _means(oracle.backend, "answer")[0] or response
    _, sampling = expected.BY_PROBABILITY.get(oracle.judge_scores, (None, None))
    longest = {"judge": sampling.max_tokens} if sampling else {}  # tokens of a reply, by purpose
    lengths = {  # tokens of the row in the prompt, and of the reply
        "answer": (question, response),
        "classify": (question, 5),
        "judge": (question + 2 * response, VERDICT),
        "rate": (question + response, 100),
        "expand": (question, question),
        "refine": (question + response, response),
    }
    estimates = []
    for purpose, count in calls.items():
        if count:
            backend = oracle.judge if purpose in JUDGED else oracle.backend
            if backend.ledger is None:  # asked in this process, or at a server without a price
                continue
            prompt = lengths[purpose][0] + len(prompts.get(purpose, "")) / catalog.CHARACTERS_A_TOKEN
            completion, most = lengths[purpose][1], longest.get(purpose, float("inf"))
            estimates.append(ahead(backend, purpose, count, prompt, completion, most))
    return estimates


def ahead(
    backend, purpose: str, calls: int, prompt: float, completion: float, longest: float = float("inf")
) -> Ahead:
    """Estimate calls of so many tokens each; the ledger's means count more, up to `longest` of a reply."""
    mean, seconds = _means(backend, purpose)
    completion = min(mean or completion, longest)
    share = catalog.BATCH_SHARE if backend.model.batch else 1.0
    usd = backend.model.usd(calls * prompt, calls * completion, share)
    minutes = [calls * (seconds or SECONDS) / 60 / backend.concurrency]
    minutes.append(calls / (backend.model.requests_per_minute or float("inf")))
    minutes.append(calls * (prompt + completion) / (backend.model.tokens_per_minute or float("inf")))
    most = float("inf") if backend.model.batch else max(minutes)
    return Ahead(purpose, backend.name, calls, calls * prompt, calls * completion, usd, most)


def _means(backend, purpose: str) -> tuple[float | None, float | None]:
    """Return the ledger's mean completion tokens and seconds; None for few calls."""
    if backend.ledger is None:
        return None, None
    calls, *means = backend.ledger.means(backend.model.name, purpose)
    return tuple(means) if calls >= ENOUGH else (None, None)


def _tokens(characters) -> float:
    characters = list(characters)
    return sum(characters) / max(len(characters), 1) / catalog.CHARACTERS_A_TOKEN


def describe(ahead: list[Ahead], backend) -> str:
    """Return a sentence and a table by purpose (markdown); empty for no calls."""
    if not ahead or backend.ledger_only:
        return ""
    priced = [cost.usd for cost in ahead if cost.usd is not None]
    money = f"USD {sum(priced):,.2f}" if len(priced) == len(ahead) else "at an unknown price"
    minutes = sum(cost.minutes for cost in ahead)
    time = f"{minutes:,.0f} min" if minutes >= 1 else "less than a minute"
    time = "in batches, each within a day" if minutes == float("inf") else time
    calls, tokens = sum(cost.calls for cost in ahead), sum(sum(cost[3:5]) for cost in ahead)
    lines = [f"About {calls:,} calls, {tokens:,.0f} tokens, {money}, {time}{_budget(sum(priced), backend)}"]
    lines += ["", HEAD]
    for purpose, model, count, prompt, completion, usd, _ in ahead:
        price = "unknown" if usd is None else f"{usd:,.2f}"
        lines.append(f"| {purpose} | {model} | {count:,} | {prompt:,.0f} | {completion:,.0f} | {price} |")
    return "\n".join([*lines, "", "What the ledger holds already is not asked again."])


def _budget(usd: float, backend) -> str:
    if backend.budget_usd is None:
        return ""
    left = backend.budget_usd - backend.ledger.spent(backend.run)
    _, paid = backend.ledger.of_stage(backend.run, backend.stage)  # by this stage, and not paid again
    return f"; USD {left:,.2f} of the budget are left" + ": the stage will stop there" * (
        usd > left + (paid or 0)
    )
