"""Draw and phrase instances of the task families that world.yaml describes."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from random import Random

import reasoning_gym

from lib import files
from lib.errors import UserError
from lib.gym import operations, readers, split_of

SPACE = 2**40  # size of a reasoning-gym data set; item i is drawn with seed i
WORLD = files.load_yaml(Path(__file__).with_name("world.yaml").read_text(encoding="utf-8"), "world.yaml")
CONSTRAINTS: dict[str, str] = WORLD["constraints"]  # how a rule is worded
ACCEPTED = {("letter_counting", "1"): 0.2}  # share by answer; else "1" would be right three times in four
HELD_OUT_PHRASINGS = 2  # the last two of each family
MISSES = 100  # repeats in a row before a cell counts as used up


@dataclass(frozen=True)
class Exercise:
    """An instance before it is phrased; `payload` identifies its content."""

    family: str
    level: int
    payload: str
    slots: dict[str, str]  # fill a phrasing's {braces}
    answer: str
    steps: str = ""  # worked steps, one per line; empty where the family has none


@dataclass(frozen=True)
class Family:
    """A family as world.yaml describes it."""

    task: str
    levels: list[dict]
    phrasings: list[str]
    settings: dict = field(default_factory=dict)
    parts: str = ".+"
    trained: bool = True


FAMILIES = {name: Family(**entry) for name, entry in WORLD["families"].items()}


def key(family: str, payload: str) -> str:
    """Name the content of an instance, whatever its phrasing."""
    return f"{family} {payload}"


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


def draw(family: str, level: int, rng: Random, split: str = "train") -> Iterator[Exercise]:
    """Draw instances of a family or chain in a split, without end and with repeats."""
    while True:
        instance = exercise(family, level, rng)
        accepted = ACCEPTED.get((family, instance.answer), 1)
        if split_of(family, instance.payload) == split and rng.random() < accepted:
            yield instance


def distinct(family: str, level: int, rng: Random, split: str, n: int, seen: set[str]) -> list[Exercise]:
    """Draw `n` different instances, none of them in `seen`, and add their keys to it.

    Raises UserError after a hundred repeats in a row.
    """
    instances, misses = [], 0
    for instance in draw(family, level, rng, split):
        if len(instances) == n:
            return instances
        name = key(family, instance.payload)
        misses = misses + 1 if name in seen else 0
        if misses == MISSES:
            raise UserError(
                f"{family} level {level}: it has {len(instances)} distinct {split} instances, and {n} are "
                "needed. Lower per_cell or corpus_rows."
            )
        if not misses:
            seen.add(name)
            instances.append(instance)


def exercise(family: str, level: int, rng: Random) -> Exercise:
    """Draw one instance of a family (levels count from 1) or of a chain, from any split."""
    if operations.is_chain(family):
        [(text, output)] = operations.pairs(family.split(), rng, 1)
        return Exercise(family, 1, text, {"x": text}, output)
    if family == "format_constraints":
        slots, answer, steps = format_constraints(FAMILIES[family].levels[level - 1]["constraints"], rng)
    else:
        item = _dataset(family, level)[rng.randrange(SPACE)]
        slots, answer, steps = getattr(readers, family)(item["metadata"] | item)
    parts = sorted(part.strip().removeprefix("+ ") for part in re.findall(FAMILIES[family].parts, slots["x"]))
    content = sorted((slots | {"x": " ".join(parts)}).items())
    payload = " | ".join(f"{name}={value}" for name, value in content)
    return Exercise(family, level, payload, slots, answer, "\n".join(steps))


@cache
def _dataset(family: str, level: int):
    """Create the reasoning-gym data set of a family and level."""
    settings = FAMILIES[family].settings | FAMILIES[family].levels[level - 1]
    return reasoning_gym.create_dataset(family, seed=0, size=SPACE, **settings)


def phrase(instance: Exercise, rng: Random, held_out: bool = False) -> str:
    """Write an instance's instruction in one of its family's phrasings."""
    text = rng.choice(phrasings(instance.family, held_out)).format(**instance.slots)
    return text[0].upper() + text[1:]


def phrasings(family: str, held_out: bool = False) -> list[str]:
    """List a family's phrasings; a chain of operations has one, SELF-GUIDE's prompt."""
    if operations.is_chain(family):
        return [operations.phrasing(family)]
    every = FAMILIES[family].phrasings
    return every[-HELD_OUT_PHRASINGS:] if held_out else every[:-HELD_OUT_PHRASINGS]


# Format constraints: words to write under composed rules


def format_constraints(n: int, rng: Random) -> readers.Reading:
    """Draw words and `n` of the CONSTRAINTS."""
    words = rng.sample(operations.common_words(), rng.randint(3, 5))
    drawn = rng.sample(sorted(CONSTRAINTS), n)
    count, prefix = rng.randint(1, len(words) - 1), rng.choice(["list", "words", "result"])
    shown = words[:count] if "first" in drawn else words
    text = (", " if "comma" in drawn else " ").join(shown)
    text = text.upper() if "upper" in drawn else text
    text = f"{prefix}: {text}" if "prefix" in drawn else text
    rules = [rule.format(n=count, prefix=prefix) for name, rule in CONSTRAINTS.items() if name in drawn]
    return {"x": " ".join(words), "constraints": ", ".join(rules)}, text, []


def parse_constraints(payload: str) -> tuple[str, list[str], int | None, str | None]:
    """Read rules and words and, where the rules set them, number of words and prefix."""
    rules, words = payload.removeprefix("constraints=").split(" | x=")
    count, prefix = re.search(r"exactly (\d+) words", rules), re.search(r"the word (\w+):", rules)
    return rules, words.split(), int(count[1]) if count else None, prefix[1] if prefix else None


def obeys(payload: str, text: str) -> bool:
    """Check a text against constraints; any n of the words in their order are right."""
    rules, words, count, prefix = parse_constraints(payload)
    if prefix:
        head, _, text = text.partition(": ")
        if head.lower() != prefix:  # the prefix may be in any letter case
            return False
    if "upper case" in rules and text.upper() != text:
        return False
    written = text.split(", ") if "commas" in rules else text.replace(",", " ").split()
    written = [word.lower() for word in written] if "upper case" in rules else written
    remaining = iter(words)
    in_order = all(word in remaining for word in written)  # `in` consumes: each word counts once
    return in_order and len(written) == (count or len(words))
