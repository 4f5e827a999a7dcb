"""What the embedded student can do before any fine-tuning: `python -m lib.gym.measure [STUDENT]`.

Exact match, greedy, on compositions of two operations that pre-training never saw, and on its other skills.
"""

import sys
from random import Random

from lib import models
from lib.gym import operations
from lib.gym.pretrain import story
from lib.models.backend import Backend
from lib.models.types import SamplingParams

Case = tuple[list[dict], str]  # a prompt and the one right reply
WORDS = 20  # inputs a composition


def held_out() -> list[tuple[str, str]]:
    return operations.compositions("dev") + operations.compositions("test")


def composed(pairs: list[tuple[str, ...]], demos: int, named: bool, layout=operations.as_turns) -> list[Case]:
    """Each composition on WORDS inputs, from its name, from demonstrations, or from both."""
    rng, cases = Random("measure"), []
    for names in pairs:
        for _ in range(WORDS):
            *shown, (text, made) = operations.pairs(names, rng, demos + 1)
            cases.append((layout(shown, text, operations.describe(names) if named else ""), made))
    return cases


def two_turns() -> list[Case]:
    """An operation, then a second one on what came out: a held-out composition in two turns."""
    rng, cases = Random("turns"), []
    for first, second in held_out():
        for text, made in operations.pairs((first, second), rng, WORDS):
            half = operations.apply((first,), text)
            asked = f"{operations.describe((first,))} {text}"
            then = f"Now {operations.describe((second,)).lower()}"
            turns = [("user", asked), ("assistant", half), ("user", then)]
            cases.append(([{"role": role, "content": content} for role, content in turns], made))
    return cases


def echo(low: int, high: int, n: int = 50) -> list[Case]:
    """Shuffled English words of `low` to `high` bytes to repeat: nothing to guess, all to copy."""
    rng, words = Random(f"echo {low}"), [word for word in story().split() if word.isascii()]
    cases = []
    for _ in range(n):
        text = " ".join(rng.choices(words, k=high))[: rng.randint(low, high)].strip()
        cases.append(([{"role": "user", "content": f"Repeat: {text}"}], text))
    return cases


def late(n: int = 50) -> list[Case]:
    """A short text to repeat behind 500 bytes of other turns: does the far half of the context work at all?"""
    before = []
    while sum(len(turn["content"]) for turn in before) < 500:
        before += [{"role": "user", "content": "Repeat: a word"}, {"role": "assistant", "content": "a word"}]
    return [(before + asked, text) for asked, text in echo(20, 40, n)]


def exact_match(student: Backend, cases: list[Case]) -> float:
    """Share of cases whose greedy reply is the right one to the byte."""
    limit = max(len(made.encode()) for _, made in cases) + 2
    prompts = [prompt for prompt, _ in cases]
    replies = student.generate(prompts, SamplingParams(max_tokens=limit), batch_size=64)
    return sum(reply.text == made for (reply,), (_, made) in zip(replies, cases, strict=True)) / len(cases)


def table(student: Backend) -> dict[str, float]:
    """Exact match by skill."""
    seen = Random("seen").sample(operations.compositions(), 20)
    unseen = held_out()
    skills = {
        "single operations, from their name": composed([(name,) for name in operations.OPERATIONS], 0, True),
        "compositions seen, from their name": composed(seen, 0, True),
        "compositions seen, from three demonstrations": composed(seen, 3, False),
        "compositions never seen, from their name": composed(unseen, 0, True),
        "compositions never seen, from three demonstrations": composed(unseen, 3, False),
        "compositions never seen, three demonstrations in one message": composed(
            unseen, 3, False, operations.as_text
        ),
        "compositions never seen, name and three demonstrations": composed(unseen, 3, True),
        "compositions never seen, in two turns": two_turns(),
        "echo of 20 to 100 bytes": echo(20, 100),
        "echo of 20 to 40 bytes behind 500 bytes of other turns": late(),
        "echo of 100 to 200 bytes": echo(100, 200),
        "echo of 490 to 500 bytes, each copied from past 500 bytes back": echo(490, 500),
    }
    return {skill: exact_match(student, cases) for skill, cases in skills.items()}


if __name__ == "__main__":
    where = sys.argv[1] if len(sys.argv) > 1 else "lib/gym/student"
    print(f"{len(held_out())} compositions held out of {len(held_out()) + len(operations.compositions())}")
    for skill, share in table(models.load(where)).items():
        print(f"{share:6.3f}  {skill}")
