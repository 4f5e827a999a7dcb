"""Chat calls to an OpenAI-compatible endpoint: many at once, every reply in the ledger before it is used."""

import asyncio
import json
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

import httpx2
import openai
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from lib.errors import UserError
from lib.oracle import background, prices
from lib.oracle.ledger import Call, Ledger, key
from lib.oracle.writer import Writer

REFUSALS = (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError)
SILENCE = 20  # so many failed calls in a row, or as many as run at once, mean that the endpoint is down


class Request(NamedTuple):
    """One call: what is sent, and why. Another `attempt` is another call, though all else is the same."""

    messages: list[dict]
    purpose: str
    attempt: int = 1
    sampling: dict = {}  # temperature, max_tokens, … as the endpoint names them


class Reply(NamedTuple):
    """`text` is None where the call failed; `finish` then says why. `response` is all that the endpoint said."""

    text: str | None
    finish: str
    response: dict


class OverBudget(UserError):
    """The next call could exceed the budget."""


class _Malformed(Exception):
    """A reply of status 200 that is no chat completion: truncated JSON, no choices, another content type."""


@dataclass
class Endpoint:
    """One model behind one URL, with its ledger; `chat` is all that the rest needs.

    `budget_usd` holds for all calls of `run` in the ledger; it is exceeded by the calls in flight at most.
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
    made: int = 0  # calls answered by the endpoint
    cached: int = 0  # calls answered by the ledger
    failed: int = 0
    usd: float = 0.0  # of the calls made, as far as their price is known

    def __post_init__(self):
        self.url = (self.url or os.environ.get("OPENAI_BASE_URL") or "https://api.openai.com/v1").rstrip("/")
        self._price = prices.of(self.model)
        if self.budget_usd is not None and self._price is None:
            raise UserError(
                f"budget_usd={self.budget_usd:g}, but the price of {self.model} is unknown: add it to params/prices.yaml"
            )

    def chat(
        self, requests: Iterable[Request], report: Callable[[int, int], None] | None = None
    ) -> list[Reply]:
        """A reply to each request, in order; those in the ledger are not asked again, equal ones once.

        Raises UserError when `ledger_only` lacks a call, when the endpoint refuses the key or the model or stays silent, and
        OverBudget. What was answered until then is stored.
        """
        requests = list(requests)
        names = [self._key(request) for request in requests]
        found = {name: self._reply(json.loads(text)) for name, text in self.ledger.find(set(names))}
        missing = {name: request for name, request in zip(names, requests, strict=True) if name not in found}
        self.cached += len(requests) - len(missing)
        if missing and self.ledger_only:
            raise UserError(
                f"{len(missing):,} of {len(requests):,} calls are not in the ledger {self.ledger.path}, and ledger_only asks none"
            )
        if missing:
            found |= self._ask_all(missing, report or (lambda done, total: None))
        return [found[name] for name in names]

    def _key(self, request: Request) -> str:
        return key(self.url, self.model, _content(request))

    @staticmethod
    def _reply(response: dict) -> Reply:
        choice = response["choices"][0]
        return Reply(choice["message"]["content"], choice.get("finish_reason") or "", response)

    def _ask_all(self, missing: dict[str, Request], report: Callable) -> dict[str, Reply]:
        done: dict[str, Reply] = {}
        background.run(self._work_all(missing, done), lambda: report(len(done), len(missing)))
        report(len(done), len(missing))
        return done

    async def _work_all(self, missing: dict[str, Request], done: dict[str, Reply]) -> None:
        source, self._stop, self._in_a_row = iter(missing.items()), None, 0
        self._spent = self.ledger.spent(self.run)  # by all endpoints: oracle and judge share the run's budget
        pace = _Pace(self.requests_per_minute), _Pace(self.tokens_per_minute)
        async with _client(self) as client, Writer(self.ledger) as writer, asyncio.TaskGroup() as group:
            for _ in range(min(self.concurrency, len(missing))):
                group.create_task(self._work(source, client, writer, pace, done))
        if self._stop:
            raise self._stop

    async def _work(self, source, client, writer: Writer, pace, done: dict[str, Reply]) -> None:
        """Ask one after the other until there is a reason to stop; a call that is under way is always finished."""
        for name, request in source:
            if self.budget_usd is not None and self._spent >= self.budget_usd:
                self._stop = OverBudget(
                    f"the budget of US$ {self.budget_usd:g} for the run {self.run} is spent (US$ {self._spent:.2f}): "
                    "raise budget_usd, and the same command goes on from here"
                )
            await pace[0].wait(1)
            await pace[1].wait(prices.tokens(request.messages) + request.sampling.get("max_tokens", 0) / 2)
            if self._stop:
                return
            done[name] = await self._ask(name, request, client, writer)

    async def _ask(self, name: str, request: Request, client, writer: Writer) -> Reply:
        started = time.monotonic()
        try:
            response = await self._send(request, client)
        except (openai.APIError, _Malformed) as error:
            return self._failure(error)
        self.made, self._in_a_row = self.made + 1, 0
        call = self._call(name, request, response, time.monotonic() - started)
        self._spent, self.usd = self._spent + (call.usd or 0), self.usd + (call.usd or 0)
        await writer.store(call)
        return self._reply(response)

    async def _send(self, request: Request, client: openai.AsyncOpenAI) -> dict:
        """One answered call. The SDK asks again after what HTTP reports; a malformed reply is asked again here."""
        body = {"model": self.model, "messages": request.messages, **request.sampling}
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(_Malformed),
            stop=stop_after_attempt(self.tries),
            wait=wait_exponential_jitter(multiplier=0.2, max=8),
            reraise=True,
        ):
            with attempt:
                raw = await client.post("/chat/completions", body=body, cast_to=httpx2.Response)
                return _completion(raw)

    def _failure(self, error: Exception) -> Reply:
        self.failed, self._in_a_row = self.failed + 1, self._in_a_row + 1
        said = _masked(error)
        if isinstance(error, REFUSALS):
            self._stop = UserError(f"{self.url} refuses {self.model}: {said}")
        elif self._in_a_row >= max(SILENCE, self.concurrency):
            self._stop = UserError(
                f"{self._in_a_row} calls in a row failed at {self.url}, the last with: {said}. What was answered is "
                "kept: the same command goes on from here"
            )
        return Reply(None, f"failed: {said}", {})

    def _call(self, name: str, request: Request, response: dict, seconds: float) -> Call:
        usage = response.get("usage") or {}
        tokens = usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0
        return Call(
            key=name,
            endpoint=self.url,
            model=self.model,
            purpose=request.purpose,
            run=self.run,
            request=json.dumps(_content(request), ensure_ascii=False),
            response=json.dumps(response, ensure_ascii=False),
            finish=response["choices"][0].get("finish_reason") or "",
            prompt_tokens=tokens[0],
            completion_tokens=tokens[1],
            usd=prices.usd(self._price, *tokens),
            seconds=round(seconds, 3),
            made_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        )


def _content(request: Request) -> dict:
    return {"messages": request.messages, "sampling": request.sampling, "attempt": request.attempt}


def _completion(raw: httpx2.Response) -> dict:
    """The chat completion of a reply. Raises _Malformed where it is none."""
    try:
        response = json.loads(raw.content)
        text = response["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise _Malformed(f"a reply that is no chat completion ({error!r}): {raw.content[:80]!r}") from None
    if not isinstance(text, str):
        raise _Malformed(f"a reply without text (its content is {text!r})")
    return response


def _client(endpoint: Endpoint) -> openai.AsyncOpenAI:
    """The SDK on aiohttp, with as many connections as calls run at once."""
    key = os.environ.get("OPENAI_API_KEY")
    if not key and "api.openai.com" in endpoint.url:
        raise UserError(
            "no key for api.openai.com: set OPENAI_API_KEY, or oracle_url for a server of your own"
        )
    limits = httpx2.Limits(
        max_connections=endpoint.concurrency, max_keepalive_connections=endpoint.concurrency
    )
    http = openai.DefaultAioHttpClient(limits=limits, timeout=endpoint.timeout_s)
    return openai.AsyncOpenAI(
        api_key=key or "none",
        base_url=endpoint.url,
        timeout=endpoint.timeout_s,
        max_retries=endpoint.tries - 1,
        http_client=http,
    )


def _masked(error: Exception) -> str:
    """The error in one line, without the key."""
    text, secret = " ".join(str(error).split()) or type(error).__name__, os.environ.get("OPENAI_API_KEY")
    return (text.replace(secret, "[key]") if secret else text)[:300]


class _Pace:
    """At most so many a minute, evenly."""

    def __init__(self, per_minute: float | None):
        self.gap, self.next = 60 / per_minute if per_minute else 0.0, 0.0

    async def wait(self, amount: float) -> None:
        if self.gap:
            now = time.monotonic()
            start = max(now, self.next)
            self.next = start + amount * self.gap
            await asyncio.sleep(start - now)
