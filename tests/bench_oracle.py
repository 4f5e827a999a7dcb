"""How fast oracle calls are, beside the bare SDK in the same run, and what a full ledger costs: `make bench`."""

import asyncio
import multiprocessing
import re
import tempfile
import time
from pathlib import Path

import httpx2
import openai
from chat_server import ChatServer

from lib import records
from lib.oracle.chat import Endpoint, Request
from lib.oracle.ledger import Ledger, key
from lib.oracle.llm import LLMOracle

CALLS = {64: 3000, 256: 6000}  # at once: calls


def serve(pipe) -> None:
    """A server in a process of its own, which answers in 100 ms."""
    with ChatServer(lambda body: "9 8\nA verdict of a usual length, with its reasons. " * 4) as server:
        server.delay_s = 0.1
        pipe.send(server.url)
        pipe.recv()


def requests(n: int, name: str) -> list[Request]:
    text = "Judge these two responses of a usual length. " * 20
    return [Request([{"role": "user", "content": f"{text}{name} {i}"}], "judge") for i in range(n)]


def bare(url: str, asked: list[Request], at_once: int) -> None:
    asyncio.run(_bare(url, asked, at_once))


async def _bare(url: str, asked: list[Request], at_once: int) -> None:
    """The SDK on aiohttp with nothing around it."""
    limits = httpx2.Limits(max_connections=at_once, max_keepalive_connections=at_once)
    client = openai.AsyncOpenAI(
        api_key="none", base_url=url, http_client=openai.DefaultAioHttpClient(limits=limits)
    )
    source = iter(asked)

    async def work() -> None:
        for request in source:
            await client.chat.completions.create(model="m", messages=request.messages)

    await asyncio.gather(*(work() for _ in range(at_once)))
    await client.close()


def seconds(work, *given) -> float:
    started = time.perf_counter()
    work(*given)
    return time.perf_counter() - started


def speed(url: str, folder: Path) -> None:
    for at_once, n in CALLS.items():
        rates = {"sdk": [], "suite": []}
        for turn in range(3):  # in turns: a machine's mood falls on both
            rates["sdk"].append(n / seconds(bare, url, requests(n, f"bare {turn}"), at_once))
            ledger = Ledger(folder / f"{at_once}-{turn}.sqlite")
            asked = Endpoint("m", ledger, url, concurrency=at_once)
            rates["suite"].append(n / seconds(asked.chat, requests(n, f"suite {turn}")))
            ledger.close()
        sdk, suite = (sorted(of)[1] for of in rates.values())
        print(f"{at_once} at once: suite {suite:.0f}/s, bare SDK {sdk:.0f}/s, ratio {suite / sdk:.2f}")


def full_ledger(url: str, folder: Path, n: int = 100_000) -> None:
    """A stage over calls that are all in the ledger."""
    ledger = Ledger(folder / "full.sqlite")
    asked = Endpoint("m", ledger, url, ledger_only=True)
    message = {"content": "9 8\nA verdict of a usual length, with its reasons. " * 8}
    response = {"choices": [{"message": message, "finish_reason": "stop"}]}
    for start in range(0, n, 10_000):
        some = requests(n, "full")[start : start + 10_000]
        calls = (asked.asked(key(url, "m", request.content), request) for request in some)
        ledger.store(asked.call(call, response) for call in calls)
    print(
        f"{n:,} calls in the ledger: a stage over them takes {seconds(asked.chat, requests(n, 'full')):.1f} s"
    )
    ledger.close()


def memory(url: str, folder: Path, n: int = 200_000) -> None:
    """A stage in a process of its own: so many rows judged in both orders."""
    said = "A response of a usual length, with its reasons. " * 8
    rows = records.build(
        {
            "instruction": f"Instruction {i} of a usual length. " * 8,
            "oracle_response": said,
            "student_response": said[i % 99 :],
        }
        for i in range(n)
    )
    records.write(rows, folder / "rows.parquet")
    stage = multiprocessing.get_context("spawn").Process(target=judged, args=(url, folder, n))
    stage.start()
    stage.join()


def judged(url: str, folder: Path, n: int) -> None:
    ledger = Ledger(folder / "many.sqlite")
    oracle = LLMOracle(Endpoint("m", ledger, url, concurrency=256))
    started, at_first = time.perf_counter(), peak()
    records.write(oracle.score(records.read(folder / "rows.parquet")), folder / "judged.parquet")
    took = time.perf_counter() - started
    print(
        f"{n:,} rows judged in both orders in {took:.0f} s: {peak():,.0f} MB at most, {at_first:,.0f} of them imports"
    )
    ledger.close()


def peak() -> float:
    """Most memory this process ever held, in MB; ru_maxrss would begin with its parent's."""
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024 / 1e6


if __name__ == "__main__":
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    url = ours.recv()
    with tempfile.TemporaryDirectory() as place:
        speed(url, Path(place))
        full_ledger(url, Path(place))
        memory(url, Path(place))
    ours.send("enough")
