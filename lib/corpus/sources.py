"""Read the records of a file, a folder or a hub data set, each with its place."""

import glob
import gzip
import json
import lzma
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, NoReturn

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import load_dataset

from lib import paths
from lib.errors import UserError, one_line
from lib.records import AS_JSON, GROUP
from lib.text import clean

OPENERS = {".gz": gzip.open, ".xz": lzma.open}
DAMAGE = (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError, pa.ArrowException)
LocatedRecord = tuple[str, object]  # its place, such as "a.jsonl, line 3", and the record


class BadInput(UserError, ValueError):
    """Data that cannot become rows: names the file, its line or row, and the way out."""


class BadRow(BadInput):
    """One record that cannot become a row; the others of its file may.

    where: "a.jsonl, line 3". cause: what such records are counted under. detail: the rest of the sentence.
    """

    def __init__(
        self, where: str, cause: str, detail: str = "", remedy: str = "Correct or remove the record"
    ):
        super().__init__(f"{where}: {cause}{detail}. {remedy}.")
        self.where, self.cause = where, cause


def refuse(error: BadRow) -> NoReturn:
    raise error from None


def read(
    source: str, on_bad_row: Callable[[BadRow], object] = refuse
) -> Iterator[tuple[str, Iterator[LocatedRecord]]]:
    """Yield the parts of a source, (name, located records): files in path order, or one hub data set.

    on_bad_row: called for each line that is no JSON; where it returns, the next line is read.
    Raises BadInput for what is missing, unreadable or unreachable.
    """
    files = local_files(source)
    if not files:
        yield source, _table_records(_hub(source), source)
    for file in files:
        yield clean(file.name), _file_records(file, on_bad_row)


def local_files(source: str) -> list[Path]:
    """List the files that a path, folder or glob names; none where it can only be a hub name."""
    text, shown = paths.expand(source), one_line(source)
    if not text.strip() or "$" in text:
        raise BadInput(f"source={shown}: empty, or a variable in this path is not set. Write the path out.")
    path = paths.local(text)
    if os.path.isdir(path):
        candidates = [file for file in sorted(path.rglob("*")) if not file.name.startswith(".")]
    elif os.path.isfile(path):
        candidates = [path]
    elif glob.has_magic(text):
        candidates = paths.matching(text)
    elif text.startswith((".", "/")) or text.count("/") > 1 or _suffix(path) in READERS:
        raise BadInput(f"{shown} does not exist (looked from {Path.cwd()}). Check the path.")
    else:
        return []
    files = [file for file in candidates if _suffix(file) in READERS]
    if not files:
        raise BadInput(f"{shown}: no .json, .jsonl or .parquet file (plain, .gz or .xz). Name one.")
    return files


def _suffix(path: Path) -> str:
    """Return ".jsonl" for a.jsonl and a.jsonl.xz."""
    return (path.with_suffix("") if path.suffix in OPENERS else path).suffix


def _file_records(path: Path, on_bad_row: Callable) -> Iterator[LocatedRecord]:
    try:
        with OPENERS.get(path.suffix, open)(path, "rb") as stream:
            yield from READERS[_suffix(path)](stream, path, on_bad_row)
    except BadInput:
        raise
    except DAMAGE as error:
        raise BadInput(
            f"{path} cannot be read ({one_line(error, 200)}). Correct or replace the file."
        ) from None


def _json_records(stream: IO[bytes], path: Path, on_bad_row: Callable) -> Iterator[LocatedRecord]:
    """Yield a list of records, one record, or {"data": [records], ...}, whose other keys go to each."""
    content = stream.read()
    try:
        data = _parse(content) if content.strip() else []
    except json.JSONDecodeError as error:
        if error.msg != "Extra data" or not error.doc.lstrip().startswith("{"):
            raise
        yield from _json_lines(content.split(b"\n"), path, on_bad_row)  # JSON lines under the name .json
        return
    shared = {}
    if isinstance(data, dict) and isinstance(data.get("data"), list):
        shared, data = {key: value for key, value in data.items() if key != "data"}, data["data"]
    for i, record in enumerate(data if isinstance(data, list) else [data], 1):
        yield f"{path}, row {i}", shared | record if isinstance(record, dict) else record


def _json_lines(lines: Iterator[bytes], path: Path, on_bad_row: Callable) -> Iterator[LocatedRecord]:
    """Yield a record a line; blank lines are no records."""
    for i, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}, line {i}"
        try:
            record = _parse(line)
        except ValueError as error:
            on_bad_row(BadRow(where, "broken JSON", f" ({one_line(error).replace('line 1 ', '')})"))
        else:
            yield where, record


def cleaned(data: object) -> object:
    """Replace lone surrogates in all texts of a JSON value by U+FFFD."""
    return json.loads(clean(AS_JSON(data)))


def _parse(content: bytes) -> object:
    """Read JSON in UTF-8, cleaned: only an escape can write a lone surrogate."""
    data = json.loads(content.decode("utf-8-sig"))
    return cleaned(data) if b"\\ud" in content or b"\\uD" in content else data


def _parquet_records(stream: IO[bytes], path: Path, on_bad_row: Callable) -> Iterator[LocatedRecord]:
    return _table_records(pq.ParquetFile(stream).iter_batches(GROUP), str(path))


def _table_records(tables: Iterator[pa.Table | pa.RecordBatch], source: str) -> Iterator[LocatedRecord]:
    first = 1
    for table in tables:
        yield from ((f"{source}, row {i}", record) for i, record in enumerate(table.to_pylist(), first))
        first += len(table)


def _hub(source: str) -> Iterator[pa.Table]:
    """Yield the tables of "name" (its split train) or "name:split"."""
    name, _, split = source.partition(":")
    try:
        data = load_dataset(name, split=split or "train")
    except Exception as error:  # each kind of absence has its own class, from four libraries
        reason = one_line(str(error).strip().split("\n")[0] or type(error).__name__)
        message = f"{one_line(source)} is no local file, and the hub does not give it ({reason})."
        raise BadInput(f"{message} Check the name and the network, or give a path.") from None
    yield from data.with_format("arrow").iter(batch_size=GROUP)


READERS = {".json": _json_records, ".jsonl": _json_lines, ".parquet": _parquet_records}
