"""Oracle calls that the nodes of a Ray cluster make, each to what the URL means there. Nothing is decided or kept on a node.

A node reads its key from its own environment; none is sent there.
"""

import asyncio
import platform
from typing import NamedTuple

import httpx2
import openai

from lib import cluster
from lib.cluster import ray
from lib.errors import UserError
from lib.oracle import transport


class Told(NamedTuple):
    """What came of a call: `content`, or why there is none; `stop` is an error that every call there would end with."""

    content: bytes = b""
    failed: str = ""
    status: int = 0  # of HTTP; 0 where nothing came back
    stop: str = ""


class Failed(openai.APIError):
    """A call that failed for good on a node, as the SDK would have said it here."""

    def __init__(self, said: str, status: int):
        super().__init__(said, request=None, body=None)
        self.status_code = status


class Callers:
    """Stands where the SDK's client does: `post` has the node with the fewest calls under way make the call.

    A node that dies takes its calls under way with it: others make them again. What was paid for them is not known here.
    """

    def __init__(self, url: str, key_from: str, concurrency: int, timeout_s: float, tries: int):
        self.how, self.under_way = (url, key_from, concurrency, timeout_s, tries), {}

    async def __aenter__(self) -> "Callers":
        made = [
            ray.remote(Caller)
            .options(num_cpus=0, max_concurrency=self.how[2], scheduling_strategy=cluster.at(node))
            .remote(*self.how)
            for node in cluster.working()
        ]
        there = await asyncio.gather(*(one.post.remote(None) for one in made), return_exceptions=True)
        self.under_way = {one: 0 for one, said in zip(made, there, strict=True) if isinstance(said, Told)}
        return self

    async def __aexit__(self, *error) -> None:
        for one in self.under_way:
            ray.kill(one)

    async def post(self, path: str, body: dict, cast_to: type) -> Told:
        """The reply that a node got. Raises Failed where it got none, and UserError where no call can be made any more."""
        while self.under_way:
            one = min(self.under_way, key=self.under_way.get)
            self.under_way[one] += 1
            try:
                told = await one.post.remote(body)
                self.under_way[one] -= 1
            except ray.exceptions.RayActorError:
                self.under_way.pop(one, None)
                continue
            if told.stop:
                raise UserError(told.stop)
            if told.failed:
                raise Failed(told.failed, told.status)
            return told
        raise UserError(
            "no node of the Ray cluster is left to make calls. What was stored is kept: the same command goes on from here"
        )


class Caller:
    """On a node. Says what came of a call in plain values, as the SDK's errors cannot be sent."""

    def __init__(self, url: str, key_from: str, *how):
        self.key_from, self.how, self.client = key_from, (url, key_from, *how), None

    async def post(self, body: dict | None) -> Told:
        """Make a call; without a body say only that all is well."""
        if body is None:
            return Told()
        try:
            self.client = self.client or transport.connect(*self.how)
            raw = await self.client.post("/chat/completions", body=body, cast_to=httpx2.Response)
            return Told(raw.content)
        except UserError as error:
            return Told(stop=f"the node {platform.node()} cannot call: {error}")
        except openai.APIError as error:
            said = transport.masked(error, self.key_from)
            return Told(failed=said, status=getattr(error, "status_code", 0))
