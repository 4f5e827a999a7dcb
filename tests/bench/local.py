"""A chat server on this machine, in a process of its own, which answers in 100 ms and knows when it was asked."""

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection

from chat_server import ChatServer

DELAY_S = 0.1
REPLY = "9 8\nA verdict of a usual length, with its reasons. " * 4


@dataclass(frozen=True)
class Server:
    url: str
    pipe: Connection

    def span(self) -> tuple[int, float]:
        """Calls since the last time this was asked, and the seconds from the first one to the last one's answer."""
        self.pipe.send("span")
        return self.pipe.recv()


@contextmanager
def server() -> Iterator[Server]:
    parent, child = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(child,), daemon=True)
    process.start()
    child.close()  # so that a server that died ends the waiting below
    try:
        yield Server(parent.recv(), parent)
    finally:
        process.terminate()
        process.join()


def _serve(pipe: Connection) -> None:
    answered: list[float] = []

    def reply(body: dict) -> str:
        if body["messages"]:  # curator looks for limits with a call that says nothing
            answered.append(time.perf_counter())
        return REPLY

    with ChatServer(reply) as served:
        served.delay_s = DELAY_S
        pipe.send(served.url)
        while pipe.recv() == "span":
            pipe.send((len(answered), answered[-1] - answered[0] + DELAY_S if answered else 0.0))
            answered.clear()
            served.bodies.clear()
            served.counts.clear()


def requests(n: int, name: str) -> list[list[dict]]:
    """Of a usual length; none is another's of another name."""
    text = "Judge these two responses of a usual length. " * 20
    return [[{"role": "user", "content": f"{text}{name} {i}"}] for i in range(n)]
