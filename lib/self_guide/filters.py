"""The filters of SELF-GUIDE: which generated texts are kept, and why others are dropped (section 3.1)."""

import math
from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from lib.errors import UserError
from lib.models.types import NO_ROOM, Completion
from lib.self_guide.labels import read
from lib.self_guide.target import Target

FILTERS = ("empty", "length", "noise", "duplicate")  # in the order in which they are applied
KEPT, CUT, INCONSISTENT = "kept", "cut", "self-consistency"
NEXT_DEMO = "\nInput:"  # how a base model continues after its answer
# Noise in lower case: how an assistant begins, and what an assistant or a prompt says
BEGINNINGS = ("as an ai", "i'm sorry, but", "i am sorry, but", "i cannot help", "i can't help")
BEGINNINGS += ("i cannot assist", "i can't assist", "i apologize", "certainly!", "sure!", "sure, here")
BEGINNINGS += ("of course!", "absolutely!", "great question", "i'd be happy to", "happy to help")
BEGINNINGS += ("here is a new", "here's a new", "here is the new")
PHRASES = ("i hope this helps", "let me know if", "as a language model", "input:", "output:", "inputs:")
PHRASES += ("[task]", "<|", "###")


class Filter(NamedTuple):
    """A condition on a reply and its cleaned text; `bounds` describes it to a reader."""

    name: str
    bounds: str
    keeps: Callable[[Completion, str], bool]


def _is_whole(reply: Completion, text: str) -> bool:
    return not reply.thoughts_alone and (reply.finish_reason != "length" or NEXT_DEMO in reply.text)


WHOLE = [  # for every reply
    Filter(NO_ROOM, "its prompt fits the student's context", lambda reply, _: reply.finish_reason != NO_ROOM),
    Filter(CUT, "ends within the token limit", _is_whole),
]


def input_filters(target: Target, names: Iterable[str]) -> list[Filter]:
    """Build the filters of inputs; the one for duplicates remembers every text that it has seen."""
    texts = [demo.input for demo in target.demos]
    seen = set(texts)

    def is_new(reply: Completion, text: str) -> bool:
        repeated = text in seen
        seen.add(text)
        return not repeated

    filters = [*_text_filters(texts), Filter("duplicate", "no repeat of an earlier input", is_new)]
    return WHOLE + [each for each in filters if each.name in names]


def output_filters(target: Target, names: Iterable[str]) -> list[Filter]:
    """Build the filters of outputs: repeats are welcome; a label may have any length, but must be read."""
    filters = _text_filters([demo.output for demo in target.demos])
    filters = WHOLE + [each for each in filters if each.name in names]
    if not target.labels:
        return filters
    is_label = Filter("no label", "names a label", lambda _, text: read(text, target.labels) is not None)
    return [each for each in filters if each.name != "length"] + [is_label]


def _text_filters(demonstrated: list[str]) -> list[Filter]:
    """Build empty, length and noise; what the demonstrations say themselves is no noise."""
    low, high = length_bounds(demonstrated)
    texts = [text.lower() for text in demonstrated]
    beginnings = tuple(part for part in BEGINNINGS if not any(text.startswith(part) for text in texts))
    phrases = [part for part in PHRASES if not any(part in text for text in texts)]

    def is_clean(reply: Completion, text: str) -> bool:
        lower = text.lower()
        return not lower.startswith(beginnings) and not any(part in lower for part in phrases)

    characters = f"{max(0, math.ceil(low))} to {math.floor(high)} characters"
    return [
        Filter("empty", "not empty", lambda _, text: bool(text)),
        Filter("length", characters, lambda _, text: low <= len(text) <= high),
        Filter("noise", "no phrase of an assistant around its answer, nor of the prompt", is_clean),
    ]


def length_bounds(texts: list[str]) -> tuple[float, float]:
    """Return the mean length in characters, minus and plus two standard deviations.

    A deviation is at least a quarter of the mean. The spread of one or two texts says nothing: a quarter of
    their mean to four times it.
    """
    lengths = [len(text) for text in texts]
    mean = float(np.mean(lengths))
    if len(lengths) < 3:
        return mean / 4, 4 * mean
    deviation = max(float(np.std(lengths)), 0.25 * mean)
    return mean - 2 * deviation, mean + 2 * deviation


def fate(reply: Completion, text: str, filters: list[Filter]) -> str:
    """Return "kept", or the name of the first filter that drops a reply with this cleaned text."""
    return next((each.name for each in filters if not each.keeps(reply, text)), KEPT)


def bounds(filters: list[Filter]) -> dict[str, str]:
    """Describe what a kept text fulfils, by fate."""
    return {each.name: each.bounds for each in filters} | {INCONSISTENT: "least_share of the samples agree"}


def require_some_kept(fates: Iterable[str], texts: Iterable[str], bounds: dict[str, str]) -> None:
    """Raise UserError where no text was kept, with the most frequent reason and three of its texts."""
    fates = list(fates)
    if KEPT in fates:
        return
    [(worst, n)] = Counter(fates).most_common(1)
    dropped = dict.fromkeys(text[:60] for text, each in zip(texts, fates, strict=True) if each == worst)
    raise UserError(
        f"fate={worst}: none of {len(fates):,} inputs is kept; {n:,} miss its bound ({bounds[worst]}), as "
        f"{', '.join(map(repr, list(dropped)[:3]))}. Change it, or show other demonstrations."
    )
