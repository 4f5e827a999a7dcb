"""Define the one schema of rows; build, read, write and select rows."""

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, DatasetInfo, Features, List, Value, disable_progress_bars
from datasets.fingerprint import generate_random_fingerprint

from lib import files
from lib.errors import UserError, one_line

disable_progress_bars()  # a stage shows its own progress
pa.set_memory_pool(pa.system_memory_pool())  # returns freed memory; Arrow's own pool keeps it

TURN = {"role": Value("string"), "content": Value("string")}
VERDICT = {
    "order": Value("string"),
    "attempt": Value("int32"),
    "reply": Value("string"),
    "finish": Value("string"),
    "expected": List(Value("float64")),  # by log-probabilities, as shown, [] for none; else null
}

FEATURES = Features(
    {
        "id": Value("string"),  # content hash of instruction, input and turns; a repeat gets "-2"
        "instruction": Value("string"),
        "input": Value("string"),
        "turns": List(TURN),  # earlier turns and the system message
        "response": Value("string"),  # what training sees
        "response_from": Value("string"),  # corpus, oracle, refined or student
        "corpus_response": Value("string"),
        "oracle_response": Value("string"),
        "refined_response": Value("string"),
        "student_response": Value("string"),
        "references": List(Value("string")),  # all gold outputs, where the source defines them
        "source": Value("string"),  # "expanded:<parent id>" for a generated row
        "licence": Value("string"),
        "task": Value("string"),  # label of the taxonomy
        "verdicts": List(VERDICT),  # raw replies of the judge
        "student_score": Value("float64"),  # 1 to 10; null unless both orders were read
        "oracle_score": Value("float64"),
        "mfd": Value("float64"),  # oracle_score - student_score
        "hard": Value("bool"),  # mfd >= threshold; null where unread
        "round": Value("int32"),  # the round that created the row
        "meta": Value("string"),  # JSON: what else the source had
    }
)
PROMPT_COLUMNS = ("instruction", "input", "turns")  # a prompt, with the turns before it
SCHEMA = FEATURES.arrow_schema
PARQUET = SCHEMA.remove_metadata()  # datasets before 4.0 cannot read its metadata: they do not know List
GROUP = 10_000  # rows of a Parquet row group: what is decoded at a time
AS_JSON = json.JSONEncoder(ensure_ascii=False, default=str).encode  # json.dumps makes an encoder per call
EMPTY = {
    name: [] if isinstance(kind, List) else "" if name in ("input", "source", "licence", "meta") else None
    for name, kind in FEATURES.items()
} | {"round": 0}


def row_id(instruction: str, input: str = "", turns: Iterable[dict] = ()) -> str:
    """Return a content hash of 16 hex digits, the same on every machine."""
    content = [instruction, input, [[turn["role"], turn["content"]] for turn in turns]]
    return hashlib.sha256(AS_JSON(content).encode()).hexdigest()[:16]


def messages(row: dict) -> list[dict]:
    """Return the student's prompt: earlier turns, then the instruction with its input."""
    prompt = f"{row['instruction']}\n\n{row['input']}" if row["input"] else row["instruction"]
    return [dict(turn) for turn in row["turns"] or []] + [{"role": "user", "content": prompt}]


def characters(row: dict) -> int:
    """Count the characters of earlier turns, instruction, input and response."""
    turns = sum(len(turn["content"]) for turn in row["turns"] or [])
    return turns + sum(len(row[name] or "") for name in ("instruction", "input", "response"))


def iter_rows(rows: Dataset, *columns: str) -> Iterator[dict]:
    """Yield rows one by one with these columns; a thousand are decoded at a time."""
    for part in rows.select_columns(list(columns)).iter(batch_size=1000):
        yield from (dict(zip(part, values, strict=True)) for values in zip(*part.values(), strict=True))


def batched(items: Iterable, size: int) -> Iterator[list]:
    items = iter(items)
    while part := list(itertools.islice(items, size)):
        yield part


def build(rows: Iterable[dict]) -> Dataset:
    """Fill in missing columns and ids, number repeated ids ("-2"), cast to FEATURES."""
    counts: Counter[str] = Counter()
    parts = [
        pa.Table.from_pylist([_complete(row, counts) for row in part], schema=SCHEMA)
        for part in batched(rows, GROUP)
    ]
    return _dataset(pa.concat_tables(parts) if parts else SCHEMA.empty_table())


def _complete(row: dict, counts: Counter[str]) -> dict:
    row = EMPTY | row
    first = row["id"] or row_id(row["instruction"], row["input"], row["turns"])
    row["id"] = first
    while row["id"] in counts:
        counts[first] += 1
        row["id"] = f"{first}-{counts[first]}"
    counts[row["id"]] += 1
    return row


def _dataset(table: pa.Table) -> Dataset:
    """Make a data set without a copy, nor a fingerprint that hashes every row."""
    info = DatasetInfo(features=FEATURES)
    return Dataset(table.cast(SCHEMA), info, fingerprint=generate_random_fingerprint())


def write(rows: Dataset, path: str | Path) -> Path:
    """Write rows as Parquet with our types, which an all-null column would lose."""
    path = Path(path)
    with files.whole(path) as partial, pq.ParquetWriter(partial, PARQUET) as file:
        for table in rows.with_format("arrow").iter(batch_size=GROUP):
            file.write_table(table.select(PARQUET.names).cast(PARQUET))
    return path


def read(path: str | Path) -> Dataset:
    """Read a Parquet file of rows; raise UserError where that is not possible."""
    try:
        return _dataset(pq.read_table(path).select(list(FEATURES)))
    except (OSError, pa.ArrowException, KeyError) as error:
        message = f"{path}: no readable file of rows ({one_line(error, 200)})."
        raise UserError(f"{message} Run the stage that writes it.") from None


def update(rows: Dataset, **columns: Iterable) -> Dataset:
    """Copy rows with columns replaced, types kept; a column may be an iterator."""
    table = rows.with_format("arrow")[:]
    for name, values in columns.items():
        kind = SCHEMA.field(name)
        parts = [pa.array(part, kind.type) for part in batched(values, GROUP)]
        table = table.set_column(table.column_names.index(name), kind, pa.chunked_array(parts, kind.type))
    return _dataset(table)


def select_ids(rows: Dataset, ids: Iterable[str]) -> Dataset:
    """Copy the rows with these ids, in the given order; a KeyError names a missing id."""
    position = {row_id: i for i, row_id in enumerate(rows["id"][:])}
    return take_rows(rows, [position[i] for i in ids])


def drop_ids(rows: Dataset, ids: Iterable[str]) -> Dataset:
    """Copy the rows with none of these ids."""
    ids = set(ids)
    return take_rows(rows, [i for i, row_id in enumerate(rows["id"][:]) if row_id not in ids])


def take_rows(rows: Dataset, positions: Sequence[int]) -> Dataset:
    """Copy the rows at these positions, in their order.

    `Dataset.select` only adds an index, which makes later reads 16 times slower. Each `take` of Arrow goes
    through the whole table: a filter first, and for ascending positions nothing else.
    """
    order = np.asarray(positions, dtype=int)
    wanted = np.zeros(len(rows), bool)
    wanted[order] = True
    table = rows.with_format("arrow")[:].filter(wanted)
    if (np.diff(order) <= 0).any():
        ranks = np.searchsorted(np.flatnonzero(wanted), order)
        parts = np.split(ranks, range(GROUP, len(ranks), GROUP))
        table = pa.concat_tables(map(table.take, parts))
    return _dataset(table)
