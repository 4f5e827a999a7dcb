"""Storing calls while others are under way: a transaction holds all that came in while the last one was written."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from lib.models.ledger import Call, Ledger, Lost


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
        await asyncio.shield(asyncio.get_running_loop().run_in_executor(self.thread, self._store, calls))
        self.thread.shutdown(wait=False)

    async def store(self, call: Call) -> None:
        """Come back once the call is on the disk. Raises what kept it from there."""
        stored = asyncio.get_running_loop().create_future()
        self.waiting.append((call, stored))
        self.came.set()
        await stored

    async def lose(self, lost: Lost) -> None:
        """Write what a reply cost that cannot be used."""
        await asyncio.get_running_loop().run_in_executor(self.thread, self.ledger.lose, [lost])

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self.came.wait()
            self.came.clear()
            batch = list(self.waiting)
            failed = await loop.run_in_executor(self.thread, self._store, [call for call, _ in batch])
            del self.waiting[: len(batch)]
            for call, stored in batch:
                if not stored.done():  # it is, where its caller was cancelled
                    error = failed.get(call.key)
                    stored.set_exception(error) if error else stored.set_result(None)

    def _store(self, calls: list[Call]) -> dict[str, Exception]:
        """Store all of them; one that can't be costs only itself. Returns the errors by key."""
        try:
            self.ledger.store(calls)
            return {}
        except Exception:
            return {call.key: error for call in calls if (error := self._store_one(call))}

    def _store_one(self, call: Call) -> Exception | None:
        try:
            self.ledger.store([call])
        except Exception as error:
            return error
        return None
