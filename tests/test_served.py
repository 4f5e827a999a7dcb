"""A server that answers for the student: asked once for each reply, whatever stops in between."""

import shutil
import signal
import subprocess
import sys
import time
from contextlib import closing

import pytest
from aiohttp import web
from chat_server import ChatServer, reply_of
from tiny import answer

from lib import models, records
from lib.errors import UserError
from lib.models import catalog
from lib.models.catalog import Model
from lib.models.ledger import Ledger
from lib.models.local import LocalBackend
from lib.models.server import ServerBackend
from lib.models.types import SamplingParams

PROMPTS = [[{"role": "user", "content": f"{'long ' * (i % 7)}question {i}"}] for i in range(10)]
CODE = """
from pathlib import Path
from lib.models.catalog import Model
from lib.models.server import ServerBackend
from lib.models.types import SamplingParams
prompts = [[{{"role": "user", "content": f"question {{i}}"}}] for i in range({n})]
backend = ServerBackend(Model("the-student@" + {url!r}, {url!r}, concurrency=4))
backend.generate(prompts, SamplingParams(), folder=Path({folder!r}))
"""


class Server(ChatServer):
    """Says what it was asked, and which models it serves."""

    served = ("other-model",)

    def add_routes(self, router: web.UrlDispatcher) -> None:
        super().add_routes(router)
        router.add_get("/v1/models", self._models)

    async def _models(self, request: web.Request) -> web.Response:
        shape = {"object": "model", "created": 0, "owned_by": "us"}
        return web.json_response({"object": "list", "data": [shape | {"id": name} for name in self.served]})


def served(server: Server, concurrency: int = 4, tries: int = 3, **entry) -> ServerBackend:
    model = Model(f"the-student@{server.url}", server.url, concurrency=concurrency, **entry)
    return ServerBackend(model, tries=tries)


def echo(body: dict) -> str:
    return f"{body['messages'][-1]['content']} {body['seed']}"


@pytest.fixture
def server():
    with Server(echo) as shape:
        yield shape


@pytest.fixture
def backend(server):
    return served(server)


def texts(replies) -> list[list[str]]:
    return [[reply.text.rpartition(" ")[0] for reply in row] for row in replies]


def stored(folder) -> int:
    """The number of calls that a stage has kept."""
    with closing(Ledger(folder / "calls.sqlite", read_only=True)) as ledger:
        return len(list(ledger.rows()))


# Asking


def test_every_prompt_gets_its_own_replies_in_its_own_place(backend):
    replies = answer(backend, PROMPTS, samples=3, temperature=0.7)
    assert texts(replies) == [[prompt[0]["content"]] * 3 for prompt in PROMPTS]
    assert all(reply[1:5] == ("", "stop", 10, 5) for row in replies for reply in row)


def test_a_call_names_the_student_its_sampling_and_its_limit(backend, server):
    answer(backend, PROMPTS[:1], temperature=0.7, top_k=40, max_new_tokens=9)
    (body,) = server.bodies
    assert body.pop("seed") < 2**31
    sampling = {"temperature": 0.7, "top_p": 1.0, "top_k": 40, "max_tokens": 9}
    assert body == {"model": "the-student", "messages": PROMPTS[0]} | sampling


def test_every_reply_has_a_seed_of_its_own_which_repeats(backend, server):
    options = {"samples": 3, "temperature": 1.0}
    first, again, other = (answer(backend, PROMPTS, seed=seed, **options) for seed in (1, 1, 2))
    assert first == again != other
    assert len({body["seed"] for body in server.bodies[:30]}) == 30


# Choosing


def test_a_student_with_a_url_is_not_loaded_and_asked_by_its_folder(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "model.safetensors").write_bytes(b"no weights at all")
    backend = models.choose(f"{copy}@http://localhost:8000/v1/")
    assert (backend.model.url, backend.name) == ("http://localhost:8000/v1", str(copy))
    assert models.choose("org/name@http://localhost:8000/v1").name == "org/name"
    assert isinstance(models.choose(folder), LocalBackend)


def test_the_student_of_a_later_round_is_asked_at_the_server_of_the_first():
    assert models.at_server_of("outputs/student", "org/name@http://a/v1") == "outputs/student@http://a/v1"
    assert models.at_server_of("outputs/student", "org/name") == "outputs/student"
    assert models.at_server_of(None, "org/name@http://a/v1") is None


# Stopping


def test_a_second_start_asks_nothing_though_the_server_moved(backend, server, tmp_path):
    options = {"samples": 2, "temperature": 1.0, "folder": tmp_path}
    first = answer(backend, PROMPTS, **options)
    assert len(server.bodies) == 20
    moved = ServerBackend(catalog.find("the-student@http://127.0.0.1:9/v1"))
    assert answer(moved, PROMPTS, **options) == first and len(server.bodies) == 20


def test_what_was_answered_before_a_failure_is_not_asked_again(server, tmp_path):
    backend = served(server, concurrency=1, tries=1)
    server.fault = lambda body, nth: "500" if len(server.bodies) > 7 else None
    with pytest.raises(
        UserError, match="student=the-student@.*: 3 of 10 calls failed, the first with: .*500"
    ):
        answer(backend, PROMPTS, folder=tmp_path)
    server.fault = lambda body, nth: None
    assert texts(answer(backend, PROMPTS, folder=tmp_path)) == [[prompt[0]["content"]] for prompt in PROMPTS]
    assert len(server.bodies) == 10 + 3


def test_a_killed_process_leaves_what_was_answered(server, backend, tmp_path):
    server.delay_s = 0.03
    code = CODE.format(url=server.url, folder=str(tmp_path), n=200)
    process = subprocess.Popen([sys.executable, "-c", code])
    while len(server.bodies) < 20:
        assert process.poll() is None, "the process ended"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(0.2)  # for what is on its way
    kept, before = stored(tmp_path), len(server.bodies)
    server.delay_s = 0
    prompts = [[{"role": "user", "content": f"question {i}"}] for i in range(200)]
    assert texts(answer(backend, prompts, folder=tmp_path)) == [[prompt[0]["content"]] for prompt in prompts]
    assert before - 4 <= kept <= before and len(server.bodies) == before + 200 - kept


def test_an_interrupt_ends_the_calls_and_keeps_what_was_answered(backend, server, tmp_path):
    def interrupt(done, total):
        if done:
            raise KeyboardInterrupt

    server.delay_s = 0.05
    with pytest.raises(KeyboardInterrupt):
        answer(backend, PROMPTS * 20, folder=tmp_path, report=interrupt)
    time.sleep(0.2)
    assert server.running == 0 and 0 < stored(tmp_path) <= len(server.bodies) < 200


# Failing


def test_a_server_that_can_t_be_reached_is_named():
    with pytest.raises(
        UserError, match="all 10 calls failed at http://127.0.0.1:9/v1, .*Cannot connect to host"
    ):
        answer(ServerBackend(catalog.find("m@http://127.0.0.1:9/v1"), tries=1), PROMPTS)


def test_a_refused_student_is_told_with_those_that_are_served_and_how_to_start_one(backend, server):
    server.fault = lambda body, nth: "404"
    with pytest.raises(UserError) as error:
        answer(backend, PROMPTS)
    assert f"{server.url} refuses the-student (" in str(error.value)
    assert "it serves other-model. Name one of these: NAME@http" in str(error.value)


def test_thoughts_are_kept_apart_and_found_again_by_a_second_start(backend, server, tmp_path):
    server.reply = lambda body: "<think>They ask.</think>\n\nyes"
    for _ in range(2):
        ((reply,),) = answer(backend, PROMPTS[:1], folder=tmp_path)
        assert reply[:5] == ("yes", "They ask.", "stop", 10, 5) and not reply.thoughts_alone
    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    "strange",
    [
        reply_of("<think>They ask", "length"),
        reply_of(None, reasoning_content="They ask"),
        reply_of([{"type": "thinking", "thinking": "They ask"}]),
    ],
)
def test_a_thought_that_never_ends_is_a_reply_without_text_and_counted(backend, server, strange):
    server.reply = lambda body: strange
    rows, counts = models.respond(
        records.build([{"instruction": "one"}, {"instruction": "two"}]), backend, SamplingParams()
    )
    assert rows["student_response"][:] == ["", ""] and counts["unanswered"] == 2


@pytest.mark.parametrize(
    "strange, cause",
    [
        (reply_of("half", "abort"), "the reply ended with 'abort'"),
        (reply_of("yes", usage=(300, 5)), "the server cut the prompt: its context is 300 tokens"),
        (reply_of("yes", usage=None), "a reply without its usage in tokens"),
    ],
)
def test_a_reply_that_answers_nothing_is_an_error_and_is_not_kept(server, strange, cause, tmp_path):
    server.reply = lambda body: strange
    with pytest.raises(UserError, match=cause):
        answer(served(server, tries=1), [[{"role": "user", "content": "word " * 2000}]], folder=tmp_path)
    assert not stored(tmp_path)
