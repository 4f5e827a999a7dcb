"""Texts: fit to be written anywhere, and apart from the thoughts before them."""

import re

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
CLOSING = {tag: re.compile(re.escape(end), re.IGNORECASE) for tag, end in TAGS.items()}
# what some of these models write around the response behind a thought
WRAPPERS = {
    "<|start_response|>": "<|end_response|>",
    "<|begin_of_solution|>": "<|end_of_solution|>",
    "<answer>": "</answer>",
}
ANY_CLOSING = re.compile("|".join(map(re.escape, TAGS.values())), re.IGNORECASE)
# alone on its line, or between the end of a sentence and the response: "Both are fine.</think>8 7"
ALONE = re.compile(
    rf"^[ \t]*+(?:{ANY_CLOSING.pattern})[ \t]*+$|(?<=[.!?)])(?:{ANY_CLOSING.pattern})(?=[\w*#\n(])",
    re.IGNORECASE | re.MULTILINE,
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
FINAL = "assistantfinal"


def clean(text: str) -> str:
    """Replace each lone surrogate, which no UTF-8 file can hold, by U+FFFD."""
    try:
        text.encode()
        return text
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def split_thoughts(text: str, opened: bool = False) -> tuple[str, str]:
    """Split a reply into (reasoning, text): the thoughts at its beginning, and what follows.

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
        return _channels(text)
    if start := SKIPPED.match(text):
        thought, _, final = text[start.end() :].partition(FINAL)
        return thought.strip(), final.lstrip()
    thoughts, at = [], 0
    if not OPENING.match(text):
        end = ANY_CLOSING.search(text) if opened else _alone(text)
        if opened and not end:
            return text.strip(), ""
        if end:
            thoughts, at = [text[: end.start()]], end.end()
    while start := OPENING.match(text, at):
        end = CLOSING[start[1].lower()].search(text, start.end())
        at = end.end() if end else len(text)
        thoughts.append(text[start.end() : end.start() if end else at])
    return "\n".join(filter(None, map(str.strip, thoughts))), _unwrapped(text[at:]) if at else text


def _unwrapped(text: str) -> str:
    """A response behind a thought, without what its model writes around it."""
    text = text.strip()
    for start, end in WRAPPERS.items():
        if text.lower().startswith(start):
            inner = text[len(start) :]
            return (inner[: -len(end)] if inner.lower().endswith(end) else inner).strip()
    return text


def opens_thought(prompt: str) -> bool:
    """Whether a rendered prompt ends inside a thought: its template wrote the opening tag."""
    return prompt.rstrip().lower().endswith(tuple(TAGS))


def _alone(text: str) -> re.Match | None:
    """The first closing tag that stands alone on its line, unless it is inside a code block."""
    end = ALONE.search(text)
    return end if end and text.count("```", 0, end.start()) % 2 == 0 else None


def _channels(text: str) -> tuple[str, str]:
    parts = CHANNEL.findall(text) or [("", text)]  # of another form: a thought, as it holds no final channel
    thoughts, final = (
        [part.strip() for name, part in parts if (name == "final") == wanted] for wanted in (False, True)
    )
    return "\n".join(filter(None, thoughts)), "\n".join(final)
