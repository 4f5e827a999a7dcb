"""The ledger: every answered call in one SQLite file, so that none is made or paid twice.

A call is stored before its reply is used, and only if it was answered. A batch is noted before it is made.
"""

import hashlib
import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from lib.errors import UserError

SCHEMA = 2  # part of every key: what a call means may change
WAIT_S = 60  # for another process to end its transaction
TABLES = """
CREATE TABLE IF NOT EXISTS calls (key TEXT PRIMARY KEY, endpoint TEXT, model TEXT, purpose TEXT, run TEXT,
    stage TEXT, request TEXT, response TEXT, finish TEXT, prompt_tokens INTEGER, completion_tokens INTEGER,
    usd REAL, seconds REAL, made_at TEXT);
CREATE INDEX IF NOT EXISTS by_run ON calls (run, stage, purpose, usd);
CREATE TABLE IF NOT EXISTS batches (token TEXT PRIMARY KEY, endpoint TEXT, id TEXT);
CREATE TABLE IF NOT EXISTS under_way (key TEXT PRIMARY KEY, purpose TEXT, run TEXT, stage TEXT, request TEXT,
    most_usd REAL, token TEXT);
CREATE INDEX IF NOT EXISTS by_token ON under_way (token);
"""


class Pending(NamedTuple):
    """A call that is not answered yet; `most_usd` is what it may cost, 0 where its price is unknown."""

    key: str
    purpose: str
    run: str
    stage: str
    request: str  # JSON, as in Call
    most_usd: float


class Call(NamedTuple):
    """One paid call, as it is stored; `usd` is None where the price of the model is unknown.

    `response` is None where the reply cannot be used. Such a call has a key of its own, so that it answers
    none: the next start asks again.
    """

    key: str
    endpoint: str  # its URL
    model: str  # the name of its entry, or name@url
    purpose: str
    run: str
    stage: str
    request: str  # JSON: messages, sampling, attempt
    response: str | None  # JSON: all that the endpoint said
    finish: str
    prompt_tokens: int
    completion_tokens: int
    usd: float | None
    seconds: float
    made_at: str  # ISO 8601, UTC


def key(model: str, request: dict) -> str:
    """Return the identity of a call: the model's name and all that is sent, `attempt` included.

    `model` is an entry of params/models.yaml, whose URL may change, or name@url.
    """
    text = json.dumps([SCHEMA, model, request], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


class Ledger:
    """An open ledger. Several processes may read and write it at once.

    Raises UserError where it cannot be opened, read or written.
    """

    def __init__(self, path: str | Path, read_only: bool = False):
        self.path, self.read_only = Path(path), read_only
        self._lock = threading.Lock()
        if read_only and not self.path.is_file():
            raise UserError(f"ledger={path}: there is no such file, and it is only read. Name another.")
        try:
            self._db = self._reader() if read_only else self._writer()
        except (sqlite3.DatabaseError, OSError) as error:
            raise self._unusable("opened", error) from None

    def _writer(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(self.path, timeout=WAIT_S, check_same_thread=False)
        # half a second for 100,000 calls; nothing is paid into a damaged file
        [(message,)] = db.execute("PRAGMA quick_check(1)")
        if message != "ok":
            raise sqlite3.DatabaseError(" ".join(message.split()))
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")  # a stored reply outlives a loss of power, too
        db.executescript(TABLES)
        return db

    def _reader(self) -> sqlite3.Connection:
        wal = self.path.with_name(self.path.name + "-wal")
        modes = ["mode=ro", "immutable=1"] if not wal.exists() or not wal.stat().st_size else ["mode=ro"]
        for mode in modes:  # a published ledger may lie where SQLite can't put the files it works with
            db = sqlite3.connect(f"{self.path.resolve().as_uri()}?{mode}", uri=True, check_same_thread=False)
            try:
                db.execute("SELECT key FROM calls LIMIT 1")
                return db
            except sqlite3.OperationalError as error:
                failure = error
        raise failure

    def _unusable(self, action: str, error: Exception) -> UserError:
        return UserError(
            f"ledger={self.path}: it cannot be {action} ({error}). Check the disk's space and the "
            f"permissions. If the file is damaged, save what can be read: "
            f"sqlite3 {self.path} .recover | sqlite3 NEW"
        )

    @contextmanager
    def _change(self):
        """Open a transaction."""
        try:
            with self._lock, self._db:
                yield
        except sqlite3.DatabaseError as error:
            raise self._unusable("written", error) from None

    def _rows(self, sql: str, given: Iterable | dict = ()) -> Iterator[tuple]:
        try:
            yield from self._db.execute(sql, given)
        except sqlite3.DatabaseError as error:
            raise self._unusable("read", error) from None

    def _row(self, sql: str, given: Iterable | dict = ()) -> tuple | None:
        return next(self._rows(sql, given), None)

    def find(self, keys: Iterable[str]) -> Iterator[tuple[str, dict]]:
        """(key, response) of those that are stored, in no order."""
        for name, text in self._among("SELECT key, response FROM calls", keys):
            try:
                yield name, json.loads(text)
            except ValueError as error:
                raise self._unusable("read", error) from None

    def _among(self, sql: str, keys: Iterable[str]) -> Iterator[tuple]:
        names = json.dumps([*keys])
        return self._rows(f"{sql} WHERE key IN (SELECT value FROM json_each(?))", (names,))

    def store(self, calls: Iterable[Call], collected: str = "") -> None:
        """Write calls in one transaction; on return they are on the disk. A stored call stays as it was.

        `collected` is the token of the batch that they came from: its note goes with the same transaction.
        """
        with self._change():
            marks = ",".join("?" * len(Call._fields))
            self._db.executemany(f"INSERT OR IGNORE INTO calls VALUES ({marks})", calls)
            for table in ("under_way", "batches") if collected else ():
                self._db.execute(f"DELETE FROM {table} WHERE token = ?", (collected,))

    def spent(self, run: str) -> float:
        """Return the USD of a run, with what its batches under way may cost; unknown prices count 0."""
        sums = "coalesce((SELECT sum(usd) FROM calls WHERE run = :run), 0)"
        sums += " + coalesce((SELECT sum(most_usd) FROM under_way WHERE run = :run), 0)"
        return self._row(f"SELECT {sums}", {"run": run})[0]

    def of_stage(self, run: str, stage: str) -> tuple[int, float | None]:
        """Return the calls that a stage of a run made, and their USD; None where a price is unknown."""
        priced = "CASE WHEN count(usd) = count(*) THEN coalesce(sum(usd), 0.0) END"
        query = f"SELECT count(response), {priced} FROM calls WHERE run = ? AND stage = ?"
        return self._row(query, (run, stage))

    def rows(self) -> Iterator[Call]:
        """Yield all answered calls, in the order they were made."""
        query = "SELECT * FROM calls WHERE response IS NOT NULL ORDER BY made_at, key"
        return map(Call._make, self._rows(query))

    def totals(self) -> list[tuple]:
        """List (model, purpose, run, calls, prompt tokens, completion tokens, USD or None)."""
        query = (
            "SELECT model, purpose, run, count(response), sum(prompt_tokens), sum(completion_tokens), "
            "CASE WHEN count(usd) = count(*) THEN sum(usd) END FROM calls GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
        )
        return list(self._rows(query))

    def means(self, model: str, purpose: str) -> tuple[int, float, float]:
        """Return (calls, mean completion tokens, mean seconds of live calls) of a purpose."""
        query = "SELECT count(*), avg(completion_tokens), avg(nullif(seconds, 0)) FROM calls"
        query += " WHERE model = ? AND purpose = ? AND response IS NOT NULL"
        return self._row(query, (model, purpose))

    def faults(self) -> Iterator[str]:
        """Yield faults of the file: SQLite's own check, then calls whose content does not fit their key."""
        for (message,) in self._rows("PRAGMA integrity_check"):
            if message != "ok":
                yield message
        for call in self.rows():
            try:
                fits = key(call.model, json.loads(call.request)) == call.key
                json.loads(call.response or "null")
            except ValueError:
                fits = False
            if not fits:
                yield f"the call {call.key[:16]} ({call.purpose}, {call.made_at}) does not fit its key"

    # batches under way

    def order(self, token: str, endpoint: str, calls: Iterable[Pending]) -> None:
        """Note a batch before it is made. A token of ours names it, as it has no id yet."""
        with self._change():
            self._db.execute("INSERT INTO batches VALUES (?, ?, NULL)", (token, endpoint))
            marks = ",".join("?" * (len(Pending._fields) + 1))
            self._db.executemany(
                f"INSERT INTO under_way VALUES ({marks})", ((*call, token) for call in calls)
            )

    def name_batch(self, token: str, batch_id: str) -> None:
        """Note the id of a batch that was made."""
        with self._change():
            self._db.execute("UPDATE batches SET id = ? WHERE token = ?", (batch_id, token))

    def nameless(self, endpoint: str) -> set[str]:
        """Tokens of the batches that may or may not have been made: a kill came between."""
        rows = self._rows("SELECT token FROM batches WHERE id IS NULL AND endpoint = ?", (endpoint,))
        return {token for (token,) in rows}

    def ordered(self, keys: Iterable[str]) -> dict[str, str]:
        """The token of the batch that each of these calls is in, for those that are in one."""
        return dict(self._among("SELECT key, token FROM under_way", keys))

    def batch(self, token: str) -> tuple[str, dict[str, Pending]] | None:
        """Return the id of a batch and its calls by key; None once another process has collected it."""
        row = self._row("SELECT id FROM batches WHERE token = ?", (token,))
        if not row:
            return None
        calls = self._rows(f"SELECT {', '.join(Pending._fields)} FROM under_way WHERE token = ?", (token,))
        return row[0], {call[0]: Pending(*call) for call in calls}

    def under_way(self) -> int:
        """Calls in batches that were not collected yet."""
        return self._row("SELECT count(*) FROM under_way")[0]

    def forget(self, token: str) -> None:
        """Take the note of a batch away: it was never made, or is gone."""
        self.store([], collected=token)

    def checkpoint(self) -> None:
        """Move all calls into the one file, so that it can be copied; on a full disk they stay in -wal."""
        with suppress(sqlite3.Error):
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        self._db.close()
