"""A student writes inputs and outputs for a task by SELF-GUIDE's prompts (sections 3.1 to 3.3)."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import NamedTuple

from lib.models.backend import Backend
from lib.models.types import NO_TEXT, Completion, Report, SamplingParams
from lib.self_guide import labels
from lib.self_guide.filters import INCONSISTENT, KEPT, NEXT_DEMO, Filter, fate, output_filters
from lib.self_guide.target import Demo, Target

EARLIER = 10  # earlier inputs that a prompt shows, at most


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


def output_prompt(instruction: str, demos: Sequence[Demo], text: str, template: Callable) -> list[dict]:
    """Ask for the output of one input, behind the demonstrations, if any."""
    shown = "".join(f"Input: {demo.input}\nOutput: {demo.output}\n" for demo in demos)
    [turn] = template(instruction=instruction, demos=shown, input=text)
    return [turn | {"content": turn["content"].strip()}]


def clean_reply(text: str) -> str:
    """Remove the next demonstration, with which a base model continues a reply."""
    return text.partition(NEXT_DEMO)[0].strip()


# Inputs


def input_temperature(target: Target, temperature: float) -> float:
    """Return a temperature above 0, else the paper's: 0.6 for a classification, 1.0 for a generation."""
    return temperature or (0.6 if target.labels else 1.0)


def write_inputs(
    target: Target,
    ask: Callable[[list[list[dict]], int], list[Completion]],
    templates: tuple[Callable, Callable],
    filters: list[Filter],
    rounds: int,
    round_prompts: int = 10,
    seed: int = 0,
    report: Report = lambda done, total: None,
) -> list[GeneratedInput]:
    """Have the student write inputs in rounds; each round shows some inputs that earlier ones kept.

    For a classification each prompt requests an input of a random label, by the second template; the label is
    not used further. `ask` returns one reply for each prompt of a round.
    """
    generated: list[GeneratedInput] = []
    for number in range(rounds):
        rng = Random(f"inputs {seed} {number}")
        kept = [each.text for each in generated if each.fate == KEPT]
        requested = [rng.choice(target.labels) if target.labels else "" for _ in range(round_prompts)]
        prompts = [input_prompt(target, kept, label, rng, templates[bool(label)]) for label in requested]
        for label, reply in zip(requested, ask(prompts, number), strict=True):
            text = clean_reply(reply.text)
            generated.append(GeneratedInput(text, label, number, fate(reply, text, filters)))
        report(number + 1, rounds)
    return generated


# Outputs


def choose_output(
    target: Target, replies: list[Completion], filters: list[Filter], least_share: float
) -> LabelledInput:
    """Vote among the outputs that pass the filters; it needs a share of `least_share` of all samples.

    Of equally frequent outputs the shortest wins, then the first.
    """
    texts = [clean_reply(reply.text) for reply in replies]
    fates = [fate(reply, text, filters) for reply, text in zip(replies, texts, strict=True)]
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
    template: Callable[..., list[dict]]
    params: SamplingParams
    options: dict = field(default_factory=dict)
    unanswered: Counter = field(default_factory=Counter)  # responses without an answer, by cause

    def prompt(self, text: str, demos: Sequence[Demo]) -> list[dict]:
        """Write the prompt of one input."""
        return output_prompt(self.target.instruction, demos, text, self.template)

    def responses(self, inputs: list[str], demos: Sequence[Demo]) -> list[str]:
        """Respond greedily behind these demonstrations; "" where the prompt leaves no room."""
        return self.responses_each(inputs, [demos] * len(inputs))

    def responses_each(self, inputs: list[str], demos: list[Sequence[Demo]]) -> list[str]:
        """Respond as `responses` does, behind other demonstrations for each input."""
        replies = self._answer([self.prompt(*pair) for pair in zip(inputs, demos, strict=True)])
        causes = [NO_TEXT if reply.thoughts_alone else reply.finish_reason for [reply] in replies]
        self.unanswered.update(cause for cause in causes if cause != "stop")
        return [clean_reply(reply.text) for [reply] in replies]

    def label(self, inputs: list[str], least_share: float, **sampling) -> list[LabelledInput]:
        """Vote on the output of each input, by samples behind the target's demonstrations."""
        replies = self._answer([self.prompt(text, self.target.demos) for text in inputs], **sampling)
        filters = output_filters(self.target)
        return [choose_output(self.target, each, filters, least_share) for each in replies]

    def new_inputs(self, texts: list[str], template: Callable, **sampling) -> list[list[str]]:
        """Write up to `n` inputs similar to each text: no repeats, none empty."""
        alone = [replace(self.target, demos=(Demo(text, ""),)) for text in texts]
        prompts = [input_prompt(target, [], "", Random(0), template) for target in alone]
        replies = self._answer(prompts, **sampling)
        written = [dict.fromkeys(clean_reply(reply.text) for reply in each) for each in replies]
        pairs = zip(texts, written, strict=True)
        return [[new for new in each if new not in ("", text)] for text, each in pairs]

    def _answer(self, prompts: list[list[dict]], **sampling) -> list[list[Completion]]:
        """Generate with `params`, but for these fields of SamplingParams."""
        params = replace(self.params, **sampling)
        return self.student.generate(prompts, params, skip_long=True, **self.options)
