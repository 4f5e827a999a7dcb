"""Corpus: instruction data in any common shape, read into rows, with an account of what was read."""

import contextlib
import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from datasets import Dataset

from lib import records, show
from lib.corpus import formats, sources
from lib.corpus.sources import BadInput, BadRow
from lib.text import clean

FIRST = 5  # places of bad rows that are listed
LONG = 40  # characters from which a single text does not hold a prompt and its response by chance
HEAD = 100  # rows that show whether a column repeats prompt and response
SKIP = "or leave such rows out with bad_rows: skip (a parameter of tapir/1_data_selection)."
NESTED = ("lists or objects nested too deeply", "", "Flatten them")
NOTES = {
    "without_response": "Rows without a response",
    "not_trained": "Responses marked as not to be trained on (weight 0, train or trainable false); they stay "
    "in `meta`, and their rows have no response",
    "earlier_responses": "Rows with earlier assistant turns, which are context and never trained",
}


@dataclass
class Account:
    """Count rows by what loading did with them, and with which field."""

    rows: int = 0
    counts: Counter = field(default_factory=Counter)  # by note: see lib/corpus/formats.py
    skipped: Counter = field(default_factory=Counter)  # records left out, by cause
    places: list[str] = field(default_factory=list)  # of the first of these

    def skip(self, error: BadRow) -> None:
        self.skipped[error.cause] += 1
        if len(self.places) < FIRST:
            self.places.append(clean(error.where.rpartition("/")[2]))

    def of(self, kind: str) -> Counter:
        """The counts of one kind, the highest first."""
        counts = sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))
        return Counter({text: n for (of, text), n in counts if of == kind})

    def metrics(self) -> dict[str, int]:
        """The counts as metrics of notebook 1."""
        notes = self.of("note")
        counts = {name: notes[name] for name in ("not_trained", "earlier_responses")}
        fields = {"fields_in_meta": len(self.of("meta")), "fields_repeated": len(self.of("repeated"))}
        counts |= {"thoughts": self.of("thoughts").total(), "bad_rows": self.skipped.total()} | fields
        return {f"corpus.{name}": n for name, n in counts.items()}

    def sentences(self) -> list[str]:
        """The account as Markdown, a sentence each."""
        lists = {
            "Read": [f"{text} ({n:,})" for text, n in self.of("read").items()],
            "Not used, kept in `meta`": _counted(self.of("meta")),
            "Dropped, because it repeats prompt and response": _counted(self.of("repeated")),
            "Dropped, because thoughts are never trained": _counted(self.of("thoughts")),
        }
        lines = [f"Rows: {self.rows:,}. A number in brackets says in how many of them."]
        lines += [f"{head}: {', '.join(items)}." for head, items in lists.items() if items]
        lines += [f"{NOTES[name]}: {n:,}." for name, n in self.of("note").items()]
        if self.skipped:
            causes = ", ".join(f"{cause} ({n:,})" for cause, n in self.skipped.most_common())
            places = ", ".join(map(show.code, self.places))
            lines.append(
                f"Bad rows that were left out: {self.skipped.total():,}: {causes}. The first: {places}."
            )
        return lines


def _counted(counts: Counter) -> list[str]:
    return [f"{show.code(clean(name))} ({n:,})" for name, n in counts.items()]


def load(source: str, format: str = "auto", bad_rows: str = "refuse") -> Dataset:
    """Read a corpus into rows, one row a record, in the order of the files.

    source: a hub name ("tatsu-lab/alpaca", "name:split"), or a .json, .jsonl or .parquet file (plain, .gz or
    .xz), a folder or a glob of such files; $VARIABLES and ~ are expanded.
    format: one of formats.KNOWN, or auto, told apart by the keys of each record.
    bad_rows: refuse the source for a record that cannot become a row, or skip the record.

    A null or NaN response is none: the row stays, for an oracle to answer. A response with weight 0, train
    false or trainable false is none, too. Unknown fields go to `meta`; nulls, thoughts and a column that
    repeats prompt and response are dropped. Of our own columns `source`, `references`, `oracle_response`,
    `student_response`, `verdicts`, `oracle_score` and `student_score` are kept where their values fit; the
    others only in a record that has all of our columns. Raises BadInput.
    """
    return load_with_account(source, format, bad_rows)[0]


def load_with_account(source: str, format: str = "auto", bad_rows: str = "refuse") -> tuple[Dataset, Account]:
    """The rows as `load` reads them, and the account of what was read."""
    check(format, bad_rows)
    account = Account()
    bad = account.skip if bad_rows == "skip" else _refuse
    parts = sources.read(source, bad)
    rows = records.build(row for name, placed in parts for row in _rows(placed, format, name, account, bad))
    if not len(rows):
        causes = "; ".join(f"{cause}: {n:,}" for cause, n in account.skipped.items())
        raise BadInput(
            f"source={source}: none of its records can be used ({causes}). Correct them or the format."
        )
    account.rows = len(rows)
    return rows, account


def check(format: str, bad_rows: str) -> None:
    """Raises BadInput for a value that there is not."""
    if format != "auto":
        formats.converter(format)
    if bad_rows not in ("refuse", "skip"):
        raise BadInput(f"bad_rows={bad_rows!r:.60}: unknown value. Choose refuse or skip")


def _refuse(error: BadRow) -> None:
    raise BadInput(f"{str(error).removesuffix('.')}, {SKIP}") from None


def _rows(placed: Iterable[sources.Placed], format: str, name: str, account: Account, bad) -> Iterator[dict]:
    """The rows of one file's records."""
    before, name = account.skipped.total(), clean(name)
    drafts = _drafts(placed, format, bad)
    head = list(itertools.islice(drafts, HEAD))
    if not head and account.skipped.total() == before:
        raise BadInput(f"{name} is empty: it holds no record")
    frames = _repeating([draft for _, draft in head])
    for where, (row, rest, notes) in itertools.chain(head, drafts):
        for column in frames.keys() & rest.keys() if frames else ():
            if _repeats(rest[column], row, frames[column]):
                del rest[column]
                notes.add(("repeated", column))
        response = row["response"]
        if not response or not response.strip():
            notes.add(("note", "without_response"))
        if response is not None and row.setdefault("response_from", "corpus") == "corpus":
            row.setdefault("corpus_response", response)
        row.setdefault("source", name)
        try:
            row["meta"] = _meta(rest) if rest else ""
        except RecursionError:
            bad(BadRow(where, *NESTED))
            continue
        if rest:
            notes |= {("meta", field) for field in _fields(rest)}
        for note in notes:
            account.counts[note] += 1
        yield row


def _drafts(placed: Iterable[sources.Placed], format: str, bad) -> Iterator[tuple[str, formats.Draft]]:
    """What the records that can be used become, each with its place."""
    for where, record, convert in _units(placed, format, bad):
        try:
            draft = convert(record, where)
            formats.settle(*draft, where)
        except BadRow as error:
            bad(error)
        except RecursionError:  # what Python just read it may not be able to compare
            bad(BadRow(where, *NESTED))
        else:
            yield where, draft


def _units(placed: Iterable[sources.Placed], format: str, bad) -> Iterator[tuple]:
    for where, record in placed:
        try:
            units = formats.units(record, where, format)
        except BadRow as error:
            bad(error)
        else:
            yield from units


# A column that says prompt and response once more, as Alpaca's `text` does


def _repeating(drafts: list[formats.Draft]) -> dict[str, dict]:
    """Find columns that repeat prompt and response in a fixed frame of words.

    {column: {which parts a row has: the words around them}}
    """
    names = {
        name
        for row, rest, _ in drafts
        for name, value in rest.items()
        if isinstance(value, str) and row["response"]
    }
    found = {}
    for name in names:
        seen: dict[tuple, Counter] = defaultdict(Counter)
        for row, rest, _ in drafts:
            if name in rest:
                parts, frame = _frame(rest[name], row)
                seen[parts][frame] += 1
        usual = {parts: frames.most_common(1)[0] for parts, frames in seen.items()}
        by_chance = max(n for _, n in usual.values()) == 1 and all(
            len(rest.get(name) or "") < LONG for _, rest, _ in drafts
        )
        if not by_chance and all(
            frame and 2 * n > seen[parts].total() for parts, (frame, n) in usual.items()
        ):
            found[name] = {parts: frame for parts, (frame, _) in usual.items()}
    return found


def _repeats(value: object, row: dict, frames: dict[tuple, tuple]) -> bool:
    """Whether a value is prompt and response in its column's frame, which a first one of its parts gives."""
    parts, frame = _frame(value, row)
    return frame is not None and frames.setdefault(parts, frame) == frame


def _frame(value: object, row: dict) -> tuple[tuple, tuple | None]:
    """Which parts a row has, and the words of a text around them; None where it lacks one of them."""
    texts = [
        *(turn["content"] for turn in row["turns"]),
        row["instruction"],
        row["input"],
        row["response"] or "",
    ]
    filled = tuple(map(bool, texts))
    if not isinstance(value, str):
        return filled, None
    end, around = len(value), []
    for part in filter(
        None, map(str.strip, reversed(texts))
    ):  # backwards: a frame begins with words of its own
        start = value.rfind(part, 0, end)
        if start < 0:
            return filled, None
        around.append(value[start + len(part) : end].strip())
        end = start
    return filled, (*around, value[:end].strip())


# Meta


def _fields(rest: dict) -> Iterator[str]:
    for name in rest:
        if name == "turn_fields":
            yield from {f"{key} of a turn" for extra in rest[name] for key in extra}
        else:
            yield name


def _meta(rest: dict) -> str:
    """A JSON object of what is left of a record, without nulls; "" when there is nothing."""
    given = rest.get("meta")
    if isinstance(given, str) and given.startswith("{"):
        with contextlib.suppress(ValueError):
            given = json.loads(given)
    if isinstance(given, dict) and given.keys().isdisjoint(rest):
        rest = given | {key: value for key, value in rest.items() if key != "meta"}
    if not rest:
        return ""
    text = records.AS_JSON(rest)
    if "null" in text or "NaN" in text:
        text = records.AS_JSON(json.loads(text, object_pairs_hook=_present))
    return clean(text)


def _present(pairs: list[tuple[str, object]]) -> dict:
    return {key: value for key, value in pairs if value is not None and value == value}
