"""Sources: the records of a file, a folder or a hub data set, each with the place it came from."""

import glob
import gzip
import io
import json
import lzma
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pyarrow.parquet as pq
from datasets import DatasetDict, load_dataset

from lib import paths
from lib.errors import UserError, one_line

SUFFIXES = (".json", ".jsonl", ".parquet")
OPENERS = {".gz": gzip.open, ".xz": lzma.open}
Placed = tuple[str, object]  # where a record stands ("a.jsonl, line 3") and the record


class BadInput(UserError, ValueError):
    """Data that cannot become rows: names the file, its line or row, and the way out."""


class BadRow(BadInput):
    """One record that cannot become a row; the others of its file may.

    where: "a.jsonl, line 3". cause: what such records are counted under. detail: what this one says instead.
    """

    def __init__(
        self, where: str, cause: str, detail: str = "", remedy: str = "Correct or remove the record"
    ):
        super().__init__(f"{where}: {cause}{detail}. {remedy}.")
        self.where, self.cause = where, cause


def refuse(error: BadRow) -> NoReturn:
    raise error from None


def read(source: str, bad: Callable[[BadRow], object] = refuse) -> Iterator[tuple[str, Iterator[Placed]]]:
    """The parts of a source, (name, placed records): one a file in path order, or one for a hub data set.

    bad: called for each line of JSON lines that is no JSON; where it returns, the next line is read.
    Raises BadInput for what is missing, unreadable or unreachable.
    """
    if not source.strip():
        raise BadInput("no source is named")
    path = expand(source)
    files = local_files(path)
    if not files:
        yield source, hub(path)
    for file in files:
        yield file.name, records(file, bad)


def expand(source: str) -> str:
    path = paths.expand(source)
    if "$" in path:
        raise BadInput(f"{source}: a variable in this path is not set; export it, or write the path out")
    return path


def local_files(source: str) -> list[Path]:
    """The files that a path, folder or glob names; none when it can only be a hub name."""
    path = paths.local(source)
    if os.path.isdir(path):
        visible = [file for file in sorted(path.rglob("*")) if not file.name.startswith(".")]
        return [file for file in visible if suffix(file) in SUFFIXES] or nothing(source, "holds")
    if os.path.isfile(path):
        return [path] if suffix(path) in SUFFIXES else nothing(source, "is")
    if glob.has_magic(source):
        found = paths.matching(source)
        return [file for file in found if suffix(file) in SUFFIXES] or nothing(source, "matches")
    if source.startswith((".", "/")) or source.count("/") > 1 or suffix(path) in SUFFIXES:
        raise BadInput(f"{one_line(source)} does not exist (looked from {Path.cwd()}): check the path")
    return []


def nothing(source: str, verb: str) -> NoReturn:
    raise BadInput(f"{one_line(source)} {verb} no .json, .jsonl or .parquet file, plain or .gz or .xz")


def suffix(path: Path) -> str:
    """ ".jsonl" for a.jsonl and a.jsonl.xz."""
    return (path.with_suffix("") if path.suffix in OPENERS else path).suffix


def records(path: Path, bad: Callable[[BadRow], object]) -> Iterator[Placed]:
    """The records of one file, whatever their type."""
    reader = {".json": json_records, ".jsonl": json_lines, ".parquet": parquet_records}[suffix(path)]
    try:
        with OPENERS.get(path.suffix, open)(path, "rb") as stream:
            yield from reader(stream, path, bad)
    except (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError) as error:
        raise BadInput(f"{path} is truncated or not {path.suffix} ({error}): fetch it again") from None
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error}") from None


def json_records(stream: io.BufferedIOBase, path: Path, bad: Callable) -> Iterator[Placed]:
    """A list of records, one record, or {"data": [records], ...}, whose other keys go to every record."""
    content = decode(stream.read(), str(path))
    try:
        data = parse(content, str(path)) if content.strip() else []
    except json.JSONDecodeError as error:
        first, _, _ = content.partition("\n")
        if error.msg == "Extra data" and _is_json(first):  # JSON lines under the name .json
            yield from json_lines(io.BytesIO(content.encode()), path, bad)
            return
        raise BadInput(
            f"{path}: broken JSON at line {error.lineno}, column {error.colno}: {error.msg}: "
            "correct the file, or write one record a line and name it .jsonl"
        ) from None
    shared = {}
    if isinstance(data, dict) and isinstance(data.get("data"), list):
        shared, data = {key: value for key, value in data.items() if key != "data"}, data["data"]
    for i, record in enumerate(data if isinstance(data, list) else [data], 1):
        yield f"{path}, row {i}", shared | record if isinstance(record, dict) else record


def parse(text: str, where: str) -> object:
    """What a JSON text says.

    Raises BadRow for what Python cannot hold or would lose, a JSONDecodeError for what is no JSON.
    """
    try:
        return json.loads(text, object_pairs_hook=_once)
    except json.JSONDecodeError:
        raise
    except RecursionError:
        raise BadRow(where, "lists or objects nested too deeply", remedy="Flatten them") from None
    except ValueError as error:
        raise BadRow(where, "JSON that would be read in part", f" ({one_line(error, 200)})") from None


def _once(pairs: list[tuple[str, object]]) -> dict:
    """An object; json.loads would keep the last of two values of one name, and say nothing."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{max(names, key=names.count)!r:.60} stands twice in one object")
    return found


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def json_lines(stream: io.BufferedIOBase, path: Path, bad: Callable) -> Iterator[Placed]:
    """A record a line; blank lines are no records."""
    for i, line in enumerate(stream, 1):
        if not line.strip():
            continue
        where = f"{path}, line {i}"
        try:
            record = parse(decode(line, where), where)
        except json.JSONDecodeError as error:
            bad(BadRow(where, "broken JSON", f" at column {error.colno}: {error.msg}"))
        except BadRow as error:
            bad(error)
        else:
            yield where, record


def decode(content: bytes, where: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadRow(where, "not UTF-8", f" at byte {error.start}", "Save the file as UTF-8") from None


def parquet_records(stream: io.BufferedIOBase, path: Path, bad: Callable) -> Iterator[Placed]:
    first = 1
    try:
        file = pq.ParquetFile(stream)
        names = file.schema_arrow.names
        if len(set(names)) < len(names):
            raise ValueError(f"the column {max(names, key=names.count)!r:.60} stands twice")
        for batch in file.iter_batches(batch_size=10_000):
            yield from ((f"{path}, row {i}", record) for i, record in enumerate(batch.to_pylist(), first))
            first += len(batch)
    except Exception as error:  # whatever the bytes are: a class for each kind of damage, from two libraries
        raise BadInput(
            f"{path} is not a readable Parquet file ({one_line(error, 200)}): fetch it again"
        ) from None


def hub(source: str) -> Iterator[Placed]:
    """The records of "name" (its train or only split) or "name:split"."""
    name, _, split = source.partition(":")
    try:
        data = load_dataset(name, split=split or None)
    except Exception as error:  # each kind of absence has its own class, from four libraries
        reason = one_line(str(error).strip().split("\n")[0] or type(error).__name__)
        raise BadInput(
            f"{one_line(source)} is no local file, and the hub does not give it ({reason}): "
            "check the name and the network, or give a path"
        ) from None
    if isinstance(data, DatasetDict):
        if "train" not in data and len(data) > 1:
            raise BadInput(f"{source}: choose a split: {', '.join(f'{name}:{part}' for part in data)}")
        data = data["train" if "train" in data else next(iter(data))]
    first = 1
    for table in data.with_format("arrow").iter(batch_size=10_000):
        yield from ((f"{source}, row {i}", record) for i, record in enumerate(table.to_pylist(), first))
        first += len(table)
