"""Take the fields of one record out, one by one; what is left at the end goes to `meta`."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NoReturn

import pyarrow as pa

from lib import records
from lib.corpus.sources import BadRow
from lib.text import split_thoughts

EMPTY = ("", "[]", [], {})
MEDIA = ("image", "images", "video", "videos", "audio", "audios")
REFUSED = dict.fromkeys(("tools", "functions"), "tool calls are not trained")
REFUSED |= dict.fromkeys(MEDIA, "only texts are trained")
# whether a response is trained on: 0 or false, 1 or true; label and kto_tag say whether it is a desirable one
TRAINED = ("weight", "train", "trainable", "training", "loss", "kto_tag", "label")
FLAGS = {"0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}
LICENCES = ("licence", "license")
# columns of ours that any source may bring, where the values have our types
CARRIED = ("source", "references", "oracle_response", "student_response", "verdicts")
SCORES = ("oracle_score", "student_score")  # 1 to 10
COMMON = {*REFUSED, *TRAINED, *LICENCES, *CARRIED, *SCORES, "reasoning_content"}
# fields that hold a part of a prompt, and must have found their place in the row
PROMPTS = ("context", "input", "inputs", "prompt", "question", "instruction", "history")
KINDS = {column.name: column.type for column in records.SCHEMA}


@dataclass(slots=True)
class Fields:
    """The fields of one record, or of one turn, that are not read yet; nulls and NaN are dropped.

    notes: (kind, text) pairs, see lib/corpus/account.py.
    """

    where: str
    rest: dict
    notes: set[tuple[str, str]] = field(default_factory=set)

    def __post_init__(self):
        # NaN is what pandas writes for a missing text
        self.rest = {name: value for name, value in self.rest.items() if value is not None and value == value}

    def refuse(self, cause: str, detail: str = "", remedy: str = "Correct or remove the record") -> NoReturn:
        raise BadRow(self.where, cause, detail, remedy)

    def first(self, *names: str) -> str:
        """Return the first of these names that is a field; where none is, the first."""
        return next((name for name in names if name in self.rest), names[0])

    def text(self, name: str, default: str | None = None) -> str | None:
        """Take a text out; `default` where there is none. Raises BadRow for another type."""
        return self.check(name, self.rest.pop(name)) if name in self.rest else default

    def joined(self, name: str, between: str) -> str:
        """Take a text or a list of texts out, as one text; "" where there is none."""
        value = self.rest.pop(name, "")
        return between.join(
            self.check(name, item) for item in (value if isinstance(value, list) else [value])
        )

    def check(self, name: str, value: object) -> str:
        if not isinstance(value, str):
            detail = f", found {describe(value)}"
            self.refuse(f"`{name}` must be a text", detail, "Correct it or rename the field")
        return value

    def drop(self, names: Iterable[str]) -> list[str]:
        """Take fields out; return the names of those that were not empty."""
        return [name for name in names if name in self.rest and self.rest.pop(name) not in EMPTY]

    def trained(self) -> bool:
        """Take out the fields that say whether a response is trained on; whether all of them allow it."""
        flags = {name: FLAGS.get(str(self.rest[name]).lower()) for name in TRAINED if name in self.rest}
        if not isinstance(self.rest.get("label"), bool):
            flags.pop("label", None)  # a class, not whether the response is a good one
        flags = {name: flag for name, flag in flags.items() if flag is not None}
        for name in flags:
            del self.rest[name]
            self.notes.add(("read", f"`{name}` as whether a response is trained on"))
        return all(flags.values())

    def withhold(self, row: dict) -> None:
        """Move a response that must not be trained on from the row to `meta`."""
        if row["response"] is not None:
            self.rest["response_not_trained"] = row["response"]
            row |= {"response": None, "response_from": None, "corpus_response": None}
            self.notes.add(("note", "not_trained"))


def describe(value: object) -> str:
    return "nothing" if value is None else f"{type(value).__name__} {value!r:.60}"


def fits(name: str, value: object) -> bool:
    """Return whether our column of this name holds the value as it is."""
    if name == "verdicts" and isinstance(value, list):  # `expected` may be null or absent
        value = [
            item | {"expected": item.get("expected") or []} if isinstance(item, dict) else item
            for item in value
        ]
    try:
        return not _holds_null(value) and pa.array([value], KINDS[name]).to_pylist() == [value]
    except (pa.ArrowException, TypeError, OverflowError):
        return False


def _holds_null(value: object) -> bool:
    """Return whether a part of a list or object is null, which Arrow holds but no reader expects."""
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(part is None or _holds_null(part) for part in parts)


# Fields with the same meaning in every format


def settle(row: dict, fields: Fields) -> None:
    """Move the fields that all formats share into the row; drop thoughts. Raises BadRow."""
    _drop_thoughts(row, fields)
    _check_prompts(row, fields)
    if COMMON.isdisjoint(fields.rest):
        return
    for name in fields.drop(REFUSED):
        remedy = "Remove the field to train on the texts alone, or remove the record"
        fields.refuse(f"`{name}`: {REFUSED[name]}", remedy=remedy)
    fields.notes |= {("thoughts", name) for name in fields.drop(["reasoning_content"])}
    _take_licence(row, fields)
    _take_columns(row, fields)
    if not fields.trained():
        fields.withhold(row)


def _drop_thoughts(row: dict, fields: Fields) -> None:
    """Drop the thoughts before responses; a response that is only a thought becomes null."""
    reasoning, response = split_thoughts(row["response"] or "")
    if reasoning:
        row["response"] = response or None
        fields.notes.add(("thoughts", "response"))
    for turn in row["turns"]:
        if turn["role"] == "assistant":
            fields.notes.add(("note", "earlier_responses"))
            reasoning, content = split_thoughts(turn["content"])
            if reasoning:
                turn["content"] = content
                fields.notes.add(("thoughts", "turns"))


def _check_prompts(row: dict, fields: Fields) -> None:
    """Refuse a text of the prompt that the record's format has no place for."""
    for name in [name for name in PROMPTS if name in fields.rest]:
        value = fields.rest[name]
        if not isinstance(value, str) or not value.strip():
            continue
        texts = [row["instruction"], row["input"], row["response"] or ""]
        texts += [turn["content"] for turn in row["turns"]]
        if row["instruction"] not in value and not any(value.strip() in text for text in texts):
            remedy = f"Put it into the prompt, or rename the field to keep it aside (such as my_{name})"
            fields.refuse(f"`{name}` holds a text that this format has no place for", remedy=remedy)


def _take_licence(row: dict, fields: Fields) -> None:
    """Use the first licence; one that differs from it, or is no text, stays for `meta`."""
    for name in LICENCES:
        value = fields.rest.get(name)
        value = ", ".join(value) if isinstance(value, list) and fits("references", value) else value
        if value in EMPTY:
            fields.rest.pop(name)
        elif isinstance(value, str) and row.setdefault("licence", value) == value:
            del fields.rest[name]
            fields.notes.add(("read", f"`{name}` as the row's licence"))


def _take_columns(row: dict, fields: Fields) -> None:
    """Use columns that have the names and the types of ours; others stay for `meta`."""
    for name in (*CARRIED, *SCORES):
        value = fields.rest.get(name)
        if value in EMPTY:
            fields.rest.pop(name, None)
        elif value is not None and name not in row and fits(name, value):
            if name in SCORES and not 1 <= value <= 10:
                continue
            row[name] = value
            del fields.rest[name]
            fields.notes.add(("read", f"`{name}` as the row's own"))
