"""Chat calls to an OpenAI-compatible endpoint: every reply is in the ledger before it is used, and never asked for again."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain, islice
from typing import NamedTuple

import openai

from lib.errors import UserError
from lib.models import background, completions, prices, transport
from lib.models.batch import Batch
from lib.models.completions import LIMITS, Completion, Unusable
from lib.models.ledger import Asked, Call, Ledger, Lost, key
from lib.models.live import Live

UNLIMITED = 4096  # completion tokens reckoned with where a request sets no limit
NO_RESULT = "its batch ended without a result"
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

    @property
    def body(self) -> dict:
        """What is sent to any model."""
        return {"messages": self.messages, **self.sampling}

    @property
    def limit(self) -> int:
        """Completion tokens at most."""
        return next((value for name, value in self.sampling.items() if name in LIMITS), UNLIMITED)


class Reply(NamedTuple):
    """What a model says, without its thoughts. The ledger holds all of it.

    `finish` is "stop" or, where the limit cut it, "length". `text` is None where the call failed, and
    `finish` says why.
    """

    text: str | None
    finish: str


class OverBudget(UserError):
    """The next call could exceed the budget."""


@dataclass
class Endpoint:
    """One model behind one URL, with its ledger; `chat` is all that the rest needs.

    `budget_usd` holds for all calls of `run` in the ledger; it is exceeded by the calls in flight at most, and by what
    an endpoint charges for calls that timed out. With `batch` calls go through the endpoint's Batch API: for half the price, within a day.
    """

    model: str
    ledger: Ledger
    url: str | None = None
    run: str = ""
    stage: str = ""
    concurrency: int = 64
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    budget_usd: float | None = None
    timeout_s: float = 120
    tries: int = 6
    ledger_only: bool = False
    batch: bool = False
    poll_s: float = 30  # between two looks at a batch
    key_from: str = "ORACLE_API_KEY"  # the variable with the key, unless the host is OpenAI's
    made: int = 0  # calls answered by the endpoint
    cached: int = 0  # calls answered by the ledger
    failures: Counter = field(default_factory=Counter)  # calls without a reply, by cause

    def __post_init__(self):
        self.url = transport.address(self.url or transport.OPENAI)
        self.key_from = transport.key_variable(self.url, self.key_from)
        self.price = prices.of(self.model)
        prices.check_budget(self.model, self.budget_usd)
        for name in ("concurrency", "timeout_s", "tries"):
            if not getattr(self, name) > 0:
                raise UserError(f"{name}={getattr(self, name)}: it must be above 0")

    @property
    def failed(self) -> int:
        """Calls that got no reply that can be used."""
        return self.failures.total()

    def chat(
        self,
        requests: Iterable[Request],
        report: Callable[[int], None] = lambda done: None,
        at_once: bool = False,
    ) -> list[Reply]:
        """A reply to each request, in order; those in the ledger are not asked again, equal ones once.

        Requests are taken as they are needed, so that a generator of them is never in memory as a whole; `report` is told how
        many are answered; `at_once` makes calls live even with `batch`. Raises UserError when `ledger_only` lacks a call, when the endpoint refuses the key or the model or
        stays silent, and OverBudget. What was answered until then is stored.
        """
        names: list[str] = []
        done: dict[str, Reply] = {}
        waiting: set[str] = set()
        missing = self._missing(requests, names, done, waiting)
        if self.ledger_only:
            self._refuse(sum(1 for _ in missing), len(names))
            return [done[name] for name in names]
        if self.ledger.nameless(self.url):
            with self.ledger.writing():
                background.run(Batch(self, {}).find_again(), lambda: None)
        first = list(islice(missing, FEWEST))
        if first or waiting:
            with self.ledger.writing():
                self._ask(first, missing, done, waiting, report, self.batch and not at_once)
        report(len(names))
        return [done[name] if name in done else self.unanswered(NO_RESULT) for name in names]

    def responses(
        self,
        requests: list[Request],
        report: Callable[[int], None] = lambda done: None,
        at_once: bool = False,
    ) -> list[dict | None]:
        """All that the endpoint said to each request, in order, logprobs included; None where a call failed. See `chat`."""
        replies = self.chat(requests, report, at_once)
        names = [key(self.url, self.model, request.content) for request in requests]
        stored = dict(self.ledger.find(set(names)))
        return [
            None if reply.text is None else stored[name] for name, reply in zip(names, replies, strict=True)
        ]

    def account(self) -> dict[str, float | None]:
        """What the stage asked, as metrics: calls it made and their money, whenever it was started; those that the ledger
        answered; those that got no reply."""
        calls, usd = self.ledger.of_stage(self.run, self.stage)
        account = {"calls": calls, "usd": usd, "cached": self.cached, "failed": self.failed}
        return {f"oracle.{name}": value for name, value in account.items()}

    def _ask(
        self, first: list, missing: Iterator, done: dict, waiting: set[str], report: Callable, by_batch: bool
    ) -> None:
        """Have the missing calls made or ordered, and collect what is ordered, even where that had to stop: what a batch may cost
        is set aside until then."""
        live, batch, calls = Live(self, done), Batch(self, done), chain(first, missing)
        by_batch, stopped = by_batch and len(first) == FEWEST, None
        try:
            if by_batch:
                background.run(batch.order(calls, waiting), lambda: report(batch.answered))
            elif first:
                background.run(live.ask(calls), lambda: report(live.answered))
        except UserError as error:
            stopped = error
        if waiting:
            background.run(batch.collect(waiting), lambda: report(batch.answered))
        if stopped:
            raise stopped

    def _missing(
        self, requests: Iterable[Request], names: list, done: dict, waiting: set[str]
    ) -> Iterator[tuple[str, Request]]:
        """(key, request) of each call that is neither stored nor in a batch under way.

        All keys go to `names`, stored replies to `done`, the tokens of batches that hold calls to `waiting`.
        """
        requests, seen = iter(requests), set()
        while some := list(islice(requests, LOOK_AHEAD)):
            keys = [key(self.url, self.model, request.content) for request in some]
            names += keys
            fresh = {n: r for n, r in zip(keys, some, strict=True) if n not in seen}
            seen |= fresh.keys()
            found = {name: self._stored(response, fresh[name]) for name, response in self.ledger.find(fresh)}
            done |= found
            self.cached += len(found)
            ordered = {} if self.ledger_only else self.ledger.ordered(fresh.keys() - found.keys())
            waiting |= set(ordered.values())
            yield from ((n, r) for n, r in fresh.items() if n not in found and n not in ordered)

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
        return {"model": self.model, **request.body}

    def asked(self, name: str, request: Request, share: float = 1.0) -> Asked:
        """A call as it stands before it is answered; `share` is that of the full price."""
        most = (prices.usd(self.price, prices.tokens(request.messages), request.limit) or 0) * share
        content = json.dumps(request.content, ensure_ascii=False)
        return Asked(name, request.purpose, self.run, self.stage, content, most)

    def answer(
        self, asked: Asked, response: dict, seconds: float = 0.0, share: float = 1.0
    ) -> tuple[Call, Reply]:
        """An answered call as the ledger keeps it, and the reply; `share` is that of the full price.

        Raises Unusable for a response that answers nothing.
        """
        request = json.loads(asked.request)
        said = self._read(response, {"messages": request["messages"], **request["sampling"]})
        tokens = completions.usage(response) or self._reckoned(asked, said)
        call = Call(
            key=asked.key,
            endpoint=self.url,
            model=self.model,
            purpose=asked.purpose,
            run=asked.run,
            stage=asked.stage,
            request=asked.request,
            response=json.dumps(response),  # in ASCII: whatever it holds can be stored
            finish=said.finish_reason,
            prompt_tokens=tokens[0],
            completion_tokens=tokens[1],
            usd=self.cost(tokens, share),
            seconds=round(seconds, 3),
            made_at=_now(),
        )
        return call, Reply(said.text, said.finish_reason)

    @staticmethod
    def _reckoned(asked: Asked, said: Completion) -> list[int]:
        """About as many tokens as a call took whose endpoint does not say."""
        texts = asked.request, said.reasoning + said.text
        return [int(len(text) / prices.CHARACTERS_A_TOKEN) + 1 for text in texts]

    def cost(self, tokens: tuple[int, int] | None, share: float = 1.0) -> float | None:
        """USD of so many tokens; None where they or the price are unknown."""
        usd = tokens and prices.usd(self.price, *tokens)
        return usd and usd * share

    @staticmethod
    def _read(response: object, body: dict) -> Completion:
        """What a chat completion says. Raises Unusable also where all that it says are thoughts."""
        said = completions.read(response, body)
        if said.finish_reason == "stop" and said.reasoning and not said.text:
            raise Unusable("the reply holds no text, its thoughts alone", completions.usage(response))
        return said

    def _stored(self, response: dict, request: Request) -> Reply:
        """The reply of a stored call; one that cannot be used was stored by an older version."""
        try:
            said = self._read(response, request.body)
        except Unusable as error:
            return self.unanswered(error)
        return Reply(said.text, said.finish_reason)

    def lost(self, asked: Asked, tokens: tuple[int, int] | None, share: float = 1.0) -> Lost | None:
        """What was paid for a reply that cannot be used, as the ledger keeps it."""
        if not tokens:
            return None
        usd = self.cost(tokens, share)
        return Lost(self.model, asked.purpose, self.run, self.stage, *tokens, usd, _now())

    def unanswered(self, error: object) -> Reply:
        """Count a call that failed for good; it is not stored."""
        cause = transport.masked(error, self.key_from)
        self.failures[cause] += 1
        return Reply(None, f"failed: {cause}")

    def over_budget(self, spent: float) -> OverBudget:
        """What is raised where the next call could exceed the budget."""
        return OverBudget(
            f"the budget of USD {self.budget_usd:g} for the run {self.run} is spent (USD {spent:.2f}): "
            "raise budget_usd, and the same command goes on from here"
        )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
