"""Recognise the format of a record, and read its fields as columns of a row."""

from collections.abc import Callable
from functools import partial

from lib import records
from lib.corpus.fields import BadRow, Fields, check_text, describe, fits, settle
from lib.errors import named

CONVERSATIONS = ("messages", "conversations")
RESPONSES = ("output", "response", "completion", "answer")  # of a record in Alpaca's form
QUESTIONS, ANSWERS = ("prompt", "question", "query"), ("completion", *RESPONSES)  # of a pair of texts
COLUMNS = [name for name in records.FEATURES if name not in ("id", "meta")]
USER, SYSTEM = ("user", "human", "prompter"), ("system", "developer")
ASSISTANT = ("assistant", "gpt", "model", "ai", "bot", "chatgpt", "bing", "bard")
ROLES = dict.fromkeys(USER, "user") | dict.fromkeys(SYSTEM, "system") | dict.fromkeys(ASSISTANT, "assistant")
TOOL_ROLES = {"tool", "function", "ipython", "observation", "function_call", "tool_call", "tool_response"}
TOOL_CALLS = ("tool_calls", "function_call")
THOUGHTS = ("reasoning_content", "reasoning", "thinking")
TEXTS = ("text", "input_text", "output_text")  # types of a part of a content
NO_INSTRUCTION = "row without instruction"


def read(record: object, format: str = "auto") -> tuple[dict, Fields]:
    """Read a record as a row, and the fields left over. Raises BadRow."""
    fields = Fields(record)
    recognised = recognise(record)
    format = recognised if format == "auto" or recognised == "rows" else format
    if not format:
        detail = f": its keys are {named(record) or 'none'}. Known are {', '.join(FORMATS)}"
        raise BadRow("unknown format", f"{detail}; or rename its columns, say to instruction and output")
    row = {"input": "", "turns": []} | FORMATS[format](fields)
    if not (row.get("instruction") or "").strip():
        raise BadRow(NO_INSTRUCTION)
    settle(row, fields)
    return row, fields


def recognise(record: dict) -> str:
    """Return the format of a record by its keys; "" where none is recognised."""
    names = record.keys()
    if names >= records.FEATURES.keys():
        return "rows"
    if any(isinstance(record.get(name), list) for name in CONVERSATIONS):
        return "messages"
    if "instruction" in names:
        return "alpaca"
    if "Definition" in names:
        return "natural_instructions"
    if not names.isdisjoint(CONVERSATIONS):
        return "messages"
    return "" if names.isdisjoint(QUESTIONS) or names.isdisjoint(ANSWERS) else "prompt_completion"


def instances(record: object, where: str) -> list[tuple[str, object]]:
    """List a task's instances, each with the file's other fields; else the record."""
    listed = record.get("Instances") if isinstance(record, dict) and "Definition" in record else None
    if not isinstance(listed, list) or not listed:
        return [(where, record)]
    shared = {name: value for name, value in record.items() if name != "Instances"}
    return [
        (f"{where}, instance {i}", shared | item if isinstance(item, dict) else item)
        for i, item in enumerate(listed, 1)
    ]


# Each takes the fields it uses out of a record; what it returns are columns of a row


def own_row(fields: Fields) -> dict:
    """Read a row that a stage wrote; its columns must have our types."""
    row = {name: fields.pop(name) for name in COLUMNS if name in fields}
    for name, value in row.items():
        if not fits(name, value):
            raise BadRow(f"`{name}` must have the type of our column", f", found {describe(value)}")
    fields.pop("id", None)  # computed again
    if fields.get("meta") == "":
        del fields["meta"]
    return {"response": None} | row


def alpaca(fields: Fields) -> dict:
    """Read the fields of Alpaca and its relatives.

    Alpaca: instruction, input, output. Dolly: context, response. LLaMA-Factory: system, history.
    """
    response = None
    for name in RESPONSES:
        response = response or fields.text(name, response)
    row = {"instruction": fields.text("instruction"), "input": _input(fields), "response": response}
    return row | {"turns": _with_system(_history(fields), fields) if fields else []}


def messages(fields: Fields) -> dict:
    """Read messages (role, content) or conversations (from, value)."""
    turns = fields.take(*CONVERSATIONS)
    if not isinstance(turns, list):
        raise BadRow("`messages` must be a list of turns", f", found {describe(turns)}")
    return _conversation(turns, fields)


def prompt_completion(fields: Fields) -> dict:
    """Read TRL's prompt and completion: texts, or lists of messages; or a question and its answer."""
    turns = []
    input = _input(fields) if isinstance(fields.get("prompt", ""), str) else ""
    for names, role in ((QUESTIONS, "user"), (ANSWERS, "assistant")):
        name = next((name for name in names if name in fields), "")
        value = fields.pop(name, [])
        turns += value if isinstance(value, list) else [{"role": role, "content": check_text(name, value)}]
    return _conversation(turns, fields) | {"input": input}


def instance(fields: Fields) -> dict:
    """Read an instance of a Super-NaturalInstructions task.

    The first of its outputs is the response. The rest of the file, its positive examples too, goes to the
    `meta` of every row.
    """
    if "Definition" not in fields or "Instances" in fields:
        raise BadRow("a task file is an object with `Definition` and a list `Instances`")
    outputs = fields.pop("output", None)
    if not outputs:
        raise BadRow("an instance has an input and at least one output", f"; found {describe(outputs)}")
    outputs = outputs if isinstance(outputs, list) else [outputs]
    references = [check_text("output", output) for output in outputs]
    row = {"instruction": fields.joined("Definition", "\n"), "input": fields.text("input", "")}
    licence = fields.joined("Instance License", ", ")
    return row | {"response": references[0], "references": references, "licence": licence}


def recorded_pair(fields: Fields, oracle: str) -> dict:
    """Read a Cherry LLM pair and its verdicts.

    `review` shows Answer1 first, `review_reverse` Answer2. oracle: whose answer is the oracle's, "first"
    (Answer1) or "second". The recorded scores stay in `meta` as they are, each in the order shown.
    """
    instruction = check_text("prompt", fields.take("prompt", "text", "Instruction"))
    names = ("Answer1", "Answer2", "review", "review_reverse")
    first, second, *replies = [check_text(name, fields.pop(name, None)) for name in names]
    orders = ("oracle_first", "student_first")
    if oracle == "second":
        first, second, orders = second, first, orders[::-1]
    verdicts = [
        {"order": order, "attempt": 1, "reply": reply, "finish": "stop"}
        for order, reply in zip(orders, replies, strict=True)
    ]
    row = {"instruction": instruction, "input": fields.text("input", ""), "response": first}
    row |= {"corpus_response": None, "oracle_response": first, "student_response": second}
    return row | {"response_from": "oracle", "verdicts": verdicts}


FORMATS: dict[str, Callable[[Fields], dict]] = {
    "rows": own_row,
    "messages": messages,
    "sharegpt": messages,
    "prompt_completion": prompt_completion,
    "natural_instructions": instance,
    "alpaca": alpaca,
    "dolly": alpaca,
    "cherry_llm:first": partial(recorded_pair, oracle="first"),
    "cherry_llm:second": partial(recorded_pair, oracle="second"),
}


def _input(fields: Fields) -> str:
    """Take the input out, after Dolly's context where there is one."""
    if "context" not in fields:
        return fields.text("input", "")
    fields.notes.add(("read", "`context` as `input`"))
    parts = (fields.joined("context", "\n\n"), fields.text("input", ""))
    return "\n\n".join(part for part in parts if part.strip())


def _history(fields: Fields) -> list[dict]:
    """Take LLaMA-Factory's earlier turns out: pairs of texts, user and assistant."""
    turns = []
    for pair in fields.pop("history") if isinstance(fields.get("history"), list) else ():
        if not isinstance(pair, list) or len(pair) != 2:
            raise BadRow("`history` must be pairs of texts, user and assistant", f", found {describe(pair)}")
        user, assistant = (check_text("history", text) for text in pair)
        turns += [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]
        fields.notes.add(("read", "`history` as earlier turns"))
    return turns


def _with_system(turns: list[dict], fields: Fields) -> list[dict]:
    """Put the system message of a field first, joined with that of the turns."""
    texts = []
    for name in ("system", "system_prompt"):
        value = fields.get(name)
        if isinstance(value, str) or isinstance(value, list) and value and fits("references", value):
            texts.append(fields.joined(name, "\n\n"))
            if texts[-1].strip():
                fields.notes.add(("read", f"`{name}` as the system message"))
    if texts and turns and turns[0]["role"] == "system":
        texts.append(turns[0]["content"])
        turns = turns[1:]
    texts = dict.fromkeys(text for text in texts if text.strip())
    return [{"role": "system", "content": "\n\n".join(texts)}, *turns] if texts else turns


def _conversation(items: list, fields: Fields) -> dict:
    """Read turns as a row: the user's last is the instruction, the next the response."""
    parts = [Fields(item, fields.notes) for item in items]
    turns = [_turn(part) for part in parts]
    flags = [not part or part.trained() for part in parts]
    last = max((i for i, turn in enumerate(turns) if turn["role"] == "user"), default=None)
    if last is None:
        raise BadRow(NO_INSTRUCTION, f": none of its {len(turns)} turns is the user's")
    if next(turn["role"] for turn in turns if turn["role"] != "system") == "assistant":
        raise BadRow("the conversation begins with the assistant")
    after = [turn["role"] for turn in turns[last + 1 :]]
    if after not in ([], ["assistant"]):
        cause = "a conversation ends with the user or one turn of the assistant"
        raise BadRow(cause, f": after the last user turn come {', '.join(after)}")
    if any(turn["content"] is None for turn in turns[: last + 1]):
        raise BadRow("a turn without content")
    row = {"instruction": turns[last]["content"], "turns": _with_system(turns[:last], fields)}
    row["response"] = turns[-1]["content"] if after else None
    if any(parts):
        fields["turn_fields"] = [dict(part) for part in parts]
        fields.notes.update(("meta", f"{name} of a turn") for part in parts for name in part)
    if not flags[-1]:
        fields.withhold(row)
    return row


def _turn(fields: Fields) -> dict:
    """Take role and content, which may be None, out of a turn; drop thoughts."""
    name = check_text("role", fields.take("role", "from")).strip().lower()
    content = fields.take("content", "value", "text")
    if name in TOOL_ROLES or fields.drop(TOOL_CALLS):
        raise BadRow("tool calls are not trained")
    if name not in ROLES:
        raise BadRow("unknown role", f" {name!r:.60}; known are {', '.join(ROLES)}")
    if ROLES[name] != name:
        fields.notes.add(("read", f"role `{name}` as `{ROLES[name]}`"))
    fields.notes.update(("thoughts", thought) for thought in fields.drop(THOUGHTS))
    return {"role": ROLES[name], "content": _content(content, fields)}


def _content(value: object, fields: Fields) -> str | None:
    """Read a text, or parts, joined as chat templates do, with nothing between."""
    if not isinstance(value, list):
        return value if value is None else check_text("content", value)
    texts = []
    for part in value:
        part = {"type": "text", "text": part} if isinstance(part, str) else part
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in THOUGHTS:
            fields.notes.add(("thoughts", kind))
        elif kind in TEXTS:
            texts.append(check_text("text", part.get("text")))
        else:
            raise BadRow("`content` has a part that is no text", f", found {describe(part)}")
    return "".join(texts)
