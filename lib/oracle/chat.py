"""Chat calls to an OpenAI-compatible endpoint: every reply is in the ledger before it is used, and never asked for again."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, islice
from typing import NamedTuple

import openai

from lib.errors import UserError
from lib.oracle import background, prices, transport
from lib.oracle.batch import Batch
from lib.oracle.ledger import Asked, Call, Ledger, key
from lib.oracle.live import Live

UNLIMITED = 4096  # completion tokens reckoned with where a request sets no limit
LOOK_AHEAD = 500  # requests that are looked up in the ledger at a time
FEWEST = 20  # calls that are worth a batch: fewer are made at once


class Request(NamedTuple):
    """One call: what is sent, and why. Another `attempt` is another call, though all else is the same."""

    messages: list[dict]
    purpose: str
    attempt: int = 1
    sampling: dict = {}  # temperature, max_tokens, … as the endpoint names them

    @property
    def content(self) -> dict:
        """What makes the call this one, purpose left out."""
        return {"messages": self.messages, "sampling": self.sampling, "attempt": self.attempt}


class Reply(NamedTuple):
    """`text` is None where the call failed; `finish` then says why. The ledger holds all that the endpoint said."""

    text: str | None
    finish: str


class OverBudget(UserError):
    """The next call could exceed the budget."""


@dataclass
class Endpoint:
    """One model behind one URL, with its ledger; `chat` is all that the rest needs.

    `budget_usd` holds for all calls of `run` in the ledger; it is exceeded by the calls in flight at most. With `batch`
    calls go through the endpoint's Batch API: for half the price, within a day.
    """

    model: str
    ledger: Ledger
    url: str | None = None
    run: str = ""
    concurrency: int = 64
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    budget_usd: float | None = None
    timeout_s: float = 120
    tries: int = 6
    ledger_only: bool = False
    batch: bool = False
    poll_s: float = 30  # between two looks at a batch
    key_from: str = "OPENAI_API_KEY"  # the environment variable that holds the key
    made: int = 0  # calls answered by the endpoint
    cached: int = 0  # calls answered by the ledger
    failed: int = 0
    usd: float = 0.0  # of the calls made, as far as their price is known

    def __post_init__(self):
        self.url = (self.url or "https://api.openai.com/v1").rstrip("/")
        self.price = prices.of(self.model)
        if self.budget_usd is not None and self.price is None:
            raise UserError(
                f"budget_usd={self.budget_usd:g}, but the price of {self.model} is unknown: add it to params/prices.yaml"
            )

    def chat(
        self, requests: Iterable[Request], report: Callable[[int, int | None], None] | None = None
    ) -> list[Reply]:
        """A reply to each request, in order; those in the ledger are not asked again, equal ones once.

        Requests are taken as they are needed, so that a generator of them is never in memory as a whole. Raises UserError
        when `ledger_only` lacks a call, when the endpoint refuses the key or the model or stays silent, and OverBudget.
        What was answered until then is stored.
        """
        names: list[str] = []
        done: dict[str, Reply] = {}
        missing = self._missing(requests, names, done)
        if self.ledger_only:
            self._refuse(sum(1 for _ in missing), len(names))
        elif first := list(islice(missing, FEWEST)):
            ordered = any(self.ledger.batch_of(name) for name, _ in first)
            asking = (Batch if self.batch and (ordered or len(first) == FEWEST) else Live)(self, done)
            total = len(requests) if hasattr(requests, "__len__") else None
            background.run(
                asking.ask(chain(first, missing)), lambda: report and report(asking.answered, total)
            )
        if report:
            report(len(names), len(names))
        return [done[name] for name in names]

    def _missing(self, requests: Iterable[Request], names: list, done: dict) -> Iterator[tuple[str, Request]]:
        """(key, request) of each call that the ledger lacks; all keys go to `names`, stored replies to `done`."""
        requests, seen = iter(requests), set()
        while some := list(islice(requests, LOOK_AHEAD)):
            keys = [key(self.url, self.model, request.content) for request in some]
            names += keys
            found = {name: self.reply(json.loads(text)) for name, text in self.ledger.find(set(keys) - seen)}
            done |= found
            lacking = {n: r for n, r in zip(keys, some, strict=True) if n not in found and n not in seen}
            self.cached += len(some) - len(lacking)
            seen |= set(keys)
            yield from lacking.items()

    def _refuse(self, missing: int, total: int) -> None:
        if missing:
            raise UserError(
                f"{missing:,} of {total:,} calls are not in the ledger {self.ledger.path}, and ledger_only asks none"
            )

    # what both ways of asking need

    def connect(self) -> openai.AsyncOpenAI:
        return transport.connect(self.url, self.key_from, self.concurrency, self.timeout_s, self.tries)

    def body(self, request: Request) -> dict:
        """What is sent."""
        return {"model": self.model, "messages": request.messages, **request.sampling}

    def asked(self, name: str, request: Request, share: float = 1.0) -> Asked:
        """A call as it stands before it is answered; `share` is that of the full price."""
        tokens = prices.tokens(request.messages), request.sampling.get("max_tokens", UNLIMITED)
        most = (prices.usd(self.price, *tokens) or 0) * share
        return Asked(name, request.purpose, self.run, json.dumps(request.content, ensure_ascii=False), most)

    def call(self, asked: Asked, response: dict, seconds: float = 0.0, share: float = 1.0) -> Call:
        """An answered call as the ledger keeps it; `share` is that of the full price."""
        usage = response.get("usage") or {}
        tokens = usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0
        cost = prices.usd(self.price, *tokens)
        return Call(
            key=asked.key,
            endpoint=self.url,
            model=self.model,
            purpose=asked.purpose,
            run=asked.run,
            request=asked.request,
            response=json.dumps(response, ensure_ascii=False),
            finish=response["choices"][0].get("finish_reason") or "",
            prompt_tokens=tokens[0],
            completion_tokens=tokens[1],
            usd=cost and cost * share,
            seconds=round(seconds, 3),
            made_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        )

    @staticmethod
    def reply(response: dict) -> Reply:
        choice = response["choices"][0]
        return Reply(choice["message"]["content"], sys.intern(choice.get("finish_reason") or ""))

    def answered(self, call: Call, response: dict) -> Reply:
        """Count a call that was made and stored."""
        self.made, self.usd = self.made + 1, self.usd + (call.usd or 0)
        return self.reply(response)

    def unanswered(self, error: object) -> Reply:
        """Count a call that failed for good; it is not stored."""
        self.failed += 1
        return Reply(None, f"failed: {transport.masked(error, self.key_from)}")

    def over_budget(self, spent: float) -> OverBudget:
        return OverBudget(
            f"the budget of US$ {self.budget_usd:g} for the run {self.run} is spent (US$ {spent:.2f}): "
            "raise budget_usd, and the same command goes on from here"
        )
