"""Labels of a classification task: read from what a model said, and kept in balance."""

import re
import unicodedata
from random import Random

from datasets import Dataset

from lib import records
from lib.errors import UserError

BETWEEN = re.compile(r"[\s_-]+")  # what stands between the words of a label


def read(text: str, labels: tuple[str, ...]) -> str | None:
    """The last whole label in a text, None where there is none.

    A longer label comes before the shorter one that it holds, and a part of a word is no label: "not_entailment" is never read as
    "entailment". Spaces, hyphens and underscores inside a label stand for each other. Letter case counts for labels of one letter
    ("A" is no article), unless nothing is found so.
    """
    pattern = "|".join(map(_whole, sorted(labels, key=len, reverse=True)))
    for flags in (re.NOFLAG, re.IGNORECASE):
        if found := re.findall(pattern, text, flags):
            return _named(found[-1], labels)
    return None


def read_substring(text: str, labels: tuple[str, ...]) -> str | None:
    """The last label in a text whatever stands around it, the first in `labels` where several begin: how SELF-GUIDE's code reads."""
    found = re.findall("|".join(map(re.escape, labels)), text)
    return found[-1] if found else None


def _whole(label: str) -> str:
    parts = [re.escape(part) for part in BETWEEN.split(label) if part] or [re.escape(label)]
    before = r"(?<![\w-])" if _spaced(label[:1]) else ""
    after = r"(?![\w-])" if _spaced(label[-1:]) else ""
    whole = before + BETWEEN.pattern.join(parts) + after
    return whole if len(label) == 1 else f"(?i:{whole})"


def _spaced(char: str) -> bool:
    """Whether a character belongs to words that are kept apart by spaces, as Chinese and Japanese ones are not."""
    return char.isalnum() and unicodedata.east_asian_width(char) not in "WF"


def _named(found: str, labels: tuple[str, ...]) -> str:
    """The label that a text stands for; of two that differ in letter case alone the one as it is written."""

    def plain(text: str) -> str:
        return BETWEEN.sub(" ", text)

    same = [label for label in labels if plain(label).casefold() == plain(found).casefold()]
    return next((label for label in same if plain(label) == plain(found)), same[0])


def balance(rows: Dataset, labels: tuple[str, ...], seed: int) -> Dataset:
    """As many rows of each label in their `response` as the rarest of those that are there has, drawn at random, in their order.

    Raises UserError where all have the same label: a student taught by them would say nothing else.
    """
    places = {label: [i for i, one in enumerate(rows["response"]) if one == label] for label in labels}
    there = {label: of for label, of in places.items() if of}
    if len(there) < 2:
        raise UserError(
            f"all {len(rows):,} pairs have the label {', '.join(there) or '?'}, of {', '.join(labels)}: a student taught by them would say "
            "nothing else. Ask for more inputs (input_rounds), lower least_share, or show demonstrations of every label (shots)"
        )
    least = min(map(len, there.values()))
    kept = [i for label, of in there.items() for i in Random(f"balance {seed} {label}").sample(of, least)]
    return records.only(rows, kept)
