"""Take fields out of a record; use those that mean the same in every format."""

from collections.abc import Iterable

import pyarrow as pa

from lib import records
from lib.text import split_thoughts

EMPTY = ("", "[]", [], {})
REFUSED = dict.fromkeys(("image", "images", "video", "videos", "audio", "audios"), "only texts are trained")
REFUSED |= dict.fromkeys(("tools", "functions"), "tool calls are not trained")
# whether a response is trained on: 0 or false, 1 or true; label and kto_tag say whether it is a good one.
# Names that begin with "train" say so, too: train, trainable, training, train_on_turn
TRAINED = ("weight", "loss", "kto_tag", "label")
FLAGS = {"0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}
# fields that any source may bring, and our columns that they fill where the values have our types
SCORES = ("oracle_score", "student_score")  # 1 to 10
CARRIED = ("source", "references", "oracle_response", "student_response", "verdicts", *SCORES)
FILLS = {"licence": "licence", "license": "licence"} | {name: name for name in CARRIED}
# fields that hold a part of a prompt, and must have found their place in the row
PROMPTS = ("context", "input", "inputs", "prompt", "question", "query", "instruction", "history")


class BadRow(Exception):
    """A record that cannot become a row: the cause to count, and a detail of it."""

    def __init__(self, cause: str, detail: str = ""):
        super().__init__(cause + detail)
        self.cause, self.detail = cause, detail


class Fields(dict):
    """Fields of a record or turn that are not read yet; the rest goes to `meta`.

    notes: (kind, text) pairs, see lib/corpus/account.py.
    """

    def __init__(self, record: object, notes: set[tuple[str, str]] | None = None):
        if not isinstance(record, dict):
            raise BadRow("expected an object with named fields", f", found {describe(record)}")
        # NaN, which pandas writes for a missing text, is not equal to itself
        given = ((name, value) for name, value in record.items() if value is not None and value == value)
        super().__init__(given)
        self.notes = set() if notes is None else notes

    def take(self, *names: str) -> object:
        """Take out the first of these fields that there is; None where there is none."""
        return next((self.pop(name) for name in names if name in self), None)

    def text(self, name: str, default: str | None = None) -> str | None:
        """Take a text out; `default` where there is none. Raises BadRow for another type."""
        return check_text(name, self.pop(name)) if name in self else default

    def joined(self, name: str, between: str) -> str:
        """Take a text or a list of texts out, as one text; "" where there is none."""
        value = self.pop(name, "")
        return between.join(
            check_text(name, item) for item in (value if isinstance(value, list) else [value])
        )

    def drop(self, names: Iterable[str]) -> list[str]:
        """Take fields out; return the names of those that were not empty."""
        return [name for name in names if self.pop(name, "") not in EMPTY]

    def trained(self) -> bool:
        """Take out the marks of a response; return whether all allow to train on it."""
        allowed = True
        for name in [name for name in self if name in TRAINED or name.startswith("train")]:
            flag = FLAGS.get(str(self.get(name)).lower())
            if flag is not None and (name != "label" or isinstance(self[name], bool)):  # else a class
                del self[name]
                self.notes.add(("read", f"`{name}` as whether a response is trained on"))
                allowed = allowed and flag
        return allowed

    def withhold(self, row: dict) -> None:
        """Move a response that must not be trained on from the row to `meta`."""
        if row["response"] is not None:
            self["response_not_trained"] = row["response"]
            row |= {"response": None, "response_from": None, "corpus_response": None}
            self.notes.add(("note", "not_trained"))


def check_text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise BadRow(f"`{name}` must be a text", f", found {describe(value)}")
    return value


def describe(value: object) -> str:
    return "nothing" if value is None else f"{type(value).__name__} {value!r:.60}"


def fits(column: str, value: object) -> bool:
    """Return whether a column of ours holds the value as it is, without nulls inside."""
    if column == "verdicts" and isinstance(value, list):  # `expected` may be null or absent
        value = [
            item | {"expected": item.get("expected") or []} if isinstance(item, dict) else item
            for item in value
        ]
    try:
        array = pa.array([value], records.SCHEMA.field(column).type)
    except (pa.ArrowException, TypeError, OverflowError):
        return False
    return array.to_pylist() == [value] and not _holds_null(value)


def _holds_null(value: object) -> bool:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(part is None or _holds_null(part) for part in parts)


def settle(row: dict, fields: Fields) -> None:
    """Move fields that all formats share into the row. Raises BadRow."""
    _drop_thoughts(row, fields)
    _check_prompts(row, fields)
    for name in fields.drop(REFUSED):
        raise BadRow(f"`{name}`: {REFUSED[name]}")
    fields.notes.update(("thoughts", name) for name in fields.drop(["reasoning_content"]))
    _fill_columns(row, fields)
    if not fields.trained():
        fields.withhold(row)


def _drop_thoughts(row: dict, fields: Fields) -> None:
    """Drop thoughts before responses; a response of nothing else becomes null."""
    text = row["response"] or ""
    response = split_thoughts(text)[1]
    if response != text:  # an empty thought, too
        row["response"] = response or None
        fields.notes.add(("thoughts", "response"))
    for turn in row["turns"]:
        if turn["role"] == "assistant":
            fields.notes.add(("note", "earlier_responses"))
            text, turn["content"] = turn["content"], split_thoughts(turn["content"])[1]
            if turn["content"] != text:
                fields.notes.add(("thoughts", "turns"))


def _check_prompts(row: dict, fields: Fields) -> None:
    """Refuse a text of the prompt that the record's format has no place for."""
    for name in PROMPTS:
        value = fields.get(name)
        if not isinstance(value, str) or row["instruction"] in value:
            continue
        texts = [row["instruction"], row["input"], row["response"] or ""]
        texts += [turn["content"] for turn in row["turns"]]
        if not any(value.strip() in text for text in texts):
            detail = f": put it into the prompt, or rename the field to keep it aside (such as my_{name})"
            raise BadRow(f"`{name}` holds a text that this format has no place for", detail)


def _fill_columns(row: dict, fields: Fields) -> None:
    """Use values that fit our columns; others, and a second licence, stay for `meta`."""
    for name, column in FILLS.items():
        if name not in fields:
            continue
        value = fields[name]
        if column == "licence" and fits("references", value):
            value = ", ".join(value)
        usable = fits(column, value) and (column not in SCORES or 1 <= value <= 10)
        if value in EMPTY:
            del fields[name]
        elif usable and row.get(column, value) == value:
            row[column] = value
            del fields[name]
            fields.notes.add(("read", f"`{name}` as the row's `{column}`"))
