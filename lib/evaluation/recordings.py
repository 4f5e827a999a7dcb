"""Recordings: the records of a file or hub data set with the fields that they must have, and single files of the hub."""

from collections import Counter
from collections.abc import Iterable

from huggingface_hub import hf_hub_download

from lib.corpus import sources
from lib.corpus.sources import BadInput
from lib.text import clean

KINDS = {str: "a text", int: "a whole number", list: "a list"}


def listed(source: str, name: str, once: str, /, **fields: type) -> list[dict]:
    """All records of a source, each with these fields of these types; `name` is the parameter that names it.

    Raises BadInput for what cannot be read or is empty, naming the record that lacks a field, or has the same `once` as another
    (a field; empty where records may repeat).
    """
    found = []
    for _, placed in sources.read(source):
        for where, record in placed:
            _check(record, f"{name}: {where}", fields)
            found.append(cleaned(record))
    if not found:
        raise BadInput(f"{name}: {source} holds no records")
    counts = Counter(row[once] for row in found) if once else {}
    if again := [value for value, n in counts.items() if n > 1]:
        raise BadInput(
            f"{name}: {source} holds {len(again):,} records twice, the first with `{once}` {again[0]!r:.80}"
        )
    return found


def _check(record: object, where: str, fields: dict[str, type]) -> None:
    if not isinstance(record, dict):
        raise BadInput(f"{where}: a record is an object with {', '.join(fields)}; found {record!r:.60}")
    for field, kind in fields.items():
        value = record.get(field)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise BadInput(f"{where}: `{field}` must be {KINDS[kind]}, found {value!r:.60}")


def check_asked(answered: Iterable, asked: Iterable, where: str, what: str) -> None:
    """Raises BadInput where something is answered that was not asked."""
    if strange := set(answered) - set(asked):
        raise BadInput(
            f"{where} answers {len(strange):,} {what} that there are not, such as {min(strange)!r:.80}"
        )


def cleaned(value: object) -> object:
    """The value with all its texts made fit to be written: lone surrogates become U+FFFD."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [cleaned(part) for part in value]
    return {cleaned(key): cleaned(part) for key, part in value.items()} if isinstance(value, dict) else value


def hub_file(repository: str, file: str, name: str) -> str:
    """The path of a data set's file, fetched from the hub once; raises BadInput where it cannot be had, naming the parameter for a local one."""
    try:
        return hf_hub_download(repository, file, repo_type="dataset")
    except Exception as error:  # each kind of absence has its own class
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise BadInput(
            f"{file} of {repository} is not to be had from the hub ({reason}): check the network, or name the file with {name}"
        ) from None
