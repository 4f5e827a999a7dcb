"""The way to an endpoint: the openai SDK on aiohttp, and the key that its host may have."""

import json
import os
from urllib.parse import urlsplit

import httpx2
import openai

from lib.errors import UserError
from lib.models.completions import SHOWN, Unusable
from lib.text import clean

ERROR = 300  # characters of an error that are shown
OPENAI = "https://api.openai.com/v1"
OPENAI_KEY = "OPENAI_API_KEY"


def address(url: str) -> str:
    """Return an endpoint's URL as it is kept. Raises UserError for no URL, and for one with a secret."""
    try:
        parts = urlsplit(url)
        right = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port)
    except ValueError:
        right = False
    if not right:
        raise UserError(f"{url.split('@')[-1].split('?')[0]!r} is no endpoint: write http(s)://host:port/v1")
    if parts.username or parts.password or parts.query:
        raise UserError(
            f"the URL of {parts.hostname} holds more than an address: keys and queries would be kept with "
            "every call; keys come from the environment"
        )
    return url.rstrip("/")


def secret(key_from: str) -> str:
    """Return the key in the variable `key_from`, or "". Raises UserError for one that no header can hold."""
    key = os.environ.get(key_from, "").strip()
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise UserError(f"{key_from} holds characters that no key has: set it again")
    return key


def is_openai(url: str) -> bool:
    """Whether OPENAI_API_KEY is for the host of a URL: OpenAI's, or the one that OPENAI_BASE_URL names."""
    host = urlsplit(url).hostname or ""
    named = urlsplit(os.environ.get("OPENAI_BASE_URL", "")).hostname
    return host == "api.openai.com" or host.endswith(".api.openai.com") or host == named


def key_variable(url: str, own: str) -> str:
    """Name the environment variable with the key for a URL: `own`, the role's, unless it is OpenAI's host.

    So no key reaches the host of another provider.
    """
    return OPENAI_KEY if is_openai(url) else own


def connect(
    url: str, key_from: str, connections: int, timeout_s: float | openai.Timeout, tries: int
) -> openai.AsyncOpenAI:
    """The SDK with as many connections as calls run at once."""
    key = secret(key_variable(url, key_from))
    if not key and is_openai(url):
        raise UserError(f"no key for {url}: set {OPENAI_KEY}, or name a server of your own")
    limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
    return openai.AsyncOpenAI(
        api_key=key or "none",
        base_url=url,
        timeout=timeout_s,
        max_retries=tries - 1,
        http_client=openai.DefaultAioHttpClient(limits=limits, timeout=timeout_s),
    )


def parsed(content: bytes) -> object:
    """The JSON of a reply. Raises Unusable where it is none."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        raise Unusable(f"a reply that is no JSON: {content[:SHOWN]!r}") from None


def masked(error: object, key_from: str) -> str:
    """Write an error in one line, without the key; of a connection error the cause, which the SDK hides."""
    cause = (error.__cause__ if isinstance(error, openai.APIConnectionError) else None) or error
    text, key = str(cause).strip() or type(cause).__name__, os.environ.get(key_from, "")
    for form in filter(None, (key, key.strip())):
        text = text.replace(form, "[key]")
    return clean(" ".join(text.split()))[:ERROR]
