"""One target task, whoever does it: a table of students taught and untaught, asked in several ways, and of what needs no model."""

from collections import Counter
from random import Random

import pandas as pd

from lib import records
from lib.evaluation import metrics
from lib.models.student import Student
from lib.self_guide import labels
from lib.self_guide.asking import Asking
from lib.self_guide.generate import Sampling
from lib.self_guide.target import Demo, Instance, Target
from lib.training import encoding
from lib.training.settings import WAYS


def ways(asking: Asking, skipped: list[str]) -> list[str]:
    """The ways of asking that are tried: without labels there is nothing to constrain, and how likely a label is only a student
    that is loaded here says."""
    cannot = [] if asking.target.labels and isinstance(asking.student, Student) else ["constrained"]
    return [name for name in WAYS if name not in (*skipped, *cannot)]


# Ways to do the task without being taught it: a response for each input


def zero_shot(asking: Asking, inputs: list[str]) -> list[str]:
    return asking.responses(inputs, ())


def few_shot(asking: Asking, inputs: list[str]) -> list[str]:
    return asking.responses(inputs, asking.target.demos)


def self_consistency(asking: Asking, inputs: list[str], sampling: Sampling, filters: list[str]) -> list[str]:
    """The filters and the vote that label synthetic inputs, on the inputs themselves. A winner with too small a share is not taught, but it is
    what the student would say: it counts here. Empty where no sample passed."""
    return [one.output or "" for one in asking.labelled(inputs, sampling, filters)]


def constrained(asking: Asking, inputs: list[str], max_length: int) -> list[str]:
    """The label that the student finds the most likely response, after the demonstrations; empty where the prompt leaves no room."""
    every = [
        {"instruction": asking.prompt(text, asking.target.demos)[0]["content"], "response": label}
        for text in inputs
        for label in asking.target.labels
    ]
    rows = records.build(every)
    fits = encoding.fitting(asking.student.tokenizer, rows, max_length)
    encoded = encoding.encode(asking.student.tokenizer, records.take_rows(rows, fits), max_length)
    losses = dict(zip(fits, encoding.response_losses(asking.student, encoded), strict=True))
    many = len(asking.target.labels)
    best = [
        min(range(i, i + many), key=lambda at: losses.get(at, float("inf")))
        for i in range(0, len(every), many)
    ]
    return [every[at]["response"] if at in losses else "" for at in best]


def self_icl(asking: Asking, inputs: list[str], template, shots: int, **drawn) -> list[str]:
    """Self-ICL (Chen et al., 2023): for every input the student writes some like it, answers them, and is shown these. `drawn` is how they are sampled."""
    alike = asking.new_inputs(inputs, template, shots, **drawn)
    flat = [text for texts in alike for text in texts]
    answered = iter(zip(flat, zero_shot(asking, flat), strict=True))
    demos = [tuple(Demo(*next(answered)) for _ in texts) for texts in alike]
    return asking.responses_each(inputs, demos)


def synthetic_in_context(
    asking: Asking, inputs: list[str], pairs: list[Demo], n: int, seed: int
) -> list[str]:
    """The demonstrations and n synthetic pairs, drawn at random, are shown instead of taught."""
    shown = Random(f"context {seed}").sample(pairs, min(n, len(pairs)))
    return asking.responses(inputs, (*asking.target.demos, *shown))


# Without a model


def majority(test: list[Instance]) -> list[str]:
    """The label that the most of these instances have, for each of them."""
    [(label, _)] = Counter(instance.references[0] for instance in test).most_common(1)
    return [label] * len(test)


def copy_input(test: list[Instance]) -> list[str]:
    return [instance.input for instance in test]


# Scores


def scores(name: str, target: Target, test: list[Instance], responses: list[str]) -> pd.DataFrame:
    """One baseline's scores, row by row, in the long form of lib.evaluation.statistics; `name` is empty for SELF-GUIDE itself.

    A classification has exact_match (the last whole label), exact_match_substring (how SELF-GUIDE's code reads it) and parsable (a label
    is named). A generation has rouge_l, rouge_l_char, exact_match of the text, and parsable (it says something).
    """
    score = _label_scores if target.labels else _text_scores
    rows = [score(target, one, said) | {"id": one.id} for one, said in zip(test, responses, strict=True)]
    long = pd.DataFrame(rows).melt(id_vars="id", var_name="metric", value_name="score")
    prefix = f"ni.{name}." if name else "ni."
    return long.assign(metric=prefix + long["metric"], stratum=target.name, weight=1.0)


def _label_scores(target: Target, one: Instance, said: str) -> dict[str, float]:
    read, loose = labels.read(said, target.labels), labels.read_substring(said, target.labels)
    found = {"exact_match": read in one.references, "exact_match_substring": loose in one.references}
    return {name: float(right) for name, right in found.items()} | {"parsable": float(read is not None)}


def _text_scores(target: Target, one: Instance, said: str) -> dict[str, float]:
    measures = (metrics.rouge_l, metrics.rouge_l_char, metrics.exact_match)
    found = {measure.__name__: measure([said], [one.references]) for measure in measures}
    return found | {"parsable": float(bool(said))}


def headline(target: Target) -> str:
    """What a target is judged by, of the metrics in its table."""
    return "exact_match" if target.labels or target.exact else "rouge_l"


def gains(scores: pd.DataFrame, metric: str) -> pd.DataFrame:
    """What SELF-GUIDE has above each other line of the table, row by row: "ni.gain_over.few_shot.exact_match"."""
    table = scores.pivot(index="id", columns="metric", values="score")
    ours = table[f"ni.{metric}"]
    others = [name for name in table if name.endswith(f".{metric}") and name.count(".") == 2]
    parts = [
        pd.DataFrame({"id": table.index, "score": (ours - table[name]).to_numpy()}).assign(
            metric=f"ni.gain_over.{name.removeprefix('ni.')}"
        )
        for name in others
    ]
    return pd.concat(parts, ignore_index=True).assign(stratum=scores["stratum"].iloc[0], weight=1.0)


def table(scores: pd.DataFrame, metric: str) -> pd.DataFrame:
    """A line each for SELF-GUIDE and all it is held against, best first: the task's metrics, the first with its interval, and SELF-GUIDE's gain over
    the line. `scores` is what `shared.write` gives."""
    lines: dict[str, dict[str, float]] = {}
    for name, (score, low, high) in scores.iterrows():
        *owner, measure = name.removeprefix("ni.").split(".")
        if owner[:1] == ["gain_over"]:
            lines.setdefault(owner[1], {}).update({"gain": score, "gain low": low, "gain high": high})
            continue
        line = lines.setdefault(owner[0] if owner else "self_guide", {})
        line |= {measure: score} | ({"low": low, "high": high} if measure == metric else {})
    found = pd.DataFrame.from_dict(lines, orient="index").sort_values(metric, ascending=False)
    first = [metric, "low", "high", "gain", "gain low", "gain high"]
    return found[first + [name for name in found if name not in first]]
