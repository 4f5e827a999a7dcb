"""What calls cost: params/prices.yaml, in USD per million tokens."""

import json
from functools import cache
from typing import NamedTuple

from lib import files, paths
from lib.errors import UserError, one_line

CHARACTERS_A_TOKEN = 4  # of English text, to estimate by before a call is made


class Price(NamedTuple):
    """USD per million tokens."""

    prompt: float
    completion: float


LIST = "params/prices.yaml"


@cache
def _listed() -> dict:
    """What the list says. Raises UserError naming what is no price in it."""
    listed = files.load_yaml((paths.ROOT / LIST).read_text(encoding="utf-8"), LIST)
    try:
        prices = {name: Price(*map(float, price)) for name, price in listed["models"].items()}
        return {"batch": float(listed["batch"]), "models": prices}
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{LIST}: a price is [prompt, completion] in USD, batch a share ({one_line(error)})"
        ) from None


def find(model: str) -> Price | None:
    """The price of a model by its name; None where it is not listed."""
    return _listed()["models"].get(model)


def check_budget(model: str, budget_usd: float | None) -> None:
    """Raises UserError for a budget that cannot hold, as the price of the model is unknown."""
    if budget_usd is not None and find(model) is None:
        raise UserError(
            f"budget_usd={budget_usd:g}, but the price of {model} is unknown: add it to params/prices.yaml"
        )


def batch_share() -> float:
    """The share of the price that a call in a batch costs."""
    return _listed()["batch"]


def usd(price: Price | None, prompt_tokens: int, completion_tokens: int) -> float | None:
    """What so many tokens cost; None where the price is unknown."""
    return price and (price.prompt * prompt_tokens + price.completion * completion_tokens) / 1e6


def tokens(messages: list[dict]) -> float:
    """About as many tokens as the messages have."""
    return len(json.dumps(messages, ensure_ascii=False)) / CHARACTERS_A_TOKEN
