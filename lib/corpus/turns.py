"""Read a conversation: a list of turns, each with a role and a content."""

from lib.corpus.fields import Fields, describe

USER, SYSTEM = ("user", "human", "prompter"), ("system", "developer")
ASSISTANT = ("assistant", "gpt", "model", "ai", "bot", "chatgpt", "bing", "bard")
ROLES = dict.fromkeys(USER, "user") | dict.fromkeys(SYSTEM, "system") | dict.fromkeys(ASSISTANT, "assistant")
TOOL_ROLES = {"tool", "function", "ipython", "observation", "function_call", "tool_call", "tool_response"}
TOOL_CALLS = ("tool_calls", "function_call")
THOUGHTS = ("reasoning_content", "reasoning", "thinking")
TEXTS = ("text", "input_text", "output_text")
SYSTEM_FIELDS = ("system", "system_prompt")
NO_INSTRUCTION = "row without instruction"
FILL_IN = "Fill it in or remove the row"


def conversation(items: list, fields: Fields) -> dict:
    """Read turns as a row: the user's last one is the instruction, what follows it the response."""
    parts = [_turn_fields(item, i, fields) for i, item in enumerate(items, 1)]
    turns = [_turn(part) for part in parts]
    flags = [part.trained() for part in parts]
    last = max((i for i, turn in enumerate(turns) if turn["role"] == "user"), default=None)
    if last is None:
        fields.refuse(NO_INSTRUCTION, f": none of its {len(turns)} turns is the user's", FILL_IN)
    _check_order([turn["role"] for turn in turns], last, fields)
    for turn, part in zip(turns[: last + 1], parts, strict=False):
        if turn["content"] is None:
            part.refuse("a turn without content", remedy=FILL_IN)
    row = {"instruction": turns[last]["content"], "turns": turns[:last]}
    row["response"] = turns[-1]["content"] if len(turns) > last + 1 else None
    for system in system_turns(fields):
        _put_first(system, row["turns"])
    if any(part.rest for part in parts):
        fields.rest["turn_fields"] = [part.rest for part in parts]
    if row["response"] is not None and not flags[-1]:
        fields.withhold(row)
    return row


def _turn_fields(item: object, number: int, fields: Fields) -> Fields:
    where = f"{fields.where}, turn {number}"
    if not isinstance(item, dict):
        Fields(where, {}).refuse("a turn has a role and a content", f"; found {describe(item)}")
    return Fields(where, item, fields.notes)


def _turn(fields: Fields) -> dict:
    """Take role and content out of a turn; content is None where there is none. Drop thoughts."""
    role = fields.rest.pop(fields.first("role", "from"), None)
    role = fields.check("role", role).strip().lower()
    content = fields.rest.pop(fields.first("content", "value", "text"), None)
    if role in TOOL_ROLES or fields.drop(TOOL_CALLS):
        fields.refuse("tool calls are not trained", remedy="Remove the turn or the row")
    if role not in ROLES:
        fields.refuse("unknown role", f" {role!r:.60}; known are {', '.join(ROLES)}", "Rename the role")
    if ROLES[role] != role:
        fields.notes.add(("read", f"role `{role}` as `{ROLES[role]}`"))
    fields.notes |= {("thoughts", name) for name in fields.drop(THOUGHTS)}
    return {"role": ROLES[role], "content": _content(content, fields)}


def _content(value: object, fields: Fields) -> str | None:
    """Read a text, or a list of parts of text, joined as chat templates join them: with nothing between."""
    if not isinstance(value, list):
        return value if value is None else fields.check("content", value)
    texts = []
    for part in value:
        part = {"type": "text", "text": part} if isinstance(part, str) else part
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in THOUGHTS:
            fields.notes.add(("thoughts", kind))
        elif kind in TEXTS:
            texts.append(fields.check("text", part.get("text")))
        else:
            name = f"type {kind:.30}" if isinstance(kind, str) and kind.isidentifier() else "an unknown type"
            cause = f"`content` has a part of {name}: only texts are trained"
            fields.refuse(cause, remedy="Remove the part or the row")
    return "".join(texts)


def _check_order(roles: list[str], last: int, fields: Fields) -> None:
    """Refuse a conversation that begins with the assistant, or does not end in one response or none."""
    if next(role for role in roles if role != "system") == "assistant":
        fields.refuse("the conversation begins with the assistant", remedy="Remove that turn or the row")
    after = roles[last + 1 :]
    if after not in ([], ["assistant"]):
        cause = "more than one assistant turn after the last user turn"
        cause = cause if set(after) == {"assistant"} else "a conversation ends with the user or the assistant"
        detail = f": after the last user turn come {', '.join(after)}"
        fields.refuse(cause, detail, "Keep one assistant turn or none")


def system_turns(fields: Fields) -> list[dict]:
    """Take the system message of a field of its own out; a field of that name without texts stays."""
    texts = []
    for name in SYSTEM_FIELDS:
        value = fields.rest.get(name)
        if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
            value = "\n\n".join(value)
        if isinstance(value, str):
            del fields.rest[name]
            texts += [value] if value.strip() else []
            fields.notes |= {("read", f"`{name}` as the system message")} if value.strip() else set()
    return [{"role": "system", "content": "\n\n".join(texts)}] if texts else []


def _put_first(system: dict, turns: list[dict]) -> None:
    """Put a system message first, joined with a different one that the conversation begins with."""
    first = turns.pop(0)["content"] if turns and turns[0]["role"] == "system" else ""
    texts = dict.fromkeys(filter(None, (system["content"], first)))
    turns.insert(0, {"role": "system", "content": "\n\n".join(texts)})
