"""The models of params/models.yaml, which are asked by URL, servers of one's own, and students' templates."""

import difflib
import json
import os
from dataclasses import field, fields
from datetime import date
from functools import cache
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError
from pydantic.dataclasses import dataclass

from lib import files, paths
from lib.errors import UserError, nearest, one_line

LIST = "params/models.yaml"
CHARACTERS_A_TOKEN = 4  # of English text, to estimate by before a call is made
BATCH_SHARE = 0.5  # of the price, for a call in a batch
OWN_TIMEOUT_S = 1800  # of a call to a server of one's own, where it waits behind the others


def address(url: str) -> str:
    """Return an endpoint's URL as it is kept. Raises UserError for no URL, and for one with a secret."""
    try:
        parts = urlsplit(url)
        right = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port)
    except ValueError:
        right = False
    if not right:
        raise UserError(f"{url.split('@')[-1].split('?')[0]!r} is no endpoint. Write http(s)://host:port/v1.")
    if parts.username or parts.password or parts.query:
        raise UserError(
            f"the URL of {parts.hostname} holds more than an address. Set the key in the environment, and "
            f"name its variable in {LIST}."
        )
    return url.rstrip("/")


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Model:
    """A model behind a URL, or a student; the head of params/models.yaml describes the fields."""

    name: str  # of the entry, or name@url for a server of one's own
    url: Annotated[str, AfterValidator(address)] = ""
    key: Annotated[str, Field(pattern=r"^([A-Za-z_]\w*)?$")] = ""  # a variable's name, not the key
    price: tuple[float, float] | Literal["free"] | None = None
    as_of: str | date = ""
    retires: date | None = None
    concurrency: PositiveInt = 64
    requests_per_minute: PositiveFloat | None = None
    tokens_per_minute: PositiveFloat | None = None
    timeout_s: PositiveFloat = 120
    batch: bool = False
    limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    temperature: bool = True
    json: bool = False
    extra: dict = field(default_factory=dict)
    chat_template: str = ""  # a file, for a student of this name or folder

    @property
    def served_name(self) -> str:
        """The name that the server knows the model by."""
        return split(self.name)[0]

    @property
    def is_retired(self) -> bool:
        return self.retires is not None and self.retires < date.today()

    def secret(self) -> str:
        """Return the key, or "" for a model without one.

        Raises UserError where its variable is not set, or holds what no header can.
        """
        key = os.environ.get(self.key, "").strip() if self.key else ""
        if self.key and not key:
            raise UserError(f"{self.name}: there is no key. Set {self.key}, or name a server of your own.")
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise UserError(f"{self.name}: {self.key} holds a character that no key has. Set it again.")
        return key

    def usd(self, prompt_tokens: float, completion_tokens: float, share: float = 1.0) -> float | None:
        """Return what tokens cost at a share of the price; None where the price is unknown."""
        if self.price is None:
            return None
        prompt, completion = (0.0, 0.0) if self.price == "free" else self.price
        return (prompt * prompt_tokens + completion * completion_tokens) / 1e6 * share

    def request(self, sampling: dict) -> dict:
        """Return sampling parameters as the model takes them."""
        left_out = () if self.temperature else ("temperature", "top_p")
        renamed = {self.limit if name == "max_tokens" else name: value for name, value in sampling.items()}
        return {name: value for name, value in renamed.items() if name not in left_out} | self.extra


def split(name: str) -> tuple[str, str]:
    """Split name@url; the URL is "" where none stands there."""
    served, at, rest = str(name).partition("@http")
    return served, f"http{rest}" if at else ""


def find(name: str) -> Model:
    """Return the model that a parameter names. Raises UserError for one that is not listed."""
    served, url = split(name)
    if url:
        name = f"{served}@{address(url)}"
        return Model(name, url, price="free", timeout_s=OWN_TIMEOUT_S)
    models = {each.name: each for each in listed().values() if each.url}
    if name not in models:
        raise UserError(
            f"{name}: it is not in {LIST}{nearest(name, models, n=2, cutoff=0.4)}. "
            f"Add an entry there, or name a server of your own: {name}@http://host:port/v1."
        )
    return models[name]


def chat_template(student: str | Path) -> str:
    """Return the template file that an entry names for a student, by its hub name or folder; "" for none."""
    named = [model for model in listed().values() if model.chat_template]
    location = paths.local(split(str(student))[0])
    return next((model.chat_template for model in named if paths.local(model.name) == location), "")


def find_offered(name: str, budget_usd: float | None, ledger_only: bool = False) -> Model:
    """Return a model that can be asked now; with `ledger_only` none is asked.

    Raises UserError for one that is retired, lacks its key, or has no price to hold a budget against.
    """
    model = find(name)
    if ledger_only:
        return model
    if model.is_retired:
        offered = [each.name for each in listed().values() if each.url == model.url and not each.is_retired]
        others = f"Take {' or '.join(offered[:2])}" if offered else "Add another model"
        raise UserError(
            f"{name}: it is no longer offered since {model.retires} ({LIST}). {others}, or use its stored "
            "replies alone, with --ledger-only."
        )
    model.secret()
    check_budget(model, budget_usd)
    return model


def check_budget(model: Model, budget_usd: float | None) -> None:
    """Raise UserError for a budget that cannot hold, as the price of the model is unknown."""
    if budget_usd and model.price is None:
        raise UserError(f"budget_usd={budget_usd:g}: the price of {model.name} is unknown. Add it to {LIST}.")


@cache
def listed() -> dict[str, Model]:
    """Return the entries of params/models.yaml, or $MODELS, by name.

    Raises UserError naming what is wrong in one.
    """
    path = paths.ROOT / os.environ.get("MODELS", LIST)
    where = paths.short(path)
    if "MODELS" not in os.environ and not path.exists():  # lib is installed, without a project around it
        return {}
    try:
        entries = files.load_yaml(path.read_text(encoding="utf-8"), where)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{where} cannot be read: {one_line(error)}. Correct $MODELS.") from None
    if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
        raise UserError(f"{where}: it has no entries. Write NAME: {{url: …}} for each model.")
    return {name: _entry(f"{where}: {name}", name, entry) for name, entry in entries.items()}


def _entry(where: str, name: str, entry: dict) -> Model:
    names = [each.name for each in fields(Model)][1:]
    if unknown := [each for each in entry if each not in names]:
        close = difflib.get_close_matches(str(unknown[0]), names, n=1, cutoff=0)
        raise UserError(f"{where}: there is no field {unknown[0]}. Did you mean {close[0]}?")
    if not (entry.get("url") or entry.get("chat_template")):
        raise UserError(f"{where}: it has neither url nor, for a student, chat_template. Add one.")
    try:
        return Model(name=name, **entry)
    except UserError as error:  # of its URL
        raise UserError(f"{where}: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        field_name = ".".join(map(str, first["loc"]))
        raise UserError(f"{where}: {field_name}: {one_line(first['msg'])}. Correct the entry.") from None


def tokens(messages: list[dict]) -> float:
    """Estimate the tokens of messages."""
    return len(json.dumps(messages, ensure_ascii=False)) / CHARACTERS_A_TOKEN
