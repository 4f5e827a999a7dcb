"""What an oracle says to each of our prompts, for a server of tests."""

import hashlib


def kind(body: dict) -> str:
    """Which of our prompts a request was made with."""
    prompt = body["messages"][-1]["content"]
    beginnings = {
        "Two assistants": "judge",
        "Which kind": "classify",
        "Here is an": "expand",
        "A student is": "refine",
        "We would like": "rate",
    }
    return next((name for start, name in beginnings.items() if prompt.startswith(start)), "answer")


class Script:
    """Replies by kind of prompt; a function is asked with the text of the prompt."""

    def __init__(self, **replies):
        self.replies = replies

    def __call__(self, body: dict) -> str:
        reply = self.replies[kind(body)]
        return reply(body["messages"][-1]["content"]) if callable(reply) else reply


def unlike(n: int) -> str:
    """An instruction that is like no other."""
    return " ".join(hashlib.sha256(f"{n} {i}".encode()).hexdigest()[:6] for i in range(8))
