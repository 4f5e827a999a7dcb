"""The way to an endpoint: the openai SDK on aiohttp, its key from the environment, and what counts as a reply."""

import json
import os
from urllib.parse import urlsplit

import httpx2
import openai

from lib.errors import UserError

SHOWN = 300  # characters of an error
HELD = 2000  # of a strange reply, until its keys are masked
MOST_TOKENS = 10**9  # of one call; a number beyond it is none


class Malformed(Exception):
    """A reply of status 200 that is no chat completion. `response` is what it was, where it was JSON: it may have cost."""

    def __init__(self, said: str, response: object = None):
        super().__init__(said)
        self.response = response


def address(url: str) -> str:
    """An endpoint's URL as it is called and kept. Raises UserError for what is none, and for one that holds a secret."""
    try:
        parts = urlsplit(url)
        right = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port)
    except ValueError:
        right = False
    if not right:
        raise UserError(f"{url.split('@')[-1].split('?')[0]!r} is no endpoint: write http(s)://host:port/v1")
    if parts.username or parts.password or parts.query:
        raise UserError(
            f"the URL of {parts.hostname} holds more than an address: keys and queries would be kept with every call; keys "
            "come from the environment"
        )
    return url.rstrip("/")


def secret(key_from: str) -> str:
    """The key in the environment's `key_from`; empty where there is none. Raises UserError for one that no header can hold."""
    key = os.environ.get(key_from, "").strip()
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise UserError(f"{key_from} holds characters that no key has: set it again")
    return key


def connect(
    url: str, key_from: str, connections: int, timeout_s: float | openai.Timeout, tries: int
) -> openai.AsyncOpenAI:
    """The SDK with as many connections as calls run at once."""
    key = secret(key_from)
    if not key and "api.openai.com" in url:
        raise UserError(f"no key for {url}: set {key_from}, or name a server of your own")
    limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
    return openai.AsyncOpenAI(
        api_key=key or "none",
        base_url=url,
        timeout=timeout_s,
        max_retries=tries - 1,
        http_client=openai.DefaultAioHttpClient(limits=limits, timeout=timeout_s),
    )


def completion(content: bytes) -> dict:
    """The chat completion that a reply holds. Raises Malformed where it is none."""
    try:
        return checked(json.loads(content))
    except (ValueError, RecursionError):
        raise Malformed(f"a reply that is no JSON: {content[:HELD]!r}") from None


def checked(response: object) -> dict:
    """A chat completion, if that is what it is: a choice with a text or null, and why it ended. Raises Malformed where it is not."""
    try:
        choice = response["choices"][0]
        text, finish = choice["message"]["content"], choice.get("finish_reason")
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        said = f"a reply that is no chat completion ({error!r}): {str(response)[:HELD]}"
        raise Malformed(said, response) from None
    if not isinstance(text, str | None) or not isinstance(finish, str | None):
        raise Malformed(
            f"a reply whose text is {str(text)[:HELD]!r}, ended by {str(finish)[:HELD]!r}", response
        )
    return response


def tokens(response: object) -> tuple[int, int] | None:
    """(prompt, completion) tokens that a reply states; None where it states none that can be counted."""
    told = response.get("usage") if isinstance(response, dict) else None
    if not isinstance(told, dict):
        return None
    both = told.get("prompt_tokens"), told.get("completion_tokens")
    return both if all(isinstance(n, int) and 0 <= n <= MOST_TOKENS for n in both) else None


def clean(text: str) -> str:
    """Text that can be written anywhere: half a surrogate pair becomes a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")


def masked(error: object, key_from: str) -> str:
    """An error in one line, without the key. The SDK calls every refused connection a timeout: its cause says what it was."""
    told = (error.__cause__ if isinstance(error, openai.APIConnectionError) else None) or error
    text, key = str(told).strip() or type(told).__name__, os.environ.get(key_from, "")
    for form in filter(None, (key, key.strip())):
        text = text.replace(form, "[key]")
    return clean(" ".join(text.split()))[:SHOWN]
