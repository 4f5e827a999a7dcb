"""Ask a model four short questions: what it takes, what a reply costs, its entry for params/models.yaml."""

import asyncio
import json
from dataclasses import fields, replace
from datetime import date

import openai
import yaml

from lib.errors import UserError
from lib.models import calls, catalog, completions
from lib.models.catalog import Model
from lib.models.types import Completion, json_format

QUESTION = [{"role": "user", "content": 'What is 8 - 1? Reply with JSON alone: {"result": number}'}]
MOST_TOKENS = 512  # of a reply, thoughts included


def probe(name: str) -> str:
    """Describe a model by its replies, in lines. Raises UserError where it cannot be asked."""
    return asyncio.run(_probe(name, catalog.find_offered(name, None)))


async def _probe(name: str, model: Model) -> str:
    async with calls.connect(model, connections=1, tries=3) as client:
        for limit in completions.LIMITS:
            model = replace(model, limit=limit)
            if reply := await _ask(client, model, {}):
                break
        else:
            raise UserError(f"{name}: it takes neither {' nor '.join(completions.LIMITS)}. Look at its API.")
        is_warm = await _ask(client, model, {"temperature": 0.0})
        by_token = await _ask(client, model, {"logprobs": True, "top_logprobs": 5})
        structured = await _ask(client, model, {"response_format": json_format(result="number")})
        retires = await _retires(client, model)
    model = replace(
        model,
        name=model.served_name,
        temperature=is_warm is not None,
        json=structured is not None and _is_result(structured.text),
        retires=retires or model.retires,
    )
    takes = {
        "temperature": model.temperature,
        "logprobs": bool(by_token and by_token.logprobs),
        "JSON": model.json,
        "thoughts": bool(reply.reasoning),
    }
    words = [model.limit, *(f"{what}: {'yes' if value else 'no'}" for what, value in takes.items())]
    return "\n".join([f"{name} takes {', '.join(words)}", _cost(model, reply), entry(model)])


async def _ask(client: openai.AsyncOpenAI, model: Model, sampling: dict) -> Completion | None:
    """Return the reply to the question; None where the model refuses these sampling parameters."""
    body = {"model": model.served_name, "messages": QUESTION, model.limit: MOST_TOKENS} | sampling
    try:
        return (await calls.post(client, body | model.extra, completions.read, tries=1))[1]
    except (openai.APIError, completions.Unusable) as error:
        # OpenAI refuses log-probabilities of models that think with 403
        refused = isinstance(error, (openai.BadRequestError, openai.UnprocessableEntityError))
        if refused or sampling and not isinstance(error, openai.APIConnectionError):
            return None
        reason = calls.masked(error, model)
        raise UserError(
            f"{model.name}: it cannot be asked ({reason}). Check its URL and key in {catalog.LIST}."
        ) from None


async def _retires(client: openai.AsyncOpenAI, model: Model) -> date | None:
    """Return the last day on which a model is offered; None where its server names none."""
    try:
        stated = (await client.models.retrieve(model.served_name)).model_extra or {}
        return date.fromisoformat(str(stated.get("shutdown_date"))[:10])
    except (openai.APIError, ValueError):
        return None


def _is_result(text: str) -> bool:
    try:
        return json.loads(text).keys() == {"result"}
    except (ValueError, AttributeError):
        return False


def _cost(model: Model, reply: Completion) -> str:
    until = f"; offered until {model.retires}" if model.retires else ""
    if reply.completion_tokens is None:
        return f"a reply: its server counts no tokens{until}"
    usd = model.usd(reply.prompt_tokens, reply.completion_tokens)
    money = "an unknown price" if usd is None else f"USD {usd:.6f}"
    return f"a reply: {reply.prompt_tokens} + {reply.completion_tokens} tokens, {money}{until}"


def entry(model: Model) -> str:
    """Write a model as its line in params/models.yaml."""
    values = {each.name: getattr(model, each.name) for each in fields(Model) if each.name != "name"}
    given = {name: value for name, value in values.items() if value != getattr(PLAIN, name) or name == "url"}
    given |= {"retires": str(model.retires)} if model.retires else {}
    given |= {"price": list(model.price)} if isinstance(model.price, tuple) else {}
    return yaml.safe_dump({model.name: given}, default_flow_style=None, sort_keys=False, width=1000).strip()


PLAIN = Model("", "http://localhost")
