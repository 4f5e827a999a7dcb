"""What calls cost: params/prices.yaml, in US$ per million tokens."""

import json
from functools import cache
from typing import NamedTuple

import yaml

from lib import paths

CHARACTERS_A_TOKEN = 4  # of English text, to estimate by before a call is made


class Price(NamedTuple):
    """US$ per million tokens."""

    prompt: float
    completion: float


@cache
def _table() -> dict[str, Price]:
    listed = yaml.safe_load((paths.ROOT / "params/prices.yaml").read_text())
    return {model: Price(*price) for model, price in listed["models"].items()}


def of(model: str) -> Price | None:
    """The price of a model by its name; None where it is not listed."""
    return _table().get(model)


def usd(price: Price | None, prompt_tokens: int, completion_tokens: int) -> float | None:
    """What so many tokens cost; None where the price is unknown."""
    return price and (price.prompt * prompt_tokens + price.completion * completion_tokens) / 1e6


def tokens(messages: list[dict]) -> float:
    """About as many tokens as the messages have."""
    return len(json.dumps(messages, ensure_ascii=False)) / CHARACTERS_A_TOKEN
