"""Formats: a record of a source becomes a row, the rest of the record, which goes to `meta`, and notes.

A note is (kind, text): "read" names a field that is read as another one, "thoughts" a dropped field of
thoughts; the texts of "note" are the keys of `corpus.NOTES`.
"""

import sys
from collections.abc import Callable
from functools import cache, partial

from datasets import List

from lib import records
from lib.corpus.sources import BadInput, BadRow
from lib.errors import named
from lib.text import clean, split_thoughts

KNOWN = "alpaca, dolly, sharegpt, messages, prompt_completion, natural_instructions, "
KNOWN += "cherry_llm:first, cherry_llm:second"
ROLES = dict.fromkeys(("user", "human", "prompter"), "user") | dict.fromkeys(
    ("system", "developer"), "system"
)
ROLES |= dict.fromkeys(("assistant", "gpt", "model", "ai", "bot", "chatgpt", "bing", "bard"), "assistant")
TOOL_ROLES = {"tool", "function", "ipython", "observation", "function_call", "tool_call", "tool_response"}
TOOL_CALLS = ("tool_calls", "function_call")
REFUSED = dict.fromkeys(("tools", "functions"), "tool calls are not trained")
MEDIA = ("image", "images", "video", "videos", "audio", "audios")
REFUSED |= dict.fromkeys(MEDIA, "only texts are trained")
EMPTY = ("", "[]", [], {})
# whether a response is trained on: 0 or false, 1 or true; label and kto_tag say whether it is a desirable one
TRAINED = ("weight", "train", "trainable", "training", "loss", "kto_tag", "label")
FLAGS = {"0": False, "false": False, "1": True, "true": True}
RESPONSES = ("output", "response", "completion", "answer")  # of a record in Alpaca's form
PROMPTS = (
    "context",
    "input",
    "inputs",
    "prompt",
    "question",
    "instruction",
    "history",
)  # that must be placed
THOUGHTS = ("reasoning_content", "reasoning", "thinking")  # of a turn
LICENCES = ("licence", "license")
SYSTEM = ("system", "system_prompt")
# columns of ours that any source may bring, where the values are such as ours
CARRIED = ("source", "references", "oracle_response", "student_response", "verdicts")
SCORES = ("oracle_score", "student_score")
ORDERS = {"first": ("oracle_first", "student_first"), "second": ("student_first", "oracle_first")}
TYPES = {"string": (str, "a text"), "float64": (float | int, "a number"), "int32": (int, "a whole number")}
TYPES |= {"bool": (bool, "true or false")}
MOST = {"float64": sys.float_info.max, "int32": 2**31 - 1}  # that a column of numbers holds
OPTIONAL = {"expected"}  # fields of a verdict that may be null or absent
OURS = {name: kind for name, kind in records.FEATURES.items() if name not in ("id", "instruction", "meta")}
TASK_FILE, PAIR, PROMPT_COMPLETION = (
    {"Definition", "Instances"},
    {"Answer1", "Answer2"},
    {"prompt", "completion"},
)
TALKS = {"messages", "conversations"}
SETTLED = {*REFUSED, *TRAINED, *LICENCES, *CARRIED, *SCORES, "reasoning_content"}

Draft = tuple[dict, dict, set[tuple[str, str]]]  # a row, what is left of its record, notes
Convert = Callable[[dict, str], Draft]


def units(record: object, where: str, format: str = "auto") -> list[tuple[str, dict, Convert]]:
    """List what becomes a row: the instances of a task file, else the record; with place and converter.

    Raises BadRow for a record of no known format.
    """
    if not isinstance(record, dict):
        raise BadRow(where, "expected an object with named fields", f", found {show(record)}")
    if format == "auto":
        format = detect(record, where)
    return (
        _instances(record, where)
        if format == "natural_instructions"
        else [(where, record, converter(format))]
    )


def detect(record: dict, where: str) -> str:
    """The format whose keys a record has."""
    keys = record.keys()
    if keys >= TASK_FILE:
        return "natural_instructions"
    if keys >= PAIR:
        raise BadInput(
            f"{where}: recorded pairs: name the oracle's side, format: cherry_llm:first or cherry_llm:second"
        )
    if not TALKS.isdisjoint(keys) and ("instruction" not in keys or _talk(record)):
        return "messages"
    if keys >= PROMPT_COMPLETION:
        return "prompt_completion"
    if "instruction" in keys:
        return "alpaca"
    raise BadRow(
        where,
        "unknown format",
        f": its keys are {named(record) or 'none'}. Known are {KNOWN}",
        "Rename the keys",
    )


@cache
def converter(format: str) -> Convert:
    name, _, side = format.partition(":")
    if name == "cherry_llm" and side in ORDERS:
        return partial(recorded_pair, side=side)
    known = {"alpaca": alpaca, "dolly": alpaca, "sharegpt": messages, "messages": messages}
    known |= {"prompt_completion": prompt_completion, "natural_instructions": instance}
    if format not in known:
        raise BadInput(f"format={format!r:.60}: unknown format. Choose one of auto, {KNOWN}")
    return known[format]


# The formats


def alpaca(record: dict, where: str) -> Draft:
    """Read Alpaca's fields (instruction, input, output), LLaMA-Factory's (system, history), Dolly's (context,
    response), and rows of our own, which have all of our columns.
    """
    if records.FEATURES.keys() <= record.keys():
        return own_row(record, where)
    rest, notes = _present(record), set()
    if isinstance(rest.get("output"), list):
        remedy = "Keep one text, or load recorded pairs by their own format"
        raise BadRow(where, "`output` is a list", ", which only a task file may have", remedy)
    name = next((name for name in RESPONSES if rest.get(name)), "output")
    response = text(rest.pop(name), where, name) if name in rest else None
    instruction, input = rest.pop("instruction", None), _input(rest, where, notes)
    turns = _system(rest, notes) + _history(rest, where, notes) if rest else []
    if rest.get("output") == "":
        del rest["output"]
    return _row(instruction, where, response, input, turns), rest, notes


def messages(record: dict, where: str) -> Draft:
    """Read messages (role, content) or conversations (from, value)."""
    rest = _present(record)
    name = _talk(rest) or next((name for name in ("messages", "conversations") if name in record), "messages")
    if not isinstance(rest.get(name), list):
        raise BadRow(where, f"`{name}` must be a list of turns", f", found {show(rest.get(name))}")
    return _conversation(rest.pop(name), rest, where)


def prompt_completion(record: dict, where: str) -> Draft:
    """Read TRL's prompt and completion: texts, or lists of messages."""
    rest, turns, notes = _present(record), [], set()
    for name, role in (("prompt", "user"), ("completion", "assistant")):
        value = rest.pop(name, None)
        if isinstance(value, list):
            turns += value
        elif value is not None:
            turns.append({"role": role, "content": text(value, where, name)})
    input = _input(rest, where, notes) if isinstance(record.get("prompt"), str) else ""
    row, rest, more = _conversation(turns, rest, where)
    return row | {"input": input}, rest, notes | more


def _instances(record: dict, where: str) -> list[tuple[str, dict, Convert]]:
    """List the instances of a Super-NaturalInstructions task, each with the other fields of the file."""
    instances = record.get("Instances")
    if not isinstance(instances, list) or not instances:
        cause = "`Instances` must be a list of at least one instance"
        raise BadRow(where, cause, f", found {show(instances)}")
    task = {key: value for key, value in record.items() if key not in ("Definition", "Instances")}
    task["Definition"] = joined(record.get("Definition"), "\n", where, "Definition")
    return [
        (place, task | one if isinstance(one, dict) else {}, instance)
        for place, one in ((f"{where}, instance {i}", one) for i, one in enumerate(instances, 1))
    ]


def instance(record: dict, where: str) -> Draft:
    """Read an instance of a task: `references` are its outputs, the first of them is the response.

    The rest of the file, its positive examples too, stands in every row's `meta`.
    """
    rest = _present(record)
    outputs = rest.pop("output", None)
    if not outputs:
        raise BadRow(where, "an instance has an input and at least one output", f"; found {show(outputs)}")
    outputs = outputs if isinstance(outputs, list) else [outputs]
    outputs = [text(item, where, "output") for item in outputs]
    definition, input = rest.pop("Definition", None), text(rest.pop("input", ""), where, "input")
    row = _row(definition, where, outputs[0], input) | {"references": outputs}
    row["licence"] = joined(rest.pop("Instance License", ""), ", ", where, "Instance License")
    return row, rest, set()


def recorded_pair(record: dict, where: str, side: str) -> Draft:
    """Read a Cherry LLM pair and its verdicts: `review` shows Answer1 first, `review_reverse` Answer2.

    side: whose answer is the oracle's, "first" (Answer1) or "second". The recorded scores stay in `meta` as
    they are: `scores` and `scores_reverse` each in the order shown.
    """
    rest = _present(record)
    name = next((key for key in ("prompt", "text", "Instruction") if key in rest), "prompt")
    texts = [
        text(rest.pop(key, None), where, key) for key in ("Answer1", "Answer2", "review", "review_reverse")
    ]
    oracle, student = texts[:2] if side == "first" else texts[1::-1]
    verdicts = [
        {"order": order, "attempt": 1, "reply": reply, "finish": "stop"}
        for order, reply in zip(ORDERS[side], texts[2:], strict=True)
    ]
    row = _row(rest.pop(name, None), where, oracle, text(rest.pop("input", ""), where, "input"))
    answers = {"corpus_response": None, "oracle_response": oracle, "student_response": student}
    return row | answers | {"response_from": "oracle", "verdicts": verdicts}, rest, set()


def own_row(record: dict, where: str) -> Draft:
    """Read a row that a stage wrote, in any container: its columns must have our types."""
    rest = _present(record)
    row = _row(rest.pop("instruction", None), where, None)
    row |= {name: fit(rest.pop(name), OURS[name], where, name) for name in OURS.keys() & rest.keys()}
    if str(rest.get("id")).split("-")[0] == records.row_id(row["instruction"], row["input"], row["turns"]):
        del rest["id"]  # it is made anew, and the same
    if rest.get("meta") == "":
        del rest["meta"]
    return row, rest, set()


# The parts of a record


def _row(instruction: object, where: str, response: str | None, input: str = "", turns: list = ()) -> dict:
    if instruction is None or isinstance(instruction, str) and not instruction.strip():
        raise BadRow(where, "row without instruction", remedy="Fill it in or remove the row")
    instruction = text(instruction, where, "instruction")
    return {"instruction": instruction, "input": input, "turns": list(turns), "response": response}


def _present(record: dict) -> dict:
    """The fields that are neither null nor NaN, which is what pandas writes for a missing text."""
    return {key: value for key, value in record.items() if value is not None and value == value}


def _talk(record: dict) -> str:
    """The name of the field that holds a conversation."""
    return next((name for name in ("messages", "conversations") if isinstance(record.get(name), list)), "")


def _input(rest: dict, where: str, notes: set) -> str:
    """The input, after Dolly's context where there is one."""
    if "context" not in rest:
        return text(rest.pop("input", ""), where, "input")
    notes.add(("read", "`context` as `input`"))
    both = [
        joined(rest.pop("context"), "\n\n", where, "context"),
        text(rest.pop("input", ""), where, "input"),
    ]
    return "\n\n".join(part for part in both if part.strip())


def _system(rest: dict, notes: set) -> list[dict]:
    """The system message of a field of its own; a field of that name which is no text is not one."""
    fields = {name: rest.get(name) for name in SYSTEM}
    fields = {name: "\n\n".join(v) if _texts(v) else v for name, v in fields.items()}
    names = [name for name, value in fields.items() if isinstance(value, str)]
    texts = {name: content for name in names if (content := clean(fields[name])).strip()}
    for name in names:
        del rest[name]
    notes |= {("read", f"`{name}` as the system message") for name in texts}
    return [{"role": "system", "content": "\n\n".join(texts.values())}] if texts else []


def _texts(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, str) for one in value)


def _history(rest: dict, where: str, notes: set) -> list[dict]:
    """LLaMA-Factory's earlier turns: pairs of a user's and an assistant's text."""
    if not isinstance(rest.get("history"), list):
        return []
    turns = []
    for pair in rest.pop("history"):
        if not isinstance(pair, list) or len(pair) != 2:
            raise BadRow(
                where, "`history` must be pairs of texts, user and assistant", f", found {show(pair)}"
            )
        both = zip(("user", "assistant"), pair, strict=True)
        turns += [{"role": role, "content": text(content, where, "history")} for role, content in both]
    notes |= {("read", "`history` as earlier turns")} if turns else set()
    return turns


def _conversation(items: list, rest: dict, where: str) -> Draft:
    """Read turns: the last one of the user is the instruction, the one after that the response."""
    notes: set[tuple[str, str]] = set()
    found = [turn(item, f"{where}, turn {i}", notes) for i, item in enumerate(items, 1)]
    turns = [one for one, _, _ in found]
    asked = max((i for i, one in enumerate(turns) if one["role"] == "user"), default=None)
    if asked is None:
        detail = f": none of its {len(turns)} turns is the user's"
        raise BadRow(where, "row without instruction", detail, "Fill it in or remove the row")
    if next(one["role"] for one in turns if one["role"] != "system") == "assistant":
        raise BadRow(
            where, "the conversation begins with the assistant", remedy="Remove that turn or the row"
        )
    if (after := [one["role"] for one in turns[asked + 1 :]]) not in ([], ["assistant"]):
        cause = "more than one assistant turn after the last user turn"
        cause = cause if set(after) == {"assistant"} else "a conversation ends with the user or the assistant"
        detail = f": after the last user turn come {', '.join(after)}"
        raise BadRow(where, cause, detail, "Keep one assistant turn or none")
    for i, one in enumerate(turns[: asked + 1], 1):
        if one["content"] is None:
            raise BadRow(
                f"{where}, turn {i}", "a turn without content", remedy="Fill it in or remove the row"
            )
    row = _row(turns[asked]["content"], where, turns[-1]["content"] if after else None)
    row["turns"] = _merged(_system(rest, notes), turns[:asked])
    if any(extra for _, extra, _ in found):
        rest["turn_fields"] = [extra for _, extra, _ in found]
    if after and not found[-1][2]:
        _withhold(row, rest, notes)
    return row, rest, notes


def _merged(system: list[dict], turns: list[dict]) -> list[dict]:
    """One system message: a field of its own, then what the conversation begins with, where that differs."""
    if not system or not turns or turns[0]["role"] != "system":
        return system + turns
    texts = dict.fromkeys((system[0]["content"], turns[0]["content"]))
    return [{"role": "system", "content": "\n\n".join(texts)}, *turns[1:]]


def turn(item: object, where: str, notes: set) -> tuple[dict, dict, bool]:
    """Read a turn (content None for none); with its other fields, and whether it may be trained on."""
    if not isinstance(item, dict):
        raise BadRow(where, "a turn has a role and a content", f"; found {show(item)}")
    rest = _present(item)
    role, content = _first(rest, "role", "from"), _first(rest, "content", "value", "text")
    known = text(role, where, "role").strip().lower()
    if known in TOOL_ROLES or rest and any(rest.pop(name, "") not in EMPTY for name in TOOL_CALLS):
        raise BadRow(where, "tool calls are not trained", remedy="Remove the turn or the row")
    if known not in ROLES:
        raise BadRow(where, "unknown role", f" {role!r:.60}; known are {', '.join(ROLES)}", "Rename the role")
    if ROLES[known] != known:
        notes.add(("read", f"role `{known}` as `{ROLES[known]}`"))
    one = {"role": ROLES[known], "content": _content(content, where, notes)}
    if not rest:
        return one, rest, True
    for name in THOUGHTS:
        if rest.pop(name, "") not in EMPTY:
            notes.add(("thoughts", name))
    trained = _trained(rest, notes)
    return one, rest, trained


def _first(fields: dict, *names: str) -> object:
    """The value of the first name that there is, taken out."""
    for name in names:
        if name in fields:
            return fields.pop(name)
    return None


def _content(value: object, where: str, notes: set) -> str | None:
    """A text, or a list of parts of text, joined as chat templates join them: with nothing between."""
    if value is None or isinstance(value, str):
        return value and clean(value)
    if not isinstance(value, list):
        return text(value, where, "content")
    texts = []
    for part in value:
        part = {"type": "text", "text": part} if isinstance(part, str) else part
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in THOUGHTS:
            notes.add(("thoughts", kind))
        elif kind in ("text", "input_text", "output_text"):
            texts.append(text(part.get("text"), where, "text"))
        else:
            known = isinstance(kind, str) and kind.isidentifier()  # nothing that is markup in the account
            cause = f"a part of type {kind:.30}" if known else "a part of an unknown type"
            raise BadRow(
                where, f"`content` has {cause}: only texts are trained", remedy="Remove the part or the row"
            )
    return "".join(texts)


def _trained(fields: dict, notes: set) -> bool:
    """Whether the fields allow training on a response; those that say so are taken out."""
    flags = {name: _flag(fields[name]) for name in TRAINED if name in fields}
    if not isinstance(fields.get("label"), bool):
        flags.pop("label", None)  # a class, not whether the response is a good one
    flags = {name: flag for name, flag in flags.items() if flag is not None}
    for name in flags:
        del fields[name]
    notes |= {("read", f"`{name}` as whether a response is trained on") for name in flags}
    return all(flags.values())


def _flag(value: object) -> bool | None:
    """The value as true or false; None for any other."""
    return FLAGS.get(str(value).lower()) if isinstance(value, str) or value not in (0, 1) else bool(value)


def _withhold(row: dict, rest: dict, notes: set) -> None:
    """Move a response that must not be trained on to the rest of the record."""
    if row["response"] is not None:
        rest["response_not_trained"] = row["response"]
        row |= {"response": None, "response_from": None, "corpus_response": None}
        notes.add(("note", "not_trained"))


def settle(row: dict, rest: dict, notes: set, where: str) -> None:
    """Move fields that mean the same in every format from the rest of a record to its row."""
    if row["turns"] and any(one["role"] == "assistant" for one in row["turns"]):
        notes.add(("note", "earlier_responses"))
    _drop_thoughts(row, notes)
    _check_prompts(row, rest, where)
    if SETTLED.isdisjoint(rest):
        return
    for name, cause in REFUSED.items():
        if rest.pop(name, "") not in EMPTY:
            remedy = "Remove the field to train on the texts alone, or remove the record"
            raise BadRow(where, f"`{name}`: {cause}", remedy=remedy)
    if rest.pop("reasoning_content", "") not in EMPTY:
        notes.add(("thoughts", "reasoning_content"))
    for name in LICENCES:
        licence = _licence(rest.get(name))
        if licence and row.setdefault("licence", licence) == licence:
            notes.add(("read", f"`{name}` as the row's licence"))
        if licence in ("", row.get("licence")) and licence is not None:
            rest.pop(name, None)
    for name in (*CARRIED, *SCORES):
        if name in rest and rest[name] in EMPTY:
            del rest[name]
        elif name in rest and name not in row and _is_ours(name, rest[name]):
            row[name] = fit(rest.pop(name), OURS[name], where, name)
            notes.add(("read", f"`{name}` as the row's own"))
    if not _trained(rest, notes):
        _withhold(row, rest, notes)


def _drop_thoughts(row: dict, notes: set) -> None:
    """Leave out the thoughts at the beginning of responses; a response that is a thought alone is none."""
    reasoning, response = split_thoughts(row["response"] or "")
    if reasoning:
        row["response"] = response or None
        notes.add(("thoughts", "response"))
    for one in row["turns"]:
        if one["role"] == "assistant":
            reasoning, content = split_thoughts(one["content"])
            if reasoning:
                one["content"] = content
                notes.add(("thoughts", "turns"))


def _check_prompts(row: dict, rest: dict, where: str) -> None:
    """Raises BadRow for a text of the prompt that the record's format has no place for."""
    for name in PROMPTS:
        value = rest.get(name)
        if not isinstance(value, str) or not value.strip():
            continue
        texts = [
            row["instruction"],
            row["input"],
            row["response"] or "",
            *(t["content"] for t in row["turns"]),
        ]
        if row["instruction"] not in value and not any(value.strip() in text for text in texts):
            remedy = f"Put it into the prompt, or rename the field to keep it aside (such as my_{name})"
            raise BadRow(where, f"`{name}` holds a text that this format has no place for", remedy=remedy)


def _licence(value: object) -> str | None:
    """A licence as one text; None for what is no licence."""
    values = value if isinstance(value, list) else [value]
    return ", ".join(map(clean, values)) if all(isinstance(one, str) for one in values) else None


def _is_ours(name: str, value: object) -> bool:
    """Whether a value is such as our column of this name holds; our scores go from 1 to 10."""
    try:
        fit(value, OURS[name], "", name)
    except BadRow:
        return False
    return name not in SCORES or 1 <= value <= 10


def fit(value: object, kind: object, where: str, name: str) -> object:
    """The value, checked against its column's type."""
    if isinstance(kind, List) and isinstance(value, list):
        return [fit(item, kind.feature, where, name) for item in value]
    if (
        isinstance(kind, dict)
        and isinstance(value, dict)
        and kind.keys() - OPTIONAL <= value.keys() <= kind.keys()
    ):
        parts = ((key, part, value.get(key)) for key, part in kind.items())
        return {
            key: None if key in OPTIONAL and part is None else fit(part, of, where, f"{name}.{key}")
            for key, of, part in parts
        }
    words = (
        "a list"
        if isinstance(kind, List)
        else f"objects of {', '.join(kind)}"
        if isinstance(kind, dict)
        else ""
    )
    if not words:
        expected, words = TYPES[kind.dtype]
        fits = isinstance(value, expected) and isinstance(value, bool) == (expected is bool)
        if fits and not (kind.dtype in MOST and abs(value) > MOST[kind.dtype]):
            return clean(value) if expected is str else value
    raise BadRow(
        where, f"`{name}` must be {words}", f", found {show(value)}", "Correct it or rename the field"
    )


def text(value: object, where: str, name: str) -> str:
    """The value as a text that any file can hold. Raises BadRow for another type."""
    if not isinstance(value, str):
        raise BadRow(
            where, f"`{name}` must be a text", f", found {show(value)}", "Correct it or rename the field"
        )
    return clean(value)


def joined(value: object, between: str, where: str, name: str) -> str:
    return between.join(text(item, where, name) for item in (value if isinstance(value, list) else [value]))


def show(value: object) -> str:
    return "nothing" if value is None else f"{type(value).__name__} {value!r:.60}"
