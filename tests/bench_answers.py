"""How fast the student answers, beside transformers' own pipeline in the same run: `make bench`."""

import statistics
import sys
import time

from transformers import pipeline

from lib import records
from lib import student as students
from lib.gym import world

PROMPTS, TURNS, MAX_NEW_TOKENS = 1000, 3, 128
LEAST = 2.5  # times as fast


def prompts(n: int) -> list[list[dict]]:
    """Of mixed length, as they come."""
    rows = world.evaluation_set("dev", 50).shuffle(seed=0)
    return [records.messages(rows[i]) for i in range(n)]


def suite(asked: students.Student, told: list[list[dict]]) -> list[str]:
    return [reply.text for (reply,) in students.answer(asked, told, max_new_tokens=MAX_NEW_TOKENS)]


def usual(asked: students.Student, told: list[list[dict]]) -> list[str]:
    """The pipeline at its customary size of batch."""
    ask = pipeline("text-generation", model=asked.model, tokenizer=asked.tokenizer, batch_size=16)
    how = {"max_new_tokens": MAX_NEW_TOKENS, "do_sample": False, "return_full_text": False}
    return [said["generated_text"] for (said,) in ask(told, **how)]


def timed(work, *given) -> tuple[float, list[str]]:
    started = time.perf_counter()
    made = work(*given)
    return time.perf_counter() - started, made


def main(n: int) -> None:
    asked, told = students.load("lib/gym/student"), prompts(n)
    ratios = []
    for turn in range(TURNS):  # in turns: a machine's mood falls on both
        ours, replies = timed(suite, asked, told)
        theirs, others = timed(usual, asked, told)
        ratios.append(theirs / ours)
        equal = sum(a == b for a, b in zip(replies, others, strict=True)) / n
        print(
            f"turn {turn + 1}: {n:,} prompts, suite {ours:.1f} s, pipeline {theirs:.1f} s, {equal:.1%} of the texts equal"
        )
    ratio = statistics.median(ratios)
    print(f"answers: {ratio:.2f} times as fast as the pipeline at batch 16 (at least {LEAST} is asked for)")
    sys.exit(ratio < LEAST)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else PROMPTS)
