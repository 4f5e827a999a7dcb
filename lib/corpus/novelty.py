"""What is known already: instructions that expansion may not bring forth again, nor nearly, nor a benchmark's prompts."""

import re
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from datasets import Dataset
from rapidfuzz.distance import LCSseq
from rensa import RMinHash, RMinHashLSH

from lib import records
from lib.corpus import contamination, duplicates

ROUGE_L = 0.7  # from which on an instruction is too like another: Self-Instruct's bound, which TAPIR's expansion keeps
NEAR = 0.8  # Jaccard similarity of word 3-grams, as for the corpus


class Known:
    """Instructions, each with its input and earlier turns as one text; `why_not` says what speaks against another one."""

    def __init__(self, benchmarks: dict[str, Sequence[contamination.Prompt]] | None = None):
        self.texts: set[str] = set()
        self.numbers: dict[str, int] = {}  # of each word
        self.words: list[array] = []  # of each text, as numbers
        # by word: text, how often, text, how often, …
        self.holding: dict[int, array] = defaultdict(lambda: array("i"))
        self.sizes = array("i")
        self.shingles: list[set[str]] = []
        self.near = RMinHashLSH(NEAR, duplicates.PERMUTATIONS, duplicates.bands(NEAR))
        self.benchmarks = contamination.build_index(benchmarks or {})

    def add(self, text: str) -> None:
        normal, place, words = duplicates.normal(text), len(self.words), array("i", self._numbered(text))
        self.texts.add(normal)
        self.words.append(words)
        self.sizes.append(len(words))
        for word, times in Counter(words).items():
            self.holding[word].extend((place, times))
        self.shingles.append(duplicates.shingles(normal, words=3))
        self.near.insert(place, self._sketch(self.shingles[-1]))

    def add_rows(self, rows: Dataset) -> None:
        """All that these rows ask, turns included."""
        for row in records.walk(rows, *records.SAID):
            self.add(duplicates.full_text(**row))

    def why_not(self, text: str) -> str:
        """ "duplicate", "too similar", "near-duplicate" or "in a benchmark"; empty for an instruction that is new."""
        normal = duplicates.normal(text)
        if normal in self.texts:
            return "duplicate"
        if any(contamination.hits(self.benchmarks, [], text, "")):
            return "in a benchmark"
        if self.rouge_l(text) > ROUGE_L:
            return "too similar"
        shingles = duplicates.shingles(normal, words=3)
        found = self.near.query(self._sketch(shingles))
        close = (duplicates.jaccard(shingles, self.shingles[i]) for i in found)
        return "near-duplicate" if max(close, default=0.0) >= NEAR else ""

    def rouge_l(self, text: str) -> float:
        """ROUGE-L (F-measure, 0 to 1, as rouge-score computes it without a stemmer) to the nearest text where it is above
        ROUGE_L; 0 where none is.

        A pair with so long a common subsequence has many words in common: these are counted first, for all texts at once.
        """
        words = list(self._numbered(text, new=False))
        common = np.zeros(len(self.words), np.int32)
        for word, times in Counter(words).items():
            if word in self.holding:
                places, counts = np.frombuffer(self.holding[word], np.int32).reshape(-1, 2).T
                common[places] += np.minimum(counts, times)
        total = np.frombuffer(self.sizes, np.int32) + len(words) if len(self.sizes) else common
        able = np.flatnonzero(2 * common > ROUGE_L * total)
        scores = (2 * LCSseq.similarity(words, self.words[i]) / int(total[i]) for i in able)
        return max((score for score in scores if score > ROUGE_L), default=0.0)

    def _numbered(self, text: str, new: bool = True) -> Iterable[int]:
        """rouge-score's words of a text, as numbers; one that no text has is -1 where it shall not become `new`."""
        for word in re.findall(r"[a-z0-9]+", text.lower()):
            yield self.numbers.setdefault(word, len(self.numbers)) if new else self.numbers.get(word, -1)

    @staticmethod
    def _sketch(shingles: set[str]) -> RMinHash:
        return RMinHash.from_token_sets([sorted(shingles)], duplicates.PERMUTATIONS, 0)[0]
