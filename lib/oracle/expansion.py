"""Turn an oracle's replies into new rows, and say why a reply yields none."""

from collections import Counter
from dataclasses import dataclass, field

from lib import prompts
from lib.corpus import duplicates
from lib.corpus.novelty import Known
from lib.models.chat import Reply
from lib.oracle import replies

PARENT = ("id", "task", "hard")  # columns of a parent, beside what it asks


@dataclass
class Expansion:
    """Known instructions, and how often each parent was expanded, by a new call each."""

    novelty: Known = field(default_factory=Known)
    times: Counter = field(default_factory=Counter)

    def attempt(self, parent: str) -> int:
        """Count another expansion of the parent with this id, and return their number."""
        self.times[parent] += 1
        return self.times[parent]

    def child(self, parent: dict, reply: Reply) -> dict | str:
        """Return the row of an expansion, or why there is none."""
        if reply.text is None:
            return "filtered" if "content_filter" in reply.finish else "no reply"
        if reply.finish == "length":
            return "cut"
        if replies.is_refusal(reply.text):
            return "refusal"
        if not (new := replies.new_instruction(reply.text)):
            return "unreadable"
        child = {"instruction": new[0], "input": new[1], "source": f"expanded:{parent['id']}"}
        if replies.same(prompts.conversation(child), prompts.conversation(parent)):
            return "copy of its parent"
        text = duplicates.full_text([], *new)
        if cause := self.novelty.why_not(text):
            return cause
        self.novelty.add(text)
        return child | {"hard": parent["hard"]}


def reason_to_drop(task: str | None, wanted: str, response: str | None) -> str:
    """Say why a new row is dropped; empty where it is kept."""
    if task != wanted:
        return "another task"
    if not response:
        return "no response"
    return "refusal" if replies.is_refusal(response) else ""
