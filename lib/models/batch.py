"""Send calls by the Batch API: uploaded as files, answered within a day at half the price.

A batch is noted in the ledger before it is made, and found again by its token. Killed at any moment, the
same command collects what was ordered and orders nothing twice.
"""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager

import openai

from lib import files
from lib.errors import UserError
from lib.models import calls, paid
from lib.models.catalog import BATCH_SHARE, LIST
from lib.models.completions import Unusable
from lib.models.ledger import Pending

FILE_CALLS, FILE_BYTES = 50_000, 100_000_000  # of one batch; the API takes 50,000 and 200 MB
PATIENCE_S = 3600  # without a word of the endpoint
ORDERING_S = 900  # for another process to have its batch made
ENDED = {"completed", "expired", "cancelled", "failed"}


class BatchAPI:
    """Orders calls of a backend in batches, and collects what they bring into `done`."""

    def __init__(self, backend, done: dict):
        self.backend, self.done, self.ledger = backend, done, backend.storage
        self.answered = len(done)  # so far, as the API counts them

    async def order(self, missing: list[Pending], waiting: set[str]) -> None:
        """Order calls; add the batches' tokens to `waiting`. Raises UserError over the budget."""
        async with self._client():
            for part in self._files(missing):
                waiting.add(await self._order(part))

    async def collect(self, tokens: Iterable[str]) -> None:
        """Wait for batches, and answer what they hold into `done`. Raises UserError where one was refused."""
        self.answered = len(self.done)
        async with self._client():
            for token in sorted(tokens):
                await self._collect(token)

    async def find_again(self) -> None:
        """Name the batches that were made just before a kill; forget those that were never made."""
        with self._ordering():
            lost = self.ledger.nameless(self.backend.model.url)
            async with self._client():
                async for batch in self.client.batches.list(limit=100):
                    if (batch.metadata or {}).get("token") in lost:
                        self.ledger.name_batch(batch.metadata["token"], batch.id)
            for token in self.ledger.nameless(self.backend.model.url):
                self.ledger.forget(token)

    def _ordering(self):
        """Keep other processes from taking a batch that is being made for one that never was."""
        path = self.ledger.path.with_name(f"{self.ledger.path.name}-ordering")
        return files.lock(path, ORDERING_S, f"the ledger {self.ledger.path}")

    @asynccontextmanager
    async def _client(self):
        try:
            async with calls.connect(self.backend.model, 10, self.backend.tries) as self.client:
                yield
        except openai.APIError as error:
            cause = calls.masked(error, self.backend.model)
            raise UserError(
                f"the Batch API of {self.backend.model.url} fails: {cause}. Start the same command again: it "
                f"collects the batches that were ordered. To order no more, remove batch from {LIST}."
            ) from None

    def _files(self, missing: list[Pending]) -> Iterator[list[tuple[Pending, bytes]]]:
        """Yield the calls in parts of a file's size, each with its line."""
        part, size = [], 0
        for pending in missing:
            body = paid.body(self.backend.model, pending)
            line = {"custom_id": pending.key, "method": "POST", "url": "/v1/chat/completions", "body": body}
            text = json.dumps(line).encode() + b"\n"
            if part and (len(part) == FILE_CALLS or size + len(text) > FILE_BYTES):
                yield part
                part, size = [], 0
            part.append((pending._replace(most_usd=pending.most_usd * BATCH_SHARE), text))
            size += len(text)
        yield from [part] if part else []

    async def _order(self, part: list[tuple[Pending, bytes]]) -> str:
        """Have a batch made; its note stands in the ledger before it exists."""
        self._check_budget(sum(pending.most_usd for pending, _ in part))
        token = uuid.uuid4().hex
        file = await self.client.files.create(
            file=("calls.jsonl", b"".join(text for _, text in part)), purpose="batch"
        )
        with self._ordering():
            self.ledger.order(token, self.backend.model.url, [pending for pending, _ in part])
            created = await self.client.with_options(max_retries=0).batches.create(  # a retry could pay twice
                input_file_id=file.id,
                endpoint="/v1/chat/completions",
                completion_window="24h",
                metadata={"token": token},
            )
            self.ledger.name_batch(token, created.id)
        return token

    def _check_budget(self, most: float) -> None:
        budget, spent = self.backend.budget_usd, self.ledger.spent(self.backend.run)
        if budget is not None and spent + most > budget:
            raise UserError(
                f"budget_usd={budget:g}: USD {spent:.2f} of the run {self.backend.run} are spent or ordered, "
                f"and the next batch may cost USD {most:.2f}. Raise it, and start the same command again."
            )

    async def _collect(self, token: str) -> None:
        """Wait for a batch, and store its replies as its note goes."""
        if not (noted := self.ledger.batch(token)):
            return
        batch_id, ordered = noted
        batch = await self._ended(token, batch_id)
        if batch.status == "failed":
            self.ledger.forget(token)
            why = "; ".join(error.message or "" for error in (batch.errors and batch.errors.data) or [])
            raise UserError(
                f"{self.backend.model.url} refuses the batch {batch.id}: {why or 'it does not say why'}. "
                f"Start the same command again, or remove batch from the entry in {LIST}."
            )
        answered, answers = [], {}
        async for pending, response in self._results(batch, ordered):
            try:
                completion = self.backend.read(response, paid.body(self.backend.model, pending))
                answered.append(
                    paid.answered_call(self.backend, pending, response, completion, share=BATCH_SHARE)
                )
                answers[pending.key] = completion
            except Unusable as error:
                answers[pending.key] = paid.failed_call(self.backend, error)
                answered += paid.unusable_calls(self.backend, pending, error, BATCH_SHARE)
        self.ledger.store(answered, collected=token)
        self.backend.sent += sum(call.response is not None for call in answered)
        self.done |= answers

    async def _results(self, batch, ordered: dict[str, Pending]) -> AsyncIterator[tuple[Pending, object]]:
        """Yield the calls that have a result, each with its response; a line that is none of ours is none."""
        for name in filter(None, (batch.output_file_id, batch.error_file_id)):
            for line in (await self.client.files.content(name)).content.splitlines():
                try:
                    entry = json.loads(line)
                    call, result = ordered[entry["custom_id"]], entry.get("response") or {"body": entry}
                    response = result["body"]
                except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
                    continue
                yield call, response

    async def _ended(self, token: str, batch_id: str):
        """The batch, once it is under way no more. An endpoint may be out of reach for an hour meanwhile."""
        before, heard = self.answered, time.monotonic()
        while True:
            try:
                batch = await self.client.batches.retrieve(batch_id)
                heard = time.monotonic()
                self.answered = before + (batch.request_counts.completed if batch.request_counts else 0)
                if batch.status in ENDED:
                    return batch
            except openai.NotFoundError:
                self.ledger.forget(token)
                raise
            except (openai.APIConnectionError, openai.InternalServerError, openai.RateLimitError):
                if time.monotonic() - heard > PATIENCE_S:
                    raise
            await asyncio.sleep(self.backend.poll_s)
