"""Calls by the Batch API: uploaded as files, answered within a day at half the price, collected when they are done.

A batch is noted in the ledger before it is made, and found again by its token: killed at any moment, the same command
collects what was ordered and orders nothing twice.
"""

import asyncio
import json
import uuid
from collections.abc import Iterator
from itertools import chain

import openai

from lib.errors import UserError
from lib.oracle import prices, transport
from lib.oracle.ledger import Asked

FILE_CALLS, FILE_BYTES = 50_000, 100_000_000  # of one batch; the API takes 50,000 and 200 MB
ENDED = {"completed", "expired", "cancelled", "failed"}


class Batch:
    """Has an endpoint answer what is missing, batch by batch, and waits for all of them."""

    def __init__(self, endpoint, done: dict):
        self.endpoint, self.done, self.ledger = endpoint, done, endpoint.ledger
        self.answered = 0  # so far, as the API counts them

    async def ask(self, missing: Iterator) -> None:
        """Answer each (key, request) into `done`. Raises UserError where a batch is refused or could exceed the budget."""
        async with self.endpoint.connect() as self.client:
            try:
                await self._ask(missing)
            except openai.APIError as error:
                said = transport.masked(error, self.endpoint.key_from)
                raise UserError(
                    f"the Batch API of {self.endpoint.url} fails: {said}. What was ordered is noted: the same command "
                    "goes on from here; oracle_batch=false asks without it"
                ) from None

    async def _ask(self, missing: Iterator) -> None:
        await self._find_again()
        names, waiting = set(), set()
        for part in self._files(missing, names, waiting):
            waiting.add(await self._order(part))
        for token in waiting:
            await self._collect(token)
        for name in names - self.done.keys():
            self.done[name] = self.endpoint.unanswered("the batch ended without a reply")

    def _files(self, missing: Iterator, names: set, waiting: set) -> Iterator[list[tuple[Asked, bytes]]]:
        """What is neither stored nor ordered, in parts of a file's size; `waiting` gets the batches that hold the others."""
        part, size = [], 0
        for name, request in missing:
            names.add(name)
            if token := self.ledger.batch_of(name):
                waiting.add(token)
                continue
            line = {
                "custom_id": name,
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": self.endpoint.body(request),
            }
            text = json.dumps(line).encode() + b"\n"
            if part and (len(part) == FILE_CALLS or size + len(text) > FILE_BYTES):
                yield part
                part, size = [], 0
            part.append((self.endpoint.asked(name, request, prices.batch_share()), text))
            size += len(text)
        yield from [part] if part else []

    async def _order(self, part: list[tuple[Asked, bytes]]) -> str:
        """Have a batch made; its note stands in the ledger before it exists."""
        self._check_budget(sum(asked.most_usd for asked, _ in part))
        token = uuid.uuid4().hex
        file = await self.client.files.create(
            file=("calls.jsonl", b"".join(text for _, text in part)), purpose="batch"
        )
        self.ledger.order(token, self.endpoint.url, [asked for asked, _ in part])
        made = await self.client.with_options(max_retries=0).batches.create(  # a retry could pay twice
            input_file_id=file.id,
            endpoint="/v1/chat/completions",
            completion_window="24h",
            metadata={"token": token},
        )
        self.ledger.made(token, made.id)
        return token

    def _check_budget(self, most: float) -> None:
        budget, spent = self.endpoint.budget_usd, self.ledger.spent(self.endpoint.run)
        if budget is not None and spent + most > budget:
            raise UserError(
                f"the next batch may cost up to US$ {most:.2f}, and of the budget of US$ {budget:g} for the run "
                f"{self.endpoint.run} US$ {spent:.2f} are spent or ordered: raise budget_usd, and the same command goes on"
            )

    async def _find_again(self) -> None:
        """Name the batches that were made just before a kill; forget those that were never made."""
        lost = self.ledger.nameless(self.endpoint.url)
        if not lost:
            return
        async for batch in self.client.batches.list(limit=100):
            if (batch.metadata or {}).get("token") in lost:
                self.ledger.made(batch.metadata["token"], batch.id)
        for token in self.ledger.nameless(self.endpoint.url):
            self.ledger.forget(token)

    async def _collect(self, token: str) -> None:
        """Wait for a batch, store its replies, and take its note away."""
        batch_id, ordered = self.ledger.batch(token)
        batch = await self._ended(batch_id)
        if batch.status == "failed":
            self.ledger.forget(token)
            why = "; ".join(error.message or "" for error in (batch.errors and batch.errors.data) or [])
            raise UserError(
                f"{self.endpoint.url} refuses the batch {batch.id}: {why or 'it does not say why'}"
            )
        files = [name for name in (batch.output_file_id, batch.error_file_id) if name]
        lines = [(await self.client.files.content(name)).content.splitlines() for name in files]
        told = (json.loads(line) for line in chain(*lines))
        calls = [
            self._read(reply, ordered[reply["custom_id"]]) for reply in told if reply["custom_id"] in ordered
        ]
        self.ledger.store(call for call in calls if call)
        self.ledger.forget(token)

    async def _ended(self, batch_id: str):
        """The batch, once it is under way no more."""
        before = self.answered
        while (batch := await self.client.batches.retrieve(batch_id)).status not in ENDED:
            self.answered = before + (batch.request_counts.completed if batch.request_counts else 0)
            await asyncio.sleep(self.endpoint.poll_s)
        self.answered = before + (batch.request_counts.completed if batch.request_counts else 0)
        return batch

    def _read(self, told: dict, asked: Asked):
        """The call that a line of a result file answers; None where it failed, which is counted."""
        try:
            response = transport.checked((told.get("response") or {}).get("body"))
        except transport.Malformed as error:
            self.done[asked.key] = self.endpoint.unanswered(told.get("error") or error)
            return None
        call = self.endpoint.call(asked, response, share=prices.batch_share())
        self.done[asked.key] = self.endpoint.answered(call, response)
        return call
