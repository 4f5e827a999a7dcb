"""Call an OpenAI-compatible endpoint: every reply is in the ledger before it is used, and asked for once."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import NamedTuple

import openai

from lib.errors import UserError
from lib.models import background, catalog, completions, transport
from lib.models.batch import Batch
from lib.models.catalog import Model
from lib.models.completions import LIMITS, Completion, Unusable
from lib.models.ledger import Call, Ledger, Lost, Pending, key
from lib.models.live import Live

UNLIMITED = 4096  # completion tokens reckoned with where a request sets no limit
NO_RESULT = "its batch ended without a result"
PART = 10_000  # requests that are in memory at a time
FEWEST = 20  # calls that are worth a batch: fewer are made at once


class Request(NamedTuple):
    """One call: what is sent, and why. Another `attempt` is another call, though all else is the same."""

    messages: list[dict]
    purpose: str
    attempt: int = 1
    sampling: dict = {}  # temperature, max_tokens, … as the endpoint names them

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


class Answer(NamedTuple):
    """A reply, and the whole response that it was read from; None where the call failed."""

    reply: Reply
    response: dict | None


class OverBudget(UserError):
    """The next call could exceed the budget."""


@dataclass
class Endpoint:
    """One model behind one URL, with its ledger; `chat` is all that the rest needs.

    `budget_usd` holds for all calls of `run` in the ledger. The calls in flight may exceed it, and what an
    endpoint charges for calls that timed out.
    """

    entry: Model
    ledger: Ledger
    run: str = ""
    stage: str = ""
    concurrency: int | None = None  # calls at once; None for the model's own
    budget_usd: float | None = None
    tries: int = 6
    ledger_only: bool = False
    poll_s: float = 30  # between two looks at a batch
    sent: int = 0  # calls answered by the endpoint
    cached: int = 0  # calls answered by the ledger
    failures: Counter = field(default_factory=Counter)  # calls without a reply, by cause

    def __post_init__(self):
        self.concurrency = self.concurrency or self.entry.concurrency
        catalog.check_budget(self.entry, self.budget_usd)

    @property
    def model(self) -> str:
        """The name that the server knows the model by."""
        return self.entry.served_name

    @property
    def url(self) -> str:
        """Where the model is asked."""
        return self.entry.url

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
        """Return a reply to each request, in order; stored calls are not made again, equal ones once.

        `report` gets the number of answered requests; `at_once` makes live calls even with `batch`. Raises
        UserError where `ledger_only` lacks a call, where the endpoint refuses the key or the model or stays
        silent, and OverBudget. What was answered until then is stored.
        """
        return [answer.reply for part in self._answers(requests, report, at_once) for answer in part]

    def responses(
        self,
        requests: Iterable[Request],
        report: Callable[[int], None] = lambda done: None,
        at_once: bool = False,
    ) -> list[dict | None]:
        """Return the whole response to each request; None for a failed call. See `chat`."""
        return [answer.response for part in self._answers(requests, report, at_once) for answer in part]

    def account(self) -> dict[str, float | None]:
        """Return the stage's calls as metrics: those made, over all starts, and their money; those that the
        ledger answered; those without a reply."""
        calls, usd = self.ledger.of_stage(self.run, self.stage)
        account = {"calls": calls, "usd": usd, "cached": self.cached, "failed": self.failed}
        return {f"oracle.{name}": value for name, value in account.items()}

    def _answers(
        self, requests: Iterable[Request], report: Callable[[int], None], at_once: bool
    ) -> Iterator[list[Answer]]:
        """Yield the answers part by part: the calls of a whole corpus do not fit in memory."""
        by_batch, number, lacking = self.entry.batch and not at_once, 0, 0
        requests = iter(requests)
        while part := list(islice(requests, None if by_batch else PART)):
            names = [key(self.entry.name, self.content(request)) for request in part]
            calls = dict(zip(names, part, strict=True))
            answers = self._stored(calls)
            if self.ledger_only:
                lacking += sum(name not in answers for name in names)
            elif len(answers) < len(calls):
                self._ask(calls, answers, lambda done, before=number: report(before + done), by_batch)
            number += len(part)
            report(number)
            if not lacking:
                yield [answers[name] if name in answers else self.unanswered(NO_RESULT) for name in names]
        if lacking:
            raise UserError(
                f"--ledger-only: {lacking:,} of {number:,} calls are not in the ledger "
                f"{self.ledger.path}. Ask for them without --ledger-only."
            )

    def _stored(self, calls: dict[str, Request]) -> dict[str, Answer]:
        """Read the calls that the ledger holds. An unusable reply was stored by an older version."""
        answers = {}
        for name, response in self.ledger.find(calls):
            try:
                completion = self._read(response, self.body(calls[name]))
                answers[name] = Answer(Reply(completion.text, completion.finish_reason), response)
            except Unusable as error:
                answers[name] = self.unanswered(error)
        self.cached += len(answers)
        return answers

    def _ask(self, calls: dict, answers: dict, report: Callable[[int], None], by_batch: bool) -> None:
        """Send missing requests, live or as batches; collect every submitted batch, even after an error."""
        if self.ledger.nameless(self.url):
            background.run(Batch(self, {}).find_again(), lambda: None)
        ordered = self.ledger.ordered(calls.keys() - answers.keys())
        missing = {name: calls[name] for name in calls if name not in answers and name not in ordered}
        waiting, stopped = set(ordered.values()), None
        live, batch = Live(self, answers), Batch(self, answers)
        try:
            if by_batch and len(missing) >= FEWEST:
                background.run(batch.order(missing.items(), waiting), lambda: report(batch.answered))
            elif missing:
                background.run(live.ask(missing), lambda: report(len(answers)))
        except UserError as error:
            stopped = error  # a batch's money is set aside until it is collected
        finally:
            self.ledger.checkpoint()
        if waiting:
            background.run(batch.collect(waiting), lambda: report(batch.answered))
            self.ledger.checkpoint()
            answers |= self._stored({name: calls[name] for name in calls if name not in answers})
        if stopped:
            raise stopped

    # for both ways of asking

    def connect(self) -> openai.AsyncOpenAI:
        return transport.connect(self.entry, self.concurrency, self.tries)

    def body(self, request: Request) -> dict:
        """Return what is sent."""
        sampling = self.entry.request(request.sampling)
        return {"model": self.model, "messages": request.messages, **sampling}

    def content(self, request: Request) -> dict:
        """Return what makes a call this one; its purpose does not."""
        sampling = self.entry.request(request.sampling)
        return {"messages": request.messages, "sampling": sampling, "attempt": request.attempt}

    def pending(self, name: str, request: Request, share: float = 1.0) -> Pending:
        """Describe a call before it is answered; `share` is that of the full price."""
        most_usd = self.entry.usd(catalog.tokens(request.messages), request.limit, share) or 0
        content = json.dumps(self.content(request), ensure_ascii=False)
        return Pending(name, request.purpose, self.run, self.stage, content, most_usd)

    def answer(
        self, pending: Pending, response: dict, seconds: float = 0.0, share: float = 1.0
    ) -> tuple[Call, Answer]:
        """Return an answered call for the ledger, and its answer; `share` is that of the full price.

        Raises Unusable for a response that answers nothing.
        """
        request = json.loads(pending.request)
        completion = self._read(response, {"messages": request["messages"], **request["sampling"]})
        tokens = completions.usage(response) or self._estimated(pending, completion)
        call = Call(
            key=pending.key,
            endpoint=self.url,
            model=self.entry.name,
            purpose=pending.purpose,
            run=pending.run,
            stage=pending.stage,
            request=pending.request,
            response=json.dumps(response),  # in ASCII: any text can be stored
            finish=completion.finish_reason,
            prompt_tokens=tokens[0],
            completion_tokens=tokens[1],
            usd=self.entry.usd(*tokens, share),
            seconds=round(seconds, 3),
            made_at=_now(),
        )
        return call, Answer(Reply(completion.text, completion.finish_reason), response)

    @staticmethod
    def _estimated(pending: Pending, completion: Completion) -> list[int]:
        """Estimate the tokens of a call whose endpoint does not count them."""
        texts = pending.request, completion.reasoning + completion.text
        return [int(len(text) / catalog.CHARACTERS_A_TOKEN) + 1 for text in texts]

    @staticmethod
    def _read(response: object, body: dict) -> Completion:
        """Read a chat completion. Raises Unusable for one that holds thoughts alone, too."""
        completion = completions.read(response, body)
        if completion.finish_reason == "stop" and completion.reasoning and not completion.text:
            raise Unusable("the reply holds no text, its thoughts alone", completions.usage(response))
        return completion

    def lost(self, pending: Pending, tokens: tuple[int, int] | None, share: float = 1.0) -> Lost | None:
        """Describe the cost of an unusable reply for the ledger; None where it states no tokens."""
        if not tokens:
            return None
        usd = self.entry.usd(*tokens, share)
        return Lost(self.entry.name, pending.purpose, self.run, self.stage, *tokens, usd, _now())

    def unanswered(self, error: object) -> Answer:
        """Count a call that failed for good; it is not stored."""
        cause = transport.masked(error, self.entry)
        self.failures[cause] += 1
        return Answer(Reply(None, f"failed: {cause}"), None)

    def over_budget(self, spent: float) -> OverBudget:
        """Return the error for a budget that the next call could exceed."""
        return OverBudget(
            f"the budget of USD {self.budget_usd:g} for the run {self.run} is spent (USD {spent:.2f}): "
            "raise budget_usd, and the same command goes on from here"
        )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
