"""Synthetic pairs as rows, and the baselines that they are compared with."""

import json
from random import Random

import numpy as np
from datasets import Dataset

from lib import records
from lib.self_guide.filters import KEPT
from lib.self_guide.generate import GeneratedInput, LabelledInput
from lib.self_guide.target import Demo, Material, Target

TRAINING_BASELINES = ("demos_only", "shuffled_labels", "gold")  # what a student is trained on instead
# ways to ask an untrained student, beside few_shot; and lines that need no student
OTHER_PROMPTS = ("zero_shot", "self_consistency", "constrained", "self_icl", "synthetic_in_context")
UNTRAINED = (*OTHER_PROMPTS, "majority", "copy_input")
WORDS = 4  # texts with fewer words, on average, are compared character by character
SETS = 200  # sets of texts that a diversity is the mean of


def input_rows(target: Target, generated: list[GeneratedInput]) -> Dataset:
    """Turn the kept inputs into rows without a response; the input alone is in `meta`."""
    kept = [each for each in generated if each.fate == KEPT]
    return records.build(_row(target, each.text, None, target.demos) | {"round": each.round} for each in kept)


def pair_rows(rows: Dataset, labelled: list[LabelledInput]) -> Dataset:
    """Keep the rows whose output was kept, with it and its share of the samples."""
    kept = [i for i, each in enumerate(labelled) if each.fate == KEPT]
    rows = records.take_rows(rows, kept)
    outputs = [labelled[i].output for i in kept]
    metas = [
        records.AS_JSON(json.loads(meta) | {"share": labelled[i].share})
        for meta, i in zip(rows["meta"], kept, strict=True)
    ]
    origins = ["student"] * len(kept)
    return records.update(rows, meta=metas, response=outputs, student_response=outputs, response_from=origins)


def input_texts(rows: Dataset) -> list[str]:
    """Return the inputs of such rows."""
    return [json.loads(meta)["input"] for meta in rows["meta"]]


def as_demos(rows: Dataset) -> list[Demo]:
    """Return pairs as demonstrations."""
    return list(map(Demo, input_texts(rows), rows["response"]))


# Baselines of the training


def training_sets(material: Material, pairs: Dataset, baselines: list[str], seed: int) -> dict[str, Dataset]:
    """Return the pairs as "self_guide", and the rows of each baseline.

    demos_only: each demonstration, behind the others. shuffled_labels: each input with the output of another,
    for what form and length alone teach. gold: validation instances, at most as many as pairs.
    """
    target = material.target
    outputs = pairs["response"][:]
    Random(f"shuffled {seed}").shuffle(outputs)
    others = {demo: tuple(other for other in target.demos if other != demo) for demo in target.demos}
    gold = [(each.input, each.references[0]) for each in material.validation[: len(pairs)]]
    sets = {
        "demos_only": records.build(_row(target, *demo, shown) for demo, shown in others.items()),
        "shuffled_labels": records.update(pairs, response=outputs),
        "gold": records.build(_row(target, *pair, target.demos) for pair in gold),
    }
    return {"self_guide": pairs} | {name: rows for name, rows in sets.items() if name in baselines}


def _row(target: Target, text: str, output: str | None, demos: tuple[Demo, ...]) -> dict:
    [turn] = target.prompt(text, demos)
    return {
        "instruction": turn["content"],
        "response": output,
        "response_from": "corpus" if output else None,
        "source": f"self_guide:{target.name}",
        "meta": records.AS_JSON({"input": text}),
    }


# Diversity


def diversity(texts: list[str], demos: list[str], seed: int = 0) -> dict[str, float]:
    """Measure Self-BLEU: the mean BLEU of a text against the others in sets of one size, 0 to 100.

    Returns {"inputs", "size"}, and "demos" of two or more. Texts of few words are compared by characters.
    """
    size = min(len(demos) if len(demos) > 1 else 3, len(texts))
    words = np.mean([len(text.split()) for text in texts + demos])
    tokenizer = "13a" if words >= WORDS else "char"
    measures = {"size": size}
    if size > 1:
        rng = Random(f"diversity {seed}")
        sets = [_self_bleu(rng.sample(texts, size), tokenizer) for _ in range(SETS)]
        measures["inputs"] = float(np.mean(sets))
    if 1 < len(demos) <= size:
        measures["demos"] = _self_bleu(demos, tokenizer)
    return measures


def _self_bleu(texts: list[str], tokenizer: str) -> float:
    from sacrebleu import sentence_bleu  # slow to import

    options = {"tokenize": tokenizer, "use_effective_order": True}
    others = [texts[:i] + texts[i + 1 :] for i in range(len(texts))]
    return float(np.mean([sentence_bleu(*pair, **options).score for pair in zip(texts, others, strict=True)]))
