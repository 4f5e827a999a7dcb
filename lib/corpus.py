"""Corpus: instruction data in any common shape, read into rows (records.FEATURES), or one clear error."""

import contextlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from datasets import Dataset, List

from lib import records, sources
from lib.errors import named
from lib.sources import BadInput

KNOWN = "alpaca, sharegpt, messages, natural_instructions, cherry_llm:first, cherry_llm:second"
ROLES = {
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
}
ROLES |= {role: role for role in ("user", "assistant", "system", "tool")}
TURN = ("role", "from", "content", "value")
ORDERS = {"first": ("oracle_first", "student_first"), "second": ("student_first", "oracle_first")}
TYPES = {"string": (str, "a text"), "float64": (float | int, "a number"), "int32": (int, "a whole number")}
TYPES |= {"bool": (bool, "true or false")}
MOST = {"float64": sys.float_info.max, "int32": 2**31 - 1}  # that a column of numbers holds
OPTIONAL = {"expected"}  # fields of a verdict that may be null or absent
OURS = {name: kind for name, kind in records.FEATURES.items() if name not in ("id", "instruction", "meta")}


def load(source: str, format: str = "auto") -> Dataset:
    """Read a corpus into rows, one row a record, in the order of the files; nothing is dropped.

    source: a hub name ("tatsu-lab/alpaca", "name:split"), or a .json, .jsonl or .parquet file (plain, .gz or
    .xz), a folder or a glob of such files; $VARIABLES and ~ are expanded.
    format: alpaca, sharegpt, messages, natural_instructions, cherry_llm:first or cherry_llm:second (recorded
    pairs: which answer is the oracle's), or auto, told apart by the keys of each file's first record.
    Columns of our rows that a source already has are kept as they are; its other keys go to `meta`.
    Raises BadInput.
    """
    return records.build(row for name, placed in sources.read(source) for row in rows(placed, format, name))


def rows(placed: Iterable[sources.Placed], format: str, source: str) -> Iterator[dict]:
    """The rows of one file's records: at least one record, and all of one format."""
    convert = None
    for where, record in placed:
        if not isinstance(record, dict):
            raise BadInput(f"{where}: expected an object with named fields, found {show(record)}")
        convert = convert or converter(detect(record, where) if format == "auto" else format, where)
        try:
            yield from ({"source": sound(source)} | row for row in convert(record, where))
        except RecursionError:  # what Python just read it may not be able to write
            raise BadInput(f"{where}: lists or objects nested too deeply: flatten them") from None
    if convert is None:
        raise BadInput(f"{source} is empty: it holds no record")


def detect(record: dict, where: str) -> str:
    """The format whose keys a record has."""
    if {"Definition", "Instances"} <= record.keys():
        return "natural_instructions"
    if {"Answer1", "Answer2"} <= record.keys():
        raise BadInput(
            f"{where}: recorded pairs: name the oracle's side, cherry_llm:first or cherry_llm:second"
        )
    if "messages" in record or "conversations" in record:
        return "messages"
    if "instruction" in record:
        return "alpaca"
    raise BadInput(
        f"{where}: unknown format: its keys are {named(record) or 'none'}. Known are {KNOWN}: name one or rename the keys"
    )


def converter(format: str, where: str) -> Callable[[dict, str], Iterable[dict]]:
    name, _, side = format.partition(":")
    if name == "cherry_llm" and side in ORDERS:
        return partial(recorded_pair, side=side)
    known = {"alpaca": alpaca, "sharegpt": messages, "messages": messages, "natural_instructions": task_file}
    if format not in known:
        raise BadInput(f"{where}: unknown format {format!r}: known are auto, {KNOWN}")
    return known[format]


# The formats: a record and its place -> its rows


def alpaca(record: dict, where: str) -> list[dict]:
    """instruction, input, output; rows of our own too, which have no `output`."""
    if isinstance(record.get("output"), list):
        raise BadInput(
            f"{where}: `output` is a list, which only a task file may have: keep one text, "
            "or load recorded pairs by their own format"
        )
    output = None if record.get("output") is None else text(record["output"], where, "output")
    return [row(record, where, record.get("instruction"), output, used={"output"})]


def messages(record: dict, where: str) -> list[dict]:
    """messages (role, content) or conversations (from, value): the last user turn is the instruction."""
    name = "messages" if "messages" in record else "conversations"
    if not isinstance(record.get(name), list):
        raise BadInput(f"{where}: `{name}` must be a list of turns, found {show(record.get(name))}")
    turns = [turn(item, f"{where}, turn {i}") for i, item in enumerate(record[name], 1)]
    asked = max((i for i, item in enumerate(turns) if item["role"] == "user"), default=None)
    if asked is None:
        raise BadInput(f"{where}: row without instruction: none of its {len(turns)} turns is the user's")
    after = [item["role"] for item in turns[asked + 1 :]]
    if after not in ([], ["assistant"]):
        raise BadInput(
            f"{where}: after the last user turn come {', '.join(after)}: keep one assistant turn or none"
        )
    response = turns[-1]["content"] if after else None
    rest = [{key: value for key, value in item.items() if key not in TURN} for item in record[name]]
    record = record | {"turn_fields": rest} if any(rest) else record
    return [row(record, where, turns[asked]["content"], response, used={name}) | {"turns": turns[:asked]}]


def turn(item: dict, where: str) -> dict:
    if not isinstance(item, dict):
        raise BadInput(f"{where}: a turn has a role and a content; found {show(item)}")
    role = text(item.get("role", item.get("from")), where, "role")
    if role not in ROLES:
        raise BadInput(f"{where}: unknown role {role!r:.60}: known are {', '.join(ROLES)}")
    return {"role": ROLES[role], "content": text(item.get("content", item.get("value")), where, "content")}


def task_file(record: dict, where: str) -> Iterator[dict]:
    """A Super-NaturalInstructions task: a row an instance; `references` are its outputs, the first one `response`.

    The rest of the file, its positive examples too, stands in every row's `meta`.
    """
    instances, definition = record.get("Instances"), record.get("Definition")
    if not isinstance(instances, list) or not instances:
        raise BadInput(
            f"{where}: `Instances` must be a list of at least one instance, found {show(instances)}"
        )
    definition = joined(definition, "\n", where, "Definition")
    licence = joined(record.get("Instance License") or "", ", ", where, "Instance License")
    task = {key: value for key, value in record.items() if key not in ("Definition", "Instances")}
    for i, instance in enumerate(instances, 1):
        place = f"{where}, instance {i}"
        if not isinstance(instance, dict) or not instance.get("output"):
            raise BadInput(
                f"{place}: an instance has an input and at least one output; found {show(instance)}"
            )
        outputs = instance["output"] if isinstance(instance["output"], list) else [instance["output"]]
        outputs = [text(item, place, "output") for item in outputs]
        full = row(task | instance, place, definition, outputs[0], used={"output"})
        yield full | {"references": outputs, "licence": licence}


def recorded_pair(record: dict, where: str, side: str) -> list[dict]:
    """A Cherry LLM pair and its two verdicts: `review` shows Answer1 first, `review_reverse` Answer2.

    side: whose answer is the oracle's, "first" (Answer1) or "second". The recorded scores stay in `meta` as they
    are: `scores` and `scores_reverse` each in the order shown.
    """
    name = next((key for key in ("prompt", "text", "Instruction") if key in record), "prompt")
    texts = [text(record.get(key), where, key) for key in ("Answer1", "Answer2", "review", "review_reverse")]
    oracle, student = texts[:2] if side == "first" else texts[1::-1]
    verdicts = [
        {"order": order, "attempt": 1, "reply": reply, "finish": "stop"}
        for order, reply in zip(ORDERS[side], texts[2:], strict=True)
    ]
    full = row(
        record, where, record.get(name), oracle, used={name, "Answer1", "Answer2", "review", "review_reverse"}
    )
    answers = {"corpus_response": None, "oracle_response": oracle, "student_response": student}
    return [full | answers | {"response_from": "oracle", "verdicts": verdicts}]


# The fields


def row(record: dict, where: str, instruction: str, response: str | None, used: set[str]) -> dict:
    """A row with the columns of ours that the record has, and in `meta` what is neither used nor ours."""
    if instruction is None or isinstance(instruction, str) and not instruction.strip():
        raise BadInput(f"{where}: row without instruction: fill it in or remove the row")
    full = {"instruction": text(instruction, where, "instruction"), "response": response}
    full |= {
        name: fit(value, OURS[name], where, name)
        for name, value in record.items()
        if name in OURS and name not in used and not missing(value)
    }
    if full["response"] is not None and full.get("response_from", "corpus") == "corpus":
        full = {"response_from": "corpus", "corpus_response": full["response"]} | full
    rest = {key: value for key, value in record.items() if key not in (*OURS, *used, "instruction", "meta")}
    if "id" in rest and str(rest["id"]).split("-")[0] == content_id(full):
        del rest["id"]  # a row of our own: its id is made anew, and the same
    return full | {"meta": meta(record.get("meta"), rest)}


def content_id(row: dict) -> str:
    return records.row_id(row["instruction"], row.get("input", ""), row.get("turns", []))


def missing(value: object) -> bool:
    return value is None or value != value  # nan, as pandas writes it


def fit(value: object, kind: object, where: str, name: str) -> object:
    """The value, checked against its column's type."""
    if isinstance(kind, List) and isinstance(value, list):
        return [fit(item, kind.feature, where, name) for item in value]
    if isinstance(kind, dict) and isinstance(value, dict) and required(kind) <= value.keys() <= kind.keys():
        parts = ((key, part, value.get(key)) for key, part in kind.items())
        return {
            key: None if key in OPTIONAL and part is None else fit(part, of, where, f"{name}.{key}")
            for key, of, part in parts
        }
    if isinstance(kind, List | dict):
        words = "a list" if isinstance(kind, List) else f"objects of {', '.join(kind)}"
        raise BadInput(f"{where}: `{name}` must be {words}, found {show(value)}: mend it or rename the field")
    expected, words = TYPES[kind.dtype]
    fits = isinstance(value, expected) and isinstance(value, bool) == (expected is bool)
    if not fits or kind.dtype in MOST and abs(value) > MOST[kind.dtype]:
        raise BadInput(f"{where}: `{name}` must be {words}, found {show(value)}: mend it or rename the field")
    return sound(value) if expected is str else value


def required(kind: dict) -> set[str]:
    return kind.keys() - OPTIONAL


def text(value: object, where: str, name: str) -> str:
    return fit(value, records.FEATURES["instruction"], where, name)


def joined(value: object, between: str, where: str, name: str) -> str:
    return between.join(text(item, where, name) for item in (value if isinstance(value, list) else [value]))


def sound(value: str) -> str:
    """The text with lone surrogates, which no UTF-8 file can hold, as U+FFFD."""
    try:
        value.encode()
        return value
    except UnicodeEncodeError:
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def meta(given: object, rest: dict) -> str:
    """A JSON object of what the source's own `meta` and its other keys hold; "" when there is nothing."""
    if isinstance(given, str) and given.startswith("{"):
        with contextlib.suppress(ValueError):
            given = json.loads(given)
    if given:
        rest = (given if isinstance(given, dict) else {"meta": given}) | rest
    return sound(records.AS_JSON(rest)) if rest else ""


def show(value: object) -> str:
    return "nothing" if value is None else f"{type(value).__name__} {value!r:.60}"
