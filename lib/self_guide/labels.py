"""Labels of a classification task: read from what a model said, and kept in balance."""

import unicodedata
from functools import cache
from random import Random

import regex
from datasets import Dataset

from lib import records
from lib.errors import UserError

LETTER = r"[\p{L}\p{M}\p{N}]"
BETWEEN = r"[^\p{L}\p{M}\p{N}]+"  # what stands between the words of a label
BEFORE = rf"(?<!{LETTER})(?<!{LETTER}[_\p{{Pd}}])"
DENIED = r"(?<!(?i:\b(?:not|non))[\s_\p{Pd}/*]+)"
AFTER = rf"(?!{LETTER})(?![_\p{{Pd}}]{LETTER})"


def read(text: str, labels: tuple[str, ...]) -> str | None:
    """The last whole label in a text, None where there is none.

    A longer label comes before the shorter one that it holds; a part of a word is no label, nor is one behind "not" or "non":
    "not_entailment" is never read as "entailment". Whatever stands between the words of a label may stand for it. Letter case counts for
    labels of one letter ("A" is no article), unless nothing is found so.
    """
    order = sorted(labels, key=len, reverse=True)
    for flags in (0, regex.IGNORECASE):
        found = list(_pattern(tuple(order), flags).finditer(text))
        if found:
            last = found[-1]
            return last[0] if last[0] in labels else order[last.lastindex - 1]
    return None


def read_substring(text: str, labels: tuple[str, ...]) -> str | None:
    """The last label in a text whatever stands around it, the first in `labels` where several begin: how SELF-GUIDE's code reads."""
    found = regex.findall("|".join(map(regex.escape, labels)), text)
    return found[-1] if found else None


@cache
def _pattern(labels: tuple[str, ...], flags: int) -> regex.Pattern:
    """One group a label, in their order."""
    return regex.compile("|".join(f"({_whole(label)})" for label in labels), flags)


def _whole(label: str) -> str:
    """A label's words, with anything between them, but with what it begins and ends with as it is: "-1" is not "1"."""
    inside = regex.search(rf"{LETTER}.*{LETTER}|{LETTER}", label, regex.DOTALL)
    if not inside:
        return regex.escape(label)
    words = BETWEEN.join(map(regex.escape, regex.split(BETWEEN, inside[0])))
    whole = regex.escape(label[: inside.start()]) + words + regex.escape(label[inside.end() :])
    whole += AFTER if _spaced(label[-1]) else ""
    if _spaced(label[0]):
        # looked for back there only where the label stands: else at every sign, as far as dashes go
        whole = f"{BEFORE}(?={whole}){DENIED}{whole}"
    return whole if len(label) == 1 else f"(?i:{whole})"


def _spaced(char: str) -> bool:
    """Whether a character belongs to words that are kept apart by spaces, as Chinese and Japanese ones are not."""
    return bool(regex.fullmatch(LETTER, char)) and unicodedata.east_asian_width(char) not in "WF"


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
    return records.take_rows(rows, kept)
