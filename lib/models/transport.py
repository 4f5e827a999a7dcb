"""The way to an endpoint: the openai SDK on aiohttp."""

import json
import os

import httpx2
import openai

from lib.models.catalog import Model
from lib.models.completions import SHOWN, Unusable
from lib.text import clean

ERROR = 300  # characters of an error that are shown


def connect(model: Model, connections: int, tries: int) -> openai.AsyncOpenAI:
    """Open the SDK with as many connections as calls run at once; a model's key goes to its own URL alone."""
    limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
    timeout = openai.Timeout(model.timeout_s, connect=min(10, model.timeout_s))
    return openai.AsyncOpenAI(
        api_key=model.secret() or "none",
        base_url=model.url,
        timeout=timeout,
        max_retries=tries - 1,
        http_client=openai.DefaultAioHttpClient(limits=limits, timeout=timeout),
    )


def parsed(content: bytes) -> object:
    """The JSON of a reply. Raises Unusable where it is none."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        raise Unusable(f"a reply that is no JSON: {content[:SHOWN]!r}") from None


def masked(error: object, model: Model) -> str:
    """Write an error in one line, without the key; of a connection error the cause, which the SDK hides."""
    cause = (error.__cause__ if isinstance(error, openai.APIConnectionError) else None) or error
    text, key = str(cause).strip() or type(cause).__name__, os.environ.get(model.key, "")
    for form in filter(None, (key, key.strip())):
        text = text.replace(form, "[key]")
    return clean(" ".join(text.split()))[:ERROR]
