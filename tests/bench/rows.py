"""What a million rows cost on their way from a file to the round that is taught, in time and memory, and how that grows with
their number; de-duplication beside datasketch's. `PYTHONPATH=tests python -m bench.rows [rows …]`."""

import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from bench import apart
from bench.lines import alone, compared, table
from bench.made import Knowing, alpaca_eval, judged, write_file
from datasketch import MinHash, MinHashLSH

from lib import corpus, records
from lib.corpus import contamination, duplicates
from lib.models import loading
from lib.tapir import classifier, curriculum, fitness, judge, selection
from lib.training import encoding

SIZES = (10_000, 100_000, 1_000_000)
COMPARED, TURNS = 20_000, 3  # rows that datasketch looks at, too, and how often
MOST_MIN, MOST_GB, MOST_EXPONENT = 20, 6, 1.1  # a million rows on two cores; log of time by log of rows
# rows that the oracle labels; share of hard rows; the round's, of all
LABELLED, ALPHA, ROUND = 5_000, 0.3, 0.1


# The steps of the notebooks


class Clock:
    """Seconds, CPU seconds and the peak memory of each step, printed as a table."""

    def __init__(self):
        self.seconds = self.cpu = 0.0
        print(f"{'step':<24}{'rows':>11}{'seconds':>9}{'CPU':>9}{'peak, GB':>10}")

    def __call__(self, name: str, work, *given):
        started, cpu = time.perf_counter(), time.process_time()
        result = work(*given)
        took, cpu = time.perf_counter() - started, time.process_time() - cpu
        self.seconds, self.cpu = self.seconds + took, self.cpu + cpu
        self.tell(name, f"{len(result[0] if isinstance(result, tuple) else result):,}", took, cpu)
        return result

    def tell(self, name: str, rows: str, seconds: float, cpu: float) -> None:
        print(f"{name:<24}{rows:>11}{seconds:>9.1f}{cpu:>9.1f}{apart.peak():>10.2f}", flush=True)


def walk_through(folder: Path) -> dict:
    """Seconds, those of CPU, and the most memory, in GB, of all steps."""
    clock = Clock()
    for steps in (select_data, judge_rows, choose, draw):
        steps(clock, folder)
    clock.tell("all", "", clock.seconds, clock.cpu)
    return {"seconds": clock.seconds, "CPU": clock.cpu, "peak": apart.peak()}


def select_data(clock: Clock, folder: Path) -> None:
    """The steps of notebook 1."""
    rows = clock("load", corpus.load, str(folder / "rows.jsonl"))
    rows, _ = clock("drop exact repeats", duplicates.drop_exact, rows)
    rows, _ = clock("drop near-duplicates", duplicates.drop_near, rows)
    rows = clock("drop silent and long", with_response, rows)
    rows, _ = clock("drop contaminated", contamination.drop, rows, {"alpaca_eval": alpaca_eval()})
    clock("write", stored, rows, folder / "1.parquet")


def judge_rows(clock: Clock, folder: Path) -> None:
    """The steps of notebook 2, with verdicts that cost nothing."""
    rows = judged(clock("read", records.read, folder / "1.parquet"))
    rows = clock("read verdicts", judge.apply, rows)
    rows, _ = clock("name tasks", classifier.label, rows, Knowing(), LABELLED)
    rows = clock("MFD", with_mfd, rows)
    clock("trust the judge", trust, rows)
    clock("write", stored, rows, folder / "2.parquet")


def choose(clock: Clock, folder: Path) -> None:
    """The steps of notebook 3 that ask nothing."""
    rows = clock("read", records.read, folder / "2.parquet")
    rows = clock("hard", with_hard, rows)
    selected = clock("select", selection.select, rows, "mfd", 0)
    clock("write the pool", stored, selected, folder / "pool.parquet")
    rows = clock("read the corpus", records.read, folder / "1.parquet")
    rest = clock("the rest", records.drop_ids, rows, selected["id"][:])
    clock("write the rest", stored, rest, folder / "rest.parquet")


def draw(clock: Clock, folder: Path) -> None:
    """The steps of notebook 4 up to training."""
    tokenizer = loading.load_tokenizer("lib/gym/student")
    pool = clock("read the pool", records.read, folder / "pool.parquet")
    rest = clock("read the rest", records.read, folder / "rest.parquet")
    size = round(ROUND * (len(pool) + len(rest)))
    sides = (pool, [0] * len(pool)), (rest, [0] * len(rest))
    drawn = clock("draw the round", curriculum.draw_round, *sides, ALPHA, size, 0, 0)
    material = clock("its tokens", encoding.encode, tokenizer, drawn, 1024)
    tokens = clock("count them", encoding.response_tokens, material)
    clock("its mix", curriculum.realised_shares, drawn, set(pool["id"][:]), tokens)
    clock("write the round", stored, drawn, folder / "round.parquet")


def stored(rows, path: Path):
    records.write(rows, path)
    return rows


def with_response(rows):
    """The rows that have one and are not too long."""
    silent = [row["id"] for row in records.iter_rows(rows, "id", "response") if not row["response"]]
    measured = records.iter_rows(rows, "id", "response", *records.PROMPT_COLUMNS)
    too_long = [row["id"] for row in measured if records.characters(row) > 4000]
    return records.drop_ids(rows, {*silent, *too_long})


def with_mfd(rows):
    pairs = zip(rows["oracle_score"][:], rows["student_score"][:], strict=True)
    return records.update(rows, mfd=(curriculum.mfd(*pair) for pair in pairs))


def with_hard(rows):
    return records.update(rows, hard=(curriculum.is_hard(value, 2.0) for value in rows["mfd"][:]))


def trust(rows):
    """What notebook 2 asks about the verdicts."""
    judge.tally(rows)
    fitness.agreement(rows)
    return rows


# Beside datasketch


def compare(folder: Path) -> dict:
    """Which near-duplicates both drop from the same rows, and how fast; each cuts the texts into the same n-grams itself."""
    rows, _ = duplicates.drop_exact(corpus.load(str(folder / "rows.jsonl")))
    seconds, dropped = {by_suite: [], by_datasketch: []}, {}
    for _ in range(TURNS):  # in turns: a machine's mood falls on both
        for drop, taken in seconds.items():
            started = time.perf_counter()
            dropped[drop] = drop(rows)
            taken.append(time.perf_counter() - started)
    rates = (len(rows) / statistics.median(taken) for taken in seconds.values())
    suite_ids, datasketch_ids = dropped.values()
    rates_by_name = dict(zip(("suite", "datasketch"), rates, strict=True))
    return rates_by_name | {
        "both": len(suite_ids & datasketch_ids),
        "ours": len(suite_ids - datasketch_ids),
        "theirs": len(datasketch_ids - suite_ids),
    }


def by_suite(rows) -> set[str]:
    return {row_id for row_id, *_ in duplicates.drop_near(rows)[1]}


def by_datasketch(rows, threshold: float = 0.8) -> set[str]:
    """What its index finds beside an earlier row that stays: by sketches alone, whatever the true similarity is."""
    index, dropped = MinHashLSH(threshold, duplicates.PERMUTATIONS), set()
    grams = ([gram.encode() for gram in duplicates.shingles(text, 3)] for text in duplicates.keys(rows))
    sketches = MinHash.generator(grams, num_perm=duplicates.PERMUTATIONS)
    for row_id, sketch in zip(rows["id"][:], sketches, strict=True):
        if index.query(sketch):
            dropped.add(row_id)
        else:
            index.insert(row_id, sketch)
    return dropped


# The results


def measure(sizes: Sequence[int] = SIZES) -> list[dict]:
    """The table's lines: beside datasketch, then what each of `sizes` took."""
    beside = against(measured(compare, COMPARED))
    return beside + within({n: measured(walk_through, n) for n in sorted(sizes)})


def within(runs: dict[int, dict]) -> list[dict]:
    last, table_lines = max(runs), []
    if last == SIZES[-1]:  # the bounds are of a million rows
        minutes, busy = runs[last]["seconds"] / 60, runs[last]["CPU"] / 60
        table_lines.append(alone(f"{last:,} rows, from a file to the round", "min", minutes, MOST_MIN))
        table_lines.append(compared(f"{last:,} rows, of CPU", "min", busy, None, ""))
        table_lines.append(alone(f"{last:,} rows, most memory", "GB", runs[last]["peak"], MOST_GB))
    for first in sorted(runs)[:-1]:
        grown = runs[last]["seconds"] / runs[first]["seconds"]
        exponent = math.log(grown) / math.log(last / first)
        table_lines.append(
            alone(f"time by rows, {first:,} to {last:,}", "as exponent", exponent, MOST_EXPONENT)
        )
    return table_lines


def against(counts: dict) -> list[dict]:
    peer = f"datasketch {version('datasketch')}"
    either = sum(counts[name] for name in ("both", "ours", "theirs"))
    what = f"near-duplicates of {COMPARED:,} rows"
    dropped = (counts["both"] + counts[side] for side in ("ours", "theirs"))
    return [
        compared(what, "rows/s", counts["suite"], counts["datasketch"], peer),
        compared(f"{what}, dropped", "rows", *dropped, peer),
        compared(f"{what}, both drop, of those that either does", "share", counts["both"] / either, None, ""),
    ]


def measured(work: Callable[[Path], dict], n: int) -> dict:
    """What `work` finds in a file of n rows, each in a process of its own for its own peak of memory."""
    with tempfile.TemporaryDirectory() as folder:
        print(f"\n{work.__name__} {n:,} rows", flush=True)
        apart.call(write_file, Path(folder), n)
        return apart.call(work, Path(folder))


if __name__ == "__main__":
    table_lines = measure([int(size) for size in sys.argv[1:]] or SIZES)
    print(f"\n{table(table_lines)}")
    sys.exit(any(line["holds"] is False for line in table_lines))
