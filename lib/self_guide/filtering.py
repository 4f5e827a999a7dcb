"""The filters of SELF-GUIDE: which of the texts that a student wrote are kept, and what is said where none is (section 3.1)."""

import math
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from lib.errors import UserError
from lib.models.batches import NO_ROOM, Reply
from lib.self_guide.target import Target

FILTERS = ("empty", "length", "noise", "duplicate")  # in the order in which they are applied
KEPT, CUT, UNREADABLE, INCONSISTENT = "kept", "cut", "no label", "self-consistency"
NEXT = "\nInput:"  # how the next demonstration begins
# Noise, in lower case: how an assistant begins and ends what it says, and what only a prompt holds
BEGINS = ("as an ai", "i'm sorry, but", "i am sorry, but", "i cannot help", "i can't help", "i cannot assist")
BEGINS += ("i can't assist", "i apologize", "certainly!", "sure!", "sure, here", "of course!", "absolutely!")
BEGINS += (
    "great question",
    "i'd be happy to",
    "happy to help",
    "here is a new",
    "here's a new",
    "here is the new",
)
HOLDS = ("i hope this helps", "let me know if", "as a language model", "input:", "output:", "inputs:")
HOLDS += ("[task]", "<|", "###")
WAYS_OUT = {
    NO_ROOM: "Show fewer shots, or lower the limit of new tokens",
    CUT: "Raise that limit, or ask a student that ends what it says",
    UNREADABLE: "Ask a student that can do more, or see whether labels are what it says",
    INCONSISTENT: "Lower least_share or output_temperature",
}
NOISE = "nothing that an assistant says around its answer, and nothing of the prompt"


class Filter(NamedTuple):
    """What a text must be to be kept; `bounds` says it in words."""

    name: str
    bounds: str
    keeps: Callable[[str], bool]


def input_filters(target: Target, wanted: list[str]) -> list[Filter]:
    """The wanted ones (empty, length, noise, duplicate), in that order. The one for duplicates, of the demonstrations too, remembers what it saw."""
    texts = [demo.input for demo in target.demos]
    seen = set(texts)

    def is_new(text: str) -> bool:
        fresh = text not in seen
        seen.add(text)
        return fresh

    duplicate = Filter("duplicate", "no repeat of an input before it", is_new)
    return [one for one in [*_filters(texts), duplicate] if one.name in wanted]


def output_filters(target: Target, wanted: list[str]) -> list[Filter]:
    """The wanted ones that outputs can fail at: many may be equal, and the length of a label says nothing."""
    every = _filters([demo.output for demo in target.demos])
    return [one for one in every if one.name in wanted and not (target.labels and one.name == "length")]


def _filters(texts: list[str]) -> list[Filter]:
    """Empty, length (as the demonstrations' `texts` are), and noise, but for what these have themselves."""
    low, high = length_bounds(texts)
    shown = [text.lower() for text in texts]
    begins = tuple(part for part in BEGINS if not any(text.startswith(part) for text in shown))
    holds = [part for part in HOLDS if not any(part in text for text in shown)]

    def is_clean(text: str) -> bool:
        return not text.lower().startswith(begins) and not any(part in text.lower() for part in holds)

    return [
        Filter("empty", "not empty", bool),
        Filter(
            "length",
            f"{max(0, math.ceil(low))} to {math.floor(high)} characters",
            lambda text: low <= len(text) <= high,
        ),
        Filter("noise", NOISE, is_clean),
    ]


def length_bounds(texts: list[str]) -> tuple[float, float]:
    """Two standard deviations around the mean length in characters, one being a quarter of the mean at least; of fewer than three
    texts, whose spread says nothing, a quarter of the mean to four times it."""
    lengths = [len(text) for text in texts]
    mean = float(np.mean(lengths))
    if len(lengths) < 3:
        return mean / 4, 4 * mean
    spread = max(float(np.std(lengths)), 0.25 * mean)
    return mean - 2 * spread, mean + 2 * spread


def fate(reply: Reply, text: str, among: list[Filter]) -> str:
    """What becomes of one reply: "kept", or the name of the first filter that it does not pass."""
    if reply.finish == NO_ROOM:
        return NO_ROOM
    if reply.unanswered or reply.finish == "length" and NEXT not in reply.text:
        return CUT
    return next((one.name for one in among if not one.keeps(text)), KEPT)


def bounds(among: list[Filter], tokens: int, least_share: float = 0.0) -> dict[str, str]:
    """What a text must be, by the name of what decides that, in the order in which it does."""
    return {
        NO_ROOM: "its prompt leaves room in the student's context",
        CUT: f"ends within {tokens} tokens",
        **{one.name: one.bounds for one in among},
        UNREADABLE: "names one of the labels",
        INCONSISTENT: f"a share of {least_share:.0%} of the samples or more",
    }


def check_left(fates: list[str], texts: list[str], bounds: dict[str, str], what: str) -> None:
    """Raises UserError where nothing was kept, naming the filter that the most of them did not pass, its bounds and three of them."""
    counts = Counter(fates)
    if counts[KEPT]:
        return
    [(worst, _)] = counts.most_common(1)
    victims = dict.fromkeys(text[:60] for text, of in zip(texts, fates, strict=True) if of == worst)
    others = ", ".join(f"{name} {n:,}" for name, n in counts.items())
    raise UserError(
        f'the filter "{worst}" ({bounds[worst]}) leaves none of the {len(fates):,} {what} ({others}). '
        f"{WAYS_OUT.get(worst, 'Show other demonstrations, or leave it out of filters')}. It rejected such as "
        f"{', '.join(map(repr, list(victims)[:3]))}"
    )
