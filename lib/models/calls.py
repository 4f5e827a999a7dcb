"""Send requests to a model behind a URL by the openai SDK on aiohttp."""

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import wait
from urllib.parse import urlsplit

import httpx2
import openai
from anyio.from_thread import start_blocking_portal
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_exponential_jitter

from lib.models.catalog import LIST, Model
from lib.models.completions import SHOWN, Completion, Unusable
from lib.text import clean

LONGEST_ERROR = 300  # characters that are shown
SLICE_S = 0.2  # between two looks for Ctrl-C


def run(work: Callable[[], Awaitable], meanwhile: Callable[[], None] = lambda: None) -> None:
    """Run a coroutine in a thread of its own, as Jupyter's loop is busy; call `meanwhile` every 0.2 s.

    Ctrl-C, and what `meanwhile` raises, cancels the coroutine.
    """
    with start_blocking_portal() as portal:
        future = portal.start_task_soon(work)
        try:
            while not future.done():
                meanwhile()
                wait([future], SLICE_S)
            future.result()
        except BaseException:
            future.cancel()
            raise


def connect(model: Model, connections: int, tries: int) -> openai.AsyncOpenAI:
    """Open the SDK with as many connections as calls run at once; a model's key goes to its own URL alone."""
    limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
    timeout = openai.Timeout(model.timeout_s, connect=min(10, model.timeout_s))
    # $OPENAI_ORG_ID and $OPENAI_PROJECT_ID, which the SDK sends, are for OpenAI alone
    is_openai = urlsplit(model.url).hostname == "api.openai.com"
    headers = {} if is_openai else dict.fromkeys(("OpenAI-Organization", "OpenAI-Project"), openai.Omit())
    return openai.AsyncOpenAI(
        api_key=model.secret() or "none",
        base_url=model.url,
        timeout=timeout,
        max_retries=tries - 1,
        default_headers=headers,
        http_client=openai.DefaultAioHttpClient(limits=limits, timeout=timeout),
    )


async def post(
    client: openai.AsyncOpenAI, body: dict, read: Callable[[dict, dict], Completion], tries: int
) -> tuple[dict, Completion]:
    """Send a request; return the whole reply, and its completion as `read` reads it.

    The SDK sends it again after an error that HTTP reports, this function after an unusable reply that states
    no tokens. Raises openai.APIError or Unusable.
    """
    async for attempt in AsyncRetrying(
        retry=retry_if_exception(lambda error: isinstance(error, Unusable) and not error.tokens),
        stop=stop_after_attempt(tries),
        wait=wait_exponential_jitter(multiplier=0.2, max=8),
        reraise=True,
    ):
        with attempt:
            raw = await client.post("/chat/completions", body=body, cast_to=httpx2.Response)
            try:
                response = json.loads(raw.content)
            except (ValueError, RecursionError):
                raise Unusable(f"a reply that is no JSON: {raw.content[:SHOWN]!r}") from None
            return response, read(response, body)


def masked(error: object, model: Model) -> str:
    """Write an error in one line, without the key; of a connection error the cause, which the SDK hides."""
    cause = (error.__cause__ if isinstance(error, openai.APIConnectionError) else None) or error
    text, key = str(cause).strip() or type(cause).__name__, os.environ.get(model.key, "")
    for form in filter(None, (key, key.strip())):
        text = text.replace(form, "[key]")
    return clean(" ".join(text.split()))[:LONGEST_ERROR]


async def refusal(client: openai.AsyncOpenAI, model: Model, error: openai.APIError) -> str:
    """Say that a server refuses its model, and which it serves, where that is another."""
    refusal = f"{model.url} refuses {model.served_name} ({masked(error, model)})"
    try:
        served = [] if model.key else [each.id for each in (await client.models.list()).data]
    except openai.APIError:
        served = []
    if model.key or model.served_name in served:
        return refusal
    if getattr(error, "status_code", 0) in (401, 403):
        return f"{refusal}. It wants a key: name its variable in an entry of {LIST}."
    if served:
        return f"{refusal}; it serves {', '.join(served)}. Name one of these: NAME@{model.url}."
    return f"{refusal}. Start one with vllm serve {model.served_name} --generation-config vllm."


class Pace:
    """At most so many a minute, evenly; a stop ends the waiting."""

    def __init__(self, per_minute: float | None, stopped: asyncio.Event):
        self.gap, self.next, self.stopped = 60 / per_minute if per_minute else 0.0, 0.0, stopped

    async def wait(self, amount: float) -> None:
        if self.gap:
            now = time.monotonic()
            start = max(now, self.next)
            self.next = start + amount * self.gap
            try:
                await asyncio.wait_for(self.stopped.wait(), start - now)
            except TimeoutError:
                return
