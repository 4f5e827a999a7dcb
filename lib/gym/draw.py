"""The one draw function: pre-training, corpus, demonstrations, expansion and evaluation all draw here."""

import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from random import Random

import yaml

from lib.gym import operations, targets
from lib.gym.families import FAMILIES, Exercise, exercise
from lib.gym.splits import split_of

KEPT = {("letter_counting", "1"): 0.2}  # else saying "1" would be right three times in four
HELD_OUT_PHRASINGS = 2  # the last two of each family


def draw(family: str, level: int, rng: Random, split: str = "train") -> Iterator[Exercise]:
    """Instances of one split of a family at a level, without end; repeats are possible."""
    while True:
        chain = operations.is_chain(family)
        instance = operations.exercise(family, rng) if chain else exercise(family, level, rng)
        if split_of(family, instance.payload) == split and rng.random() < KEPT.get(
            (family, instance.answer), 1
        ):
            yield instance


def distinct(
    family: str, level: int, rng: Random, split: str, n: int, seen: set[str] | None = None
) -> list[Exercise]:
    """`n` instances that differ in payload from each other and from `seen`, which is added to.

    Raises ValueError when a hundred draws in a row bring nothing new.
    """
    seen, found, misses = set() if seen is None else seen, [], 0
    for instance in draw(family, level, rng, split):
        if len(found) == n:
            return found
        key = f"{family} {instance.payload}"
        misses = misses + 1 if key in seen else 0
        if misses == 100:
            raise ValueError(
                f"{family} level {level} has no {n} distinct {split} instances left: found {len(found)}"
            )
        if key not in seen:
            seen.add(key)
            found.append(instance)
    return found


@cache
def phrasings() -> dict[str, list[str]]:
    return yaml.safe_load(Path(__file__).with_name("phrasings.yaml").read_text())


def task(family: str) -> str:
    """The label of a family in its taxonomy; a chain of operations is a task of its own."""
    return family if operations.is_chain(family) else FAMILIES[family].task


def trained_phrasings(family: str) -> list[str]:
    """The wordings of a family; of a chain of operations the one prompt with its demonstrations."""
    return (
        [targets.phrasing(family)]
        if operations.is_chain(family)
        else phrasings()[family][:-HELD_OUT_PHRASINGS]
    )


def held_out_phrasings(family: str) -> list[str]:
    return phrasings()[family][-HELD_OUT_PHRASINGS:]


def phrase(instance: Exercise, rng: Random, among: Callable[[str], list[str]] = trained_phrasings) -> str:
    """The instruction for an instance, in one of the family's wordings."""
    text = rng.choice(among(instance.family)).format(**instance.slots)
    return text[0].upper() + text[1:]


def cells(trained: bool = True) -> list[tuple[str, int]]:
    """(family, level) pairs a student is trained on, or with trained=False the ones it never sees."""
    inside = [(name, level) for name, f in FAMILIES.items() if f.trained for level in range(1, len(f.levels))]
    every = [(name, level) for name, f in FAMILIES.items() for level in range(1, len(f.levels) + 1)]
    return inside if trained else [cell for cell in every if cell not in inside]


def meta(instance: Exercise, kind: str = "") -> str:
    """What a row keeps of its instance: the exact oracle reads it back."""
    kept = {name: getattr(instance, name) for name in ("family", "level", "payload", "answer", "steps")}
    return json.dumps(kept | {"kind": kind}, ensure_ascii=False)
