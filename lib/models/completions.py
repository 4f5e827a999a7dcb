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
    tokens = usage(response)
    choice, message = _choice(response, tokens)
    text, thoughts = _content(message.get("content"))
    split, text = split_thoughts(text)
    stated = [message.get(name) for name in ("reasoning_content", "reasoning", "thinking")]
    reasoning = next(
        (clean(thought) for thought in stated if isinstance(thought, str) and thought), thoughts or split
    )
    calls = "tools" in body or "functions" in body
    called = _arguments(message) if calls else None
    text = text if called is None else called
    finish = _finish(choice.get("finish_reason"), text + reasoning, tokens, body, calls)
    if not text and isinstance(refusal := message.get("refusal"), str) and refusal:
        raise Unusable(f"the model refuses: {refusal[:SHOWN]}", tokens)
    if not text and not reasoning and finish == "stop" and not isinstance(message.get("content"), str):
        raise Unusable("the reply holds no text", tokens)
    _check_prompt(body["messages"], tokens)
    return Completion(text, reasoning, finish, *(tokens or (None, None)), _logprobs(choice))


def usage(response: object) -> tuple[int, int] | None:
    """(prompt, completion) tokens that a reply states; None where it states none that can be counted."""
    stated = response.get("usage") if isinstance(response, dict) else None
    if not isinstance(stated, dict):
        return None
    both = stated.get("prompt_tokens"), stated.get("completion_tokens")
    return both if all(isinstance(n, int) and 0 <= n <= MOST_TOKENS for n in both) else None


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


def _logprobs(choice: dict) -> list[dict] | None:
    """The tokens of a choice with their log-probabilities; None where it gives none."""
    given = choice.get("logprobs")
    listed = given.get("content") if isinstance(given, dict) else None
    return listed if isinstance(listed, list) else None


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
    calls = (
        [call.get("function") for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    )
    calls = [call for call in [*calls, message.get("function_call")] if isinstance(call, dict)]
    return next((clean(call["arguments"]) for call in calls if isinstance(call.get("arguments"), str)), None)


def _finish(reason: object, content: str, tokens: tuple | None, body: dict, calls: bool) -> str:
    """ "stop" or "length". Where no reason is given, a reply that used fewer tokens than its limit is whole.

    Raises Unusable for any other end, such as abort, error or content_filter.
    """
    word = reason.lower() if isinstance(reason, str) else reason
    if word in (None, ""):
        limit = next((body[name] for name in LIMITS if name in body), None)
        used = tokens[1] if tokens else len(content.encode())  # a token is a byte at least
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
