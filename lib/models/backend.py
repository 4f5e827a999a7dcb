"""One way to ask a model: prompts in batches, whose completions are stored one batch after the other."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from lib import files
from lib.models import chat_template
from lib.models.types import NO_ROOM, Completion, SamplingParams

Chat = list[dict]  # messages: {"role", "content"}
Report = Callable[[int, int], None]  # gets the number of prompts that are done, and of all

STORED = pa.schema(
    {
        "prompt": pa.string(),
        "completions": pa.list_(
            pa.struct(
                {
                    "text": pa.string(),
                    "reasoning": pa.string(),
                    "finish_reason": pa.string(),
                    "prompt_tokens": pa.int64(),
                    "completion_tokens": pa.int64(),
                }
            )
        ),
    }
)


class Batch(NamedTuple):
    """Rendered prompts, and the seed of their completions."""

    prompts: list[str]
    seed: int


class Backend(ABC):
    """A model that completes chats, wherever it is. `tokenizer` is None where that is unknown here."""

    name = "the model"
    tokenizer = None
    ledger = None  # keeps the calls of a model behind a URL that are paid
    failures: Counter = Counter()  # its calls without a reply, by cause
    context: int | None = None  # tokens of prompt and completion together, where known
    batch_size: int  # prompts

    @abstractmethod
    def complete(self, batches: dict[int, Batch], params: SamplingParams, store: Callable) -> None:
        """Call `store(number, completions)` for every batch, in any order."""

    def generate(
        self,
        prompts: list[Chat],
        params: SamplingParams,
        report: Report | None = None,
        folder: Path | None = None,
        names: Sequence[str] = (),
        batch_size: int | None = None,
        skip_long: bool = False,
        **of_the_ledger: object,
    ) -> list[list[Completion]]:
        """Return `params.n` completions of each prompt, in the order of the prompts.

        Batches are a fixed function of the prompts, each with a seed of its own: a restart that finds batches
        of an earlier start in `folder` ends with the same completions. With `skip_long` a prompt without room
        for max_tokens more in the model's context is not asked: its completions are empty and say so. Raises
        UserError before anything is generated where a prompt cannot be rendered; `names` are the rows' ids.
        Without a ledger its settings (see ServerBackend.generate) mean nothing.
        """
        texts = self.render(list(prompts), names)
        fits = self._fits(texts, params.max_tokens) if skip_long else [True] * len(texts)
        inside = [text for text, fit in zip(texts, fits, strict=True) if fit]
        batches = _Batches(inside, batch_size or self.batch_size, params, folder, report)
        self.complete(batches.missing, params, batches.store)
        completions = iter(batches.completions)
        return [
            next(completions) if fit else [Completion("", "", NO_ROOM, None, 0)] * params.n for fit in fits
        ]

    def render(self, prompts: list[Chat], names: Sequence[str] = ()) -> list[str]:
        """Return prompts as they are sent: the text of the chat template."""
        return chat_template.prompts(self.tokenizer, prompts, names)

    def account(self) -> dict[str, float | None]:
        """Count the calls of this stage that a ledger keeps, as metrics."""
        return {f"oracle.{name}": 0 for name in ("calls", "usd", "cached", "failed")}

    def adaptation(self, prompts: list[Chat]) -> str:
        """Say how many prompts the chat template takes in another form only; "" for none."""
        return chat_template.adaptation(self.tokenizer, prompts) if self.tokenizer else ""

    def _fits(self, texts: list[str], max_tokens: int) -> list[bool]:
        if not self.context or not texts:
            return [True] * len(texts)
        ids = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        return [len(row) + max_tokens <= self.context for row in ids]


class _Batches:
    """Prompts in batches by length; `missing` maps batch number to the batches not yet stored in `folder`."""

    def __init__(
        self, texts: list[str], size: int, params: SamplingParams, folder: Path | None, report: Report | None
    ):
        self.positions = list(_by_length(texts, size))
        self.completions: list[list[Completion]] = [[] for _ in texts]
        self.missing: dict[int, Batch] = {}
        self.paths: dict[int, Path] = {}
        self.report, self.done = report, 0
        for number, positions in enumerate(self.positions):
            batch = Batch([texts[i] for i in positions], params.seed * 1_000_003 + number)
            if folder:
                self.paths[number] = _path(folder, number, batch.prompts, *astuple(params))
            stored = _read(self.paths[number], batch.prompts) if folder else None
            if stored is None:
                self.missing[number] = batch
            else:
                self._take(number, stored)

    def store(self, number: int, completions: list[list[Completion]]) -> None:
        """Store the completions of a batch, prompt by prompt."""
        if number in self.paths:
            _write(self.paths[number], self.missing[number].prompts, completions)
        self._take(number, completions)

    def _take(self, number: int, completions: list[list[Completion]]) -> None:
        for i, row in zip(self.positions[number], completions, strict=True):
            self.completions[i] = row
        self.done += len(completions)
        if self.report:
            self.report(self.done, len(self.completions))


def _by_length(texts: list[str], size: int) -> Iterator[list[int]]:
    """Yield positions of the texts by falling length, so that a batch wastes little on padding."""
    order = sorted(range(len(texts)), key=lambda i: (-len(texts[i]), i))
    for start in range(0, len(order), size):
        yield order[start : start + size]


def _path(folder: Path, *parts) -> Path:
    """Name a batch's file by all that decides its completions, but the model, whose folder it is."""
    return folder / f"completions-{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]}.parquet"


def _read(path: Path, prompts: list[str]) -> list[list[Completion]] | None:
    """Read a stored batch; None where the file is missing or damaged: the batch is asked again."""
    try:
        rows = pq.read_table(path).to_pylist()
        completions = [[Completion(**each) for each in row["completions"]] for row in rows]
    except Exception:  # of Arrow, of the system, or of Python where bytes are no text
        return None
    return completions if [row["prompt"] for row in rows] == prompts else None


def _write(path: Path, prompts: list[str], completions: list[list[Completion]]) -> None:
    rows = [
        {"prompt": prompt, "completions": [each._asdict() for each in row]}
        for prompt, row in zip(prompts, completions, strict=True)
    ]
    with files.whole(path) as partial:
        pq.write_table(pa.Table.from_pylist(rows, STORED), partial)
