"""Clean texts, and split off the thoughts before them."""

import re
from collections.abc import Iterable

# how models enclose their thoughts; Qwen, DeepSeek and most others use the first
TAGS = {
    "<think>": "</think>",
    "<thinking>": "</thinking>",
    "<thought>": "</thought>",
    "<reasoning>": "</reasoning>",
    "<seed:think>": "</seed:think>",
    "[think]": "[/think]",
    "◁think▷": "◁/think▷",
    "<|begin_of_thought|>": "<|end_of_thought|>",
    "<|start_thinking|>": "<|end_thinking|>",
    "<|channel>thought": "<channel|>",
}
OPENING = re.compile(rf"\s*({'|'.join(map(re.escape, TAGS))})", re.IGNORECASE)
CLOSING = re.compile("|".join(map(re.escape, TAGS.values())), re.IGNORECASE)
# alone on its line, or between the end of a sentence and the response: "Both are fine.</think>8 7"
ALONE = re.compile(
    rf"^[ \t]*+(?:{CLOSING.pattern})[ \t]*+$|(?<=[.!?)])(?:{CLOSING.pattern})(?=[\w*#\n(])",
    re.IGNORECASE | re.MULTILINE,
)
# what some of these models write around the response behind a thought
WRAPPED = re.compile(
    r"(?:<\|start_response\|>|<\|begin_of_solution\|>|<answer>)(.*?)"
    r"(?:<\|end_response\|>|<\|end_of_solution\|>|</answer>)?",
    re.IGNORECASE | re.DOTALL,
)
# gpt-oss: channels between special tokens, and what is left of these where special tokens are skipped
HARMONY = re.compile(r"\s*(?:<\|start\|>assistant)?<\|channel\|>")
CHANNEL = re.compile(
    r"<\|channel\|>(\w++)(?:(?!<\|message\|>).){0,80}<\|message\|>(.*?)(?=<\|(?:end|return|call|start|channel)\|>|\Z)",
    re.DOTALL,
)
SKIPPED = re.compile(
    r"\s*analysis(?:(?=[^\s.,;:].*assistantfinal)|(?=(?:We|User|The|I|Need|Let|So|Okay|They|This|It)\b))",
    re.DOTALL,
)


def clean(text: str) -> str:
    """Replace each lone surrogate, which no UTF-8 file can hold, by U+FFFD."""
    try:
        text.encode()
        return text
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def split_thoughts(text: str, opened: bool = False) -> tuple[str, str]:
    """Split a reply into (reasoning, text): thoughts at its beginning, what follows.

    A thought that never ends leaves no text. `opened` says that the prompt ended in an opening tag, so that
    the reply begins inside a thought. Where that is not known, a closing tag without an opening one ends a
    thought only if it stands alone on its line or behind a sentence, and in no code block: a response about
    the tag ("to close, write </think>") keeps its beginning.

    >>> split_thoughts("<think>Both are fine.</think>\\n8 7")
    ('Both are fine.', '8 7')
    >>> split_thoughts("To close, write </think>.")
    ('', 'To close, write </think>.')
    """
    if HARMONY.match(text):
        return _split_channels(text)
    if start := SKIPPED.match(text):
        thought, _, final = text[start.end() :].partition("assistantfinal")
        return thought.strip(), final.lstrip()
    thoughts, at = [], 0
    if not OPENING.match(text):
        end = CLOSING.search(text) if opened else ALONE.search(text)
        if opened and not end:
            return text.strip(), ""
        if end and (opened or text.count("```", 0, end.start()) % 2 == 0):  # in no code block
            thoughts, at = [text[: end.start()]], end.end()
    while start := OPENING.match(text, at):
        closing = re.compile(re.escape(TAGS[start[1].lower()]), re.IGNORECASE)
        end = closing.search(text, start.end())
        at = end.end() if end else len(text)
        thoughts.append(text[start.end() : end.start() if end else at])
    if not at:
        return "", text
    response = text[at:].strip()
    wrapped = WRAPPED.fullmatch(response)
    return _joined(thoughts), wrapped[1].strip() if wrapped else response


def _split_channels(text: str) -> tuple[str, str]:
    parts = CHANNEL.findall(text) or [("", text)]  # of another form: a thought, as it holds no final channel
    final = [part.strip() for name, part in parts if name == "final"]
    return _joined(part for name, part in parts if name != "final"), "\n".join(final)


def _joined(thoughts: Iterable[str]) -> str:
    return "\n".join(filter(None, map(str.strip, thoughts)))


def opens_thought(prompt: str) -> bool:
    """Return whether a rendered prompt ends in a tag that opens a thought."""
    return prompt.rstrip().lower().endswith(tuple(TAGS))
