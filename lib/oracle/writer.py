"""Storing calls while others are under way: a transaction holds all that came in while the last one was written."""

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor

from lib.oracle.ledger import Call, Ledger


class Writer:
    """Stores calls in the ledger; left, it has stored all that it was given."""

    def __init__(self, ledger: Ledger):
        self.ledger, self.waiting, self.thread = ledger, [], ThreadPoolExecutor(1)

    async def __aenter__(self):
        self.came = asyncio.Event()
        self.task = asyncio.create_task(self._write())
        return self

    async def __aexit__(self, *error):
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        calls = [call for call, _ in self.waiting]  # answered, but not stored yet
        await asyncio.shield(
            asyncio.get_running_loop().run_in_executor(self.thread, self.ledger.store, calls)
        )
        self.thread.shutdown(wait=False)

    async def store(self, call: Call) -> None:
        """Come back once the call is on the disk."""
        stored = asyncio.get_running_loop().create_future()
        self.waiting.append((call, stored))
        self.came.set()
        await stored

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self.came.wait()
            self.came.clear()
            batch = list(self.waiting)
            try:
                await loop.run_in_executor(self.thread, self.ledger.store, [call for call, _ in batch])
                failure = None
            except sqlite3.Error as error:  # a full disk: whoever waits must hear of it
                failure = error
            del self.waiting[: len(batch)]
            for _, stored in batch:
                if not stored.done():
                    stored.set_exception(failure) if failure else stored.set_result(None)
