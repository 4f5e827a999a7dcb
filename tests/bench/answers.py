"""How fast the student answers, beside transformers' own pipeline in the same run, as it is used and with batches as large and as even
as the suite's: `PYTHONPATH=tests python -m bench answers`."""

import statistics
import time

import transformers
from bench.lines import compared
from tiny import answer

from lib import models, records
from lib.gym import world
from lib.models import local
from lib.models.local import LocalBackend

PROMPTS, TURNS, MAX_NEW_TOKENS = 1000, 3, 128
LEAST = 2.5  # times as fast


def prompts(n: int) -> list[list[dict]]:
    """Of mixed length, as they come."""
    rows = world.evaluation_set("dev", 50).shuffle(seed=0)
    return [records.messages(rows[i]) for i in range(n)]


def suite(asked: LocalBackend, told: list[list[dict]]) -> list[str]:
    return [reply.text for (reply,) in answer(asked, told, max_new_tokens=MAX_NEW_TOKENS)]


def usual(asked: LocalBackend, told: list[list[dict]], batch_size: int = 16) -> list[str]:
    """The pipeline at its customary size of batch, prompts as they come."""
    ask = transformers.pipeline(
        "text-generation", model=asked.model, tokenizer=asked.tokenizer, batch_size=batch_size
    )
    how = {"max_new_tokens": MAX_NEW_TOKENS, "do_sample": False, "return_full_text": False}
    return [said["generated_text"] for (said,) in ask(told, **how)]


def tuned(asked: LocalBackend, told: list[list[dict]]) -> list[str]:
    """The pipeline with the suite's size of batch, long prompts first."""
    order = sorted(range(len(told)), key=lambda i: -len(told[i][-1]["content"]))
    made = dict(zip(order, usual(asked, [told[i] for i in order], local.ON_CPU), strict=True))
    return [made[i] for i in range(len(told))]


def timed(work, *given) -> tuple[float, list[str]]:
    started = time.perf_counter()
    made = work(*given)
    return time.perf_counter() - started, made


def measure(n: int = PROMPTS) -> list[dict]:
    asked, told, taken = models.load("lib/gym/student"), prompts(n), {suite: [], usual: [], tuned: []}
    for _ in range(TURNS):  # in turns: a machine's mood falls on both
        texts = {}
        for work, seconds in taken.items():
            took, texts[work] = timed(work, asked, told)
            seconds.append(took)
        equal = sum(a == b for a, b in zip(texts[suite], texts[usual], strict=True)) / n
    ours, theirs, at_best = (statistics.median(seconds) for seconds in taken.values())
    what, pipeline = f"answers to {n:,} prompts", f"pipeline of transformers {transformers.__version__}"
    return [
        compared(
            f"{what}, {equal:.1%} of the texts equal", "s", ours, theirs, f"{pipeline}, batch 16", LEAST
        ),
        compared(what, "s", ours, at_best, f"{pipeline}, batch {local.ON_CPU}, sorted by length"),
    ]
