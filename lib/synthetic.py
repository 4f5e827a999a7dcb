"""Synthetic pairs as rows: written down, taught, set beside what teaches something else, and looked at."""

import json
from collections.abc import Callable
from random import Random

import numpy as np
from datasets import Dataset
from sacrebleu import sentence_bleu

from lib import records, self_guide
from lib.gym import targets
from lib.self_guide import Labelled, Written
from lib.sieve import KEPT
from lib.target import Demo, Instance, Target

WORDS = 4  # texts with fewer words, on average, are compared character by character
SETS = 200  # sets of texts that a diversity is the mean of


def row(
    target: Target,
    text: str,
    output: str | None,
    template: Callable,
    demos: tuple[Demo, ...] | None = None,
    **meta,
) -> dict:
    """A pair as a row: what is asked after the demonstrations (the target's, or others), and the output that is taught."""
    shown = target.demos if demos is None else demos
    [turn] = self_guide.output_prompt(target.instruction, shown, text, template)
    told = {"instruction": turn["content"], "response": output, "source": f"self_guide:{target.name}"}
    return told | {
        "response_from": "student" if output else None,
        "meta": json.dumps({"input": text} | meta, ensure_ascii=False),
    }


def inputs(target: Target, written: list[Written], template: Callable) -> Dataset:
    """The inputs that were kept, as rows without a response."""
    kept = [one for one in written if one.fate == KEPT]
    return records.build(
        row(target, one.text, None, template, label=one.label, written_in=one.round) for one in kept
    )


def pairs(rows: Dataset, labelled: list[Labelled]) -> Dataset:
    """The rows whose output was kept, with it and its share of the samples."""
    kept = [i for i, one in enumerate(labelled) if one.fate == KEPT]
    metas = [
        json.dumps(json.loads(rows[i]["meta"]) | {"share": labelled[i].share}, ensure_ascii=False)
        for i in kept
    ]
    outputs = [labelled[i].output for i in kept]
    told = {"response": outputs, "student_response": outputs, "response_from": ["student"] * len(kept)}
    return records.update(records.only(rows, kept), meta=metas, **told)


def texts(rows: Dataset) -> list[str]:
    """The inputs of such rows."""
    return [json.loads(meta)["input"] for meta in rows["meta"]]


def as_demos(rows: Dataset) -> list[Demo]:
    return [Demo(*each) for each in zip(texts(rows), rows["response"], strict=True)]


# What else a student can be taught, to tell what the synthetic pairs are worth


def demos_only(target: Target, template: Callable) -> Dataset:
    """Each demonstration, after the others."""
    return records.build(
        row(target, *demo, template, tuple(other for other in target.demos if other != demo))
        for demo in target.demos
    )


def shuffled_labels(rows: Dataset, seed: int) -> Dataset:
    """The same inputs, each with the output of another: what form and length alone teach."""
    outputs = rows["response"][:]
    Random(f"shuffled {seed}").shuffle(outputs)
    return records.update(rows, response=outputs)


def gold(target: Target, validation: list[Instance], template: Callable, n: int) -> Dataset:
    """At most n validation instances with their first reference, right by definition: the ceiling."""
    return records.build(row(target, one.input, one.references[0], template) for one in validation[:n])


# Looking at them


def right(target: Target, texts: list[str], outputs: list[str]) -> list[bool] | None:
    """Whether each output is right, where that is known for any input: in the embedded world."""
    if not target.exact:
        return None
    return [targets.gold(target.name, text) == output for text, output in zip(texts, outputs, strict=True)]


def self_bleu(texts: list[str], size: int, seed: int = 0) -> float:
    """How alike texts are: the mean BLEU of one against the others in sets of `size`, 0 to 100. nan for fewer than two.

    Only sets of one size can be compared. Short texts are compared by characters, as they have too few words.
    """
    size = min(size, len(texts))
    if size < 2:
        return float("nan")
    rng, by = (
        Random(f"diversity {seed}"),
        "13a" if np.mean([len(text.split()) for text in texts]) >= WORDS else "char",
    )
    sets = [rng.sample(texts, size) for _ in range(SETS if len(texts) > size else 1)]
    return float(np.mean([_alike(one, by) for one in sets]))


def _alike(texts: list[str], by: str) -> float:
    told = {"tokenize": by, "use_effective_order": True}
    return float(
        np.mean(
            [sentence_bleu(text, texts[:i] + texts[i + 1 :], **told).score for i, text in enumerate(texts)]
        )
    )
