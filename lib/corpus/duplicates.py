"""Duplicates: exact and near, the first in file order kept; judged on text, or on the embedded world's payload."""

import hashlib
import json
import re
import unicodedata
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator

import numpy as np
from datasets import Dataset
from rensa import RMinHash, RMinHashLSH

from lib import records

PERMUTATIONS = 128
MOST_MISSED = 1e-4  # share of pairs at the threshold that the index may not find
Key = str | Callable[[dict], str]


def drop_exact(rows: Dataset, key: Key = "text") -> tuple[Dataset, list[tuple[str, str]]]:
    """The rows without repeats of an earlier key, and (dropped id, kept id) pairs.

    key: "text" (turns, instruction and input; case, width and white space do not count), "payload" (the embedded
    world's family and canonical payload, from `meta`), another column, or a function of the row.
    """
    ids = rows["id"][:]
    first: dict[bytes, int] = {}
    kept_for = [first.setdefault(_digest(one), i) for i, one in enumerate(keys(rows, key))]
    kept = [i for i, j in enumerate(kept_for) if i == j]
    return records.only(rows, kept), [(ids[i], ids[j]) for i, j in enumerate(kept_for) if i != j]


def drop_near(
    rows: Dataset, threshold: float = 0.8, key: Key = "text", words: int = 3
) -> tuple[Dataset, list[tuple[str, str, float]]]:
    """The rows without near-repeats, and (dropped id, kept id, similarity) triples.

    A row is dropped when the Jaccard similarity of its word n-grams to those of an earlier kept row reaches the
    threshold (0 to 1). MinHash proposes the pairs (it misses fewer than one in 10,000 at the threshold), the true
    similarity decides; so which rows stay depends on their order and on nothing else.
    """
    places = _alike(keys(rows, key), threshold, words)
    alike = records.only(rows, places)
    ids, grams, dropped = alike["id"][:], [], {}
    index = RMinHashLSH(threshold, PERMUTATIONS, bands(threshold))
    for i, (own, hashes, sketch) in enumerate(_sketched(keys(alike, key), words)):
        grams.append(hashes)
        near = max(((jaccard(own, grams[j]), -j) for j in index.query(sketch)), default=(0.0, 0))
        if near[0] >= threshold:
            dropped[places[i]] = (ids[i], ids[-near[1]], near[0])
        else:
            index.insert(i, sketch)
    return records.only(rows, [i for i in range(len(rows)) if i not in dropped]), list(dropped.values())


def _alike(texts: Iterable[str], threshold: float, words: int) -> list[int]:
    """The places of the texts that the index puts beside another one: the rest, nearly all, stay whatever their order."""
    hashes, ends = array("Q"), array("Q", [0])
    for part in records.batched(texts, 1000):
        for own in RMinHash.hash_token_sets([shingles(text, words) for text in part]):
            hashes.extend(own)
            ends.append(len(hashes))
    sketches = RMinHash.digest_matrix_from_flat_token_hashes(hashes, ends, PERMUTATIONS, 0)
    index = RMinHashLSH(threshold, PERMUTATIONS, bands(threshold))
    return np.flatnonzero(index.query_duplicate_flags_matrix_one_shot(sketches)).tolist()


def _sketched(texts: Iterable[str], words: int) -> Iterator[tuple[set[int], array, RMinHash]]:
    """Of each text its n-grams as 64-bit hashes, as a set and in little memory, and its sketch."""
    for part in records.batched(texts, 1000):
        sets = [shingles(text, words) for text in part]
        sketches = RMinHash.from_token_sets(sets, PERMUTATIONS, 0)
        for hashes, sketch in zip(RMinHash.hash_token_sets(sets), sketches, strict=True):
            yield set(hashes), array("Q", hashes), sketch


def bands(threshold: float) -> int:
    """The fewest bands of the index that miss at most MOST_MISSED of the pairs at the threshold."""
    sizes = (16, 8, 4, 2, 1)
    missed = {size: (1 - threshold**size) ** (PERMUTATIONS // size) for size in sizes}
    return PERMUTATIONS // next((size for size in sizes if missed[size] <= MOST_MISSED), 1)


def keys(rows: Dataset, key: Key = "text") -> Iterator[str]:
    """What duplication is judged on, one text a row; a ValueError names a row without a payload."""
    if callable(key):
        return map(key, rows)
    if key == "text":
        return (normal(full_text(**row)) for row in records.walk(rows, *records.SAID))
    if key == "payload":
        return (payload(**row) for row in records.walk(rows, "meta", "id"))
    return (row[key] for row in records.walk(rows, key))


def _digest(text: str) -> bytes:
    """Stands for a text of any length."""
    return hashlib.blake2b(str(text).encode(), digest_size=16).digest()


def full_text(turns: list[dict], instruction: str, input: str) -> str:
    return "\n".join([*(turn["content"] for turn in turns), instruction, input])


def normal(text: str) -> str:
    """The text without differences of case, character width or white space."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def payload(meta: str, id: str) -> str:
    facts = json.loads(meta or "{}")
    if "payload" not in facts:
        raise ValueError(f"row {id} has no payload in its meta: judge its duplication on key='text'")
    return json.dumps([facts.get("family"), facts["payload"]], sort_keys=True, ensure_ascii=False)


def shingles(text: str, words: int) -> set[str]:
    """The word n-grams of a text; of one shorter than that, the whole."""
    found = re.findall(r"\w+", text) or [text]
    return {" ".join(found[i : i + words]) for i in range(max(len(found) - words, 0) + 1)}


def jaccard(one: set, other: Collection) -> float:
    """Of two collections without repeats."""
    both = len(one.intersection(other))
    return both / (len(one) + len(other) - both)
