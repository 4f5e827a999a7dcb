"""Ask and read judges by the prompts, orders and parsers of `alpaca_eval`."""

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import yaml

from lib.corpus.sources import cleaned
from lib.errors import UserError
from lib.evaluation import shared
from lib.models.server import ServerBackend
from lib.models.types import Completion, SamplingParams
from lib.prompts import filled

PUBLISHED = "weighted_alpaca_eval_gpt4_turbo"  # the judge of the leaderboard
DEFAULTS = {"temperature": 0.7, "top_p": 1.0, "max_tokens": 2048}  # sent where a config is silent
SENT = {*DEFAULTS, "logprobs", "top_logprobs", "tools", "tool_choice"}  # settings that are part of a call


def folder() -> Path:
    """Return the folder of annotators without importing the package, which is slow."""
    return Path(find_spec("alpaca_eval").origin).with_name("evaluators_configs")


def config(annotator: str) -> dict:
    """Read the settings of an annotator.

    Raises UserError unless it is one judge, shown one pair per call, behind an OpenAI-compatible chat
    endpoint. The package's lmsys_parser fails at every tie.
    """
    file = folder() / annotator / "configs.yaml"
    judges = list(yaml.safe_load(file.read_text()).values()) if file.is_file() else []
    if len(judges) != 1 or not _can_be_asked(judges[0]):
        raise UserError(
            f"annotator={annotator!r}: it must be exact (the embedded world), or one judge that is shown one "
            f"pair per call by an OpenAI-compatible endpoint. Choose one of {folder()}, such as {PUBLISHED}."
        )
    return judges[0]


def _can_be_asked(settings: dict) -> bool:
    chat = (folder() / settings["prompt_template"]).read_text().lstrip().startswith("<|im_start|>")
    served = settings.get("fn_completions") == "openai_completions" and settings.get("batch_size", 1) == 1
    return chat and served and settings.get("fn_completion_parser") != "lmsys_parser"


def settings(annotator: str) -> dict:
    """Return a judge's model_name, max_tokens (1 where the probability of one is read) and other settings."""
    return DEFAULTS | config(annotator)["completions_kwargs"]


def ask(
    pairs: pd.DataFrame, annotator: str, endpoint: ServerBackend, report: Callable[[int], None] | None
) -> pd.Series:
    """Ask a judge about pairs (`shared.ask`); None where a call got no reply.

    Raises UserError where the first reply has no logprobs, but the annotator reads them.
    """
    judge = _judge(annotator)
    sampling = {name: value for name, value in settings(annotator).items() if name in SENT}
    params = SamplingParams(max_tokens=sampling.pop("max_tokens"), extra_args=sampling)

    def unread(replies: list[Completion]) -> list[bool]:
        # a reply that ended at once has no logprobs from any server
        if sampling.get("logprobs") and any(each.text and each.logprobs is None for each in replies[:1]):
            raise UserError(
                f"{endpoint.name} at {endpoint.model.url} gives no logprobs, which this annotator reads. "
                "Serve it with logprobs, or choose one that reads text, such as alpaca_eval_gpt4_turbo_fn."
            )
        return [pd.isna(_preference(judge, _choice(reply))) for reply in replies]

    replies = shared.ask(endpoint, "alpaca_eval", prompts(pairs, annotator), params, unread, report)
    return pd.Series([_choice(reply) for reply in replies], pairs.index, dtype=object)


def read(pairs: pd.DataFrame, annotator: str, replies: pd.Series) -> pd.Series:
    """Read replies as preferences: 1 for output_1 to 2 for output_2, null if unread.

    A reply is a chat choice with its "text", or whatever alpaca_eval stored.
    """
    judge = _judge(annotator)
    preferences = pd.Series([_preference(judge, reply) for reply in replies], pairs.index, dtype=float)
    swapped = _shown(pairs, judge)["output_1"] != pairs["output_1"]
    return preferences.where(~swapped, 3 - preferences)


def _preference(judge, reply: object) -> float | None:
    """Read one reply by the annotator's parser, which raises at what it cannot read."""
    try:
        whole = judge.completion_key == "completions_all" or not isinstance(reply, dict)
        with quiet():
            [preference] = judge.fn_completion_parser(reply if whole else reply["text"])
    except Exception:
        return None
    return preference


def prompts(pairs: pd.DataFrame, annotator: str) -> list[list[dict]]:
    """Fill the annotator's messages; markers of ChatML inside an output stay text."""
    judge = _judge(annotator)
    from alpaca_eval.utils import prompt_to_chatml

    messages = prompt_to_chatml(judge.prompt_template)
    rows = _shown(pairs, judge)[["instruction", "output_1", "output_2"]].to_dict("records")
    return [
        [message | {"content": filled(message["content"], row).strip()} for message in messages]
        for row in rows
    ]


def _judge(annotator: str):
    with quiet():
        from alpaca_eval.annotators import SinglePairwiseAnnotator

        return SinglePairwiseAnnotator(**config(annotator), base_dir=folder(), seed=0)


def _shown(pairs: pd.DataFrame, judge) -> pd.DataFrame:
    """Put the outputs in the judge's order, which the instruction's hash decides."""
    for processor in judge.processors if len(pairs) else ():
        pairs = processor.preprocess(pairs)
    return pairs


def _choice(reply: Completion) -> dict | None:
    """Return a reply as the package stores it, with its text or function arguments; None of a failed call."""
    if reply.failed:
        return None
    logprobs = cleaned({"content": reply.logprobs}) if reply.logprobs is not None else None
    message = {"role": "assistant", "content": reply.text}
    choice = {"message": message, "finish_reason": reply.finish_reason, "logprobs": logprobs}
    return choice | {"text": reply.text or " "}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the package, which logs and warns on every occasion."""
    level = logging.root.level
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(logging.NOTSET)
        logging.root.setLevel(level)  # its import lowers it
