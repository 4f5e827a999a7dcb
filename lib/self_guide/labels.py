"""Labels of a classification task: read from replies, and balanced."""

import unicodedata
from collections import Counter
from random import Random

import pandas as pd
import regex
from datasets import Dataset

from lib import records
from lib.errors import UserError

LETTER = r"[\p{L}\p{M}\p{N}]"
SEPARATOR = r"[^\p{L}\p{M}\p{N}]+"  # between the words of a label
BEFORE = rf"(?<!{LETTER})(?<!{LETTER}[_\p{{Pd}}])"
NOT_DENIED = r"(?<!(?i:\b(?:not|non))[\s_\p{Pd}/*]+)"
AFTER = rf"(?!{LETTER})(?![_\p{{Pd}}]{LETTER})"


def read(text: str, labels: tuple[str, ...]) -> str | None:
    """Return the last whole label in a text, or None.

    A longer label comes before a shorter one inside it. A part of a word is no label, nor is a label behind
    "not" or "non": "not_entailment" is never read as "entailment". Any signs may separate its words. Case
    counts for labels of one letter ("A" is no article), unless nothing else is found.
    """
    longest_first = sorted(labels, key=len, reverse=True)
    pattern = "|".join(f"({_label_pattern(label)})" for label in longest_first)
    for flags in (0, regex.IGNORECASE):
        if matches := list(regex.finditer(pattern, text, flags)):
            last = matches[-1]
            return last[0] if last[0] in labels else longest_first[last.lastindex - 1]
    return None


def read_substring(text: str, labels: tuple[str, ...]) -> str | None:
    """Return the last label in a text, inside words too: the rule of SELF-GUIDE's code."""
    matches = regex.findall("|".join(map(regex.escape, labels)), text)
    return matches[-1] if matches else None


def _label_pattern(label: str) -> str:
    """Match the words of a label, its first and last signs as they are: "-1" is not "1"."""
    words = regex.findall(f"{LETTER}+", label)
    if not words:
        return regex.escape(label)
    head, tail = label.partition(words[0])[0], label.rpartition(words[-1])[2]
    pattern = regex.escape(head) + SEPARATOR.join(words) + regex.escape(tail)
    pattern += AFTER if _is_spaced(label[-1]) else ""
    if _is_spaced(label[0]):
        # the lookahead first: looking back for "not" at every sign is slow
        pattern = f"{BEFORE}(?={pattern}){NOT_DENIED}{pattern}"
    return pattern if len(label) == 1 else f"(?i:{pattern})"


def _is_spaced(char: str) -> bool:
    """Say whether spaces separate words of this script, unlike in Chinese and Japanese."""
    return bool(regex.fullmatch(LETTER, char)) and unicodedata.east_asian_width(char) not in "WF"


def counts(labels: tuple[str, ...], **tables: Dataset) -> pd.DataFrame:
    """Count the rows of each label in `response`: a line per label, a column per table."""
    columns = {name: Counter(rows["response"]) for name, rows in tables.items()}
    return pd.DataFrame(columns, labels).fillna(0).astype(int)


def balance(rows: Dataset, labels: tuple[str, ...], seed: int) -> Dataset:
    """Draw as many rows of each label in `response` as the rarest label has; all rows without labels.

    Raises UserError where all rows have the same label: the student would learn to say nothing else.
    """
    if not labels:
        return rows
    responses = rows["response"][:]
    present = [label for label in labels if label in responses]
    if len(present) < 2:
        raise UserError(
            f"labels={', '.join(labels)}: all {len(rows):,} pairs have {', '.join(present) or '?'}. "
            "Raise input_rounds, lower least_share, or show demonstrations of every label (shots)."
        )
    size, drawn = min(map(responses.count, present)), []
    for label in present:
        places = [i for i, text in enumerate(responses) if text == label]
        drawn += Random(f"balance {seed} {label}").sample(places, size)
    return records.take_rows(rows, sorted(drawn))
