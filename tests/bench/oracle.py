"""How fast oracle calls are, beside aiohttp with nothing around it, the openai SDK and other suites: `PYTHONPATH=tests python -m bench oracle`.

All ask the same local server as often, in turns. What runs in this process is timed as a caller waits for it, with ledger and start; beside a
peer in an environment of its own both are timed from the first call to the last answer, as the server saw them, so that imports and start-up
count for neither.
"""

import asyncio
import statistics
import tempfile
import time
from pathlib import Path

import aiohttp
import httpx2
import openai
from bench import environments, local
from bench.lines import compared

from lib.models.catalog import Model
from lib.models.ledger import Ledger
from lib.models.server import ServerBackend
from lib.models.types import SamplingParams

CALLS = {64: 2048, 256: 4096}  # at once: calls
TURNS = 3
LEAST = 0.85  # of the SDK
SEEN = "suite"  # as the server saw it


def suite(url: str, prompts: list, at_once: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / "ledger.sqlite")
        replies = ServerBackend(Model("m", url, concurrency=at_once), ledger).generate(
            prompts, SamplingParams()
        )
        ledger.close()
    assert [reply.text for (reply,) in replies] == [local.REPLY] * len(prompts)


def sdk(url: str, prompts: list, at_once: int) -> None:
    """On aiohttp, its faster transport, with nothing around it."""

    async def ask() -> None:
        limits = httpx2.Limits(max_connections=at_once, max_keepalive_connections=at_once)
        transport = openai.DefaultAioHttpClient(limits=limits)
        async with openai.AsyncOpenAI(api_key="none", base_url=url, http_client=transport) as client:
            create = client.chat.completions.create
            await _all(prompts, at_once, lambda prompt: create(model="m", messages=prompt))

    asyncio.run(ask())


def bare(url: str, prompts: list, at_once: int) -> None:
    """aiohttp alone: what no client in Python on one core will be faster than."""

    async def ask() -> None:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=at_once)) as session:

            async def post(prompt) -> None:
                body = {"model": "m", "messages": prompt}
                async with session.post(f"{url}/chat/completions", json=body) as response:
                    await response.json()

            await _all(prompts, at_once, post)

    asyncio.run(ask())


async def _all(prompts: list, at_once: int, ask) -> None:
    source = iter(prompts)

    async def work() -> None:
        for prompt in source:
            await ask(prompt)

    await asyncio.gather(*(work() for _ in range(at_once)))


def measure(calls: dict[int, int] = CALLS) -> list[dict]:
    with local.server() as server:
        return [line for at_once, n in calls.items() for line in _lines(server, at_once, n)]


def _lines(server: local.Server, at_once: int, n: int) -> list[dict]:
    rates, why = _rates(server, at_once, n)
    middle = {who: statistics.median(speeds) for who, speeds in rates.items()}

    def line(speed: float, peer: float | str, name: str, least: float | None = None) -> dict:
        return compared(f"oracle calls, {at_once} at once", "calls/s", speed, peer, name, least)

    here = [line(middle[suite], middle[sdk], f"openai SDK {openai.__version__}", LEAST)]
    here.append(line(middle[suite], middle[bare], f"aiohttp {aiohttp.__version__}, the ideal"))
    names = {peer: f"{peer} {environments.version(peer) or ''}".strip() for peer in environments.PACKAGES}
    return here + [line(middle[SEEN], why.get(peer) or middle[peer], name) for peer, name in names.items()]


def _rates(server: local.Server, at_once: int, n: int) -> tuple[dict, dict[str, str]]:
    """Calls a second in each turn, by who asked, of the suite as the server saw them, too; and why a peer has none."""
    rates = {who: [] for who in (suite, sdk, bare, SEEN, *environments.PACKAGES)}
    why = {peer: environments.ABSENT for peer in environments.PACKAGES if not environments.version(peer)}
    for turn in range(TURNS):  # in turns: a machine's mood falls on all
        for work in (suite, sdk, bare):
            prompts = local.requests(n, f"{work.__name__} {turn}")
            started = time.perf_counter()
            work(server.url, prompts, at_once)
            rates[work].append(n / (time.perf_counter() - started))
            seconds = _seen(server, n)
            rates[SEEN] += [n / seconds] if work is suite else []
        for peer in [peer for peer in environments.PACKAGES if peer not in why]:
            try:
                prompts = [request[0]["content"] for request in local.requests(n, f"{peer} {turn}")]
                environments.ask(peer, server.url, at_once, prompts)
                rates[peer].append(n / _seen(server, n))
            except environments.Failed as error:
                why[peer] = f"failed: {error}"
    return {who: speeds for who, speeds in rates.items() if speeds}, why


def _seen(server: local.Server, n: int) -> float:
    """The seconds that n calls took, as the server saw them. Raises Failed where it saw another number of them."""
    calls, seconds = server.span()
    if calls != n:
        raise environments.Failed(f"{calls:,} calls instead of {n:,}")
    return seconds
