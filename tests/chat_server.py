"""A real chat server on this machine, with the faults that real ones have, on demand."""

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Callable

from aiohttp import web


class ChatServer:
    """Answers `reply(body)` to POST /v1/chat/completions; `fault(body, nth)` may name a fault for the nth asking of a body.

    A reply is a text, or a dict to put over the whole completion, however strange.

    A context manager; `url` is where it is reached, `counts` says how often each body came.
    """

    def __init__(
        self,
        reply: Callable[[dict], str | dict],
        fault: Callable[[dict, int], str | None] = lambda body, nth: None,
    ):
        self.reply, self.fault = reply, fault
        self.counts: Counter[str] = Counter()
        self.bodies: list[dict] = []
        self.keys: list[str | None] = []  # the header that holds a key, of each request
        self.running = self.most = 0  # at once
        self.delay_s = 0.0

    def __enter__(self):
        self.loop, ready = asyncio.new_event_loop(), threading.Event()
        threading.Thread(target=self._serve, args=(ready,), daemon=True).start()
        ready.wait()
        return self

    def __exit__(self, *error):
        asyncio.run_coroutine_threadsafe(self.runner.cleanup(), self.loop).result()
        self.loop.call_soon_threadsafe(self.loop.stop)

    def _serve(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self.loop)
        app = web.Application(client_max_size=200_000_000)
        self.add_routes(app.router)
        self.runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        self.loop.run_until_complete(self.runner.setup())
        site = web.TCPSite(self.runner, "127.0.0.1", 0)
        self.loop.run_until_complete(site.start())
        self.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/v1"
        ready.set()
        self.loop.run_forever()

    def add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_post("/v1/chat/completions", self._answer)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        text = json.dumps(body, sort_keys=True)
        self.counts[text] += 1
        self.bodies.append(body)
        self.keys.append(request.headers.get("Authorization"))
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(self.delay_s)
            return await self._say(request, body, self.fault(body, self.counts[text]))
        finally:
            self.running -= 1

    async def _say(self, request: web.Request, body: dict, fault: str | None) -> web.StreamResponse:
        status, _, message = (fault or "").partition(" ")
        if status.isdigit():
            error = {"error": {"message": message or f"no: {request.headers['Authorization']}"}}
            return web.json_response(error, status=int(status), headers={"Retry-After": "0.05"})
        if fault == "hang":
            await asyncio.sleep(60)
        if fault == "dropped":
            request.transport.close()
        whole = completion(body, self.reply(body), "length" if fault == "length" else "stop")
        if fault == "truncated":
            return web.Response(text=json.dumps(whole)[:-20], content_type="application/json")
        if fault == "html":
            return web.Response(text="<html>We are back soon.</html>", content_type="text/html")
        return web.json_response(whole)


def reply_of(
    content: object = "8 7", finish: object = "stop", usage: tuple | None = (10, 5), **message
) -> dict:
    """A reply with this content, and what else its message holds."""
    counted = usage and dict(zip(("prompt_tokens", "completion_tokens"), usage, strict=True))
    choice = {"message": {"content": content} | message, "finish_reason": finish}
    return {"choices": [choice], "usage": counted}


def completion(body: dict, stated: str | dict, finish: str) -> dict:
    strange = stated if isinstance(stated, dict) else {}
    message = {"role": "assistant", "content": "" if strange else stated}
    return {
        "id": "x",
        "object": "chat.completion",
        "model": body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    } | strange
