"""A student behind a URL: an OpenAI-compatible server answers for it, one call a reply, many side by side."""

import asyncio
import json
import zlib
from collections import deque

import httpx2
import openai

from lib.errors import UserError
from lib.models import background, completions, transport
from lib.models.batches import Batch, How, Keep, Reply
from lib.models.completions import Unusable
from lib.models.loading import Served
from lib.text import clean

KEY = "STUDENT_API_KEY"  # the environment variable with the server's key, where it asks for one
# seconds of one call, which waits behind the others where a server is slow
TIMEOUT = openai.Timeout(1800, connect=10)
TRIES = 3


def answer(student: Served, batches: dict[int, Batch], how: How, keep: Keep) -> None:
    """Ask for replies to each text, a JSON list of messages; `keep` is given each batch that is whole.

    Raises UserError where the server can't be reached, refuses a call or answers with something else; the calls under way
    are then given up, the batches that were whole are kept.
    """
    sampling = {"temperature": how.temperature, "max_tokens": how.limit}
    # no field of OpenAI's, but of the servers that answer for a student
    sampling |= {"top_k": how.top_k} if how.top_k else {}
    asking = _Asking(student, batches, how.samples, sampling)

    def hand_over() -> None:
        while asking.whole:
            keep(*asking.whole.popleft())

    try:
        background.run(asking.ask(), hand_over)
    finally:
        hand_over()


def text(prompt: list[dict]) -> str:
    """Messages as they are sent."""
    return clean(json.dumps(prompt, ensure_ascii=False))


class _Asking:
    """Takes call after call, from whichever batch is next, so that no connection waits for the end of a batch."""

    def __init__(self, student: Served, batches: dict[int, Batch], samples: int, sampling: dict):
        self.student, self.batches, self.sampling = student, batches, sampling
        self.made = {n: [[None] * samples for _ in batch.texts] for n, batch in batches.items()}
        self.left = {n: samples * len(batch.texts) for n, batch in batches.items()}
        self.whole: deque[tuple[int, list[list[Reply]]]] = deque()
        self.calls = (
            (number, row, sample)
            for number, batch in batches.items()
            for row in range(len(batch.texts))
            for sample in range(samples)
        )

    async def ask(self) -> None:
        url, at_once = self.student.url, self.student.concurrency
        client = transport.connect(url, KEY, at_once, TIMEOUT, TRIES)
        try:
            async with client as self.client, asyncio.TaskGroup() as group:
                for _ in range(at_once):
                    group.create_task(self._work())
        except ExceptionGroup as failed:  # the first has stopped the others
            raise failed.exceptions[0] from None

    async def _work(self) -> None:
        for number, row, sample in self.calls:
            batch = self.batches[number]
            self.made[number][row][sample] = await self._reply(batch.texts[row], _seed(batch, row, sample))
            self.left[number] -= 1
            if not self.left[number]:
                self.whole.append((number, self.made.pop(number)))

    async def _reply(self, text: str, seed: int) -> Reply:
        """top_p is named because a server may take another from the student's generation_config."""
        body = {"model": self.student.name, "messages": json.loads(text), "top_p": 1.0, "seed": seed}
        body |= self.sampling
        try:
            raw = await self.client.post("/chat/completions", body=body, cast_to=httpx2.Response)
            return _read(transport.parsed(raw.content), body)
        except (openai.BadRequestError, openai.NotFoundError) as error:
            raise UserError(await self._refused(error)) from None
        except (openai.APIError, Unusable) as error:
            raise UserError(
                f"student_url {self.student.url} failed ({self._masked(error)}): the batches that were "
                "answered are kept, and the same command goes on from here"
            ) from None

    def _masked(self, error: Exception) -> str:
        return transport.masked(error, transport.key_variable(self.student.url, KEY))

    async def _refused(self, error: openai.APIStatusError) -> str:
        said = f"student_url {self.student.url} refuses {self.student.name} ({self._masked(error)})"
        try:
            served = [model.id for model in (await self.client.models.list()).data]
        except openai.APIError:
            served = []
        if self.student.name in served:
            return said
        others = f"; it serves {', '.join(served)}" if served else ""
        return f"{said}{others}: start one with vllm serve {self.student.name} --generation-config vllm"


def _seed(batch: Batch, row: int, sample: int) -> int:
    """Another one for each reply; below 2**31, which every server takes."""
    return zlib.crc32(f"{batch.seed} {row} {sample}".encode()) >> 1


def _read(response: object, body: dict) -> Reply:
    """Raises Unusable, too, where the server does not count tokens: what a student generated is reported."""
    reply = completions.read(response, body)
    if reply.completion_tokens is None:
        raise Unusable("a reply without its usage in tokens")
    return Reply(reply.text, reply.finish_reason, reply.completion_tokens, reply.reasoning)
