"""What it takes to judge 200,000 rows in both orders, in memory: `python -m bench judged`, seven minutes."""

import tempfile
import time
from pathlib import Path

from bench import apart, local
from bench.lines import alone

from lib import records
from lib.models.catalog import Model
from lib.models.ledger import Ledger
from lib.models.server import ServerBackend
from lib.oracle.llm import LLMOracle

ROWS, MOST_MB = 200_000, 1000


def measure(n: int = ROWS) -> list[dict]:
    with tempfile.TemporaryDirectory() as folder, local.server() as server:
        place = Path(folder)
        apart.call(write, n, place / "rows.parquet")  # its memory is not the stage's
        ledger = Ledger(place / "many.sqlite")
        oracle = LLMOracle(ServerBackend(Model("m", server.url, concurrency=256), ledger))
        started = time.perf_counter()
        records.write(oracle.score(records.read(place / "rows.parquet")), place / "judged.parquet")
        took = time.perf_counter() - started
        ledger.close()
    what = f"{n:,} rows judged in both orders in {took:.0f} s, memory at most"
    return [alone(what, "MB", 1000 * apart.peak(), MOST_MB)]


def write(n: int, path: Path) -> None:
    said = "A response of a usual length, with its reasons. " * 8
    rows = records.build(
        {
            "instruction": f"Instruction {i} of a usual length. " * 8,
            "oracle_response": said,
            "student_response": said[i % 99 :],
        }
        for i in range(n)
    )
    records.write(rows, path)
