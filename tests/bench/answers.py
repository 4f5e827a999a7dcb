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


def mixed_prompts(n: int) -> list[list[dict]]:
    """Of mixed length, as they come."""
    rows = world.evaluation_set("dev", 50).shuffle(seed=0)
    return [records.messages(rows[i]) for i in range(n)]


def suite(backend: LocalBackend, prompts: list[list[dict]]) -> list[str]:
    return [reply.text for (reply,) in answer(backend, prompts, max_new_tokens=MAX_NEW_TOKENS)]


def usual(backend: LocalBackend, prompts: list[list[dict]], batch_size: int = 16) -> list[str]:
    """The pipeline at its customary size of batch, prompts as they come."""
    ask = transformers.pipeline(
        "text-generation", model=backend.model, tokenizer=backend.tokenizer, batch_size=batch_size
    )
    options = {"max_new_tokens": MAX_NEW_TOKENS, "do_sample": False, "return_full_text": False}
    return [reply["generated_text"] for (reply,) in ask(prompts, **options)]


def tuned(backend: LocalBackend, prompts: list[list[dict]]) -> list[str]:
    """The pipeline with the suite's size of batch, long prompts first."""
    order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i][-1]["content"]))
    replies = dict(zip(order, usual(backend, [prompts[i] for i in order], local.ON_CPU), strict=True))
    return [replies[i] for i in range(len(prompts))]


def timed(work, *given) -> tuple[float, list[str]]:
    started = time.perf_counter()
    replies = work(*given)
    return time.perf_counter() - started, replies


def measure(n: int = PROMPTS) -> list[dict]:
    backend, prompts, taken = (
        models.load("lib/gym/student"),
        mixed_prompts(n),
        {suite: [], usual: [], tuned: []},
    )
    for _ in range(TURNS):  # in turns: a machine's mood falls on both
        texts = {}
        for work, seconds in taken.items():
            took, texts[work] = timed(work, backend, prompts)
            seconds.append(took)
        equal = sum(a == b for a, b in zip(texts[suite], texts[usual], strict=True)) / n
    suite_s, usual_s, at_best = (statistics.median(seconds) for seconds in taken.values())
    what, pipeline = f"answers to {n:,} prompts", f"pipeline of transformers {transformers.__version__}"
    return [
        compared(
            f"{what}, {equal:.1%} of the texts equal", "s", suite_s, usual_s, f"{pipeline}, batch 16", LEAST
        ),
        compared(what, "s", suite_s, at_best, f"{pipeline}, batch {local.ON_CPU}, sorted by length"),
    ]
