"""Prompts in batches, whose replies are kept a batch at a time: a restart asks for the others only."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from lib import files

NO_ANSWER = "no answer"  # how a reply is counted that holds thoughts alone
NO_ROOM = "no room"  # how a reply ended that was not asked for: its prompt fills the student's context


class Reply(NamedTuple):
    """One response, and the thoughts before it, which are neither judged nor scored.

    `finish` is "length" when the token limit cut it, NO_ROOM when there was none, else "stop".
    """

    text: str
    finish: str
    tokens: int
    reasoning: str = ""

    @property
    def cut(self) -> bool:
        """Whether the student could not end it, or had no room to begin."""
        return self.finish != "stop"

    @property
    def unanswered(self) -> bool:
        """Whether the student only thought: its thought did not end, or nothing follows."""
        return bool(self.reasoning) and not self.text


REPLY = {"text": pa.string(), "finish": pa.string(), "tokens": pa.int64(), "reasoning": pa.string()}


class Ended(NamedTuple):
    """How many replies the limit cut, and how many hold thoughts alone."""

    cut: int
    unanswered: int


def ended(replies: Iterable[Reply]) -> Ended:
    """Count how replies ended."""
    replies = list(replies)
    return Ended(sum(reply.cut for reply in replies), sum(reply.unanswered for reply in replies))


# a stored batch: a row a text, with its replies
STORED = pa.schema({"text": pa.string(), "replies": pa.list_(pa.struct(REPLY))})


class Batch(NamedTuple):
    """Prompts as texts, and the seed of their replies."""

    texts: list[str]
    seed: int


class How(NamedTuple):
    """How replies are drawn: temperature 0 is greedy, top_k 0 draws from all tokens."""

    samples: int
    temperature: float
    limit: int  # tokens of a reply
    top_k: int


Keep = Callable[[int, list[list[Reply]]], None]  # is given a batch's number and its replies, text by text


class Batches:
    """A fixed function of the texts: `missing` are those that an earlier start did not keep in `folder`, by number.

    `replies` has those of all texts, in their order, once `keep` was given every missing batch. `how` is all else that
    decides a reply but the student, whose folder it is; `report` is told how many texts of how many have theirs.
    """

    def __init__(
        self,
        texts: list[str],
        size: int,
        seed: int,
        how: How,
        folder: Path | None = None,
        report: Callable[[int, int], None] | None = None,
    ):
        self.places = list(_by_length(texts, size))
        self.replies: list[list[Reply]] = [[] for _ in texts]
        self.missing: dict[int, Batch] = {}
        self.stores: dict[int, Path] = {}
        self.report, self.done = report, 0
        for number, places in enumerate(self.places):
            batch = Batch([texts[i] for i in places], seed * 1_000_003 + number)
            if folder:
                self.stores[number] = _store(folder, number, batch.texts, *how, seed)
            if folder and (kept := _read(self.stores[number], batch.texts)) is not None:
                self._take(number, kept)
            else:
                self.missing[number] = batch

    def keep(self, number: int, made: list[list[Reply]]) -> None:
        """The replies to a batch, text by text."""
        if number in self.stores:
            _write(self.stores[number], self.missing[number].texts, made)
        self._take(number, made)

    def _take(self, number: int, made: list[list[Reply]]) -> None:
        for i, row in zip(self.places[number], made, strict=True):
            self.replies[i] = row
        self.done += len(made)
        if self.report:
            self.report(self.done, len(self.replies))


def _by_length(texts: list[str], size: int) -> Iterator[list[int]]:
    """Positions of the texts by falling length, so that a batch wastes little on padding."""
    order = sorted(range(len(texts)), key=lambda i: (-len(texts[i]), i))
    for start in range(0, len(order), size):
        yield order[start : start + size]


def _store(folder: Path, *what) -> Path:
    """Where a batch's replies lie, named by all that decides them."""
    return folder / f"replies-{hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]}.parquet"


def _read(path: Path, texts: list[str]) -> list[list[Reply]] | None:
    """None where the file is missing or damaged: the batch is asked for again."""
    try:
        rows = pq.read_table(path, page_checksum_verification=True).to_pylist()
        made = [[Reply(**reply) for reply in row["replies"]] for row in rows]
    except Exception:  # of Arrow, of the system, or of Python where bytes are no text
        return None
    return made if [row["text"] for row in rows] == texts else None


def _write(path: Path, texts: list[str], made: list[list[Reply]]) -> None:
    rows = zip(texts, made, strict=True)
    told = [{"text": text, "replies": [reply._asdict() for reply in replies]} for text, replies in rows]
    with files.whole(path) as partial:
        pq.write_table(pa.Table.from_pylist(told, STORED), partial, write_page_checksum=True)
