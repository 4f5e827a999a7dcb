"""Requests to a model and their completions, with the names of vLLM and the OpenAI API."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from lib.errors import UserError

Report = Callable[[int, int], None]  # gets how many are done, and of how many
NO_ROOM = "no room"  # finish_reason of a prompt that fills the model's context: it was not sent
FAILED = "failed: "
NO_TEXT = "no answer"  # how a completion is counted that holds thoughts alone


@dataclass(frozen=True)
class SamplingParams:
    """How completions are drawn. Raises UserError for values that no draw can have."""

    n: int = 1  # completions per prompt
    temperature: float = 0.0  # 0 is greedy
    top_k: int = 0  # 0 draws from all tokens
    top_p: float = 1.0  # draws from the likeliest tokens that together have this probability
    max_tokens: int = 256
    seed: int = 0
    logprobs: int = 0  # candidates of each token that a server gives with their log-probabilities
    extra_args: dict = field(default_factory=dict)  # further fields of a request to a server

    def __post_init__(self):
        check_samples(self.n, self.temperature)
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p={self.top_p}: it is a probability. Set it above 0, to 1 at most.")
        if self.max_tokens < 1:
            raise UserError(f"max_new_tokens={self.max_tokens}: it is too low. Set it to 1 or above.")


def check_samples(samples: int, temperature: float) -> None:
    """Raise UserError for no samples, and for several that would all be the same."""
    if samples < 1:
        raise UserError(f"samples={samples}: it is too low. Set it to 1 or above.")
    if samples > 1 and not temperature:
        raise UserError(
            f"samples={samples}: at temperature 0 they are all the same. Raise it, or set samples to 1."
        )


class Completion(NamedTuple):
    """One completion; `finish_reason` is "stop" where it is whole, "length" where it was cut, or NO_ROOM.

    Of a failed call it is FAILED and the cause. `reasoning` holds the thoughts before the text: kept, but
    never judged, trained on or scored. Tokens are None where a server does not count them. `logprobs` are
    those of the tokens, as the OpenAI API has them, where they were asked for.
    """

    text: str
    reasoning: str = ""
    finish_reason: str = "stop"
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    logprobs: list[dict] | None = None

    @property
    def failed(self) -> bool:
        """Whether a call got no reply that can be used."""
        return self.finish_reason.startswith(FAILED)

    @property
    def truncated(self) -> bool:
        """Whether max_tokens cut the completion, or the prompt left no room for one."""
        return self.finish_reason != "stop"

    @property
    def whole_text(self) -> str | None:
        """The text, where the completion ended by itself: a cut one teaches to stop in the middle."""
        return None if self.truncated else self.text.strip() or None

    @property
    def thoughts_alone(self) -> bool:
        """Whether no text follows the thoughts."""
        return bool(self.reasoning) and not self.text


class Ended(NamedTuple):
    """Numbers of truncated completions, and of completions that hold thoughts alone."""

    cut: int
    unanswered: int


def ended(completions: Iterable[Completion]) -> Ended:
    """Count how completions ended."""
    completions = list(completions)
    return Ended(
        sum(each.truncated for each in completions), sum(each.thoughts_alone for each in completions)
    )


def json_format(**types: str) -> dict:
    """Return a response_format for a JSON object with these fields, each of a JSON type."""
    schema = {"type": "object", "properties": {name: {"type": kind} for name, kind in types.items()}}
    schema |= {"required": [*types], "additionalProperties": False}
    return {"type": "json_schema", "json_schema": {"name": "reply", "strict": True, "schema": schema}}
