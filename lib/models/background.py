"""Run coroutines in a thread of their own: Jupyter's own loop is busy, and Ctrl-C must work."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError

SLICE_S = 0.2  # how long the caller waits before it looks for Ctrl-C again
FLUSH_S = 1.5  # how long an interrupted stage may take to store what was already answered

_loops: list[asyncio.AbstractEventLoop] = []


def run(work: Coroutine, meanwhile: Callable[[], None]):
    """Return the result of `work`; call `meanwhile` every 0.2 s. Ctrl-C and its errors cancel `work`."""
    tasks: list[asyncio.Task] = []
    given_up = threading.Event()

    async def noted():
        tasks.append(asyncio.current_task())
        if given_up.is_set():
            work.close()
            return None
        return await work

    future = asyncio.run_coroutine_threadsafe(noted(), _loop())
    try:
        while not future.done():
            meanwhile()
            _settle(future, SLICE_S)
        return future.result()
    except BaseException:
        given_up.set()
        _loop().call_soon_threadsafe(lambda: [task.cancel() for task in tasks])
        _settle(future, FLUSH_S)
        raise


def _loop() -> asyncio.AbstractEventLoop:
    if not _loops:
        _loops.append(asyncio.new_event_loop())
        threading.Thread(target=_loops[0].run_forever, daemon=True, name="oracle").start()
    return _loops[0]


def _settle(future, seconds: float) -> None:
    """Wait for a future, but no longer than this, whatever comes of it."""
    with contextlib.suppress(TimeoutError, CancelledError):
        future.exception(timeout=seconds)
