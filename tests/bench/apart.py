"""A bench in a process of its own, which nothing before it has warmed, filled or set; spawned ones can't find what stands in `__main__`."""

from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from multiprocessing import get_context

from bench import lines


def measured(word: str) -> list[dict]:
    """The lines of the bench of that name; one that failed is a line that says so, and the others go on."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        try:
            return process.submit(_measure, word).result()
        except (Exception, SystemExit) as error:
            return [lines.failed(word, f"failed: {type(error).__name__}: {error}")]


def _measure(word: str) -> list[dict]:
    return import_module(f"bench.{word}").measure()
