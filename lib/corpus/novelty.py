"""Reject instructions that are like a known one, or like a benchmark's prompt."""

import re
import sys
from collections.abc import Sequence

from datasets import Dataset, concatenate_datasets
from rapidfuzz import process
from rapidfuzz.distance import Indel

from lib import prompts, records
from lib.corpus import contamination, duplicates

ROUGE_L = 0.7  # above this a text is too similar: Self-Instruct's bound, also used in TAPIR's expansion
ALIKE = ("duplicate", "near-duplicate", "too similar")  # causes that name a known row


def twin(dropped: dict, *tables: Dataset) -> str:
    """Return the prompt in the tables most like a dropped row's: of the same payload, else by its text."""
    key, rows = "payload" if dropped.get("meta") else "text", concatenate_datasets(tables)
    [wanted] = duplicates.keys(records.build([dropped]), key)
    texts = list(duplicates.keys(rows, key))
    _, _, position = process.extractOne(wanted, texts, scorer=Indel.normalized_similarity)
    return prompts.conversation(rows[position])


class NoveltyFilter:
    """Known instructions, each with its input and earlier turns as one text."""

    def __init__(self, benchmarks: dict[str, Sequence[contamination.Prompt]] | None = None):
        self.texts: set[str] = set()
        self.numbers: dict[str, int] = {}  # of each word
        self.encoded: list[str] = []  # texts with a character for each word
        self.near = duplicates.NearIndex()
        self.benchmarks = contamination.Index(benchmarks or {})

    def add(self, text: str) -> None:
        normal = duplicates.normal(text)
        self.texts.add(normal)
        self.encoded.append(self._encode(text))
        self.near.add(*next(duplicates.sketches([normal])))

    def add_rows(self, rows: Dataset) -> None:
        """Add the prompts of these rows, turns included."""
        for row in records.iter_rows(rows, *records.PROMPT_COLUMNS):
            self.add(duplicates.full_text(**row))

    def rejection_reason(self, text: str) -> str:
        """Return why a text is not new; "" for a new one."""
        normal = duplicates.normal(text)
        if normal in self.texts:
            return "duplicate"
        if self.benchmarks.causes([], text, ""):
            return "in a benchmark"
        if self.rouge_l(text) > ROUGE_L:
            return "too similar"
        similarity, _ = self.near.nearest(*next(duplicates.sketches([normal])))
        return "near-duplicate" if similarity >= duplicates.NEAR else ""

    def rouge_l(self, text: str) -> float:
        """Return ROUGE-L to the nearest text; 0 where it is not above ROUGE_L.

        It is the F-measure, 0 to 1, that rouge-score computes without a stemmer: twice the longest common
        subsequence of words over the sum of both lengths, which rapidfuzz calls the Indel similarity.
        """
        encoded, scorer = self._encode(text), Indel.normalized_similarity
        nearest = process.extractOne(encoded, self.encoded, scorer=scorer, score_cutoff=ROUGE_L)
        return nearest[1] if nearest and nearest[1] > ROUGE_L else 0.0

    def _encode(self, text: str) -> str:
        """Write one character per word, which compares five times as fast."""
        words = re.findall(r"[a-z0-9]+", text.lower())
        numbers = (self.numbers.setdefault(word, len(self.numbers)) for word in words)
        return "".join(chr(number % (sys.maxunicode + 1)) for number in numbers)
