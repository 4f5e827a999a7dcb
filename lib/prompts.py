"""Prompts: params/prompts/*.md, filled in with what a row holds."""

import re
from collections.abc import Callable, Iterable

from lib import paths, records


def text(name: str) -> str:
    """A prompt as it stands in its file."""
    return (paths.ROOT / "params/prompts" / f"{name}.md").read_text(encoding="utf-8").strip()


def template(name: str) -> Callable[..., list[dict]]:
    """A prompt file, read once: called with its parts it gives the messages to send."""
    whole = text(name)
    return lambda **parts: [{"role": "user", "content": filled(whole, parts)}]


def filled(whole: str, parts: dict[str, str]) -> str:
    """A text with its {parts} filled in, in one pass: what is filled in may hold braces of its own."""
    return re.sub(r"\{(\w+)\}", lambda found: parts.get(found[1], found[0]), whole)


def listed(labels: Iterable[str]) -> str:
    """The labels to choose from, one a line."""
    return "\n".join(f"- {label}" for label in labels)


def conversation(row: dict) -> str:
    """All that was said to the student: one text, or the turns with their roles."""
    turns = records.messages({"turns": []} | row)
    return (
        turns[0]["content"] if len(turns) == 1 else "\n\n".join(f"{t['role']}: {t['content']}" for t in turns)
    )
