"""Read an oracle's replies: a label, a new row, a refusal."""

import re
from collections.abc import Sequence

from lib import prompts
from lib.corpus import duplicates
from lib.corpus.novelty import NoveltyFilter
from lib.models.types import Completion

VERBS = "help|assist|answer|provide|do|fulfil|comply|create|write|generate|engage|support|respond|continue"
REFUSAL = re.compile(
    r"(?:i'm|i am|we're|we are) (?:very |so |really )?(?:sorry|unable to|afraid(?:,| i| that))"
    r"|sorry,? (?:but )?(?:i|we|as)\b|as an ai\b"
    rf"|(?:i (?:can't|cannot|can not|won't|will not|am not able to)|unable to) (?:{VERBS})\b",
    re.IGNORECASE,
)
# what follows a tag without an end belongs to it: no sign is looked at twice
EXPANSION = re.compile(
    r"<instruction>(?:(.*?)</instruction>(?:\s*<input>(.*?)(?:</input>|(\Z)))?|.*)",
    re.IGNORECASE | re.DOTALL,
)
ECHO = ("the new instruction", "its input, or nothing")  # of the prompt's own form
NOTHING = {"", "none", "nothing", "n/a", "no input", "<noinput>", "empty", "-", ECHO[1]}


def label(reply: str, labels: Sequence[str]) -> str | None:
    """Return the label of a reply's first line, or of all; None for none or several.

    >>> label("**Math**.", ["Math", "Reasoning"])
    'Math'
    >>> label("It is either Math or Reasoning", ["Math", "Reasoning"])
    """
    first = next((line for line in reply.splitlines() if line.strip()), "")
    stated = _labels_in(first, labels) or _labels_in(reply, labels)
    return stated.pop() if len(stated) == 1 else None


def _labels_in(text: str, labels: Sequence[str]) -> set[str]:
    """Find labels that are not part of longer ones: "Code Debug" is not "Code"."""
    longest_first = sorted(labels, key=len, reverse=True)
    names = "|".join(f"({re.escape(name)})" for name in longest_first)
    matches = re.finditer(rf"(?<!\w)(?:{names})(?!\w)", text, re.IGNORECASE)
    return {longest_first[match.lastindex - 1] for match in matches}


def new_instruction(reply: str) -> tuple[str, str] | None:
    """Return (instruction, input) of an expansion; None for no complete instruction.

    Of several the last one counts: the others were drafts.
    """
    complete = [match for match in EXPANSION.finditer(reply) if match[1] is not None and match[3] is None]
    instruction = complete[-1][1].strip() if complete else ""
    if not instruction or instruction.casefold() == ECHO[0]:
        return None
    given = (complete[-1][2] or "").strip()
    return instruction, "" if given.casefold() in NOTHING else given


def child(parent: dict, reply: Completion, novelty: NoveltyFilter) -> dict | str:
    """Return an expansion's row and add it to `novelty`, or return why there is none."""
    if reply.failed:
        return "filtered" if "content_filter" in reply.finish_reason else "no reply"
    if reply.truncated:
        return "cut"
    if is_refusal(reply.text):
        return "refusal"
    if not (new := new_instruction(reply.text)):
        return "unreadable"
    row = {"instruction": new[0], "input": new[1], "source": f"expanded:{parent['id']}"}
    if same(prompts.conversation(row), prompts.conversation(parent)):
        return "copy of its parent"
    text = duplicates.full_text([], *new)
    if cause := novelty.rejection_reason(text):
        return cause
    novelty.add(text)
    return row | {"hard": parent["hard"]}


def reason_to_drop(task: str | None, wanted: str, response: str | None) -> str:
    """Say why a new row is dropped; empty where it is kept."""
    if task != wanted:
        return "another task"
    if not response:
        return "no response"
    return "refusal" if is_refusal(response) else ""


def is_refusal(text: str) -> bool:
    """Whether a text begins as refusals do ("I'm sorry, but ...")."""
    return bool(REFUSAL.match(text.strip().lstrip("\"'*").replace("\u2019", "'")))


def same(a: str, b: str) -> bool:
    """Whether two texts are equal but for case, spaces and punctuation."""
    return re.sub(r"\W+", " ", a).strip().casefold() == re.sub(r"\W+", " ", b).strip().casefold()
