"""SELF-GUIDE: what a student is asked when it writes inputs and outputs for a task, and which of them are kept (sections 3.1 to 3.3)."""

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import NamedTuple

from lib.models.batches import Reply
from lib.self_guide import labels
from lib.self_guide.filtering import INCONSISTENT, KEPT, NEXT, UNREADABLE, Filter, fate
from lib.self_guide.target import Demo, Target

EARLIER = 10  # inputs written before that a prompt shows, at most


class Written(NamedTuple):
    """An input that the student wrote; its fate is "kept" or the filter that it did not pass."""

    text: str
    label: str  # that was asked for; "" where none was
    round: int
    fate: str


class Sampling(NamedTuple):
    """How outputs are drawn, and agreed on."""

    samples: int = 10
    temperature: float = 0.2
    top_k: int = 10
    least_share: float = 0.3  # of all samples, that the most frequent output must have


class Labelled(NamedTuple):
    """An input's most frequent output (None without any), its share of all samples, how these fared, one of them, and the input's fate."""

    output: str | None
    share: float
    samples: Counter
    example: str
    fate: str


# Prompts


def input_prompt(
    target: Target, earlier: list[str], label: str, rng: Random, template: Callable
) -> list[dict]:
    """Ask for one new input: the demonstrations' inputs, shuffled, and 1 to 10 of the earlier ones to differ from."""
    good = rng.sample([demo.input for demo in target.demos], len(target.demos))
    seen = rng.sample(earlier, min(len(earlier), rng.randint(1, EARLIER)))
    shown = {"good": good, "earlier": seen, "inputs": good + seen}
    parts = {
        name: "\n".join(f"Input: {text}" for text in texts) or "(none yet)" for name, texts in shown.items()
    }
    return template(instruction=target.instruction, label=label, **parts)


def output_prompt(instruction: str, demos: tuple[Demo, ...], text: str, template: Callable) -> list[dict]:
    """Ask for the output of one input, after demonstrations, of which there may be none."""
    shown = "".join(f"Input: {demo.input}\nOutput: {demo.output}\n" for demo in demos)
    [turn] = template(instruction=instruction, demos=shown, input=text)
    return [turn | {"content": turn["content"].strip()}]


def cleaned(text: str) -> str:
    """A reply without what a base model writes behind it: the next demonstration."""
    return text.partition(NEXT)[0].strip()


# Inputs


def input_temperature(target: Target, told: float) -> float:
    """The one that is told, or where that is 0 the paper's: 0.6 for a classification, 1.0 for a generation."""
    return told or (0.6 if target.labels else 1.0)


def write_inputs(
    target: Target,
    ask: Callable[[list[list[dict]], int], list[Reply]],
    templates: tuple[Callable, Callable],
    among: list[Filter],
    rounds: int,
    prompts_a_round: int = 10,
    seed: int = 0,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> list[Written]:
    """All inputs that the student writes, round by round, each round shown some of those that were kept before.

    A classification asks for an input of a label that is drawn anew each time (the second template); the label is then forgotten.
    """
    written: list[Written] = []
    for number in range(rounds):
        rng, kept = Random(f"inputs {seed} {number}"), [one.text for one in written if one.fate == KEPT]
        wanted = [rng.choice(target.labels) if target.labels else "" for _ in range(prompts_a_round)]
        asked = [input_prompt(target, kept, label, rng, templates[bool(label)]) for label in wanted]
        for label, reply in zip(wanted, ask(asked, number), strict=True):
            text = cleaned(reply.text)
            written.append(Written(text, label, number, fate(reply, text, among)))
        report(number + 1, rounds)
    return written


# Outputs


def most_frequent(texts: list[str]) -> str:
    """Of equally frequent ones the shortest, then the first."""
    counts = Counter(texts)
    return min(counts, key=lambda text: (-counts[text], len(text)))


def choose_output(target: Target, replies: list[Reply], among: list[Filter], least_share: float) -> Labelled:
    """Self-consistency: the most frequent of the outputs that pass the filters, where it is that share of all samples."""
    texts = [cleaned(reply.text) for reply in replies]
    fates = [fate(reply, text, among) for reply, text in zip(replies, texts, strict=True)]
    said = [labels.read(text, target.labels) if target.labels else text for text in texts]
    fates = [UNREADABLE if of == KEPT and one is None else of for of, one in zip(fates, said, strict=True)]
    kept, samples = [one for one, of in zip(said, fates, strict=True) if of == KEPT], Counter(fates)
    if not kept:
        [(worst, _)] = samples.most_common(1)
        return Labelled(None, 0.0, samples, texts[fates.index(worst)], worst)
    output = most_frequent(kept)
    share = kept.count(output) / len(replies)
    return Labelled(output, share, samples, output, KEPT if share >= least_share else INCONSISTENT)
