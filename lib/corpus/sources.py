"""Read the records of a file, a folder or a hub data set, each with its place."""

import glob
import gzip
import json
import lzma
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
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


def refuse(where: str, cause: str, detail: str) -> NoReturn:
    raise UserError(f"{where}: {cause}{detail}. Correct or remove the record.")


def read(
    source: str, on_bad_row: Callable[[str, str, str], object] = refuse
) -> Iterator[tuple[str, str, object]]:
    """Yield (name of the file or data set, place, record), files in path order.

    on_bad_row: called with place, cause and detail of a line that is no JSON; where it returns, the line is
    left out. Raises UserError for what is missing, unreadable, unreachable or without records.
    """
    files = [(clean(path.name), _file_records(path)) for path in local_files(source)]
    for name, located in files or [(source, _hub_records(source))]:
        empty = True
        for where, record in located:
            empty = False
            if isinstance(record, ValueError):
                on_bad_row(where, "broken JSON", f" ({one_line(record).replace('line 1 ', '')})")
            else:
                yield name, where, record
        if empty:
            raise UserError(f"{name}: it holds no records. Name another file.")


def local_files(source: str) -> list[Path]:
    """List the files that a path, folder, glob or address names; none for a hub name."""
    text, shown = paths.expand(source), one_line(source)
    if not text.strip() or "$" in text:
        raise UserError(f"source={shown}: empty, or a variable in this path is not set. Write the path out.")
    path = paths.local(text)
    if os.path.isdir(path):
        candidates = [file for file in sorted(path.rglob("*")) if not file.name.startswith(".")]
    elif os.path.isfile(path):
        candidates = [path]
    elif text.startswith(("http://", "https://")):
        endings = "ends in no .json, .jsonl or .parquet (plain, .gz or .xz)"
        raise UserError(f"{shown}: the name of the file {endings}. {paths.INSTEAD}")
    elif glob.has_magic(text):
        candidates = paths.matching(text)
    elif text.startswith((".", "/")) or text.count("/") > 1 or _suffix(path) in READERS:
        raise UserError(f"{shown} does not exist (looked from {Path.cwd()}). Check the path.")
    else:
        return []
    files = [file for file in candidates if _suffix(file) in READERS]
    if not files:
        raise UserError(f"{shown}: no .json, .jsonl or .parquet file (plain, .gz or .xz). Name one.")
    return files


def _suffix(path: Path) -> str:
    """Return ".jsonl" for a.jsonl and a.jsonl.xz."""
    return (path.with_suffix("") if path.suffix in OPENERS else path).suffix


def _file_records(path: Path) -> Iterator[tuple[str, object]]:
    try:
        with OPENERS.get(path.suffix, open)(path, "rb") as stream:
            yield from READERS[_suffix(path)](stream, path)
    except DAMAGE as error:
        message = f"{path} cannot be read ({one_line(error, 200)}). Correct or replace the file."
        raise UserError(message) from None


def _json_records(stream: IO[bytes], path: Path) -> Iterator[tuple[str, object]]:
    """Yield a list of records, one, or {"data": [records]} with the other keys."""
    content = stream.read()
    try:
        data = _parse(content) if content.strip() else []
    except json.JSONDecodeError as error:
        if error.msg != "Extra data" or not error.doc.lstrip().startswith("{"):
            raise
        yield from _json_lines(content.split(b"\n"), path)  # JSON lines under the name .json
        return
    shared = {}
    if isinstance(data, dict) and isinstance(data.get("data"), list):
        shared, data = {key: value for key, value in data.items() if key != "data"}, data["data"]
    for i, record in enumerate(data if isinstance(data, list) else [data], 1):
        yield f"{path}, row {i}", shared | record if isinstance(record, dict) else record


def _json_lines(lines: Iterable[bytes], path: Path) -> Iterator[tuple[str, object]]:
    """Yield a record per line, the error where a line is no JSON; skip blank lines."""
    for i, line in enumerate(lines, 1):
        if line.strip():
            try:
                record = _parse(line)
            except ValueError as error:
                record = error
            yield f"{path}, line {i}", record


def _parse(content: bytes) -> object:
    """Read JSON in UTF-8, cleaned: only an escape can write a lone surrogate."""
    data = json.loads(content.decode("utf-8-sig"))
    return cleaned(data) if b"\\ud" in content or b"\\uD" in content else data


def cleaned(data: object) -> object:
    """Replace lone surrogates in all texts of a JSON value by U+FFFD."""
    return json.loads(clean(AS_JSON(data)))


def _parquet_records(stream: IO[bytes], path: Path) -> Iterator[tuple[str, object]]:
    return _table_records(pq.ParquetFile(stream).iter_batches(GROUP), str(path))


def _table_records(tables: Iterable[pa.Table | pa.RecordBatch], name: str) -> Iterator[tuple[str, object]]:
    records = (record for table in tables for record in table.to_pylist())
    return ((f"{name}, row {i}", record) for i, record in enumerate(records, 1))


def _hub_records(source: str) -> Iterator[tuple[str, object]]:
    """Read "name" (its split train) or "name:split"."""
    name, _, split = source.partition(":")
    try:
        data = load_dataset(name, split=split or "train")
    except Exception as error:  # each kind of absence has its own class, from four libraries
        reason = one_line(str(error).strip().split("\n")[0] or type(error).__name__)
        message = f"{one_line(source)} is no local file, and the hub does not give it ({reason})."
        raise UserError(f"{message} Check the name and the network, or give a path.") from None
    return _table_records(data.with_format("arrow").iter(batch_size=GROUP), source)


READERS = {".json": _json_records, ".jsonl": _json_lines, ".parquet": _parquet_records}
