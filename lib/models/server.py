"""A model behind an OpenAI-compatible server: a student's, an oracle's, a judge's."""

import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, repeat
from pathlib import Path

from lib.errors import UserError
from lib.models import calls, catalog, chat_template, completions, loading, paid
from lib.models.backend import Backend, Chat
from lib.models.batch import BatchAPI
from lib.models.catalog import Model
from lib.models.completions import Completion, Unusable
from lib.models.ledger import Ledger, Pending
from lib.models.types import FAILED, Report, SamplingParams

PART = 10_000  # calls that are in memory at a time
FEWEST = 20  # calls that are worth a batch: fewer are made at once


@dataclass(eq=False)
class ServerBackend(Backend):
    """A model behind a URL. Each call is stored before its reply is used, and made once.

    `ledger` keeps the calls of a run, and `budget_usd` holds for all of them. The calls in flight may exceed
    it, and what an endpoint charges for calls that timed out. Without a ledger the model is a student, whose
    calls are kept with its stage.
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

    def __post_init__(self):
        self.storage = self.ledger
        # the model's name in the storage: the server of a student may move
        self.model_name = self.model.name if self.ledger else self.model.served_name
        self.concurrency = self.concurrency or self.model.concurrency
        self.name, self.tokenizer = self.model.served_name, _tokenizer(self.model.served_name)
        if not self.ledger_only:
            catalog.check_budget(self.model, self.budget_usd)

    def generate(
        self,
        prompts: Iterable[Chat],
        params: SamplingParams,
        report: Report | None = None,
        folder: Path | None = None,
        names: Sequence[str] = (),
        only: Sequence[int] | None = None,
        purpose: str = "",
        attempts: Iterable[int] = (),
        at_once: bool = False,
        **of_batches: object,
    ) -> list[list[Completion]]:
        """Return `params.n` completions of each prompt, in order; `of_batches` are of other backends.

        Stored calls are not made again, equal ones once; another number in `attempts` makes a prompt another
        call. A failed call's completion says so. `at_once` makes live calls even of a model that is asked in
        batches. Raises UserError where `ledger_only` lacks a call, where the endpoint refuses the key or the
        model or stays silent, and where the budget is spent. What was answered until then is stored.

        A student's calls are kept in `folder`; each has a seed of its own, by its prompt's position. `only`
        are the positions of prompts to ask. Raises UserError where a call failed.
        """
        prompts = self._accepted(prompts, names)
        sampling = self.sampling(params)
        pending = (
            paid.pending(self, messages, sampling | self._seed(params, i, sample), purpose, attempt + sample)
            for i, (messages, attempt) in enumerate(zip(prompts, attempts or repeat(1), strict=False))
            for sample in range(params.n)
            if only is None or i in only
        )
        self.storage = self.ledger or Ledger(folder / "calls.sqlite" if folder else ":memory:")
        try:
            total = params.n * len(prompts) if isinstance(prompts, list) else None
            flat = [each for part in self._answers(pending, report, total, at_once) for each in part]
        finally:
            if not self.ledger:
                self.storage.close()
        failed = [each.finish_reason.removeprefix(FAILED) for each in flat if each.failed]
        if failed and not self.ledger:
            raise UserError(
                f"student={self.model.name}: {len(failed):,} of {len(flat):,} calls failed, the first with: "
                f"{failed[0]}. Start the same command again: what was answered is kept."
            )
        return [flat[start : start + params.n] for start in range(0, len(flat), params.n)]

    def sampling(self, params: SamplingParams) -> dict:
        """Return sampling parameters as they are sent."""
        sampling = {"temperature": params.temperature, "max_tokens": params.max_tokens}
        if not self.ledger:  # a server may take another top_p from the student's generation_config
            sampling |= {"top_p": params.top_p} | ({"top_k": params.top_k} if params.top_k else {})
        elif params.top_p < 1:
            sampling["top_p"] = params.top_p
        sampling |= {"logprobs": True, "top_logprobs": params.logprobs} if params.logprobs else {}
        return self.model.request(sampling | params.extra_args)

    def _seed(self, params: SamplingParams, prompt: int, sample: int) -> dict:
        """Return the seed of a student's call, below 2**31, as every server takes it."""
        seed = zlib.crc32(f"{params.seed} {prompt} {sample}".encode()) >> 1
        return {} if self.ledger else {"seed": seed}

    def read(self, response: object, body: dict) -> Completion:
        """Read a reply. Raises Unusable also for thoughts alone, and for a student's without its tokens."""
        completion = completions.read(response, body)
        if not self.ledger and completion.completion_tokens is None:  # they are reported
            raise Unusable("a reply without its usage in tokens")
        if self.ledger and completion.thoughts_alone and not completion.truncated:
            raise Unusable("the reply holds no text, its thoughts alone", completions.usage(response))
        return completion

    def _accepted(self, prompts: Iterable[Chat], names: Sequence[str] = ()) -> Iterable[Chat]:
        """Return messages as they are sent. Where the template is known here, it must take them."""
        return chat_template.accepted(self.tokenizer, list(prompts), names) if self.tokenizer else prompts

    def render(self, prompts: list[Chat], names: Sequence[str] = ()) -> list[str]:
        """Return prompts as they are sent: messages, in JSON."""
        return [json.dumps(messages, ensure_ascii=False) for messages in self._accepted(prompts, names)]

    def account(self) -> dict[str, float | None]:
        """Return the stage's calls as metrics: those made, over all starts, and their money; those that the
        ledger answered; those without a reply."""
        if self.ledger is None:
            return super().account()
        answered, usd = self.ledger.of_stage(self.run, self.stage)
        account = {"calls": answered, "usd": usd, "cached": self.cached, "failed": self.failures.total()}
        return {f"oracle.{name}": value for name, value in account.items()}

    def _answers(
        self, pending: Iterator[Pending], report: Report | None, total: int | None, at_once: bool
    ) -> Iterator[list[Completion]]:
        """Yield the answers part by part: the calls of a whole corpus do not fit in memory."""
        by_batch, number, lacking = self.model.batch and not at_once, 0, 0
        while part := list(islice(pending, None if by_batch else PART)):
            calls_by_key = {each.key: each for each in part}
            answers = self._stored(calls_by_key)

            def count(done: int, before: int = number) -> None:
                if report:
                    report(before + done, total)

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
        for name, response in self.storage.find(pending):
            try:
                answers[name] = self.read(response, paid.body(self.model, pending[name]))
            except Unusable as error:  # stored by an older version
                answers[name] = paid.failed_call(self, error)
        self.cached += len(answers)
        return answers

    def _ask(self, pending: dict, answers: dict, count: Callable[[int], None], by_batch: bool) -> None:
        """Send missing calls, live or as batches; collect every submitted batch, even after an error."""
        batch, live, stopped = BatchAPI(self, answers), paid.Live(self, answers), None
        if self.storage.nameless(self.model.url):
            calls.run(batch.find_again)
        ordered = self.storage.ordered(pending.keys() - answers.keys())
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
            self.storage.checkpoint()
        if waiting:
            calls.run(lambda: batch.collect(waiting), lambda: count(batch.answered))
            self.storage.checkpoint()
            answers |= self._stored({name: each for name, each in pending.items() if name not in answers})
        if stopped:
            raise stopped


def _tokenizer(name: str):
    """Load the tokenizer of a local folder; None where that has no chat template."""
    if not (Path(name) / "tokenizer_config.json").exists():
        return None
    from transformers import AutoTokenizer  # takes seconds that an oracle can do without

    with loading.located("student", name) as path:
        tokenizer = AutoTokenizer.from_pretrained(path, **loading.OWN_CODE)
    return tokenizer if tokenizer.chat_template else None
