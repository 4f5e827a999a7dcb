"""The chat server with a Batch API: files, batches, their results."""

import json
from collections.abc import Callable
from itertools import count

from aiohttp import web
from chat_server import ChatServer, completion


class BatchServer(ChatServer):
    """Answers a batch at the `polls`th look at it; `status` says how it ends.

    `lost(body)` names calls without a result, `on_batch` is called when one was made, before the client hears of it.
    """

    def __init__(self, reply: Callable[[dict], str], polls: int = 2, status: str = "completed"):
        super().__init__(reply)
        self.polls, self.status = polls, status
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict] = {}
        self.lost: Callable[[dict], bool] = lambda body: False
        self.on_batch: Callable[[], None] = lambda: None
        self.results: Callable[[list[str]], list[str]] = lambda lines: lines  # what becomes of them
        self.down = False  # out of reach for who looks at a batch
        self.numbers = count(1)

    def add_routes(self, router: web.UrlDispatcher) -> None:
        super().add_routes(router)
        router.add_post("/v1/files", self._upload)
        router.add_get("/v1/files/{id}/content", self._content)
        router.add_post("/v1/batches", self._create)
        router.add_get("/v1/batches", self._list)
        router.add_get("/v1/batches/{id}", self._retrieve)

    def _keep(self, content: bytes) -> str:
        name = f"file-{next(self.numbers)}"
        self.files[name] = content
        return name

    async def _upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        name = self._keep(form["file"].file.read())
        about = {"object": "file", "purpose": form["purpose"], "bytes": 1, "created_at": 1}
        return web.json_response(about | {"id": name, "filename": "x", "status": "processed"})

    async def _content(self, request: web.Request) -> web.Response:
        return web.Response(body=self.files[request.match_info["id"]])

    async def _create(self, request: web.Request) -> web.Response:
        given = await request.json()
        name = f"batch-{next(self.numbers)}"
        about = {"id": name, "object": "batch", "created_at": 1, "status": "validating", "looks": 0}
        created = self.batches[name] = given | about
        self.on_batch()
        return web.json_response(created)

    async def _list(self, request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": list(self.batches.values()), "has_more": False})

    async def _retrieve(self, request: web.Request) -> web.Response:
        if self.down:
            return web.json_response({"error": {"message": "back soon"}}, status=503)
        if request.match_info["id"] not in self.batches:
            return web.json_response({"error": {"message": "no such batch"}}, status=404)
        batch = self.batches[request.match_info["id"]]
        batch["looks"] += 1
        if batch["looks"] >= self.polls and batch["status"] == "validating":
            self._finish(batch)
        return web.json_response(batch)

    def _finish(self, batch: dict) -> None:
        batch["status"] = self.status
        if self.status == "failed":
            batch["errors"] = {"data": [{"message": "your limit of calls is reached"}]}
            return
        done, lost = [], []
        for line in map(json.loads, self.files[batch["input_file_id"]].splitlines()):
            bad = self.lost(line["body"])
            given = {} if bad else completion(line["body"], self.reply(line["body"]), "stop")
            self.counts[json.dumps(line["body"], sort_keys=True)] += 1
            response = {"status_code": 500 if bad else 200, "body": given}
            (lost if bad else done).append(json.dumps({"custom_id": line["custom_id"], "response": response}))
        batch["request_counts"] = {"total": len(done + lost), "completed": len(done), "failed": len(lost)}
        for name, lines in (("output_file_id", self.results(done)), ("error_file_id", lost)):
            batch[name] = self._keep("\n".join(lines).encode(errors="surrogateescape")) if lines else None
