"""Oracle calls that the nodes of a Ray cluster make, each to what the URL means there. Nothing is decided or kept on a node.

A node reads its key from its own environment; none is sent there.
"""

import asyncio
import platform
import time
import warnings
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import httpx2
import openai

from lib import cluster
from lib.cluster import ray
from lib.errors import UserError
from lib.oracle import transport

STARTS_S = 300  # an actor may take to start, its node's copy of this project included
SICK, AGAIN_S = (
    3,
    60,
)  # calls in a row that brought nothing back: others are asked first, until it is tried again


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

    A node that dies takes its calls under way with it: others make them again. What was paid for them is not known here. A call that
    brought nothing back, as from a server that is down, is made once more by another node.
    """

    def __init__(self, url: str, key_from: str, concurrency: int, timeout_s: float, tries: int):
        self.how = (url, key_from, concurrency, timeout_s, tries)
        self.under_way: dict[object, int] = {}  # calls, by actor
        self.silent: Counter = Counter()  # calls in a row that brought nothing back, by actor
        self.heard: dict[object, float] = {}  # when the last of them came to nothing
        # the actors that there are, by node, and why there is none on others
        self.there, self.unfit = _there.setdefault(self.how, ({}, {}))
        self.lost = ""  # why the last node makes none any more

    async def __aenter__(self) -> "Callers":
        cluster.join()
        nodes = {node["NodeID"]: node for node in cluster.working()}
        for name in await self._greet(nodes.keys() & self.there.keys()):
            del self.there[name]  # it died meanwhile
        fresh = nodes.keys() - self.there.keys() - self.unfit.keys()
        self.there |= {name: _start(nodes[name], self.how) for name in fresh}
        for name, failure in (await self._greet(fresh)).items():
            del self.there[name]
            self.unfit[name] = f"the node {nodes[name]['NodeManagerHostname']} makes no calls: {failure}"
            warnings.warn(self.unfit[name], stacklevel=2)
        self.under_way = {self.there[name]: 0 for name in nodes if name in self.there}
        self.lost = next(iter(self.unfit.values()), "")
        if not self.under_way:
            self.unfit.clear()  # so that the next time all are tried again
        return self

    async def _greet(self, names: Iterable[str]) -> dict[str, str]:
        """Why the actors on these nodes cannot be asked, of those that cannot."""
        names = list(names)
        told = await asyncio.gather(*(_greeted(self.there[name]) for name in names))
        return {name: failure for name, failure in zip(names, told, strict=True) if failure}

    async def __aexit__(self, *error) -> None:
        self.under_way = {}

    async def post(self, path: str, body: dict, cast_to: type) -> Told:
        """The reply that a node got. Raises Failed where two got none, and UserError where no call can be made any more."""
        asked = []
        while self.under_way:
            one = min(self.under_way, key=lambda it: (it in asked, self._sick(it), self.under_way[it]))
            told = await self._by(one, body)
            if told is None:
                continue
            if told.stop:
                raise UserError(told.stop)
            nothing = told.failed and (not told.status or told.status >= 500)
            self.silent[one], self.heard[one] = self.silent[one] + 1 if nothing else 0, time.monotonic()
            asked.append(one)
            if nothing and len(asked) < 2 <= len(self.under_way):
                continue
            if told.failed:
                raise Failed(told.failed, told.status)
            return told
        raise UserError(
            f"no node of the Ray cluster is left to make calls ({self.lost}). What was stored is kept: the same command goes on from here"
        )

    def _sick(self, one) -> bool:
        """Whether others are asked first; now and then it is asked nevertheless."""
        return self.silent[one] >= SICK and time.monotonic() - self.heard[one] < AGAIN_S

    async def _by(self, one, body: dict) -> Told | None:
        """What an actor says of a call; None where it went with its node, or cannot be reached for the moment."""
        self.under_way[one] += 1
        call = one.post.remote(body)
        try:
            return await call
        except asyncio.CancelledError:
            ray.cancel(call)  # or the node would go on with what nobody waits for
            raise
        except ray.exceptions.ActorUnavailableError:
            await asyncio.sleep(1)
        except ray.exceptions.RayActorError as error:
            self.under_way.pop(one, None)
            self.lost = f"the last one died: {cluster.line(error)}"
        except ray.exceptions.ObjectLostError:
            pass
        finally:
            if one in self.under_way:
                self.under_way[one] -= 1
        return None


# by what actors are told: those there are, by node, for a stage asks many times and an actor takes seconds to start; and why others are not
_there: dict[tuple, tuple[dict[str, object], dict[str, str]]] = {}


def _start(node: dict, how: tuple):
    options = {"num_cpus": 0, "max_concurrency": how[2], "scheduling_strategy": cluster.at(node)}
    return ray.remote(Caller).options(**options).remote(*how)


async def _greeted(one) -> str:
    """Why an actor cannot be asked; empty where it can."""
    try:
        await asyncio.wait_for(one.post.remote(None), STARTS_S)
        return ""
    except Exception as error:  # of Ray, or what the node lacks
        return cluster.line(error)


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
