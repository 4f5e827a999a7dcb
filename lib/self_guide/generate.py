"""A student writes inputs and outputs for a task by SELF-GUIDE's prompts (sections 3.1 to 3.3)."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import NamedTuple

import pandas as pd

from lib import prompts
from lib.models.backend import Backend
from lib.models.types import NO_TEXT, Completion, Report, SamplingParams
from lib.self_guide import labels
from lib.self_guide.filters import INCONSISTENT, KEPT, NEXT_DEMO, Filter, fate, input_filters, output_filters
from lib.self_guide.target import Demo, Target

# [PDF]: a number of SELF-GUIDE from secondary sources or from memory, to be checked against the paper
ROUND_PROMPTS = 10  # prompts of a round, which do not see each other's inputs [PDF]
EARLIER = 10  # earlier inputs that a prompt shows, at most
INPUT_TOP_K = 40  # tokens that an input is drawn from [PDF]
OUTPUT_TOP_K = 10  # tokens that an output is drawn from [PDF]
LABEL_PROMPTS = {"self_guide_input": "self_guide_input_label"}  # the same prompt for an input of a label


class GeneratedInput(NamedTuple):
    """An input that the student wrote; its fate is "kept" or the filter that dropped it."""

    text: str
    label: str  # the label that was requested, or ""
    round: int
    fate: str


class LabelledInput(NamedTuple):
    """The most frequent output of an input (None without any), and how the samples fared."""

    output: str | None
    share: float  # of all samples
    samples: Counter  # their fates
    example: str  # one of them
    fate: str  # of the input


# Prompts


def input_prompt(
    target: Target, earlier: Sequence[str], label: str, rng: Random, template: Callable
) -> list[dict]:
    """Ask for one new input: show the demonstrated inputs, and 1 to 10 earlier ones to differ from."""
    good = rng.sample([demo.input for demo in target.demos], len(target.demos))
    seen = rng.sample(earlier, min(len(earlier), rng.randint(1, EARLIER)))
    shown = {"good": good, "earlier": seen, "inputs": good + seen}
    parts = {name: "\n".join(f"Input: {text}" for text in texts) for name, texts in shown.items()}
    parts["earlier"] = parts["earlier"] or "(none yet)"
    return template(instruction=target.instruction, label=label, **parts)


def clean_reply(text: str) -> str:
    """Remove the next demonstration, with which a base model continues a reply."""
    return text.partition(NEXT_DEMO)[0].strip()


# Inputs


def input_temperature(target: Target, temperature: float) -> float:
    """Return a temperature above 0, else 0.6 for a classification and 1.0 for a generation [PDF]."""
    return temperature or (0.6 if target.labels else 1.0)


def input_template(target: Target, name: str) -> Callable:
    """Read the prompt that requests an input; for a classification, the form of it that names a label."""
    return prompts.template(LABEL_PROMPTS.get(name, name) if target.labels else name)


def asker(student: Backend, params: SamplingParams, folder: Path) -> Callable:
    """Return a function of a round's prompts and its number: one reply per prompt, stored in `folder`."""

    def ask(batch: list[list[dict]], number: int) -> list[Completion]:
        seeded = replace(params, seed=params.seed * 1000 + number)
        return [reply for [reply] in student.generate(batch, seeded, folder=folder, skip_long=True)]

    return ask


def round_prompts(
    target: Target, kept: list[str], number: int, template: Callable, seed: int
) -> tuple[list[str], list[list[dict]]]:
    """Write the prompts of a round, behind the inputs that earlier rounds kept, and the labels they request.

    For a classification each prompt requests an input of a random label, which is not used further.
    """
    rng = Random(f"inputs {seed} {number}")
    requested = [rng.choice(target.labels) if target.labels else "" for _ in range(ROUND_PROMPTS)]
    return requested, [input_prompt(target, kept, label, rng, template) for label in requested]


def write_inputs(
    target: Target,
    ask: Callable[[list[list[dict]], int], list[Completion]],
    template: Callable,
    rounds: int,
    seed: int = 0,
    report: Report = lambda done, total: None,
) -> list[GeneratedInput]:
    """Have the student write inputs in rounds; `ask` returns one reply for each prompt of a round."""
    filters, generated = input_filters(target), []
    for number in range(rounds):
        kept = [each.text for each in generated if each.fate == KEPT]
        requested, batch = round_prompts(target, kept, number, template, seed)
        for label, reply in zip(requested, ask(batch, number), strict=True):
            text = clean_reply(reply.text)
            generated.append(GeneratedInput(text, label, number, fate(reply, text, filters)))
        report(number + 1, rounds)
    return generated


# Outputs


def tabulate(inputs: list[str], votes: list[LabelledInput]) -> pd.DataFrame:
    """Tabulate votes beside their inputs."""
    return pd.DataFrame(votes, columns=LabelledInput._fields).assign(input=inputs)


def accuracy(**tables: pd.DataFrame) -> pd.DataFrame:
    """Compute the share of kept outputs that are `right`: a line per table in which that is known."""
    right = {name: table.loc[table["fate"] == KEPT, "right"].dropna() for name, table in tables.items()}
    lines = {
        name: (values.astype(float).mean(), len(values)) for name, values in right.items() if len(values)
    }
    return pd.DataFrame.from_dict(lines, orient="index", columns=["right", "kept"])


def read_samples(replies: list[Completion], filters: list[Filter]) -> tuple[list[str], list[str]]:
    """Return the cleaned text of each sample, and its fate."""
    texts = [clean_reply(reply.text) for reply in replies]
    return texts, [fate(reply, text, filters) for reply, text in zip(replies, texts, strict=True)]


def choose_output(
    target: Target, replies: list[Completion], filters: list[Filter], least_share: float
) -> LabelledInput:
    """Vote among the outputs that pass the filters; it needs a share of `least_share` of all samples.

    Of equally frequent outputs the shortest wins, then the first.
    """
    texts, fates = read_samples(replies, filters)
    kept, samples = [text for text, each in zip(texts, fates, strict=True) if each == KEPT], Counter(fates)
    if not kept:
        [(worst, _)] = samples.most_common(1)
        return LabelledInput(None, 0.0, samples, texts[fates.index(worst)], worst)
    votes = Counter(labels.read(text, target.labels) if target.labels else text for text in kept)
    output = min(votes, key=lambda text: (-votes[text], len(text)))
    share = votes[output] / len(replies)
    return LabelledInput(output, share, samples, output, KEPT if share >= least_share else INCONSISTENT)


@dataclass(frozen=True)
class TaskPrompter:
    """Asks a student about a target task; `options` go to `generate` (folder, report)."""

    student: Backend
    target: Target
    params: SamplingParams
    options: dict = field(default_factory=dict)
    unanswered: Counter = field(default_factory=Counter)  # responses without an answer, by cause

    def responses(self, inputs: list[str], demos: Sequence[Demo]) -> list[str]:
        """Respond greedily behind these demonstrations; "" where the prompt leaves no room."""
        return self.responses_each(inputs, [demos] * len(inputs))

    def responses_each(self, inputs: list[str], demos: list[Sequence[Demo]]) -> list[str]:
        """Respond as `responses` does, behind other demonstrations for each input."""
        replies = self._answer(list(map(self.target.prompt, inputs, demos)))
        causes = [NO_TEXT if reply.thoughts_alone else reply.finish_reason for [reply] in replies]
        self.unanswered.update(cause for cause in causes if cause != "stop")
        return [clean_reply(reply.text) for [reply] in replies]

    def label(self, inputs: list[str], least_share: float, **sampling) -> list[LabelledInput]:
        """Vote on the output of each input, by samples behind the target's demonstrations."""
        filters = output_filters(self.target)
        replies = self.samples(inputs, **sampling)
        return [choose_output(self.target, each, filters, least_share) for each in replies]

    def samples(
        self, inputs: list[str], only: Sequence[int] | None = None, **sampling
    ) -> list[list[Completion]]:
        """Sample responses to each input behind the target's demonstrations; `only`: see Backend.generate."""
        requests = [self.target.prompt(text, self.target.demos) for text in inputs]
        return self._answer(requests, only, **sampling)

    def new_inputs(self, texts: list[str], template: Callable, **sampling) -> list[list[str]]:
        """Write up to `n` inputs similar to each text: no repeats, none empty."""
        alone = [replace(self.target, demos=(Demo(text, ""),)) for text in texts]
        requests = [input_prompt(target, [], "", Random(0), template) for target in alone]
        replies = self._answer(requests, **sampling)
        written = [dict.fromkeys(clean_reply(reply.text) for reply in each) for each in replies]
        pairs = zip(texts, written, strict=True)
        return [[new for new in each if new not in ("", text)] for text, each in pairs]

    def _answer(
        self, requests: list[list[dict]], only: Sequence[int] | None = None, **sampling
    ) -> list[list[Completion]]:
        """Generate with `params`, but for these fields of SamplingParams."""
        params = replace(self.params, **sampling)
        return self.student.generate(requests, params, skip_long=True, only=only, **self.options)
