"""String operations and chains of them, the target tasks of SELF-GUIDE in the embedded world."""

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import permutations
from random import Random

import reasoning_gym

from lib.errors import UserError
from lib.gym import EMBEDDED, split_of
from lib.self_guide.target import Demo, Instance, Material, Target

VALIDATION, TEST = 100, 200  # instances of a target task
VOWELS = "aeiouAEIOU"
LETTERS = "abcdefghijklmnopqrstuvwxyz"
NEXT = str.maketrans(LETTERS + LETTERS.upper(), LETTERS[1:] + "a" + LETTERS[1:].upper() + "A")

OPERATIONS: dict[str, tuple[Callable[[str], str], str]] = {  # name: (function, instruction)
    "reverse": (lambda s: s[::-1], "reverse it"),
    "upper": (str.upper, "use capitals"),
    "capitalise": (lambda s: s[:1].upper() + s[1:], "begin with a capital"),
    "double": (lambda s: "".join(c + c for c in s), "double each letter"),
    "drop_first": (lambda s: s[1:], "drop the first letter"),
    "drop_last": (lambda s: s[:-1], "drop the last letter"),
    "rotate_left": (lambda s: s[1:] + s[:1], "move the first letter to the end"),
    "rotate_right": (lambda s: s[-1:] + s[:-1], "move the last letter to the front"),
    "repeat": (lambda s: s + s, "write it twice"),
    "shift": (lambda s: s.translate(NEXT), "take the next letter of each"),
    "dashes": (lambda s: "-".join(s), "put dashes between"),
    "drop_vowels": (lambda s: "".join(c for c in s if c not in VOWELS), "leave out the vowels"),
    "mirror": (lambda s: s + s[::-1], "add its mirror image"),
    "star_vowels": (lambda s: "".join("*" if c in VOWELS else c for c in s), "replace vowels by stars"),
    "first_two": (lambda s: s[:2], "keep the first two letters"),
    "x_behind": (lambda s: s + "x", "put an x behind it"),
    "a_before": (lambda s: "a" + s, "put an a before it"),
}
# ordered pairs of operations that pre-training taught: nine in ten
TRAINED_PAIRS = [
    pair for pair in permutations(OPERATIONS, 2) if split_of("operations", " ".join(pair)) == "train"
]


def apply(names: Sequence[str], text: str) -> str:
    """Apply operations one after the other; empty when nothing is left at some step."""
    for name in names:
        text = OPERATIONS[name][0](text) if text else ""
    return text


def describe(names: Sequence[str]) -> str:
    """Name the operations in an instruction: "Reverse it, then double each letter."."""
    text = ", then ".join(OPERATIONS[name][1] for name in names)
    return text[0].upper() + text[1:] + "."


def is_chain(family: str) -> bool:
    """Check whether a name is a chain of operations, such as "reverse double"."""
    return bool(family) and all(name in OPERATIONS for name in family.split())


def check_chain(chain: str) -> None:
    """Raise UserError unless a chain's operations exist and leave part of a word."""
    if not is_chain(chain) or not apply(chain.split(), "bcdfg"):
        problem = f"{chain!r}: not a chain of operations that leaves something of a word."
        raise UserError(f"{problem} Name some of {', '.join(OPERATIONS)}.")


# Words, and what a chain makes of them


@cache
def common_words(longest: int = 6) -> list[str]:
    """List the words of 3 to `longest` letters in reasoning-gym's story, in lower case."""
    words = reasoning_gym.create_dataset("word_sorting", min_word_length=3, max_word_length=longest).words
    return sorted({word.lower() for word in words if word.isalpha() and word.isascii()})


def word(rng: Random) -> str:
    """Draw 3 to 5 lower-case letters: an English word or, half of the time, random."""
    if rng.random() < 0.5:
        return rng.choice(common_words(5))
    return "".join(rng.choices(LETTERS, k=rng.randint(3, 5)))


def pairs(names: Sequence[str], rng: Random, n: int) -> list[tuple[str, str]]:
    """Draw `n` (input, output) pairs with different inputs and non-empty outputs."""
    outputs: dict[str, str] = {}
    while len(outputs) < n:
        text = word(rng)
        if output := apply(names, text):
            outputs[text] = output
    return list(outputs.items())


def pairs_of_split(chain: str, rng: Random, split: str) -> Iterator[tuple[str, str]]:
    """Draw (input, output) pairs with inputs of a split, without end."""
    while True:
        [(text, output)] = pairs(chain.split(), rng, 1)
        if split_of(chain, text) == split:
            yield text, output


# A chain as a target task


def load(source: str, shots: int = 3, split: str = "dev") -> Material:
    """Load "gym:<chain of operations>" as a target task.

    Demonstrations and validation come from the train split, the test from `split`. Raises UserError for
    an unknown operation.
    """
    chain = " ".join(source.removeprefix(EMBEDDED).replace(",", " ").split())
    check_chain(chain)
    target = _target(chain, shots)
    shown = {demo.input for demo in target.demos}
    validation = _instances(chain, "train", VALIDATION, shown)
    return Material(target, validation, _instances(chain, split, TEST, shown))


def right(target: Target, inputs: list[str], outputs: list[str]) -> list[bool] | None:
    """Check each output; None for a target outside the embedded world."""
    if not target.exact:
        return None
    names = target.name.split()
    return [apply(names, text) == output for text, output in zip(inputs, outputs, strict=True)]


def phrasing(chain: str) -> str:
    """Write a chain's prompt, with {x} for the word."""
    target = _target(chain, 3)
    [turn] = target.prompt("{x}", target.demos)
    return turn["content"]


def _target(chain: str, shots: int) -> Target:
    instances = _instances(chain, "train", shots or 3, set(), "demonstrations")
    demos = tuple(Demo(instance.input, instance.references[0]) for instance in instances)
    return Target(chain, describe(chain.split()), demos, exact=True)


def _instances(chain: str, split: str, n: int, excluded: set[str], tag: str = "") -> list[Instance]:
    """Draw `n` instances with different inputs, none of them excluded."""
    outputs: dict[str, str] = {}
    drawn = pairs_of_split(chain, Random(f"target {chain} {split} {tag}"), split)
    while len(outputs) < n:
        text, output = next(drawn)
        if text not in excluded:
            outputs[text] = output
    return [Instance(f"{chain} {text}", text, [output]) for text, output in outputs.items()]
