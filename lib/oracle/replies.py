"""What an oracle's replies hold, however hostile: a label, a new instruction, a rewritten response, or a reason to drop them."""

import re
from collections.abc import Iterable

REFUSAL = re.compile(
    r"(?:i'm|i am|we're|we are)? *(?:sorry|unable to|afraid)|i (?:can't|cannot|can not|won't|will not)\b|as an ai\b",
    re.IGNORECASE,
)
TAGGED = re.compile(
    r"<instruction>(.*?)</instruction>\s*(?:<input>(.*?)(?:</input>|$))?", re.DOTALL | re.IGNORECASE
)
NOTHING = {"", "none", "nothing", "n/a", "no input", "<noinput>", "empty", "-"}


def label(reply: str, labels: Iterable[str]) -> str | None:
    """The one label that a reply states, in its first line or, that failing, anywhere; None for none or several.

    >>> label("**Math**.", ["Math", "Reasoning"])
    'Math'
    >>> label("It is either Math or Reasoning", ["Math", "Reasoning"])
    """
    labels = list(labels)
    first = next((line for line in reply.splitlines() if line.strip()), "")
    for text in (first, reply):
        if found := _labels_in(text, labels):
            return found.pop() if len(found) == 1 else None
    return None


def _labels_in(text: str, labels: list[str]) -> set[str]:
    """The labels in a text, none of them inside a longer one that stands there: "Code Debug" is not "Code"."""
    found = set()
    for name in sorted(labels, key=len, reverse=True):
        pattern = re.compile(rf"(?<!\w){re.escape(name)}(?!\w)", re.IGNORECASE)
        if pattern.search(text):
            found.add(name)
            text = pattern.sub(" ", text)
    return found


def new_instruction(reply: str) -> tuple[str, str] | None:
    """(instruction, input) of a reply to the expansion prompt; None where it holds no tagged instruction."""
    found = TAGGED.search(reply)
    if not found or not found[1].strip():
        return None
    given = (found[2] or "").strip()
    return found[1].strip(), "" if given.casefold() in NOTHING else given


def is_refusal(text: str) -> bool:
    """Whether a text begins as refusals do ("I'm sorry, but ...")."""
    return bool(REFUSAL.match(text.strip().lstrip("\"'*").replace("\u2019", "'")))


def same(a: str, b: str) -> bool:
    """Equal but for case, spaces and punctuation."""
    return re.sub(r"\W+", " ", a).strip().casefold() == re.sub(r"\W+", " ", b).strip().casefold()
