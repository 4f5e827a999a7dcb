"""Calls made at once, many side by side: the quick way to replies."""

import asyncio
import sqlite3
import time
from collections.abc import Iterator

import httpx2
import openai
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from lib.errors import UserError
from lib.oracle import prices, transport
from lib.oracle.writer import Writer

REFUSALS = (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError)
SILENCE = 20  # so many failed calls in a row, or as many as run at once, mean that the endpoint is down


class Live:
    """Asks an endpoint what is missing until it is all answered, or there is a reason to stop."""

    def __init__(self, endpoint, done: dict):
        self.endpoint, self.done = endpoint, done
        self.spent = endpoint.ledger.spent(
            endpoint.run
        )  # by all endpoints: oracle and judge share the budget
        self.pace = _Pace(endpoint.requests_per_minute), _Pace(endpoint.tokens_per_minute)
        self.stop: UserError | None = None
        self.in_a_row = 0  # failures

    @property
    def answered(self) -> int:
        return len(self.done)

    async def ask(self, missing: Iterator) -> None:
        """Answer each (key, request) into `done`. Raises what made it stop, once the calls under way are stored."""
        try:
            async with (
                self.endpoint.connect() as self.client,
                Writer(self.endpoint.ledger) as self.writer,
                asyncio.TaskGroup() as group,
            ):
                for _ in range(self.endpoint.concurrency):
                    group.create_task(self._work(missing))
        except* sqlite3.Error as errors:
            self.stop = UserError(
                f"the ledger {self.endpoint.ledger.path} cannot be written ({errors.exceptions[0]}): what was stored is "
                "kept; make room on the disk, and the same command goes on from here"
            )
        if self.stop:
            raise self.stop

    async def _work(self, missing: Iterator) -> None:
        """Ask one after the other; a call that is under way is always finished."""
        for name, request in missing:
            budget = self.endpoint.budget_usd
            if budget is not None and self.spent >= budget:
                self.stop = self.endpoint.over_budget(self.spent)
            await self.pace[0].wait(1)
            await self.pace[1].wait(
                prices.tokens(request.messages) + request.sampling.get("max_tokens", 0) / 2
            )
            if self.stop:
                return
            self.done[name] = await self._reply(name, request)

    async def _reply(self, name: str, request):
        started = time.monotonic()
        try:
            response = await self._send(request)
        except (openai.APIError, transport.Malformed) as error:
            return self._failure(error)
        self.in_a_row = 0
        asked = self.endpoint.asked(name, request)
        call = self.endpoint.call(asked, response, time.monotonic() - started)
        self.spent += call.usd or 0
        await self.writer.store(call)
        return self.endpoint.answered(call, response)

    async def _send(self, request) -> dict:
        """One answered call. The SDK asks again after what HTTP reports; a malformed reply is asked again here."""
        body = self.endpoint.body(request)
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(transport.Malformed),
            stop=stop_after_attempt(self.endpoint.tries),
            wait=wait_exponential_jitter(multiplier=0.2, max=8),
            reraise=True,
        ):
            with attempt:
                raw = await self.client.post("/chat/completions", body=body, cast_to=httpx2.Response)
                return transport.completion(raw.content)

    def _failure(self, error: Exception):
        self.in_a_row += 1
        reply, endpoint = self.endpoint.unanswered(error), self.endpoint
        if isinstance(error, REFUSALS):
            self.stop = UserError(f"{endpoint.url} refuses {endpoint.model}: {reply.finish}")
        elif self.in_a_row >= max(SILENCE, endpoint.concurrency):
            self.stop = UserError(
                f"{self.in_a_row} calls in a row failed at {endpoint.url}, the last with: {reply.finish}. What was "
                "answered is kept: the same command goes on from here"
            )
        return reply


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
