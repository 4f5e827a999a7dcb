"""Calls whose replies are in the ledger before they are used."""

import asyncio
import json
import re
import time
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import openai

from lib.errors import UserError
from lib.models import calls, catalog, completions
from lib.models.calls import masked
from lib.models.catalog import Model
from lib.models.completions import Completion, Unusable
from lib.models.ledger import Call, Pending, key
from lib.models.types import FAILED

REFUSALS = (401, 403, 404)  # of the key, or of the model
INVALID = (400, 422)  # of the request
TOO_LONG = re.compile("context|too (?:long|large)|exceed", re.IGNORECASE)  # of one prompt, not of all
SILENCE = 20  # failed calls in a row, or as many as run at once, that mean that the endpoint is down
FEW = 5  # calls that mean the same where all of them failed
LOOK_S = 1.0  # between two looks at what other processes of the run have spent
UNLIMITED = 4096  # completion tokens reckoned with where a request sets no limit


class Live:
    """Asks a backend's model until every call is answered into `done`, or there is a reason to stop."""

    def __init__(self, backend, done: dict):
        self.backend, self.model, self.done = backend, backend.model, done
        self.reason: UserError | None = None
        self.stopped = asyncio.Event()
        self.requests_pace = calls.Pace(self.model.requests_per_minute, self.stopped)
        self.tokens_pace = calls.Pace(self.model.tokens_per_minute, self.stopped)
        self.spent, self.looked = 0.0, float("-inf")
        self.in_a_row = self.succeeded = 0
        self.failure = ""  # the last one
        self.unstored: dict[str, Call] = {}
        self.storing = asyncio.Lock()

    async def ask(self, missing: list[Pending]) -> None:
        """Answer calls, `concurrency` at once.

        Raises the reason to stop, once the calls under way have ended and are stored.
        """
        waiting, at_once = iter(missing), self.backend.concurrency
        client = calls.connect(self.model, at_once, self.backend.tries)
        try:
            async with client as self.client, asyncio.TaskGroup() as group:
                for _ in range(at_once):
                    group.create_task(self._work(waiting))
        finally:
            self.backend.storage.store(self.unstored.values())  # answered when the stage was interrupted
        if self.reason:
            raise self.reason
        if not self.succeeded and self.in_a_row >= FEW:
            raise self._down(f"all {self.in_a_row} calls failed")

    async def _work(self, waiting: Iterator[Pending]) -> None:
        """Answer one call after the other; a reason to stop lets the calls under way end."""
        while not self.reason and (pending := next(waiting, None)):
            try:
                await self._ask(pending)
            except UserError as error:
                self._stop(error)
            except Exception as error:  # the other calls must not lose their replies to it
                cause = masked(f"{type(error).__name__}: {error}", self.model)
                self._stop(
                    UserError(
                        f"calls to {self.model.url} stopped: {cause}. Start the same command again: what was "
                        "answered is kept."
                    )
                )

    def _stop(self, reason: UserError) -> None:
        self.reason = self.reason or reason
        self.stopped.set()

    async def _ask(self, pending: Pending) -> None:
        self._check_budget()
        request = body(self.model, pending)
        await self.requests_pace.wait(1)
        await self.tokens_pace.wait(catalog.tokens(request["messages"]) + limit(request) / 2)
        if self.reason:
            return
        started = time.monotonic()
        try:
            response, completion = await calls.post(
                self.client, request, self.backend.read, self.backend.tries
            )
        except (openai.APIError, Unusable) as error:
            await self._fail(pending, request, error)
            return
        call = answered_call(self.backend, pending, response, completion, time.monotonic() - started)
        self.in_a_row, self.succeeded = 0, self.succeeded + 1
        self.spent += call.usd or 0
        await self._store(call)
        self.backend.sent += 1
        self.done[pending.key] = completion

    def _check_budget(self) -> None:
        """Raise UserError where this run's calls, of all its processes, have spent the budget."""
        budget, run = self.backend.budget_usd, self.backend.run
        if budget is None:
            return
        if time.monotonic() - self.looked > LOOK_S:
            self.spent, self.looked = self.backend.storage.spent(run), time.monotonic()
        if self.spent >= budget:
            raise UserError(
                f"budget_usd={budget:g}: it is spent (USD {self.spent:.2f}) by the run {run}. Raise it, and "
                "the same command goes on from here."
            )

    async def _store(self, call: Call) -> None:
        """Return once the call is on the disk. One transaction holds all that wait for the last one."""
        self.unstored[call.key] = call
        async with self.storing:
            if call.key in self.unstored:
                together = list(self.unstored.values())
                try:
                    await asyncio.to_thread(self.backend.storage.store, together)
                finally:
                    for each in together:
                        del self.unstored[each.key]

    async def _fail(self, pending: Pending, request: dict, error: openai.APIError | Unusable) -> None:
        """Count a failed call and what it cost; stop where the others would fail, too."""
        for paid in unusable_calls(self.backend, pending, error):
            self.spent += paid.usd or 0
            await self._store(paid)
        self.in_a_row += 1
        self.done[pending.key] = failed_call(self.backend, error)
        self.failure = self.done[pending.key].finish_reason
        status = getattr(error, "status_code", 0)
        if status in INVALID and (name := _refused(error, request)):
            raise UserError(
                f"{self.model.served_name} at {self.model.url} refuses {name}={request[name]!r}: "
                f"{self.failure}. Run python -m lib.models probe {self.model.name}, which prints the entry "
                f"for {catalog.LIST}."
            )
        # some servers refuse the name of another student as they refuse a prompt that is too long
        is_refused = status in INVALID and not self.backend.ledger and not TOO_LONG.search(str(error))
        if (status in REFUSALS or is_refused) and not self.succeeded:
            raise UserError(await calls.refusal(self.client, self.model, error))
        if self.in_a_row >= max(SILENCE, self.backend.concurrency):
            raise self._down(f"{self.in_a_row} calls in a row failed")

    def _down(self, what: str) -> UserError:
        return UserError(
            f"{what} at {self.model.url}, the last with: {self.failure}. Start the same command "
            "again: what was answered is kept."
        )


def _refused(error: Exception, body: dict) -> str | None:
    """Name the parameter that an endpoint refuses; None where it refuses this prompt for its length."""
    names = [name for name in body if name not in ("model", "messages")]
    return None if TOO_LONG.search(str(error)) else next((name for name in names if name in str(error)), None)


# --- what a backend, its live calls and its batches have in common


def pending(backend, messages: list[dict], sampling: dict, purpose: str, attempt: int) -> Pending:
    """Describe a call before it is answered; `sampling` is as the model takes it."""
    content = {"messages": messages, "sampling": sampling, "attempt": attempt}
    text, model = json.dumps(content, ensure_ascii=False), backend.model
    most_usd = model.usd(len(text) / catalog.CHARACTERS_A_TOKEN, limit(sampling)) or 0
    return Pending(key(backend.model_name, content), purpose, backend.run, backend.stage, text, most_usd)


def limit(body: dict) -> int:
    """Return the most completion tokens of a request."""
    return next((body[name] for name in completions.LIMITS if name in body), UNLIMITED)


def body(model: Model, pending: Pending) -> dict:
    """Return what is sent."""
    request = json.loads(pending.request)
    return {"model": model.served_name, "messages": request["messages"], **request["sampling"]}


def answered_call(
    backend,
    pending: Pending,
    response: dict,
    completion: Completion,
    seconds: float = 0.0,
    share: float = 1.0,
) -> Call:
    """Return an answered call for the ledger; `share` is that of the full price."""
    texts = pending.request, completion.reasoning + completion.text
    tokens = completions.usage(response) or [int(len(t) / catalog.CHARACTERS_A_TOKEN) + 1 for t in texts]
    call = _call(backend, pending, completion.finish_reason, tokens, share)
    return call._replace(response=json.dumps(response), seconds=round(seconds, 3))  # in ASCII: any text


def unusable_calls(backend, pending: Pending, error: Exception, share: float = 1.0) -> list[Call]:
    """Return what an unusable reply cost, as a call for the ledger; none where it states no tokens."""
    if not (tokens := getattr(error, "tokens", None)):
        return []
    pending = pending._replace(key=f"unusable {uuid.uuid4().hex}")
    return [_call(backend, pending, masked(error, backend.model), tokens, share)]


def _call(backend, pending: Pending, finish: str, tokens: Sequence[int], share: float) -> Call:
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    key, purpose, run, stage, request, _ = pending
    where, usd = (backend.model.url, backend.model_name), backend.model.usd(*tokens, share)
    return Call(key, *where, purpose, run, stage, request, None, finish, *tokens, usd, 0.0, now)


def failed_call(backend, error: object) -> Completion:
    """Count a call that failed for good; it is not stored."""
    cause = masked(error, backend.model)
    backend.failures[cause] += 1
    return Completion("", finish_reason=f"{FAILED}{cause}")
