"""Drop exact and near-duplicates; the first in file order stays."""

import json
import re
import unicodedata
from array import array
from collections.abc import Iterable, Iterator

from datasets import Dataset
from rensa import RMinHash, RMinHashLSH

from lib import records

NEAR = 0.8  # Jaccard similarity of word 3-grams, from which on a text is a near-duplicate
WORDS = 3
PERMUTATIONS, BANDS = 128, 32  # of MinHash: one in 20 million pairs at NEAR is not proposed


def drop_exact(rows: Dataset, key: str = "text") -> tuple[Dataset, list[tuple[str, str]]]:
    """Drop exact repeats; return the other rows, and (dropped id, kept id) pairs.

    key: "text" (turns, instruction and input; case, width and white space do not count), or "payload" (the
    embedded world's family and canonical payload, from `meta`).
    """
    ids, first = rows["id"][:], {}
    firsts = [first.setdefault(text, i) for i, text in enumerate(keys(rows, key))]
    kept = records.take_rows(rows, list(first.values()))
    return kept, [(ids[i], ids[j]) for i, j in enumerate(firsts) if i != j]


def drop_near(rows: Dataset) -> tuple[Dataset, list[tuple[str, str, float]]]:
    """Drop near-duplicates; return the other rows, and what was dropped.

    The second is a list of (dropped id, kept id, similarity). A row is dropped when the Jaccard similarity of
    its word 3-grams to those of an earlier kept row reaches NEAR; so which rows stay depends on their order
    and on nothing else.
    """
    ids, kept, dropped, index = rows["id"][:], [], [], NearIndex()
    for i, (grams, sketch) in enumerate(sketches(keys(rows))):
        similarity, number = index.nearest(grams, sketch)
        if similarity >= NEAR:
            dropped.append((ids[i], ids[kept[number]], similarity))
        else:
            index.add(grams, sketch)
            kept.append(i)
    return records.take_rows(rows, kept), dropped


class NearIndex:
    """Texts by their word 3-grams: MinHash proposes, Jaccard similarity decides."""

    def __init__(self):
        self.candidates = RMinHashLSH(NEAR, PERMUTATIONS, BANDS)
        self.grams: list[array] = []  # of each text

    def add(self, grams: array, sketch: RMinHash) -> None:
        self.candidates.insert(len(self.grams), sketch)
        self.grams.append(grams)

    def nearest(self, grams: array, sketch: RMinHash) -> tuple[float, int]:
        """Return the highest similarity, 0 to 1, and the first such text; -1 for none."""
        own, nearest = set(grams), (-1.0, -1)
        for number in sorted(self.candidates.query(sketch)):
            shared = len(own.intersection(self.grams[number]))
            similarity = shared / (len(own) + len(self.grams[number]) - shared)
            nearest = max(nearest, (similarity, number), key=lambda pair: pair[0])
        return nearest


def sketches(texts: Iterable[str]) -> Iterator[tuple[array, RMinHash]]:
    """Yield word 3-grams of each normal text, as 64-bit hashes, and their sketch."""
    for part in records.batched(texts, 1000):  # one by one takes eight times as long
        sets = [shingles(text, WORDS) for text in part]
        hashes = (array("Q", grams) for grams in RMinHash.hash_token_sets(sets))
        yield from zip(hashes, RMinHash.from_token_sets(sets, PERMUTATIONS, 0), strict=True)


def keys(rows: Dataset, key: str = "text") -> Iterator[str]:
    """Yield the key of each row, as in `drop_exact`."""
    if key == "payload":
        instances = (json.loads(row["meta"]) for row in records.iter_rows(rows, "meta"))
        parts = ([instance["family"], instance["payload"]] for instance in instances)
        return (json.dumps(part, sort_keys=True, ensure_ascii=False) for part in parts)
    return (normal(full_text(**row)) for row in records.iter_rows(rows, *records.PROMPT_COLUMNS))


def full_text(turns: list[dict], instruction: str, input: str) -> str:
    return "\n".join([*(turn["content"] for turn in turns), instruction, input])


def normal(text: str) -> str:
    """Remove differences of case, character width and white space."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def words_of(text: str) -> list[str]:
    """Return the words of a normal text; of a text without words, the whole."""
    return re.findall(r"\w+", text) or [text]


def shingles(text: str, words: int) -> set[str]:
    """Return the word n-grams of a normal text; of a shorter text, the whole."""
    tokens = words_of(text)
    return {" ".join(tokens[i : i + words]) for i in range(max(len(tokens) - words, 0) + 1)}
