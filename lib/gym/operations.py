"""String operations, named and composed: what the student's pre-training teaches, and what it never saw."""

from collections.abc import Callable
from functools import cache
from itertools import pairwise, permutations
from random import Random

from lib.errors import UserError
from lib.gym.families import Exercise
from lib.gym.formats import common_words
from lib.gym.splits import split_of

VOWELS = "aeiouAEIOU"


def _next_letter(char: str) -> str:
    if not char.isalpha():
        return char
    first = ord("a") if char.islower() else ord("A")
    return chr(first + (ord(char) - first + 1) % 26)


OPERATIONS: dict[str, tuple[Callable[[str], str], str]] = {  # name: (function, how it is asked)
    "reverse": (lambda s: s[::-1], "reverse it"),
    "upper": (str.upper, "use capitals"),
    "capitalise": (lambda s: s[:1].upper() + s[1:], "begin with a capital"),
    "double": (lambda s: "".join(c + c for c in s), "double each letter"),
    "drop_first": (lambda s: s[1:], "drop the first letter"),
    "drop_last": (lambda s: s[:-1], "drop the last letter"),
    "rotate_left": (lambda s: s[1:] + s[:1], "move the first letter to the end"),
    "rotate_right": (lambda s: s[-1:] + s[:-1], "move the last letter to the front"),
    "repeat": (lambda s: s + s, "write it twice"),
    "shift": (lambda s: "".join(map(_next_letter, s)), "take the next letter of each"),
    "dashes": (lambda s: "-".join(s), "put dashes between"),
    "drop_vowels": (lambda s: "".join(c for c in s if c not in VOWELS), "leave out the vowels"),
    "mirror": (lambda s: s + s[::-1], "add its mirror image"),
    "star_vowels": (lambda s: "".join("*" if c in VOWELS else c for c in s), "replace vowels by stars"),
    "first_two": (lambda s: s[:2], "keep the first two letters"),
    "x_behind": (lambda s: s + "x", "put an x behind it"),
    "a_before": (lambda s: "a" + s, "put an a before it"),
}


def apply(names: tuple[str, ...], text: str) -> str:
    """The operations one after the other; empty when nothing is left at some step."""
    for name in names:
        text = OPERATIONS[name][0](text) if text else ""
    return text


@cache
def compositions(split: str = "train") -> list[tuple[str, str]]:
    """Ordered pairs of two operations; one pair in ten is held out, by the rule that holds out instances."""
    return [pair for pair in permutations(OPERATIONS, 2) if split_of("operations", " ".join(pair)) == split]


def chain(rng: Random, length: int) -> tuple[str, ...]:
    """`length` operations in a row that leave something, no neighbours among them a held-out pair."""
    while True:
        names = tuple(rng.choices(list(OPERATIONS), k=length))
        pairs = [" ".join(pair) for pair in pairwise(names)]
        if apply(names, "bcdfg") and all(split_of("operations", pair) == "train" for pair in pairs):
            return names


def describe(names: tuple[str, ...]) -> str:
    """The instruction that names the operations: "Reverse it, then double each letter."."""
    text = ", then ".join(OPERATIONS[name][1] for name in names)
    return text[0].upper() + text[1:] + "."


def word(rng: Random) -> str:
    """A lower-case string of 3 to 5 letters: an English word or, half of the time, random letters."""
    if rng.random() < 0.5:
        return rng.choice(common_words(5))
    return "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(3, 5)))


def pairs(names: tuple[str, ...], rng: Random, n: int) -> list[tuple[str, str]]:
    """`n` (input, output) pairs with different inputs, none of them with an empty output."""
    found: dict[str, str] = {}
    while len(found) < n:
        text = word(rng)
        if apply(names, text):
            found[text] = apply(names, text)
    return list(found.items())


def as_turns(demos: list[tuple[str, str]], text: str, instruction: str = "") -> list[dict]:
    """A prompt whose demonstrations are earlier turns, the instruction the system message."""
    turns = [{"role": "system", "content": instruction}] if instruction else []
    for given, made in demos:
        turns += [{"role": "user", "content": given}, {"role": "assistant", "content": made}]
    return turns + [{"role": "user", "content": text}]


def as_text(demos: list[tuple[str, str]], text: str, instruction: str = "") -> list[dict]:
    """The same prompt written out in one user message."""
    shown = "".join(f"Input: {given}\nOutput: {made}\n" for given, made in demos)
    head = f"{instruction}\n" if instruction else ""
    return [{"role": "user", "content": f"{head}{shown}Input: {text}\nOutput:"}]


def is_chain(family: str) -> bool:
    """Whether a family's name is a chain of operations: "reverse double"."""
    return bool(family) and all(name in OPERATIONS for name in family.split())


def check_chain(family: str) -> None:
    """Raises UserError for an operation that there is not, and for none."""
    if unknown := [name for name in family.split() if name not in OPERATIONS]:
        raise UserError(f"{family}: there is no operation {unknown[0]}; there are {', '.join(OPERATIONS)}")
    if not apply(tuple(family.split()), "bcdfg") or not family.split():
        raise UserError(
            f"{family!r} is no chain of operations that leaves something of a word: name some of {', '.join(OPERATIONS)}"
        )


def exercise(chain: str, rng: Random) -> Exercise:
    """A word and what a chain of operations, taken as a family of its own, makes of it."""
    [(text, made)] = pairs(tuple(chain.split()), rng, 1)
    return Exercise(chain, 1, text, {"x": text}, made, "")
