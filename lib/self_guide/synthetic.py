"""Synthetic pairs as rows: written down, taught, set beside what teaches something else, and looked at."""

import json
from collections.abc import Callable
from random import Random

import numpy as np
from datasets import Dataset
from sacrebleu import sentence_bleu

from lib import records
from lib.self_guide import generate
from lib.self_guide.filtering import KEPT
from lib.self_guide.generate import Labelled, Written
from lib.self_guide.target import Demo, Instance, Target

WORDS = 4  # texts with fewer words, on average, are compared character by character
SETS = 200  # sets of texts that a diversity is the mean of


def row(
    target: Target,
    text: str,
    output: str | None,
    template: Callable,
    demos: tuple[Demo, ...] | None = None,
    round: int = 0,
) -> dict:
    """A pair as a row: what is asked after the demonstrations (the target's, or others), and the output that is taught."""
    shown = target.demos if demos is None else demos
    [turn] = generate.output_prompt(target.instruction, shown, text, template)
    told = {"instruction": turn["content"], "response": output, "source": f"self_guide:{target.name}"}
    told |= {"response_from": "corpus" if output else None, "round": round}
    return told | {"meta": json.dumps({"input": text}, ensure_ascii=False)}


def inputs(target: Target, written: list[Written], template: Callable) -> Dataset:
    """The inputs that were kept, as rows without a response; the input alone stands in `meta`."""
    kept = [one for one in written if one.fate == KEPT]
    return records.build(row(target, one.text, None, template, round=one.round) for one in kept)


def pairs(rows: Dataset, labelled: list[Labelled]) -> Dataset:
    """The rows whose output was kept, with it and its share of the samples."""
    kept = [i for i, one in enumerate(labelled) if one.fate == KEPT]
    said = rows["meta"][:]
    metas = [json.dumps(json.loads(said[i]) | {"share": labelled[i].share}, ensure_ascii=False) for i in kept]
    outputs = [labelled[i].output for i in kept]
    told = {"response": outputs, "student_response": outputs, "response_from": ["student"] * len(kept)}
    return records.update(records.take_rows(rows, kept), meta=metas, **told)


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


def diversity(texts: list[str], demos: list[str], seed: int = 0) -> dict[str, float]:
    """How alike texts are, and how alike the demonstrations: Self-BLEU, the mean BLEU of one against the others in sets of one size, 0 to 100.

    {"inputs", "size"}, and "demos" where there are two or more. Short texts are compared by characters, as they have too few words.
    """
    size = min(len(demos) if len(demos) > 1 else 3, len(texts))
    by = "13a" if np.mean([len(text.split()) for text in texts + demos]) >= WORDS else "char"
    found = {"size": size}
    if size > 1:
        rng = Random(f"diversity {seed}")
        found["inputs"] = float(np.mean([_alike(rng.sample(texts, size), by) for _ in range(SETS)]))
    if 1 < len(demos) <= size:
        found["demos"] = _alike(demos, by)
    return found


def _alike(texts: list[str], by: str) -> float:
    told = {"tokenize": by, "use_effective_order": True}
    scores = [sentence_bleu(text, texts[:i] + texts[i + 1 :], **told).score for i, text in enumerate(texts)]
    return float(np.mean(scores))
