"""Read instruction data in any common format into rows, with an account."""

import contextlib
import itertools
import json
from collections.abc import Iterator

from datasets import Dataset

from lib import records
from lib.corpus import formats, sources
from lib.corpus.account import Account
from lib.corpus.fields import BadRow, Fields
from lib.corpus.repeats import Repeats
from lib.errors import UserError

HEAD = 100  # rows that show whether a column repeats prompt and response


def load(source: str, format: str = "auto", bad_rows: str = "refuse") -> Dataset:
    """Read a corpus into rows, one row a record, in the order of the files.

    source: a hub name ("tatsu-lab/alpaca", "name:split"), or a .json, .jsonl or .parquet file (plain, .gz or
    .xz), a folder or a glob of such files; $VARIABLES and ~ are expanded.
    format: a name in formats.FORMATS, or auto: each record's own, recognised by its keys.
    bad_rows: refuse the source for a record that cannot become a row, or skip the record.

    A null or NaN response is none: the row stays, for an oracle to answer. A response with weight 0, train
    false or another such mark (fields.TRAINED) is none, too. Unknown fields go to `meta`; nulls, thoughts and
    a column that repeats prompt and response are dropped. Of our own columns `source`, `references`,
    `oracle_response`, `student_response`, `verdicts`, `oracle_score` and `student_score` are kept where their
    values fit; the others only in a record that has all of our columns. Raises UserError.
    """
    return load_with_account(source, format, bad_rows)[0]


def load_with_account(source: str, format: str = "auto", bad_rows: str = "refuse") -> tuple[Dataset, Account]:
    """Read a corpus as `load` does; return the rows and the account of what was read."""
    check(format, bad_rows)
    account = Account(refuse=bad_rows == "refuse")
    rows = records.build(_rows(source, format, account))
    if not len(rows):
        causes = "; ".join(f"{cause}: {n:,}" for cause, n in account.skipped.items())
        raise UserError(
            f"source={source}: none of its records can be used ({causes}). Correct them or the format."
        )
    account.rows = len(rows)
    return rows, account


def check(format: str, bad_rows: str) -> None:
    """Raise UserError for an unknown value."""
    if format not in ("auto", *formats.FORMATS):
        names = ", ".join(formats.FORMATS)
        raise UserError(f"format={format!r:.60}: unknown format. Choose one of auto, {names}.")
    if bad_rows not in ("refuse", "skip"):
        raise UserError(f"bad_rows={bad_rows!r:.60}: unknown value. Choose refuse or skip.")


def _rows(source: str, format: str, account: Account) -> Iterator[dict]:
    for file, drafts in itertools.groupby(_drafts(source, format, account), key=lambda draft: draft[0]):
        head = list(itertools.islice(drafts, HEAD))
        repeats = Repeats([(row, fields) for _, row, fields in head])
        for _, row, fields in itertools.chain(head, drafts):
            repeats.drop(row, fields)
            fields.notes.update(("meta", name) for name in fields if name != "turn_fields")
            response = row["response"]
            if not response or not response.strip():
                fields.notes.add(("note", "without_response"))
            if response is not None and row.setdefault("response_from", "corpus") == "corpus":
                row.setdefault("corpus_response", response)
            account.counts.update(fields.notes)
            yield {"source": file, "meta": _meta(fields)} | row


def _drafts(source: str, format: str, account: Account) -> Iterator[tuple[str, dict, Fields]]:
    """Yield the file's name, a row and the fields left over, for each usable record."""
    for name, record_where, record in sources.read(source, account.on_bad_row):
        for where, instance in formats.instances(record, record_where):
            try:
                yield name, *formats.read(instance, format)
            except BadRow as error:
                account.on_bad_row(where, error.cause, error.detail)


def _meta(rest: dict) -> str:
    """Write what is left of a record as JSON without nulls; "" when nothing is."""
    given = rest.get("meta")
    with contextlib.suppress(ValueError, TypeError):
        given = json.loads(given)
    if isinstance(given, dict) and given.keys().isdisjoint(rest):
        rest = given | {name: value for name, value in rest.items() if name != "meta"}
    return records.AS_JSON(_without_nulls(rest)) if rest else ""


def _without_nulls(value: object) -> object:
    if isinstance(value, dict):
        pairs = ((name, _without_nulls(item)) for name, item in value.items())
        return {name: item for name, item in pairs if item is not None and item == item}
    return list(map(_without_nulls, value)) if isinstance(value, list) else value
