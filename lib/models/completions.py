"""Read what a model says: its thoughts, its text, and whether the reply is whole."""

import re

from lib.models.types import Completion
from lib.text import clean, split_thoughts

WHOLE = {"stop", "eos", "eos_token", "end_turn", "stop_sequence"}  # finish reasons of OpenAI, TGI, Anthropic
TRUNCATED = {"length", "max_tokens", "model_length", "max_output_tokens", "max_completion_tokens"}
CALLED = {"tool_calls", "function_call"}  # whole where the request offers functions
LIMITS = ("max_tokens", "max_completion_tokens")  # two names of one parameter
MOST_TOKENS = 10**9  # of one call: a larger number is no count
SHOWN = 2000  # characters of a strange reply, until its keys are masked

# The least tokens of a prompt: a word is a token at least, but some tokenizers join common words (SuperBPE)
# or the characters of Chinese and Japanese, above all repeated ones.
TOKENS_A_WORD, TOKENS_A_CHARACTER = 2 / 3, 1 / 3
UNSPACED = re.compile(r"([\u3040-\u30ff\u3400-\u9fff])(?!\1)")
SMALLEST_CONTEXT = 256  # tokens; a server that states fewer for a long prompt does not count them


class Unusable(Exception):
    """A reply of status 200 that answers nothing.

    `tokens` (prompt, completion) were paid; None where it states none.
    """

    def __init__(self, cause: str, tokens: tuple[int, int] | None = None):
        super().__init__(cause)
        self.tokens = tokens


def read(response: object, body: dict) -> Completion:
    """Read the reply of status 200 to the chat request `body`.

    Where the request offers functions, the text is the arguments of the first that is called. Raises Unusable
    for an error inside the reply, no choices, no text, an end that is neither whole nor truncated, and for a
    prompt that the server cut.
    """
    tokens, choice = usage(response), _at(response, "choices", 0)
    if error := _at(response, "error") or _at(choice, "error"):
        raise Unusable(f"an error inside the reply: {str(_at(error, 'message') or error)[:SHOWN]}", tokens)
    message = _at(choice, "message")
    if not isinstance(message, dict):
        raise Unusable(f"the reply is no chat completion: {str(response)[:SHOWN]}", tokens)
    text, thoughts = _content(message.get("content"))
    split, text = split_thoughts(text)
    stated = [_plain(message.get(name)) for name in ("reasoning_content", "reasoning", "thinking")]
    reasoning = next(filter(None, stated), thoughts or split)
    arguments = _at(message, "tool_calls", 0, "function", "arguments")
    arguments = arguments or _at(message, "function_call", "arguments")
    if _offers_functions(body) and isinstance(arguments, str):
        text = clean(arguments)
    finish = _finish(_at(choice, "finish_reason"), text + reasoning, tokens, body)
    if not text and isinstance(refusal := message.get("refusal"), str) and refusal:
        raise Unusable(f"the model refuses: {refusal[:SHOWN]}", tokens)
    if not text and not reasoning and finish == "stop" and not isinstance(message.get("content"), str):
        raise Unusable("the reply holds no text", tokens)
    _check_prompt(body["messages"], tokens)
    logprobs = _at(choice, "logprobs", "content")
    logprobs = logprobs if isinstance(logprobs, list) else None
    return Completion(text, reasoning, finish, *(tokens or (None, None)), logprobs)


def usage(response: object) -> tuple[int, int] | None:
    """(prompt, completion) tokens that a reply states; None where it states none that can be counted."""
    both = tuple(_at(response, "usage", f"{name}_tokens") for name in ("prompt", "completion"))
    return both if all(isinstance(n, int) and 0 <= n <= MOST_TOKENS for n in both) else None


def _at(value: object, *path: str | int) -> object:
    """Return what stands at a path of a JSON value, None where nothing does."""
    for step in path:
        try:
            value = value[step]
        except (TypeError, LookupError):
            return None
    return value


def _content(content: object) -> tuple[str, str]:
    """(text, thoughts) of a message's content: a text, or a list of parts."""
    if isinstance(content, str):
        return clean(content), ""
    parts = content if isinstance(content, list) else []
    texts = [_plain(_at(part, "text")) for part in parts if _at(part, "type") in ("text", "output_text")]
    thoughts = [_plain(_at(part, "thinking") or _at(part, "reasoning")) for part in parts]
    return "".join(texts), "\n".join(filter(None, thoughts))


def _plain(value: object) -> str:
    """The text of a part: a string, or a list of objects with `text`, as Mistral sends thoughts."""
    texts = [_at(part, "text") for part in value] if isinstance(value, list) else [value]
    return clean("".join(text for text in texts if isinstance(text, str)))


def _offers_functions(body: dict) -> bool:
    return "tools" in body or "functions" in body


def _finish(reason: object, content: str, tokens: tuple | None, body: dict) -> str:
    """ "stop" or "length". Where no reason is given, a reply that used fewer tokens than its limit is whole.

    Raises Unusable for any other end, such as abort, error or content_filter.
    """
    if reason in (None, ""):
        limit = next((body[name] for name in LIMITS if name in body), None)
        used = tokens[1] if tokens else len(content.encode())  # a token is a byte at least
        return "stop" if limit is None or used < limit else "length"
    word = str(reason).lower()
    if word in WHOLE or word in CALLED and _offers_functions(body):
        return "stop"
    if word in TRUNCATED:
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
