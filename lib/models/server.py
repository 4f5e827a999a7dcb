"""A model behind an OpenAI-compatible server, without a ledger: one call a completion, many side by side."""

import asyncio
import json
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx2
import openai
from transformers import AutoTokenizer

from lib.errors import UserError
from lib.models import background, catalog, chat_template, completions, loading, transport
from lib.models.backend import Backend, Batch, Chat
from lib.models.catalog import Model
from lib.models.completions import Unusable
from lib.models.types import Completion, SamplingParams
from lib.text import clean

TRIES = 3


class ServerBackend(Backend):
    """A server completes chats as `model`: name@url, of a student's folder or hub name."""

    batch_size = 256

    def __init__(self, model: str | Model):
        self.model = catalog.find(model) if isinstance(model, str) else model
        self.url, self.name = self.model.url, self.model.served_name
        self.tokenizer = _tokenizer(self.name)

    def render(self, prompts: list[Chat], names: Sequence[str] = ()) -> list[str]:
        """Return messages as they are sent, in JSON. Where the template is known here, it must take them."""
        if self.tokenizer:
            prompts = chat_template.accepted(self.tokenizer, prompts, names)
        return [clean(json.dumps(prompt, ensure_ascii=False)) for prompt in prompts]

    def complete(self, batches: dict[int, Batch], params: SamplingParams, store: Callable) -> None:
        """Send all calls; `keep` is given each batch that is whole.

        Raises UserError where the server cannot be reached, refuses a call or answers with something else.
        The calls under way are then given up, and the batches that were whole are kept.
        """
        sending = _Sending(self, batches, params)

        def hand_over() -> None:
            while sending.whole:
                store(*sending.whole.popleft())

        try:
            background.run(sending.send(), hand_over)
        finally:
            hand_over()


def _tokenizer(name: str):
    """Load the tokenizer of a local folder; None where that has no chat template."""
    if not (Path(name) / "tokenizer_config.json").exists():
        return None
    with loading.located("student", name) as path:
        tokenizer = AutoTokenizer.from_pretrained(path, **loading.OWN_CODE)
    return tokenizer if tokenizer.chat_template else None


class _Sending:
    """Sends call after call, of whichever batch is next: no connection waits for the end of a batch."""

    def __init__(self, backend: ServerBackend, batches: dict[int, Batch], params: SamplingParams):
        self.backend, self.batches = backend, batches
        # top_p is named because a server may take another from the model's generation_config
        self.sampling = {"temperature": params.temperature, "max_tokens": params.max_tokens, "top_p": 1.0}
        self.sampling |= (
            {"top_k": params.top_k} if params.top_k else {}
        )  # not OpenAI's, but vLLM's and llama.cpp's
        self.completions = {n: [[None] * params.n for _ in batch.prompts] for n, batch in batches.items()}
        self.left = {n: params.n * len(batch.prompts) for n, batch in batches.items()}
        self.whole: deque[tuple[int, list[list[Completion]]]] = deque()
        self.calls = (
            (number, row, sample)
            for number, batch in batches.items()
            for row in range(len(batch.prompts))
            for sample in range(params.n)
        )

    async def send(self) -> None:
        backend = self.backend
        client = transport.connect(backend.model, backend.model.concurrency, TRIES)
        try:
            async with client as self.client, asyncio.TaskGroup() as group:
                for _ in range(backend.model.concurrency):
                    group.create_task(self._work())
        except ExceptionGroup as group:  # the first has stopped the others
            raise group.exceptions[0] from None

    async def _work(self) -> None:
        for number, row, sample in self.calls:
            batch = self.batches[number]
            completion = await self._completion(batch.prompts[row], _seed(batch, row, sample))
            self.completions[number][row][sample] = completion
            self.left[number] -= 1
            if not self.left[number]:
                self.whole.append((number, self.completions.pop(number)))

    async def _completion(self, prompt: str, seed: int) -> Completion:
        body = {"model": self.backend.name, "messages": json.loads(prompt), "seed": seed, **self.sampling}
        try:
            raw = await self.client.post("/chat/completions", body=body, cast_to=httpx2.Response)
            completion = completions.read(transport.parsed(raw.content), body)
            if completion.completion_tokens is None:  # the tokens that a student generates are reported
                raise Unusable("a reply without its usage in tokens")
            return completion
        except (openai.BadRequestError, openai.NotFoundError) as error:
            raise UserError(await self._refusal(error)) from None
        except (openai.APIError, Unusable) as error:
            raise UserError(
                f"student={self.backend.model.name}: the server failed ({self._masked(error)}). Start the "
                "same command again: the batches that were answered are kept."
            ) from None

    def _masked(self, error: Exception) -> str:
        return transport.masked(error, self.backend.model)

    async def _refusal(self, error: openai.APIStatusError) -> str:
        url, name = self.backend.url, self.backend.name
        refusal = f"{url} refuses {name} ({self._masked(error)})"
        try:
            served = [model.id for model in (await self.client.models.list()).data]
        except openai.APIError:
            served = []
        if name in served:
            return refusal
        others = f"; it serves {', '.join(served)}" if served else ""
        return f"{refusal}{others}: start one with vllm serve {name} --generation-config vllm"


def _seed(batch: Batch, row: int, sample: int) -> int:
    """Return another seed for each completion; below 2**31, which every server takes."""
    return zlib.crc32(f"{batch.seed} {row} {sample}".encode()) >> 1
