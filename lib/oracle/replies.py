"""What an oracle's replies hold, however hostile: a label, a new instruction, a rewritten response, or a reason to drop them."""

import re
from collections.abc import Iterable, Iterator

TO_HELP = (
    "(?:help|assist|answer|provide|do|fulfil|comply|create|write|generate|engage|support|respond|continue)"
)
REFUSAL = re.compile(
    r"(?:i'm|i am|we're|we are) (?:very |so |really )?(?:sorry|unable to|afraid(?:,| i| that))|sorry,? (?:but )?(?:i|we|as)\b|"
    rf"i (?:can't|cannot|can not|won't|will not|am not able to) {TO_HELP}\b|as an ai\b|unable to {TO_HELP}\b",
    re.IGNORECASE,
)
TAGS = (r"<instruction>", r"</instruction>", r"\s*<input>", r"</input>")
OPENED, CLOSED, GIVEN, ENDED = (re.compile(tag, re.IGNORECASE) for tag in TAGS)
ECHO = ("the new instruction", "its input, or nothing")  # of the prompt's own form
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
    """(instruction, input) of a reply to the expansion prompt; None where it holds no complete tagged instruction.

    Of several the last one counts: the others were drafts.
    """
    *_, (instruction, given) = [("", ""), *_tagged(reply)]
    if not instruction or instruction.casefold() == ECHO[0]:
        return None
    return instruction, "" if given.casefold() in {*NOTHING, ECHO[1]} else given


def _tagged(text: str) -> Iterator[tuple[str, str]]:
    """Each complete instruction and its input; what follows an input without an end belongs to it. No text is looked at twice."""
    at = 0
    while (opened := OPENED.search(text, at)) and (closed := CLOSED.search(text, opened.end())):
        given, end = GIVEN.match(text, closed.end()), None
        if given and not (end := ENDED.search(text, given.end())):
            return
        yield (
            text[opened.end() : closed.start()].strip(),
            text[given.end() : end.start()].strip() if end else "",
        )
        at = (end or closed).end()


def is_refusal(text: str) -> bool:
    """Whether a text begins as refusals do ("I'm sorry, but ...")."""
    return bool(REFUSAL.match(text.strip().lstrip("\"'*").replace("\u2019", "'")))


def same(a: str, b: str) -> bool:
    """Equal but for case, spaces and punctuation."""
    return re.sub(r"\W+", " ", a).strip().casefold() == re.sub(r"\W+", " ", b).strip().casefold()
