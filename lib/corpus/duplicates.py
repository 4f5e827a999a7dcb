"""Drop exact and near-duplicates; the first in file order stays."""

import hashlib
import json
import re
import unicodedata
from array import array
from collections.abc import Collection, Iterable, Iterator

from datasets import Dataset
from rensa import RMinHash, RMinHashLSH

from lib import records

PERMUTATIONS = 128
MOST_MISSED = 1e-4  # share of pairs at the threshold that the index may not find


def drop_exact(rows: Dataset, key: str = "text") -> tuple[Dataset, list[tuple[str, str]]]:
    """Drop repeats of an earlier key; return the other rows, and (dropped id, kept id) pairs.

    key: "text" (turns, instruction and input; case, width and white space do not count), or "payload" (the
    embedded world's family and canonical payload, from `meta`).
    """
    ids = rows["id"][:]
    first: dict[bytes, int] = {}
    kept_for = [first.setdefault(_digest(text), i) for i, text in enumerate(keys(rows, key))]
    kept = [i for i, j in enumerate(kept_for) if i == j]
    return records.take_rows(rows, kept), [(ids[i], ids[j]) for i, j in enumerate(kept_for) if i != j]


def drop_near(
    rows: Dataset, threshold: float = 0.8, words: int = 3
) -> tuple[Dataset, list[tuple[str, str, float]]]:
    """Drop near-duplicates; return the other rows, and (dropped id, kept id, similarity) triples.

    A row is dropped when the Jaccard similarity of its word n-grams to those of an earlier kept row reaches
    the threshold (0 to 1). MinHash proposes the pairs (it misses fewer than one in 10,000 at the threshold),
    the true similarity decides; so which rows stay depends on their order and on nothing else.
    """
    ids, grams, kept, dropped = rows["id"][:], [], [], []
    index = RMinHashLSH(threshold, PERMUTATIONS, bands(threshold))
    for i, (hashes, sketch) in enumerate(_sketches(keys(rows), words)):
        grams.append(array("Q", hashes))
        hashes = set(hashes)
        similarity, nearest = max(
            ((jaccard(hashes, grams[j]), -j) for j in index.query(sketch)), default=(0, 0)
        )
        if similarity >= threshold:
            dropped.append((ids[i], ids[-nearest], similarity))
        else:
            index.insert(i, sketch)
            kept.append(i)
    return records.take_rows(rows, kept), dropped


def _sketches(texts: Iterable[str], words: int) -> Iterator[tuple[list[int], RMinHash]]:
    """Yield the n-grams of each text as 64-bit hashes, and their MinHash sketch."""
    for part in records.batched(texts, 1000):
        sets = [shingles(text, words) for text in part]
        sketches = RMinHash.from_token_sets(sets, PERMUTATIONS, 0)
        yield from zip(RMinHash.hash_token_sets(sets), sketches, strict=True)


def bands(threshold: float) -> int:
    """Return the fewest bands of the index that miss at most MOST_MISSED of the pairs at the threshold."""
    sizes = (16, 8, 4, 2, 1)
    missed = {size: (1 - threshold**size) ** (PERMUTATIONS // size) for size in sizes}
    return PERMUTATIONS // next((size for size in sizes if missed[size] <= MOST_MISSED), 1)


def keys(rows: Dataset, key: str = "text") -> Iterator[str]:
    """Yield the text that decides on duplication, one a row; a ValueError names a row without a payload."""
    if key == "payload":
        return (_payload(**row) for row in records.iter_rows(rows, "meta", "id"))
    return (normal(full_text(**row)) for row in records.iter_rows(rows, *records.PROMPT_COLUMNS))


def _digest(text: str) -> bytes:
    """Return 16 bytes for a text of any length, so that a million of them fit in memory."""
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def full_text(turns: list[dict], instruction: str, input: str) -> str:
    return "\n".join([*(turn["content"] for turn in turns), instruction, input])


def normal(text: str) -> str:
    """Remove differences of case, character width and white space."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _payload(meta: str, id: str) -> str:
    about = json.loads(meta or "{}")
    if "payload" not in about:
        raise ValueError(f"row {id}: its meta has no payload. Use key='text'.")
    return json.dumps([about.get("family"), about["payload"]], sort_keys=True, ensure_ascii=False)


def shingles(text: str, words: int) -> set[str]:
    """Return the word n-grams of a text; for a text with fewer words, the whole."""
    tokens = re.findall(r"\w+", text) or [text]
    return {" ".join(tokens[i : i + words]) for i in range(max(len(tokens) - words, 0) + 1)}


def jaccard(first: set, second: Collection) -> float:
    """Return the Jaccard similarity, 0 to 1, of two collections without repeats."""
    both = len(first.intersection(second))
    return both / (len(first) + len(second) - both)
