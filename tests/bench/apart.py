"""Work in a process of its own, which nothing before it has warmed, filled or set."""

import re
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path

from bench import lines


def call(work: Callable, *given):
    """What `work` returns."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(work, *given).result()


def measured(word: str) -> list[dict]:
    """The lines of the bench of that name; one that failed is a line that says so, and the others go on."""
    try:
        return call(_measure, word)
    except (Exception, SystemExit) as error:
        return [lines.failed(word, f"failed: {type(error).__name__}: {error}")]


def _measure(word: str) -> list[dict]:
    return import_module(f"bench.{word}").measure()


def peak() -> float:
    """Most memory this process ever held, in GB; ru_maxrss would begin with its parent's."""
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024 / 1e9
