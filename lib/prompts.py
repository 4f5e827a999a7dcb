"""Fill in params/prompts/*.md with what a row holds."""

import re
from collections.abc import Callable, Iterable

from lib import paths, records


def text(name: str) -> str:
    """Return a prompt as it stands in its file."""
    return (paths.ROOT / "params/prompts" / f"{name}.md").read_text(encoding="utf-8").strip()


def template(name: str) -> Callable[..., list[dict]]:
    """Read a prompt file once; return a function of its parts that gives messages."""
    whole = text(name)
    return lambda **parts: [{"role": "user", "content": filled(whole, parts)}]


def filled(whole: str, parts: dict[str, str]) -> str:
    """Fill in {parts} in one pass: the texts that go in may hold braces, too."""
    return re.sub(r"\{(\w+)\}", lambda match: parts.get(match[1], match[0]), whole)


def listed(labels: Iterable[str]) -> str:
    """List labels, one per line."""
    return "\n".join(f"- {label}" for label in labels)


def conversation(row: dict) -> str:
    """Return what the student is asked: one text, or the turns with their roles."""
    turns = records.messages({"turns": []} | row)
    if len(turns) == 1:
        return turns[0]["content"]
    return "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in turns)


def expansion(prompt: Callable, parent: dict) -> list[dict]:
    """Fill the template's function of expand.md with a parent, whose input stands apart."""
    instruction = conversation(parent | {"input": ""})
    return prompt(task=parent["task"], instruction=instruction, input=parent["input"])


def fill(prompt: Callable, row: dict, response: str = "response", **parts: str) -> list[dict]:
    """Fill a template's function with a row and the response in this column."""
    task = conversation(row)
    return prompt(conversation=task, instruction=task, response=row[response], **parts)
