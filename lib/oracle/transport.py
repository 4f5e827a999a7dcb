"""The way to an endpoint: the openai SDK on aiohttp, its key from the environment, and what counts as a reply."""

import json
import os

import httpx2
import openai

from lib.errors import UserError

SHOWN = 300  # characters of an error


class Malformed(Exception):
    """A reply of status 200 that is no chat completion: truncated JSON, no choices, another content type."""


def connect(url: str, key_from: str, connections: int, timeout_s: float, tries: int) -> openai.AsyncOpenAI:
    """The SDK with as many connections as calls run at once; the key is that of the environment's `key_from`."""
    key = os.environ.get(key_from)
    if not key and "api.openai.com" in url:
        raise UserError(f"no key for {url}: set {key_from}, or oracle_url for a server of your own")
    limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
    return openai.AsyncOpenAI(
        api_key=key or "none",
        base_url=url,
        timeout=timeout_s,
        max_retries=tries - 1,
        http_client=openai.DefaultAioHttpClient(limits=limits, timeout=timeout_s),
    )


def completion(content: bytes | str) -> dict:
    """The chat completion that a reply holds. Raises Malformed where it is none."""
    try:
        response = json.loads(content)
    except ValueError:
        raise Malformed(f"a reply that is no JSON: {content[:80]!r}") from None
    return checked(response)


def checked(response: object) -> dict:
    """A chat completion, if that is what it is. Raises Malformed where it is not."""
    try:
        text = response["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError) as error:
        raise Malformed(f"a reply that is no chat completion ({error!r}): {str(response)[:80]}") from None
    if not isinstance(text, str):
        raise Malformed(f"a reply without text (its content is {text!r})")
    return response


def masked(error: object, key_from: str) -> str:
    """An error in one line, without the key."""
    text, key = " ".join(str(error).split()) or type(error).__name__, os.environ.get(key_from)
    return (text.replace(key, "[key]") if key else text)[:SHOWN]
