"""A probe asks a model four short questions, and prints the entry with which it can be asked."""

import json

import yaml
from chat_server import ChatServer

from lib.models import catalog
from lib.models.__main__ import main


def refuses(*names: str):
    """A fault of a server that takes none of these parameters."""

    def fault(body, nth):
        return next((f"400 Unsupported parameter: '{name}'" for name in names if name in body), None)

    return fault


def reply(body: dict) -> dict:
    message = {"content": json.dumps({"result": 7}), "reasoning_content": "8 less 1."}
    choice = {"message": message, "finish_reason": "stop"}
    if "logprobs" in body:
        choice["logprobs"] = {"content": [{"token": "7", "top_logprobs": []}]}
    return {"choices": [choice]}


def test_a_model_of_other_parameters_gets_an_entry_that_says_so(capsys):
    with ChatServer(reply, refuses("max_tokens", "temperature")) as server:
        assert main(["probe", f"a-model@{server.url}"]) == 0
        assert len(server.bodies) == 5
    line, cost, entry = capsys.readouterr().out.strip().split("\n")
    wants = "takes max_completion_tokens, temperature: no, logprobs: yes, JSON: yes, thoughts: yes"
    assert line.endswith(wants)
    assert cost == "a reply: 10 + 5 tokens, USD 0.000000"
    fields = yaml.safe_load(entry)["a-model"]
    takes = {"limit": "max_completion_tokens", "temperature": False, "json": True}
    assert fields == {"url": server.url, "price": "free", "timeout_s": 1800.0} | takes
    assert catalog._entry("models.yaml", "a-model", fields).limit == "max_completion_tokens"


def test_a_plain_server_takes_four_questions(capsys):
    with ChatServer(lambda body: "Seven.", refuses("response_format", "logprobs")) as server:
        assert main(["probe", f"a-model@{server.url}"]) == 0
        assert len(server.bodies) == 4
    assert "max_tokens, temperature: yes, logprobs: no, JSON: no, thoughts: no" in capsys.readouterr().out
