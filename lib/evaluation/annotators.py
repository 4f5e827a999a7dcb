"""The annotators of the `alpaca_eval` package, their replies from where we say: a recording, or a judge by way of the ledger."""

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import yaml

from lib.errors import UserError
from lib.evaluation import recordings
from lib.models import completions
from lib.models.chat import Endpoint, Request

PUBLISHED = "weighted_alpaca_eval_gpt4_turbo"  # the judge of the leaderboard
# of the package's decoder: settings that are no part of a call, and what it sends where a config is silent
OWN = (
    "model_name",
    "requires_chatml",
    "is_chat",
    "num_procs",
    "batch_size",
    "price_per_token",
    "client_kwargs",
)
DEFAULTS = {"temperature": 0.7, "top_p": 1.0, "max_tokens": 2048}
MARK, MASKED = "<|im_", "<\ue000im_"  # begins a marker of ChatML, in which the package writes its prompts

Complete = Callable[[list[str], list[str], dict], list]  # raw replies to (instructions, prompts, settings)


def folder() -> Path:
    """Where the package keeps its annotators and their prompts; found without importing it, which takes seconds."""
    return Path(find_spec("alpaca_eval").origin).with_name("evaluators_configs")


def config(annotator: str) -> dict:
    """The settings of an annotator. Raises UserError for one that there is not, or that can't be asked here."""
    file = folder() / annotator / "configs.yaml"
    if not annotator or not file.is_file():
        raise UserError(
            f"annotator is {annotator!r}: it must be exact (the embedded world) or one of alpaca_eval's, such as {PUBLISHED}; "
            f"all are in {folder()}"
        )
    told = list(yaml.safe_load(file.read_text()).values())
    if len(told) > 1 or told[0].get("batch_size", 1) > 1:
        raise UserError(
            f"annotator={annotator} is several judges, or shows several pairs in a call: choose another"
        )
    one = told[0]
    chat = (folder() / one["prompt_template"]).read_text().lstrip().startswith(MARK)
    if one.get("fn_completions") != "openai_completions" or not chat:
        raise UserError(f"annotator={annotator} is not for OpenAI-compatible chat endpoints: choose another")
    if one.get("fn_completion_parser") == "lmsys_parser":
        raise UserError(
            f"annotator={annotator} has a reading on which the package fails at every tie: choose another"
        )
    return one


def model(annotator: str) -> str:
    """The judge that the annotator asks for."""
    return config(annotator)["completions_kwargs"]["model_name"]


def limit(annotator: str) -> int:
    """Tokens of a verdict at most; 1 where the probability of one token is all that is read."""
    return config(annotator)["completions_kwargs"].get("max_tokens", DEFAULTS["max_tokens"])


def template(annotator: str) -> str:
    """The annotator's prompt."""
    return (folder() / config(annotator)["prompt_template"]).read_text()


def annotate(pairs: pd.DataFrame, annotator: str, complete: Complete) -> pd.DataFrame:
    """The pairs (instruction, output_1, output_2) with `preference`, 1 for the first to 2 for the second, null where unread, and
    `raw_completion`, the reply. Equal outputs are a tie, 1.5, and not asked about."""
    if pairs.empty:
        return pairs.assign(preference=pd.Series(dtype=float), raw_completion=None)
    with quiet():
        from alpaca_eval.annotators import PairwiseAnnotator, pairwise_evaluator

        class Single(pairwise_evaluator.SinglePairwiseAnnotator):
            def _make_prompts(self, pairs, prompt_template=None):
                prompts, pairs = super()._make_prompts(pairs, prompt_template)
                self.fn_completions = partial(_completions, complete, pairs["instruction"].tolist())
                return prompts, pairs

        class Annotator(PairwiseAnnotator):
            SingleAnnotator = Single

        keep = {"caching_path": None, "is_avoid_reannotations": False, "is_store_missing_annotations": False}
        # an output that holds a marker would end the judge's prompt, or add a turn to it
        shown = pairs.assign(
            **{n: pairs[n].str.replace(MARK, MASKED, regex=False) for n in ("output_1", "output_2")}
        )
        made = Annotator(annotators_config=annotator, **keep).annotate_pairs(shown, chunksize=None)
    said = pd.DataFrame(made).set_index("instruction").reindex(pairs["instruction"])  # it may leave pairs out
    said = said.reindex(columns=["preference", "preference_raw_completion"])
    return pairs.assign(
        preference=said["preference"].to_numpy(float),
        raw_completion=said["preference_raw_completion"].to_numpy(),
    )


def _completions(
    complete: Complete, instructions: list[str], prompts: list[str], **settings
) -> dict[str, list]:
    """What the package's decoders return; which of the two an annotator reads, its settings say."""
    raw = complete(instructions, prompts, settings)
    texts = [reply["text"] if isinstance(reply, dict) and "text" in reply else reply for reply in raw]
    return {"completions": texts, "completions_all": raw}


def replayed(known: dict[str, object]) -> Complete:
    """Replies that were recorded, by instruction."""
    return lambda instructions, prompts, settings: [known[text] for text in instructions]


def asked(endpoint: Endpoint, attempt: int, report: Callable[[int], None], replies: dict) -> Complete:
    """Replies of a judge, which are put into `replies` by instruction; None there where no call was answered.

    Raises UserError for a judge without logprobs where they are read, once a single call has shown it.
    """

    def complete(instructions: list[str], prompts: list[str], settings: dict) -> list:
        sampling = DEFAULTS | {name: value for name, value in settings.items() if name not in OWN}
        calls = [Request(_messages(prompt), "alpaca_eval", attempt, sampling) for prompt in prompts]
        alone = 0 if endpoint.ledger_only else 1  # the first call shows what kind of judge this is
        said = endpoint.responses(calls[:alone])
        _check_logprobs(said, sampling, endpoint)
        said += endpoint.responses(calls[alone:], lambda done: report(done + alone))
        _check_logprobs(said, sampling, endpoint)
        told = [response and _choice(response, sampling) for response in said]
        for text, reply in zip(instructions, told, strict=True):
            replies[text] = reply or replies.get(text)
        return [reply or "" for reply in told]

    return complete


def _messages(prompt: str) -> list[dict]:
    from alpaca_eval.utils import prompt_to_chatml

    parts = prompt_to_chatml(prompt)
    return [part | {"content": part["content"].replace(MASKED, MARK)} for part in parts]


def _check_logprobs(responses: list[dict | None], sampling: dict, endpoint: Endpoint) -> None:
    choices = (response["choices"][0] for response in responses if response)
    # a reply that ended at once has none from any server
    first = next((choice for choice in choices if choice["message"].get("content")), None)
    if first and sampling.get("logprobs") and not first.get("logprobs"):
        raise UserError(
            f"{endpoint.model} at {endpoint.url} gives no logprobs, which this annotator reads: serve it with them, or name an "
            "annotator that reads text, such as alpaca_eval_gpt4_turbo_fn"
        )


def _choice(response: dict, sampling: dict) -> dict:
    """A reply as the package keeps it: with its text, or the arguments of the function that it calls."""
    said = completions.read(response, {"messages": [], **sampling})
    choice = recordings.cleaned(response["choices"][0])
    return choice | {"text": recordings.cleaned(said.text) or " ", "finish_reason": said.finish_reason}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The package logs, warns and shows bars on every occasion: what it has to say is in its result."""
    level = logging.root.level
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)
            logging.root.setLevel(level)  # its import lowers it
