"""Task families: what reasoning-gym draws, read as slots for our phrasings, an exact answer and worked steps."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from random import Random

import reasoning_gym
from reasoning_gym.algorithmic.word_sorting import TextTransformation
from reasoning_gym.arithmetic.leg_counting import ANIMALS

from lib.gym.formats import format_constraints

SPACE = 2**40  # items a package data set can be asked for; item i is drawn from seed i


@dataclass(frozen=True)
class Exercise:
    """One instance, before it is phrased. `payload` is what it is about, whatever the wording."""

    family: str
    level: int
    payload: str
    slots: dict[str, str]  # fill a phrasing's {braces}
    answer: str
    steps: str  # worked steps, one a line; empty where the family has none


@dataclass(frozen=True)
class Family:
    """`levels` are the package's settings from easy to hard; the last one is never trained."""

    task: str  # label in params/tasks/gym.yaml
    levels: tuple[dict, ...]
    read: Callable[[dict, Random], tuple[dict[str, str], str, list[str]]]  # -> slots, answer, steps
    ours: bool = False  # `read` draws by itself; else reasoning-gym draws, under the family's name
    parts: str = ""  # pattern of what in slot x can change places and stay the same instance
    trained: bool = True


def chain_sum(item: dict, rng: Random):
    tokens = item["metadata"]["expression"].split()
    total, steps = int(tokens[0]), []
    for sign, term in zip(tokens[1::2], tokens[2::2], strict=True):
        tens, units = int(term) // 10 * 10, int(term) % 10
        for part in [part for part in (tens, units) if part] or [0]:
            after = total + part if sign == "+" else total - part
            steps.append(f"{total} {sign} {part} = {after}")
            total = after
    return {"x": " ".join(tokens)}, item["answer"], steps


def decimal_chain_sum(item: dict, rng: Random):
    return {"x": item["metadata"]["expression"]}, item["answer"], []


def leg_counting(item: dict, rng: Random):
    steps, total = [], 0
    for animal, count in item["metadata"]["animals"].items():
        legs = count * ANIMALS[animal]
        steps.append(
            f"{count} {animal}: {count} x {ANIMALS[animal]} = {legs}, {total} + {legs} = {total + legs}"
        )
        total += legs
    listed = ", ".join(f"{count} {animal}" for animal, count in item["metadata"]["animals"].items())
    return {"x": listed}, item["answer"], steps


def letter_counting(item: dict, rng: Random):
    letter, words = item["metadata"]["target_letter"], [w.lower() for w in item["metadata"]["span"]]
    counts = [word.count(letter) for word in words]
    steps = [f"{' '.join(word)}: {count}" for word, count in zip(words, counts, strict=True)]
    return {"letter": letter, "x": " ".join(words)}, item["answer"], steps


def sorting(words: list[str], ordered: list[str], direction: str):
    left, steps = list(words), []
    for item in ordered:
        steps.append(f"{' '.join(left)}: {item}")
        left.remove(item)
    return {"x": ", ".join(words), "direction": direction}, ", ".join(ordered), steps


def word_sorting(item: dict, rng: Random):
    about = item["metadata"]
    return sorting(about["transformed_words"], about["sorted_words"], about["direction"])


def number_sorting(item: dict, rng: Random):
    whole = {
        key: [f"{float(n):.0f}" for n in item["metadata"][key]]
        for key in ("original_numbers", "sorted_numbers")
    }
    return sorting(whole["original_numbers"], whole["sorted_numbers"], item["metadata"]["direction"])


def spell_backward(item: dict, rng: Random):
    word = item["metadata"]["word"].lower()
    return {"x": word}, word[::-1], [" ".join(word), " ".join(word[::-1])]


def word_sequence_reversal(item: dict, rng: Random):
    words = [word.lower() for word in item["metadata"]["words"]]
    return {"x": ", ".join(words)}, ", ".join(words[::-1]), []


def number_filtering(item: dict, rng: Random):
    about = item["metadata"]
    kept = [f"{float(n):.0f}" for n in about["result"]]
    verb, side = about["operation"].split("_")
    bound = f"{float(about['filter_value']):.0f}"
    numbers = [f"{float(n):.0f}" for n in about["original_numbers"]]
    steps = [f"{n} {'kept' if n in kept else 'dropped'}" for n in numbers]
    return (
        {"x": ", ".join(numbers), "verb": verb, "side": side, "bound": bound},
        ", ".join(kept) or "none",
        steps,
    )


def needle_haystack(item: dict, rng: Random):
    story, question = item["question"].split("\n")
    question = question.split("?")[0].removeprefix("Who ")
    statement = next(s for s in story.split(". ") if s.removesuffix(".").endswith(question))
    return {"x": story.strip(), "fact": question}, item["answer"], [statement.strip().removesuffix(".") + "."]


def ransom_note(item: dict, rng: Random):
    about = item["metadata"]
    slots = {"x": about["ransom_note"], "letters": about["magazine"]}
    return slots, "yes" if about["solution"] else "no", []


def _words(n: int) -> dict:
    return {"min_words": n, "max_words": n}


def _numbers(low: int, high: int) -> dict:
    limits = {"min_value": 0, "max_value": 99, "min_decimals": 0, "max_decimals": 0}
    return {"min_numbers": low, "max_numbers": high} | limits


def _terms(n: int, digits: int) -> dict:
    return {"min_terms": n, "max_terms": n, "min_digits": digits, "max_digits": 2}


def _short(n: int) -> dict:
    return _words(n) | {
        "min_word_length": 3,
        "max_word_length": 6,
        "transformation": TextTransformation.LOWERCASE,
    }


def _legs(n: int, most: int) -> dict:
    return {"min_animals": n, "max_animals": n, "max_instances": most}


def _letters(low: int, high: int) -> dict:
    return {"min_word_len": low, "max_word_len": high}


def _facts(n: int) -> dict:
    return {"min_num_statements": n, "max_num_statements": n}


def _decimals(n: int) -> dict:
    return {"min_terms": n, "max_terms": n, "max_digits": 2, "max_decimal_places": 1}


def _note(n: int) -> dict:
    return {
        "min_note_length": n,
        "max_note_length": n,
        "min_magazine_length": 3 * n,
        "max_magazine_length": 3 * n,
    }


LISTED = r"[^,]+"  # what commas separate
TERMS = r"(?:[+-] )?[\d.]+"

FAMILIES = {
    "chain_sum": Family("Arithmetic", (_terms(2, 1), _terms(2, 2), _terms(3, 2)), chain_sum, parts=TERMS),
    "leg_counting": Family("Arithmetic", (_legs(2, 4), _legs(2, 9), _legs(3, 9)), leg_counting, parts=LISTED),
    "letter_counting": Family("Counting", (_words(2), _words(4), _words(6)), letter_counting, parts=r"\S+"),
    "word_sorting": Family("Ordering", (_short(2), _short(3), _short(5)), word_sorting, parts=LISTED),
    "number_sorting": Family(
        "Ordering", (_numbers(2, 2), _numbers(3, 3), _numbers(5, 5)), number_sorting, parts=LISTED
    ),
    "spell_backward": Family("Rewriting", (_letters(3, 5), _letters(6, 7), _letters(8, 9)), spell_backward),
    "word_sequence_reversal": Family("Rewriting", (_words(3), _words(5), _words(7)), word_sequence_reversal),
    "number_filtering": Family(
        "Reading", (_numbers(2, 3), _numbers(4, 5), _numbers(6, 7)), number_filtering, parts=LISTED
    ),
    "needle_haystack": Family(
        "Reading", (_facts(2), _facts(3), _facts(5)), needle_haystack, parts=r"[^.]+\."
    ),
    "format_constraints": Family(
        "Format", ({"constraints": 1}, {"constraints": 2}, {"constraints": 3}), format_constraints, ours=True
    ),
    "decimal_chain_sum": Family(
        "Arithmetic", (_decimals(2), _decimals(3)), decimal_chain_sum, trained=False, parts=TERMS
    ),
    "ransom_note": Family("Reading", (_note(3), _note(5)), ransom_note, trained=False, parts=r"\w"),
}


@cache
def _dataset(family: str, level: int):
    settings = FAMILIES[family].levels[level - 1]
    return reasoning_gym.create_dataset(family, seed=0, size=SPACE, **settings)


def exercise(family: str, level: int, rng: Random) -> Exercise:
    """Draw one instance of a family (levels count from 1); any instance, held out or not."""
    about = FAMILIES[family]
    item = about.levels[level - 1] if about.ours else _dataset(family, level)[rng.randrange(SPACE)]
    slots, answer, steps = about.read(item, rng)
    about_x = " ".join(_parts(about.parts, slots["x"])) if about.parts else slots["x"]
    payload = " | ".join(f"{key}={value}" for key, value in sorted((slots | {"x": about_x}).items()))
    return Exercise(family, level, payload, slots, answer, "\n".join(steps))


def _parts(pattern: str, text: str) -> list[str]:
    """The parts in a fixed order: "12 + 30" and "30 + 12" are one instance, and so held out together."""
    return sorted(part.strip().removeprefix("+ ") for part in re.findall(pattern, text))
