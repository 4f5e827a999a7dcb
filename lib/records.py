"""Rows: the one schema that every stage reads and writes, and their identity."""

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, DatasetInfo, Features, List, Value, disable_progress_bars
from datasets.fingerprint import generate_random_fingerprint

from lib import files
from lib.errors import UserError

disable_progress_bars()  # a stage has one display of its own
pa.set_memory_pool(pa.system_memory_pool())  # gives back what decoding took; arrow's own keeps it

TURN = {"role": Value("string"), "content": Value("string")}
VERDICT = {
    "order": Value("string"),
    "attempt": Value("int32"),
    "reply": Value("string"),
    "finish": Value("string"),
    "expected": List(Value("float64")),  # both scores by log-probabilities, in the order shown; else null
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
SAID = ("instruction", "input", "turns")  # what a row says to the student
# without the metadata of `datasets`, which versions before 4.0 cannot read: they do not know List
PARQUET = FEATURES.arrow_schema.remove_metadata()
GROUP = 10_000  # rows of a Parquet row group: what is decoded at a time
AS_JSON = json.JSONEncoder(ensure_ascii=False, default=str).encode  # json.dumps would make an encoder a call
EMPTY = {
    name: [] if isinstance(kind, List) else "" if name in ("input", "source", "licence", "meta") else None
    for name, kind in FEATURES.items()
}


def row_id(instruction: str, input: str = "", turns: Iterable[dict] = ()) -> str:
    """A content hash of 16 hex digits, the same on every machine."""
    content = [instruction, input, [[turn["role"], turn["content"]] for turn in turns]]
    return hashlib.sha256(AS_JSON(content).encode()).hexdigest()[:16]


def messages(row: dict) -> list[dict]:
    """What the student is asked: earlier turns, then the instruction with its input."""
    asked = f"{row['instruction']}\n\n{row['input']}" if row["input"] else row["instruction"]
    return [dict(turn) for turn in row["turns"] or []] + [{"role": "user", "content": asked}]


def characters(row: dict) -> int:
    """The length of a row as a student reads it: earlier turns, instruction, input and response."""
    turns = sum(len(turn["content"]) for turn in row["turns"] or [])
    return turns + sum(len(row[name] or "") for name in ("instruction", "input", "response"))


def walk(rows: Dataset, *columns: str) -> Iterator[dict]:
    """The rows one by one with these columns alone, a thousand decoded at a time."""
    for part in rows.select_columns(list(columns)).iter(batch_size=1000):
        yield from (dict(zip(part, values, strict=True)) for values in zip(*part.values(), strict=True))


def build(rows: Iterable[dict]) -> Dataset:
    """Fill in missing columns and ids, number repeated ids ("-2", "-3") and cast to FEATURES."""
    taken: Counter[str] = Counter()
    parts = [
        pa.Table.from_pylist([_whole(row, taken) for row in part], schema=FEATURES.arrow_schema)
        for part in batched(rows, GROUP)
    ]
    return _dataset(pa.concat_tables(parts) if parts else FEATURES.arrow_schema.empty_table())


def batched(items: Iterable, size: int) -> Iterator[list]:
    items = iter(items)
    while part := list(itertools.islice(items, size)):
        yield part


def _whole(row: dict, taken: Counter[str]) -> dict:
    row = EMPTY | {"round": 0} | row
    first = row["id"] or row_id(row["instruction"], row["input"], row["turns"])
    row["id"] = first
    while row["id"] in taken:
        taken[first] += 1
        row["id"] = f"{first}-{taken[first]}"
    taken[row["id"]] += 1
    return row


def _dataset(table: pa.Table) -> Dataset:
    """Without a copy where the types are those of FEATURES already; a fingerprint of its own would hash every row."""
    about = DatasetInfo(features=FEATURES)
    return Dataset(table.cast(FEATURES.arrow_schema), about, fingerprint=generate_random_fingerprint())


def write(rows: Dataset, path: str | Path) -> Path:
    """Write rows as Parquet, cast to FEATURES so that an all-null column keeps its type."""
    path = Path(path)
    rows = rows if rows.features == FEATURES else rows.cast(FEATURES)
    with files.whole(path) as partial, pq.ParquetWriter(partial, PARQUET) as file:
        for table in rows.with_format("arrow").iter(batch_size=GROUP):
            file.write_table(table.select(PARQUET.names).cast(PARQUET))
    return path


def read(path: str | Path) -> Dataset:
    """Read one Parquet file of rows.

    Raises UserError naming the file when it is missing, truncated or not rows.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path} does not exist: run the stage that writes it first")
    try:
        table = pq.read_table(path)
    except Exception as error:
        raise UserError(
            f"{path} is not a readable Parquet file ({error}): delete it and run its stage again"
        ) from None
    missing = sorted(set(FEATURES) - set(table.column_names))
    if missing:
        raise UserError(f"{path} lacks the columns {', '.join(missing)}: it was not written by a stage")
    return _dataset(table.select(list(FEATURES)))


def update(rows: Dataset, **columns: Iterable) -> Dataset:
    """A copy of rows with some columns replaced, in row order, types kept; a column may be an iterator."""
    table = rows.with_format("arrow")[:]
    for name, values in columns.items():
        kind = FEATURES.arrow_schema.field(name)
        parts = [pa.array(part, kind.type) for part in batched(values, GROUP)]
        table = table.set_column(table.column_names.index(name), kind, pa.chunked_array(parts, kind.type))
    return _dataset(table)


def by_id(rows: Dataset, ids: Iterable[str]) -> Dataset:
    """The rows with these ids, in the order asked for; a KeyError names an id that is not there."""
    position = {row_id: i for i, row_id in enumerate(rows["id"][:])}
    return rows.select([position[i] for i in ids])


def taken(rows: Dataset, positions: list[int]) -> Dataset:
    """The rows at these positions, in the order asked for, as a table of their own (see `only`)."""
    table = rows.with_format("arrow")[:]
    return _dataset(pa.concat_tables([table.slice(0, 0), *map(table.take, batched(positions, GROUP))]))


def without(rows: Dataset, ids: Iterable[str]) -> Dataset:
    """The rows with none of these ids, in their order."""
    ids = set(ids)
    return only(rows, [i for i, row_id in enumerate(rows["id"][:]) if row_id not in ids])


def only(rows: Dataset, positions: list[int]) -> Dataset:
    """The rows at these positions, in their order, as a table of their own.

    What Dataset.select gives looks every row up again whenever it is read or written: 16 times slower on 170,000 rows.
    """
    wanted = np.zeros(len(rows), bool)
    wanted[positions] = True
    return _dataset(rows.with_format("arrow")[:].filter(wanted))
