"""What can still be read of a damaged ledger, saved as a new one: a call that was paid is worth the trouble."""

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from lib.errors import UserError
from lib.oracle import unusable
from lib.oracle.ledger import TABLES, Call, fits
from lib.runner import folders

SMALLEST = 150  # bytes that a row takes at least: its key alone is 64 characters
KEPT = ("calls", "batches", "under_way")


class Saved(NamedTuple):
    """How many calls the new ledger holds, and how many were read, but do not fit their key."""

    calls: int
    unfit: int


def save(damaged: Path, new: Path) -> Saved:
    """Copy each row that can be read, and of the calls those that fit their key, to a new ledger.

    Raises UserError where that is there already or cannot be written, or where the damaged one is not to be read at all.
    """
    if new.exists():
        raise UserError(f"{new} exists already: name a file that does not")
    if not new.parent.is_dir():
        raise UserError(f"{new} cannot be written: there is no folder {new.parent}")
    if not damaged.is_file():
        raise UserError(f"the ledger {damaged} does not exist")
    with folders.whole(new) as partial:
        try:
            with closing(sqlite3.connect(partial)) as made, made:
                return _copied(damaged, made)
        except sqlite3.DatabaseError as error:
            raise unusable.explained(f"{new} cannot be written", error, new) from None


def _copied(damaged: Path, made: sqlite3.Connection) -> Saved:
    made.executescript(TABLES)
    found = Counter()
    for table in KEPT:
        for row in _readable(damaged, table):
            whole = table != "calls" or fits(Call._make(row))
            found[table, whole] += 1
            if whole:
                made.execute(f"INSERT OR IGNORE INTO {table} VALUES ({','.join('?' * len(row))})", row)
    return Saved(found["calls", True], found["calls", False])


def _readable(path: Path, table: str) -> Iterator[tuple]:
    """The rows of a table, one looked up after the other: a page that is damaged costs only those that lie on it."""
    try:
        db = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        db.execute("PRAGMA writable_schema=ON")  # or one that was cut off would not be read at all
        db.execute(f"SELECT count(*) FROM {table} WHERE rowid = 1")
    except sqlite3.DatabaseError as error:
        raise UserError(
            f"nothing can be saved of {path} ({error}): move it away, and start another"
        ) from None
    with closing(db):
        for number in range(1, _size(path) // SMALLEST):
            try:
                yield from db.execute(f"SELECT * FROM {table} WHERE rowid = ?", (number,))
            except sqlite3.DatabaseError:
                continue


def _size(path: Path) -> int:
    files = (path, path.with_name(path.name + "-wal"))
    return sum(file.stat().st_size for file in files if file.exists())
