"""Recognise the format of a record, and read its fields as columns of a row."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from lib import records
from lib.corpus.fields import Fields, describe, fits, settle
from lib.corpus.sources import BadRow, LocatedRecord
from lib.corpus.turns import FILL_IN, NO_INSTRUCTION, conversation, system_turns
from lib.errors import named

TALKS = ("messages", "conversations")
RESPONSES = ("output", "response", "completion", "answer")  # of a record in Alpaca's form
COLUMNS = [name for name in records.FEATURES if name not in ("id", "meta")]


# Each takes the fields it uses out of a record; what it returns are columns of a row


def own_row(fields: Fields) -> dict:
    """Read a row that a stage wrote, in any container: its columns must have our types."""
    row = {name: fields.rest.pop(name) for name in COLUMNS if name in fields.rest}
    for name, value in row.items():
        if not fits(name, value):
            detail = f", found {describe(value)}"
            fields.refuse(
                f"`{name}` must have the type of our column", detail, "Correct it or rename the field"
            )
    content = (row.get("instruction", ""), row.get("input", ""), row.get("turns", []))
    if str(fields.rest.get("id")).split("-")[0] == records.row_id(*content):
        del fields.rest["id"]  # computed again, and the same
    if fields.rest.get("meta") == "":
        del fields.rest["meta"]
    return {"response": None} | row


def alpaca(fields: Fields) -> dict:
    """Read the fields of Alpaca and its relatives.

    Alpaca: instruction, input, output. Dolly: context, response. LLaMA-Factory: system, history.
    """
    name = next((name for name in RESPONSES if fields.rest.get(name)), "output")
    response = fields.text(name)
    if fields.rest.get("output") == "":
        del fields.rest["output"]
    row = {"instruction": fields.text("instruction"), "input": _input(fields), "response": response}
    return row | {"turns": system_turns(fields) + _history(fields) if fields.rest else []}


def messages(fields: Fields) -> dict:
    """Read messages (role, content) or conversations (from, value)."""
    name = fields.first(*TALKS)
    turns = fields.rest.pop(name, None)
    if not isinstance(turns, list):
        fields.refuse(f"`{name}` must be a list of turns", f", found {describe(turns)}")
    return conversation(turns, fields)


def prompt_completion(fields: Fields) -> dict:
    """Read TRL's prompt and completion: texts, or lists of messages."""
    turns = []
    has_input = isinstance(fields.rest.get("prompt"), str)
    for name, role in (("prompt", "user"), ("completion", "assistant")):
        if isinstance(fields.rest.get(name), list):
            turns += fields.rest.pop(name)
        elif name in fields.rest:
            turns.append({"role": role, "content": fields.text(name)})
    input = _input(fields) if has_input else ""
    return conversation(turns, fields) | {"input": input}


def instance(fields: Fields) -> dict:
    """Read an instance of a Super-NaturalInstructions task; the first of its outputs is the response.

    The rest of the file, its positive examples too, goes to the `meta` of every row.
    """
    if "Definition" not in fields.rest or "Instances" in fields.rest:
        fields.refuse("a task file is an object with `Definition` and a list `Instances`")
    outputs = fields.rest.pop("output", None)
    if not outputs:
        fields.refuse("an instance has an input and at least one output", f"; found {describe(outputs)}")
    outputs = outputs if isinstance(outputs, list) else [outputs]
    references = [fields.check("output", output) for output in outputs]
    row = {"instruction": fields.joined("Definition", "\n"), "input": fields.text("input", "")}
    licence = fields.joined("Instance License", ", ")
    return row | {"response": references[0], "references": references, "licence": licence}


def recorded_pair(fields: Fields, oracle: str) -> dict:
    """Read a Cherry LLM pair and its verdicts: `review` shows Answer1 first, `review_reverse` Answer2.

    oracle: whose answer is the oracle's, "first" (Answer1) or "second". The recorded scores stay in `meta` as
    they are: `scores` and `scores_reverse` each in the order shown.
    """
    name = fields.first("prompt", "text", "Instruction")
    names = ("Answer1", "Answer2", "review", "review_reverse")
    first, second, *replies = [fields.check(name, fields.rest.pop(name, None)) for name in names]
    orders = ("oracle_first", "student_first")
    if oracle == "second":
        first, second, orders = second, first, orders[::-1]
    verdicts = [
        {"order": order, "attempt": 1, "reply": reply, "finish": "stop"}
        for order, reply in zip(orders, replies, strict=True)
    ]
    row = {"instruction": fields.text(name), "input": fields.text("input", ""), "response": first}
    row |= {"corpus_response": None, "oracle_response": first, "student_response": second}
    return row | {"response_from": "oracle", "verdicts": verdicts}


def _input(fields: Fields) -> str:
    """Take the input out, after Dolly's context where there is one."""
    if "context" not in fields.rest:
        return fields.text("input", "")
    fields.notes.add(("read", "`context` as `input`"))
    parts = (fields.joined("context", "\n\n"), fields.text("input", ""))
    return "\n\n".join(part for part in parts if part.strip())


def _history(fields: Fields) -> list[dict]:
    """Take LLaMA-Factory's earlier turns out: pairs of a user's and an assistant's text."""
    if not isinstance(fields.rest.get("history"), list):
        return []
    turns = []
    for pair in fields.rest.pop("history"):
        if not isinstance(pair, list) or len(pair) != 2:
            cause = "`history` must be pairs of texts, user and assistant"
            fields.refuse(cause, f", found {describe(pair)}")
        for role, content in zip(("user", "assistant"), pair, strict=True):
            turns.append({"role": role, "content": fields.check("history", content)})
    fields.notes |= {("read", "`history` as earlier turns")} if turns else set()
    return turns


# The table of formats: a new one is one more line here


class Format(NamedTuple):
    recognises: Callable[[dict], bool]  # a record of this format, by its keys
    read: Callable[[Fields], dict]


def _has_turns(record: dict) -> bool:
    if record.keys().isdisjoint(TALKS):
        return False
    return "instruction" not in record or any(isinstance(record.get(name), list) for name in TALKS)


def _is_instance(record: dict) -> bool:
    return "Definition" in record and "instruction" not in record


def _never(record: dict) -> bool:
    return False  # only where the parameter names it


FORMATS = {  # the first that recognises a record reads it
    "rows": Format(lambda record: record.keys() >= records.FEATURES.keys(), own_row),
    "messages": Format(_has_turns, messages),
    "sharegpt": Format(_never, messages),
    "prompt_completion": Format(lambda record: {"prompt", "completion"} <= record.keys(), prompt_completion),
    "natural_instructions": Format(_is_instance, instance),
    "alpaca": Format(lambda record: "instruction" in record, alpaca),
    "dolly": Format(_never, alpaca),
    "cherry_llm:first": Format(_never, partial(recorded_pair, oracle="first")),
    "cherry_llm:second": Format(_never, partial(recorded_pair, oracle="second")),
}


def instances(record: object, where: str) -> list[LocatedRecord]:
    """List the instances of a task file, each with the file's other fields; else the record alone."""
    listed = record.get("Instances") if isinstance(record, dict) and "Definition" in record else None
    if not isinstance(listed, list):
        return [(where, record)]
    shared = {name: value for name, value in record.items() if name != "Instances"}
    return [
        (f"{where}, instance {i}", shared | item if isinstance(item, dict) else item)
        for i, item in enumerate(listed, 1)
    ]


def read(record: object, where: str, format: str = "auto") -> tuple[dict, Fields]:
    """Read a record as a row without `meta`, and the fields that are left over. Raises BadRow."""
    if not isinstance(record, dict):
        raise BadRow(where, "expected an object with named fields", f", found {describe(record)}")
    fields = Fields(where, record)
    if format == "auto" or FORMATS["rows"].recognises(record):
        format = next((name for name, each in FORMATS.items() if each.recognises(record)), "")
    if not format:
        detail = f": its keys are {named(record) or 'none'}. Known are {', '.join(FORMATS)}"
        fields.refuse("unknown format", detail, "Rename the keys, or name the format of recorded pairs")
    row = {"input": "", "turns": []} | FORMATS[format].read(fields)
    if not (row.get("instruction") or "").strip():
        fields.refuse(NO_INSTRUCTION, remedy=FILL_IN)
    settle(row, fields)
    return row, fields
