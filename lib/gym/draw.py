"""Draw and phrase instances, for corpus, expansion, evaluation and pre-training."""

from collections.abc import Iterator
from random import Random

from lib.errors import UserError
from lib.gym import operations, split_of, targets
from lib.gym.families import FAMILIES, Exercise, exercise

ACCEPTED = {("letter_counting", "1"): 0.2}  # share by answer; else "1" would be right three times in four
HELD_OUT_PHRASINGS = 2  # the last two of each family
MISSES = 100  # repeats in a row before a cell counts as used up


def draw(family: str, level: int, rng: Random, split: str = "train") -> Iterator[Exercise]:
    """Draw instances of a family or chain in a split, without end and with repeats."""
    if operations.is_chain(family):
        chain_pairs = operations.pairs_of_split(family, rng, split)
        instances = (Exercise(family, 1, text, {"x": text}, out, "") for text, out in chain_pairs)
    else:
        instances = iter(lambda: exercise(family, level, rng), None)
    for instance in instances:
        accepted = ACCEPTED.get((family, instance.answer), 1)
        if split_of(family, instance.payload) == split and rng.random() < accepted:
            yield instance


def distinct(
    family: str, level: int, rng: Random, split: str, n: int, seen: set[str] | None = None
) -> list[Exercise]:
    """Draw `n` different instances, none of them in `seen`, and add their keys to it.

    Raises UserError after a hundred repeats in a row.
    """
    seen, instances, misses = set() if seen is None else seen, [], 0
    for instance in draw(family, level, rng, split):
        if len(instances) == n:
            return instances
        misses = misses + 1 if instance.key in seen else 0
        if misses == MISSES:
            cell = f"{family} level {level}"
            raise UserError(f"{cell}: no {n} distinct {split} instances. Ask for at most {len(instances)}.")
        if not misses:
            seen.add(instance.key)
            instances.append(instance)


def phrase(instance: Exercise, rng: Random, held_out: bool = False) -> str:
    """Write an instance's instruction in one of its family's phrasings."""
    text = rng.choice(phrasings(instance.family, held_out)).format(**instance.slots)
    return text[0].upper() + text[1:]


def phrasings(family: str, held_out: bool = False) -> list[str]:
    """List a family's phrasings; a chain of operations has one, SELF-GUIDE's prompt."""
    if operations.is_chain(family):
        return [targets.phrasing(family)]
    every = FAMILIES[family].phrasings
    return every[-HELD_OUT_PHRASINGS:] if held_out else every[:-HELD_OUT_PHRASINGS]


def task(family: str) -> str:
    """Return the taxonomy's label of a family; a chain of operations is its own label."""
    return family if operations.is_chain(family) else FAMILIES[family].task


def cells(trained: bool = True) -> list[tuple[str, int]]:
    """List the (family, level) pairs that students are trained on, or all others."""
    return [
        (name, level)
        for name, family in FAMILIES.items()
        for level in range(1, len(family.levels) + 1)
        if (family.trained and level < len(family.levels)) == trained
    ]
