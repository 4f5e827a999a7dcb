"""One way to ask a model: prompts in batches, whose completions are stored one batch after the other."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import NamedTuple

from lib import files
from lib.models import chat_template
from lib.models.types import NO_ROOM, Completion, Report, SamplingParams

Chat = list[dict]  # messages: {"role", "content"}


class Batch(NamedTuple):
    """Rendered prompts, and the seed of their completions."""

    prompts: list[str]
    seed: int


class Backend:
    """A model that completes chats, wherever it is. `tokenizer` is None where that is unknown here."""

    name = "the model"
    tokenizer = None
    ledger = None  # keeps the calls of a model behind a URL that are paid
    failures: Counter = Counter()  # its calls without a reply, by cause
    context: int | None = None  # tokens of prompt and completion together, where known
    batch_size: int  # prompts

    def complete(self, batches: dict[int, Batch], params: SamplingParams, store: Callable) -> None:
        """Call `store(number, completions)` for every batch, in any order."""
        raise NotImplementedError

    def generate(
        self,
        prompts: list[Chat],
        params: SamplingParams,
        report: Report | None = None,
        folder: Path | None = None,
        names: Sequence[str] = (),
        batch_size: int | None = None,
        skip_long: bool = False,
        only: Sequence[int] | None = None,
        **of_calls: object,
    ) -> list[list[Completion]]:
        """Return `params.n` completions of each prompt, in the order of the prompts.

        Batches are a fixed function of the prompts, each with a seed of its own: a restart that finds batches
        of an earlier start in `folder` ends with the same completions. With `skip_long` a prompt without room
        for max_tokens more in the model's context is not sent: its completions are empty and say so. `only`
        are the positions of prompts to return, each from the batch that it has among all: of the others none
        is generated. Raises UserError before anything is generated where a prompt cannot be rendered;
        `names` are the rows' ids. `of_calls` are of ServerBackend.
        """
        texts = self.render(list(prompts), names)
        sent = self._fitting(texts, params.max_tokens) if skip_long else list(range(len(texts)))
        sent.sort(key=lambda i: -len(texts[i]))  # texts of similar length need little padding
        size = batch_size or self.batch_size
        parts = [sent[start : start + size] for start in range(0, len(sent), size)]
        returned = range(len(texts)) if only is None else only
        wanted = set(returned)
        batches = {
            number: Batch([texts[i] for i in part], params.seed * 1_000_003 + number)
            for number, part in enumerate(parts)
            if not wanted.isdisjoint(part)
        }
        completed = self._complete_missing(batches, params, report, folder)
        by_prompt = {
            i: completions
            for number, whole in completed.items()
            for i, completions in zip(parts[number], whole, strict=True)
        }
        no_room = [Completion("", "", NO_ROOM, None, 0)] * params.n
        return [by_prompt.get(i, no_room) for i in returned]

    def _fitting(self, texts: list[str], max_tokens: int) -> list[int]:
        """List the prompts that leave room for `max_tokens` more in the context."""
        if not self.context or not texts:
            return list(range(len(texts)))
        ids = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        return [i for i, row in enumerate(ids) if len(row) + max_tokens <= self.context]

    def _complete_missing(
        self, batches: dict[int, Batch], params: SamplingParams, report: Report | None, folder: Path | None
    ) -> dict[int, list[list[Completion]]]:
        """Complete the batches that `folder` does not hold whole, and store them there."""
        paths = {n: folder / _file(n, batch, params) for n, batch in batches.items()} if folder else {}
        stored = {n: rows for n, path in paths.items() if (rows := files.read_json(path))}
        completions = {n: [[Completion(*each) for each in row] for row in rows] for n, rows in stored.items()}
        total = sum(len(batch.prompts) for batch in batches.values())

        def store(number: int, replies: list[list[Completion]]) -> None:
            if folder:
                files.write_json(paths[number], replies)
            completions[number] = replies
            if report:
                report(sum(map(len, completions.values())), total)

        missing = {number: batch for number, batch in batches.items() if number not in completions}
        if missing:
            self.complete(missing, params, store)
        return completions

    def render(self, prompts: list[Chat], names: Sequence[str] = ()) -> list[str]:
        """Return prompts as they are sent: the text of the chat template."""
        return chat_template.prompts(self.tokenizer, prompts, names)

    def account(self) -> dict[str, float | None]:
        """Count the calls of this stage that a ledger keeps, as metrics."""
        return {f"oracle.{name}": 0 for name in ("calls", "usd", "cached", "failed")}

    def adaptation(self, prompts: list[Chat]) -> str:
        """Say how many prompts the chat template takes in another form only; "" for none."""
        return chat_template.adaptation(self.tokenizer, prompts) if self.tokenizer else ""


def _file(number: int, batch: Batch, params: SamplingParams) -> str:
    """Name a batch's file by all that decides its completions, but the model, whose folder it is in."""
    parts = json.dumps([number, batch.prompts, *astuple(params)])
    return f"completions-{hashlib.sha256(parts.encode()).hexdigest()[:16]}.json"
