"""A model behind an OpenAI-compatible server: a student's, an oracle's, a judge's."""

import json
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, repeat
from pathlib import Path
from typing import ClassVar

import openai

from lib.errors import UserError
from lib.models import calls, catalog, chat_template, completions, loading, paid
from lib.models.backend import Backend, Batch, Chat
from lib.models.batch import BatchAPI
from lib.models.catalog import Model
from lib.models.completions import Completion, Unusable
from lib.models.ledger import Ledger, Pending
from lib.models.types import Report, SamplingParams
from lib.text import clean

PART = 10_000  # calls that are in memory at a time
FEWEST = 20  # calls that are worth a batch: fewer are made at once


@dataclass(eq=False)
class ServerBackend(Backend):
    """A model behind a URL. With a ledger each call is stored before its reply is used, and made once.

    `budget_usd` holds for all calls of `run` in the ledger. The calls in flight may exceed it, and what an
    endpoint charges for calls that timed out.
    """

    model: Model
    ledger: Ledger | None = None
    run: str = ""
    stage: str = ""
    concurrency: int | None = None  # calls at once; None for the model's own
    budget_usd: float | None = None
    ledger_only: bool = False
    tries: int = 6
    poll_s: float = 30  # between two looks at a batch
    sent: int = 0  # calls answered by the endpoint
    cached: int = 0  # calls answered by the ledger
    failures: Counter = field(default_factory=Counter)  # calls without a reply, by cause
    batch_size: ClassVar[int] = 256

    def __post_init__(self):
        self.concurrency = self.concurrency or self.model.concurrency
        self.name, self.tokenizer = self.model.served_name, _tokenizer(self.model.served_name)
        if not self.ledger_only:
            catalog.check_budget(self.model, self.budget_usd)

    def generate(
        self,
        prompts: Iterable[Chat],
        params: SamplingParams,
        report: Report | None = None,
        purpose: str = "",
        attempts: Iterable[int] = (),
        at_once: bool = False,
        **of_batches: object,
    ) -> list[list[Completion]]:
        """Return `params.n` completions of each prompt, in order; `of_batches`: see Backend.generate.

        With a ledger stored calls are not made again, equal ones once; another number in `attempts` makes a
        prompt another call. A failed call's completion says so. `at_once` makes live calls even of a model
        that is asked in batches. Raises UserError where `ledger_only` lacks a call, where the endpoint
        refuses the key or the model or stays silent, and OverBudget. What was answered until then is stored.
        """
        if self.ledger is None:
            return super().generate(prompts, params, report, **of_batches)
        sampling = self.sampling(params)
        pending = (
            paid.pending(self, messages, sampling, purpose, attempt + sample)
            for messages, attempt in zip(prompts, attempts or repeat(1), strict=False)
            for sample in range(params.n)
        )
        flat = [each for part in self._answers(pending, report, at_once) for each in part]
        return [flat[start : start + params.n] for start in range(0, len(flat), params.n)]

    def sampling(self, params: SamplingParams, **more: object) -> dict:
        """Return sampling parameters as they are sent."""
        sampling = {"temperature": params.temperature, "max_tokens": params.max_tokens, **more}
        sampling |= {"logprobs": True, "top_logprobs": params.logprobs} if params.logprobs else {}
        return self.model.request(sampling | params.extra_args)

    def account(self) -> dict[str, float | None]:
        """Return the stage's calls as metrics: those made, over all starts, and their money; those that the
        ledger answered; those without a reply."""
        if self.ledger is None:
            return super().account()
        answered, usd = self.ledger.of_stage(self.run, self.stage)
        account = {"calls": answered, "usd": usd, "cached": self.cached, "failed": self.failures.total()}
        return {f"oracle.{name}": value for name, value in account.items()}

    # --- with a ledger

    def _answers(
        self, pending: Iterator[Pending], report: Report | None, at_once: bool
    ) -> Iterator[list[Completion]]:
        """Yield the answers part by part: the calls of a whole corpus do not fit in memory."""
        by_batch, number, lacking = self.model.batch and not at_once, 0, 0
        while part := list(islice(pending, None if by_batch else PART)):
            calls_by_key = {each.key: each for each in part}
            answers = self._stored(calls_by_key)

            def count(done: int, before: int = number) -> None:
                if report:
                    report(before + done, None)

            if self.ledger_only:
                lacking += sum(each.key not in answers for each in part)
            elif len(answers) < len(calls_by_key):
                self._ask(calls_by_key, answers, count, by_batch)
            count(len(part))
            number += len(part)
            if not lacking:
                yield [
                    answers.get(each.key) or paid.failed_call(self, "its batch has no result")
                    for each in part
                ]
        if lacking:
            raise UserError(
                f"--ledger-only: {lacking:,} of {number:,} calls are not in the ledger {self.ledger.path}. "
                "Start without --ledger-only to make them."
            )

    def _stored(self, pending: dict[str, Pending]) -> dict[str, Completion]:
        """Read the calls that the ledger holds."""
        answers = {}
        for name, response in self.ledger.find(pending):
            try:
                answers[name] = paid.read(response, paid.body(self.model, pending[name]))
            except Unusable as error:  # stored by an older version
                answers[name] = paid.failed_call(self, error)
        self.cached += len(answers)
        return answers

    def _ask(self, pending: dict, answers: dict, count: Callable[[int], None], by_batch: bool) -> None:
        """Send missing calls, live or as batches; collect every submitted batch, even after an error."""
        batch, live, stopped = BatchAPI(self, answers), paid.Live(self, answers), None
        if self.ledger.nameless(self.model.url):
            calls.run(batch.find_again, lambda: None)
        ordered = self.ledger.ordered(pending.keys() - answers.keys())
        missing = [each for name, each in pending.items() if name not in answers and name not in ordered]
        waiting = set(ordered.values())
        try:
            if by_batch and len(missing) >= FEWEST:
                calls.run(lambda: batch.order(missing, waiting), lambda: count(batch.answered))
            elif missing:
                calls.run(lambda: live.ask(missing), lambda: count(len(answers)))
        except UserError as error:
            stopped = error  # a batch's money is set aside until it is collected
        finally:
            self.ledger.checkpoint()
        if waiting:
            calls.run(lambda: batch.collect(waiting), lambda: count(batch.answered))
            self.ledger.checkpoint()
            answers |= self._stored({name: each for name, each in pending.items() if name not in answers})
        if stopped:
            raise stopped

    # --- without: the batches of Backend.generate

    def render(self, prompts: list[Chat], names: Sequence[str] = ()) -> list[str]:
        """Return messages as they are sent, in JSON. Where the template is known here, it must take them."""
        if self.tokenizer:
            prompts = chat_template.accepted(self.tokenizer, prompts, names)
        return [clean(json.dumps(prompt, ensure_ascii=False)) for prompt in prompts]

    def complete(self, batches: dict[int, Batch], params: SamplingParams, store: Callable) -> None:
        """Send all calls, whichever batch is next; store each batch that is whole.

        Raises UserError where the server cannot be reached, refuses a call or answers with something else.
        """
        sending = _Sending(self, batches, params)

        def hand_over() -> None:
            while sending.whole:
                store(*sending.whole.popleft())

        try:
            calls.run(sending.send, hand_over)
        finally:
            hand_over()


class _Sending:
    """Sends the calls of batches, each with a seed of its own; `whole` are the batches that are answered."""

    def __init__(self, backend: ServerBackend, batches: dict[int, Batch], params: SamplingParams):
        self.backend, self.batches = backend, batches
        # top_p is named because a server may take another from the model's generation_config
        top_k = {"top_k": params.top_k} if params.top_k else {}  # of vLLM and llama.cpp
        self.sampling = backend.sampling(params, top_p=1.0, **top_k)
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
        self.sender = calls.Sender(backend.model, backend.concurrency, backend.tries)
        await self.sender.send(self.calls, self._ask)

    async def _ask(self, call: tuple[int, int, int]) -> None:
        number, row, sample = call
        batch = self.batches[number]
        seed = zlib.crc32(f"{batch.seed} {row} {sample}".encode()) >> 1  # below 2**31, as every server takes
        body = {"model": self.backend.name, "messages": json.loads(batch.prompts[row]), "seed": seed}
        self.completions[number][row][sample] = await self._completion(body | self.sampling)
        self.left[number] -= 1
        if not self.left[number]:
            self.whole.append((number, self.completions.pop(number)))

    async def _completion(self, body: dict) -> Completion:
        try:
            _, completion = await self.sender.post(body, completions.read)
            if completion.completion_tokens is None:  # the tokens that a student generates are reported
                raise Unusable("a reply without its usage in tokens")
            return completion
        except (openai.BadRequestError, openai.NotFoundError) as error:
            raise UserError(await self.sender.refusal(error)) from None
        except (openai.APIError, Unusable) as error:
            raise UserError(
                f"student={self.backend.model.name}: the server failed "
                f"({calls.masked(error, self.backend.model)}). Start the same command again: the batches "
                "that were answered are kept."
            ) from None


def _tokenizer(name: str):
    """Load the tokenizer of a local folder; None where that has no chat template."""
    if not (Path(name) / "tokenizer_config.json").exists():
        return None
    from transformers import AutoTokenizer  # takes seconds that an oracle can do without

    with loading.located("student", name) as path:
        tokenizer = AutoTokenizer.from_pretrained(path, **loading.OWN_CODE)
    return tokenizer if tokenizer.chat_template else None
