"""The filters of SELF-GUIDE: which generated texts are kept, and why others are dropped (section 3.1)."""

import math
from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd

from lib import files, paths
from lib.errors import UserError
from lib.models.types import NO_ROOM, Completion
from lib.self_guide.labels import read
from lib.self_guide.target import Target

KEPT, INCONSISTENT = "kept", "self-consistency"
NEXT_DEMO = "\nInput:"  # how a base model continues after its answer
PHRASES = paths.ROOT / "params/prompts/assistant_phrases.yaml"


class Filter(NamedTuple):
    """A condition on a reply and its cleaned text; `bounds` describes it to a reader."""

    name: str
    bounds: str
    keeps: Callable[[Completion, str], bool]


def input_filters(target: Target) -> list[Filter]:
    """Build the filters of inputs; the one for duplicates remembers every text that it has seen."""
    texts = [demo.input for demo in target.demos]
    seen = set(texts)

    def is_new(reply: Completion, text: str) -> bool:
        repeated = text in seen
        seen.add(text)
        return not repeated

    return [*_filters(texts), Filter("duplicate", "no repeat of an earlier input", is_new)]


def output_filters(target: Target) -> list[Filter]:
    """Build the filters of outputs: repeats are welcome; a label may have any length, but must be read."""
    filters = _filters([demo.output for demo in target.demos])
    if not target.labels:
        return filters
    is_label = Filter("no label", "names a label", lambda _, text: read(text, target.labels) is not None)
    return [each for each in filters if each.name != "length"] + [is_label]


def _filters(demonstrated: list[str]) -> list[Filter]:
    """Build the filters of all texts; what the demonstrations say themselves is no noise."""
    low, high = length_bounds(demonstrated)
    noise = files.load_yaml(PHRASES.read_text(encoding="utf-8"), str(PHRASES))
    texts = [text.lower() for text in demonstrated]
    beginnings = tuple(part for part in noise["begins"] if not any(text.startswith(part) for text in texts))
    phrases = [part for part in noise["contains"] if not any(part in text for text in texts)]

    def is_whole(reply: Completion, text: str) -> bool:
        return not reply.thoughts_alone and (reply.finish_reason != "length" or NEXT_DEMO in reply.text)

    def is_clean(reply: Completion, text: str) -> bool:
        lower = text.lower()
        return not lower.startswith(beginnings) and not any(part in lower for part in phrases)

    characters = f"{max(0, math.ceil(low))} to {math.floor(high)} characters"
    has_room = "its prompt fits the student's context"
    return [
        Filter(NO_ROOM, has_room, lambda reply, _: reply.finish_reason != NO_ROOM),
        Filter("cut", "ends within the token limit", is_whole),
        Filter("empty", "not empty", lambda _, text: bool(text)),
        Filter("length", characters, lambda _, text: low <= len(text) <= high),
        Filter("noise", "no phrase of an assistant or of the prompt", is_clean),
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


def checks(reply: Completion, text: str, filters: list[Filter]) -> pd.DataFrame:
    """Tabulate what each filter says of one reply."""
    lines = [(each.name, each.bounds, each.keeps(reply, text)) for each in filters]
    return pd.DataFrame(lines, columns=["filter", "keeps a text if", "kept"])


def account(table: pd.DataFrame, filters: list[Filter]) -> pd.DataFrame:
    """Count the inputs, and their `samples` where they have any, by fate, with what a kept text fulfils."""
    counts = {"inputs": table["fate"].value_counts()}
    if "samples" in table:
        counts["samples"] = pd.Series(sum(table["samples"], Counter()), dtype=int)
    result = pd.DataFrame(counts).fillna(0).astype(int).sort_values([*counts], ascending=False)
    return result.assign(bounds=result.index.map(_bounds(filters)).fillna(""))


def dropped(table: pd.DataFrame) -> pd.DataFrame:
    """Take the first three rows that each filter dropped."""
    return table[table["fate"] != KEPT].groupby("fate").head(3).sort_values("fate", kind="stable")


def dropped_counts(fates: pd.Series) -> dict[str, int]:
    """Count dropped rows by cause, as metrics."""
    counts = fates[fates != KEPT].value_counts()
    return {f"dropped.{name.replace(' ', '_')}": int(n) for name, n in counts.items()}


REMEDIES = {  # of the fates that a parameter decides
    "cut": "Raise input_tokens, for inputs, or max_new_tokens, for outputs",
    NO_ROOM: "Lower shots, input_tokens or max_new_tokens",
    INCONSISTENT: "Lower least_share",
}


def _bounds(filters: list[Filter]) -> dict[str, str]:
    """Describe what a kept text fulfils, by fate."""
    return {each.name: each.bounds for each in filters} | {INCONSISTENT: "least_share of the samples agree"}


def require_some_kept(fates: Iterable[str], texts: Iterable[str], filters: list[Filter]) -> None:
    """Raise UserError where no text was kept, with the most frequent reason and three of its texts."""
    fates = list(fates)
    [(worst, n)] = Counter(fates).most_common(1)
    if KEPT not in fates:
        dropped = dict.fromkeys(text[:60] for text, each in zip(texts, fates, strict=True) if each == worst)
        kept = _bounds(filters)[worst]
        raise UserError(
            f"none of {len(fates):,} inputs is kept: {n:,} fail the filter {worst} (kept: {kept}), "
            f"such as {', '.join(map(repr, list(dropped)[:3]))}. "
            f"{REMEDIES.get(worst, 'Show other demonstrations')}."
        )
