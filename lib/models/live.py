"""Send requests to an endpoint, many at once, and store every answered call before its reply is used."""

import asyncio
import re
import time
from collections.abc import Iterator

import httpx2
import openai
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_exponential_jitter

from lib.errors import UserError
from lib.models import catalog, transport
from lib.models.completions import Unusable
from lib.models.ledger import Call

REFUSALS = (401, 403, 404)  # of the key, or of the model
INVALID = (400, 422)  # of the request
TOO_LONG = re.compile("context|too (?:long|large)|exceed", re.IGNORECASE)  # of one prompt, not of all
SILENCE = 20  # failed calls in a row, or as many as run at once, that mean that the endpoint is down
FEW = 5  # calls that mean the same where all of them failed


class Live:
    """Asks an endpoint until every request is answered, or there is a reason to stop."""

    def __init__(self, endpoint, done: dict):
        self.endpoint, self.done = endpoint, done
        self.spent = endpoint.ledger.spent(endpoint.run)  # by oracle and judge, who share the budget
        self.stop: UserError | None = None
        self.in_a_row = self.succeeded = 0
        self.failure = ""  # the last one
        self.unstored: dict[str, Call] = {}

    async def ask(self, missing: dict) -> None:
        """Answer {key: request} into `done`. Raises the reason to stop, once calls under way are stored."""
        self.stopped, self.storing = asyncio.Event(), asyncio.Lock()
        limits = self.endpoint.entry.requests_per_minute, self.endpoint.entry.tokens_per_minute
        self.paces = [_Pace(limit, self.stopped) for limit in limits]
        waiting = iter(missing.items())
        try:
            async with self.endpoint.connect() as self.client, asyncio.TaskGroup() as group:
                for _ in range(min(self.endpoint.concurrency, len(missing))):
                    group.create_task(self._work(waiting))
        finally:
            self._write(list(self.unstored.values()))  # answered when the stage was interrupted
        if not self.stop and not self.succeeded and self.in_a_row >= FEW:
            self._end(f"all {self.in_a_row} calls failed")
        if self.stop:
            raise self.stop

    async def _work(self, waiting: Iterator) -> None:
        """Ask one request after the other; a call that is under way is always finished."""
        while not self.stop:
            try:
                name, request = next(waiting)
                await self._reply(name, request)
            except StopIteration:
                return
            except UserError as error:
                self._halt(error)
            except Exception as error:  # the other calls must not lose their replies to it
                cause = transport.masked(f"{type(error).__name__}: {error}", self.endpoint.entry)
                self._halt(
                    UserError(f"calls to {self.endpoint.url} had to stop: {cause}. What was stored is kept.")
                )

    def _halt(self, reason: UserError) -> None:
        self.stop = self.stop or reason
        self.stopped.set()

    async def _reply(self, name: str, request) -> None:
        budget = self.endpoint.budget_usd
        if budget is not None and self.spent >= budget:
            raise self.endpoint.over_budget(self.spent)
        await self.paces[0].wait(1)
        await self.paces[1].wait(catalog.tokens(request.messages) + request.limit / 2)
        if self.stop:
            return
        pending = self.endpoint.pending(name, request)
        try:
            call, answer = await self._send(pending, request)
        except (openai.APIError, Unusable) as error:
            await self._pay(pending, error)
            self.done[name] = self._failure(error, request)
            return
        self.in_a_row, self.succeeded = 0, self.succeeded + 1
        self.spent += call.usd or 0
        await self._store(call)
        self.endpoint.sent += 1
        self.done[name] = answer

    async def _send(self, pending, request) -> tuple:
        """Return the answered call and its answer. The SDK asks again after an error that HTTP reports.

        Here an unusable reply is asked again, unless it states tokens: those were paid.
        """
        body, started = self.endpoint.body(request), time.monotonic()
        async for attempt in AsyncRetrying(
            retry=retry_if_exception(lambda error: isinstance(error, Unusable) and not error.tokens),
            stop=stop_after_attempt(self.endpoint.tries),
            wait=wait_exponential_jitter(multiplier=0.2, max=8),
            reraise=True,
        ):
            with attempt:
                raw = await self.client.post("/chat/completions", body=body, cast_to=httpx2.Response)
                response = transport.parsed(raw.content)
                return self.endpoint.answer(pending, response, time.monotonic() - started)

    async def _store(self, call: Call) -> None:
        """Return once the call is on the disk. One transaction holds all that wait for the last one."""
        self.unstored[call.key] = call
        async with self.storing:
            if call.key in self.unstored:
                calls = list(self.unstored.values())
                try:
                    await asyncio.to_thread(self._write, calls)
                finally:
                    for each in calls:
                        del self.unstored[each.key]

    def _write(self, calls: list[Call]) -> None:
        """Store calls together. Where that fails each is stored by itself, and the first error raised."""
        try:
            self.endpoint.ledger.store(calls)
        except Exception:
            errors = [error for call in calls if (error := self._write_one(call))]
            if errors:
                raise errors[0] from None

    def _write_one(self, call: Call) -> Exception | None:
        try:
            self.endpoint.ledger.store([call])
        except Exception as error:
            return error
        return None

    async def _pay(self, pending, error: Exception) -> None:
        """Count the cost of an unusable reply."""
        if lost := self.endpoint.lost(pending, getattr(error, "tokens", None)):
            self.spent += lost.usd or 0
            await asyncio.to_thread(self.endpoint.ledger.lose, [lost])

    def _failure(self, error: Exception, request):
        self.in_a_row += 1
        answer = self.endpoint.unanswered(error)
        self.failure = answer.reply.finish
        refused = getattr(error, "status_code", 0)
        sampling = self.endpoint.entry.request(request.sampling)
        if refused in REFUSALS and not self.succeeded:
            self._halt(UserError(f"{self.endpoint.url} refuses {self.endpoint.model}: {self.failure}"))
        elif refused in INVALID and (name := _refused(error, sampling)):
            self._halt(
                UserError(
                    f"{self.endpoint.model} at {self.endpoint.url} refuses {name}={sampling[name]!r}: "
                    f"{self.failure}. Run python -m lib.models probe {self.endpoint.entry.name}, which "
                    f"prints the entry for {catalog.LIST}, or name another model."
                )
            )
        elif self.in_a_row >= max(SILENCE, self.endpoint.concurrency):
            self._end(f"{self.in_a_row} calls in a row failed")
        return answer

    def _end(self, what: str) -> None:
        self._halt(
            UserError(
                f"{what} at {self.endpoint.url}, the last with: {self.failure}. What was answered is kept: "
                "the same command goes on from here"
            )
        )


def _refused(error: Exception, sampling: dict) -> str | None:
    """The parameter that an endpoint refuses; None where it refuses this prompt for its length."""
    return (
        None if TOO_LONG.search(str(error)) else next((name for name in sampling if name in str(error)), None)
    )


class _Pace:
    """At most so many a minute, evenly; a stop ends the waiting."""

    def __init__(self, per_minute: float | None, stopped: asyncio.Event):
        self.gap, self.next, self.stopped = 60 / per_minute if per_minute else 0.0, 0.0, stopped

    async def wait(self, amount: float) -> None:
        if self.gap:
            now = time.monotonic()
            start = max(now, self.next)
            self.next = start + amount * self.gap
            try:
                await asyncio.wait_for(self.stopped.wait(), start - now)
            except TimeoutError:
                return
