"""Read what a model says: its thoughts, its text, and whether the reply is whole."""

import re
from typing import NamedTuple

WHOLE = {"stop", "eos", "eos_token", "end_turn", "stop_sequence"}  # finish reasons of OpenAI, TGI, Anthropic
TRUNCATED = {"length", "max_tokens", "model_length", "max_output_tokens", "max_completion_tokens"}
CALLED = {"tool_calls", "function_call"}  # whole where the request offers functions
LIMITS = ("max_tokens", "max_completion_tokens")  # two names of one parameter
MOST_TOKENS = 10**9  # of one call: a larger number is no count
SHOWN = 2000  # characters of a strange reply, until its keys are masked

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

# The least tokens of a prompt: a word is a token at least, but some tokenizers join common words (SuperBPE)
# or the characters of Chinese and Japanese, above all repeated ones.
TOKENS_A_WORD, TOKENS_A_CHARACTER = 2 / 3, 1 / 3
UNSPACED = re.compile(r"([\u3040-\u30ff\u3400-\u9fff])(?!\1)")
SMALLEST_CONTEXT = 256  # tokens; a server that states fewer for a long prompt does not count them


class Completion(NamedTuple):
    """One reply, read. `finish_reason` is "stop" where it is whole, "length" where its limit cut it."""

    text: str
    reasoning: str
    finish_reason: str
    prompt_tokens: int | None
    completion_tokens: int | None


class Unusable(Exception):
    """A reply of status 200 that answers nothing.

    `tokens` (prompt, completion) were paid; None where it states none.
    """

    def __init__(self, cause: str, tokens: tuple[int, int] | None = None):
        super().__init__(cause)
        self.tokens = tokens


def split_thoughts(text: str, opened: bool = False) -> tuple[str, str]:
    """Split a reply into (reasoning, text): the thoughts at its beginning, and what follows.

    A thought that never ends leaves no text. `opened` says that the prompt ended in an opening tag, so that
    the reply begins inside a thought. Where that is not known, a closing tag without an opening one ends a
    thought only if it stands alone on its line or behind a sentence, and in no code block: a response about the tag ("to close,
    write </think>") keeps its beginning.

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


def read(response: object, body: dict) -> Completion:
    """Read the reply of status 200 to the chat request `body`.

    Where the request offers functions, the text is the arguments of the first that is called. Raises Unusable
    for an error inside the reply, no choices, no text, an end that is neither whole nor truncated, and for a
    prompt that the server cut.
    """
    tokens = usage(response)
    choice, message = _choice(response, tokens)
    text, thoughts = _content(message.get("content"))
    split, text = split_thoughts(text)
    stated = [message.get(name) for name in ("reasoning_content", "reasoning", "thinking")]
    reasoning = next((clean(it) for it in stated if isinstance(it, str) and it), thoughts or split)
    calls = "tools" in body or "functions" in body
    called = _arguments(message) if calls else None
    text = text if called is None else called
    finish = _finish(choice.get("finish_reason"), text + reasoning, tokens, body, calls)
    if not text and isinstance(refusal := message.get("refusal"), str) and refusal:
        raise Unusable(f"the model refuses: {refusal[:SHOWN]}", tokens)
    if not text and not reasoning and finish == "stop" and not isinstance(message.get("content"), str):
        raise Unusable("the reply holds no text", tokens)
    _check_prompt(body["messages"], tokens)
    return Completion(text, reasoning, finish, *(tokens or (None, None)))


def usage(response: object) -> tuple[int, int] | None:
    """(prompt, completion) tokens that a reply states; None where it states none that can be counted."""
    stated = response.get("usage") if isinstance(response, dict) else None
    if not isinstance(stated, dict):
        return None
    both = stated.get("prompt_tokens"), stated.get("completion_tokens")
    return both if all(isinstance(n, int) and 0 <= n <= MOST_TOKENS for n in both) else None


def clean(text: str) -> str:
    """Make a text that can be written anywhere: half a surrogate pair becomes a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _choice(response: object, tokens: tuple[int, int] | None) -> tuple[dict, dict]:
    """The first choice and its message. Raises Unusable where there is none, or an error beside it."""
    whole = response if isinstance(response, dict) else {}
    choices = whole.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    choice = choice if isinstance(choice, dict) else {}
    if error := whole.get("error") or choice.get("error"):
        stated = error.get("message") if isinstance(error, dict) else None
        raise Unusable(f"an error inside the reply: {str(stated or error)[:SHOWN]}", tokens)
    if not isinstance(choice.get("message"), dict):
        raise Unusable(f"the reply is no chat completion: {str(response)[:SHOWN]}", tokens)
    return choice, choice["message"]


def _content(content: object) -> tuple[str, str]:
    """(text, thoughts) of a message's content: a text, or a list of parts."""
    if isinstance(content, str):
        return clean(content), ""
    parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    text = "".join(_plain(part.get("text")) for part in parts if part.get("type") in ("text", "output_text"))
    return text, "\n".join(
        thought for part in parts if (thought := _plain(part.get("thinking") or part.get("reasoning")))
    )


def _plain(value: object) -> str:
    """The text of a part: a string, or a list of objects with `text`, as Mistral sends thoughts."""
    listed = value if isinstance(value, list) else []
    texts = [value, *(part.get("text") for part in listed if isinstance(part, dict))]
    return clean("".join(text for text in texts if isinstance(text, str)))


def _arguments(message: dict) -> str | None:
    """The arguments of the first function that a message calls; None where it calls none."""
    calls = message.get("tool_calls")
    calls = [it.get("function") for it in calls if isinstance(it, dict)] if isinstance(calls, list) else []
    calls = [it for it in [*calls, message.get("function_call")] if isinstance(it, dict)]
    return next((clean(it["arguments"]) for it in calls if isinstance(it.get("arguments"), str)), None)


def _finish(reason: object, said: str, tokens: tuple | None, body: dict, calls: bool) -> str:
    """ "stop" or "length". Where no reason is given, a reply that used fewer tokens than its limit is whole.

    Raises Unusable for any other end, such as abort, error or content_filter.
    """
    word = reason.lower() if isinstance(reason, str) else reason
    if word in (None, ""):
        limit = next((body[name] for name in LIMITS if name in body), None)
        used = tokens[1] if tokens else len(said.encode())  # a token is a byte at least
        return "stop" if limit is None or used < limit else "length"
    if isinstance(word, str) and (word in WHOLE or calls and word in CALLED):
        return "stop"
    if isinstance(word, str) and word in TRUNCATED:
        return "length"
    raise Unusable(f"the reply ended with {str(reason)[:SHOWN]!r}", tokens)


def _check_prompt(messages: list[dict], tokens: tuple[int, int] | None) -> None:
    """Raises Unusable where a server states far fewer tokens than the prompt has: it read a part alone."""
    if not tokens or tokens[0] < SMALLEST_CONTEXT:
        return
    least = sum(least_tokens(message["content"]) for message in messages)
    if tokens[0] < least:
        raise Unusable(
            f"the server cut the prompt: its context is {tokens[0]:,} tokens, and the prompt has "
            f"{least:,.0f} or more. Start the server with a longer context (Ollama: OLLAMA_CONTEXT_LENGTH)",
            tokens,
        )


def least_tokens(text: str) -> float:
    """The fewest tokens that any tokenizer makes of a text."""
    words = len(text.split()) * TOKENS_A_WORD
    return words if text.isascii() else words + len(UNSPACED.findall(text)) * TOKENS_A_CHARACTER
