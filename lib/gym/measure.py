"""Measure what pre-training taught: `python -m lib.gym.measure [STUDENT]`.

Exact match of greedy replies on string operations, among them compositions held out of pre-training.
"""

import sys
from random import Random

from lib import models
from lib.gym import operations
from lib.models.backend import Backend
from lib.models.types import SamplingParams

HELD_OUT = operations.compositions("dev") + operations.compositions("test")
TRAINED = Random("seen").sample(operations.compositions(), 20)
INPUTS = 20  # of each composition
SKILLS = {  # name: (compositions, number of demonstrations, whether the instruction names the operations)
    "single operations, by name": ([(name,) for name in operations.OPERATIONS], 0, True),
    "trained compositions, by name": (TRAINED, 0, True),
    "trained compositions, three demonstrations": (TRAINED, 3, False),
    "held-out compositions, by name": (HELD_OUT, 0, True),
    "held-out compositions, three demonstrations": (HELD_OUT, 3, False),
    "held-out compositions, name and three demonstrations": (HELD_OUT, 3, True),
}


def cases(compositions: list[tuple[str, ...]], demos: int, named: bool) -> list[tuple[list[dict], str]]:
    """Draw prompts with their right replies."""
    rng, drawn = Random("measure"), []
    for names in compositions:
        for _ in range(INPUTS):
            *shown, (text, output) = operations.pairs(names, rng, demos + 1)
            instruction = operations.describe(names) if named else ""
            drawn.append((operations.as_turns(shown, text, instruction), output))
    return drawn


def exact_match(student: Backend, drawn: list[tuple[list[dict], str]]) -> float:
    """Return the share of right greedy replies."""
    prompts, outputs = zip(*drawn, strict=True)
    limit = max(len(output) for output in outputs) + 2  # tokens: bytes, and the end
    replies = student.generate(list(prompts), SamplingParams(max_tokens=limit), batch_size=64)
    return sum(reply.text == output for (reply,), output in zip(replies, outputs, strict=True)) / len(drawn)


if __name__ == "__main__":
    student = models.load(sys.argv[1] if len(sys.argv) > 1 else "lib/gym/student")
    for skill, settings in SKILLS.items():
        print(f"{exact_match(student, cases(*settings)):6.3f}  {skill}")
