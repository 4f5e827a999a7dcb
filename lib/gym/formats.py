"""Format constraints: words to be written under composed rules, and whether a text obeys them."""

import re
from functools import cache
from random import Random

import reasoning_gym

CONSTRAINTS = {  # name: (instruction, how it changes the words)
    "upper": ("use upper case", lambda words: [word.upper() for word in words]),
    "first": ("give exactly {n} words", None),
    "comma": ("separate the words by commas", None),
    "prefix": ("begin with the word {prefix}:", None),
}


def format_constraints(level: dict, rng: Random):
    """Words to be written under composed constraints: upper case, a comma list, a prefix, exactly n words."""
    words = rng.sample(common_words(), rng.randint(3, 5))
    names = sorted(rng.sample(sorted(CONSTRAINTS), level["constraints"]), key=list(CONSTRAINTS).index)
    count, prefix = rng.randint(1, len(words) - 1), rng.choice(["list", "words", "result"])
    shown = words[:count] if "first" in names else words
    shown = [word.upper() for word in shown] if "upper" in names else shown
    text = (", " if "comma" in names else " ").join(shown)
    text = f"{prefix}: {text}" if "prefix" in names else text
    asked = ", ".join(CONSTRAINTS[name][0].format(n=count, prefix=prefix) for name in names)
    return {"x": " ".join(words), "constraints": asked}, text, []


def read(payload: str) -> tuple[str, list[str], int | None, str | None]:
    """What a payload asks for: its constraints as they are worded, the words, how many of them exactly, and the prefix, where it asks for
    these."""
    asked, words = payload.removeprefix("constraints=").split(" | x=")
    exactly, prefix = re.search(r"exactly (\d+) words", asked), re.search(r"the word (\w+):", asked)
    return asked, words.split(), int(exactly[1]) if exactly else None, prefix[1] if prefix else None


def obeys(payload: str, text: str) -> bool:
    """Whether a text meets the constraints of a payload: any n of the words in their order will do."""
    asked, words, exactly, prefix = read(payload)
    if prefix:  # its own letter case is left open
        head, colon, text = text.partition(": ")
        if not colon or head.lower() != prefix:
            return False
    if "upper case" in asked and text.upper() != text:
        return False
    given = text.split(", ") if "commas" in asked else text.replace(",", " ").split()
    shown = [word.lower() for word in given] if "upper case" in asked else given
    left = iter(words)
    in_order = all(
        word in left for word in shown
    )  # consumes: a word counts once, and only after the one before
    return in_order and len(shown) == (exactly or len(words))


@cache
def common_words(longest: int = 6) -> list[str]:
    """The words of 3 to `longest` letters in the package's story, most of them common English; lower case."""
    words = reasoning_gym.create_dataset("word_sorting", min_word_length=3, max_word_length=longest).words
    return sorted({word.lower() for word in words if word.isalpha() and word.isascii()})
