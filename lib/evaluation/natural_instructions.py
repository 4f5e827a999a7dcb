"""Evaluate one target task: students before and after training, and baselines."""

import itertools
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import pandas as pd

from lib import prompts, records
from lib.corpus import contamination
from lib.errors import UserError
from lib.evaluation import metrics, shared
from lib.models.local import LocalBackend
from lib.models.types import SamplingParams
from lib.self_guide import generate, labels
from lib.self_guide.generate import TaskPrompter
from lib.self_guide.target import Demo, Instance, Target
from lib.training import encoding

CONTEXT_PAIRS = 6  # synthetic pairs that are shown in the prompt instead of trained on


def prompter(stage, path: object, target: Target, name: str) -> TaskPrompter:
    """Return a student to be asked about the task; its replies lie in a folder of this name."""
    folder = stage.work / name
    folder.mkdir(exist_ok=True)
    params = SamplingParams(max_tokens=stage.parameters["max_new_tokens"], seed=stage.parameters["seed"])
    options = {"folder": folder, "report": stage.report_progress}
    return TaskPrompter(shared.student(path, stage), target, params, options)


def prompting_baselines(
    stage, asking: TaskPrompter, pairs: list[Demo]
) -> dict[str, Callable[[list[str]], list[str]]]:
    """Return the ways to ask the untrained student, by name: functions of inputs that return responses.

    Samples are drawn as in the stages that wrote the inputs and their outputs (`pairs`): raises UserError
    where no stage did. `constrained` needs labels, and a student that says here how likely each of them is.
    """
    target, values = asking.target, stage.parameters
    written, answered = (stage.record_of(name)["parameters"] for name in ("target_from", "pairs_from"))
    if not (written and answered):
        raise UserError("target_from, pairs_from: no stage wrote both. Name files of SELF-GUIDE's stages.")
    votes = {"n": answered["output_samples"], "temperature": answered["output_temperature"]}
    votes["top_k"] = generate.OUTPUT_TOP_K
    alike = {"temperature": generate.input_temperature(target, written["input_temperature"])}
    alike |= {"n": len(target.demos), "top_k": generate.INPUT_TOP_K}
    template = prompts.template(written["input_prompt"])
    context = Random(f"context {values['seed']}").sample(pairs, min(CONTEXT_PAIRS, len(pairs)))
    baselines = {
        "zero_shot": lambda inputs: asking.responses(inputs, ()),
        "few_shot": lambda inputs: asking.responses(inputs, target.demos),
        # a winner with too small a share for training is still the student's response
        "self_consistency": lambda inputs: [vote.output or "" for vote in asking.label(inputs, 0.0, **votes)],
        "constrained": lambda inputs: constrained(asking, inputs, values["max_length"]),
        "self_icl": lambda inputs: self_icl(asking, inputs, template, **alike),
        "synthetic_in_context": lambda inputs: asking.responses(inputs, (*target.demos, *context)),
    }
    if not (target.labels and isinstance(asking.student, LocalBackend)):
        del baselines["constrained"]
    return baselines


def trained_students(stage) -> dict[str, Path]:
    """Return the folders of the trained students by name; SELF-GUIDE's own has no name."""
    others = stage.input("baselines_from")
    paths = {"": stage.input("student_from"), "tapir": stage.input("tapir_from")}
    paths |= {folder.name: folder / "student" for folder in sorted(others.iterdir())} if others else {}
    return {name: path for name, path in paths.items() if path}


def constrained(asking: TaskPrompter, inputs: list[str], max_length: int) -> list[str]:
    """Choose the label with the least loss; empty where the prompt leaves no room."""
    student, choices = asking.student, asking.target.labels
    prompts = [asking.target.prompt(text, asking.target.demos)[0]["content"] for text in inputs]
    pairs = itertools.product(prompts, choices)
    rows = records.build({"instruction": prompt, "response": label} for prompt, label in pairs)
    fits = encoding.fitting(student.tokenizer, rows, max_length)
    encoded = encoding.encode(student.tokenizer, records.take_rows(rows, fits), max_length)
    losses = np.full(len(rows), np.inf)
    losses[fits] = encoding.response_losses(student, encoded)
    by_input = losses.reshape(len(inputs), len(choices))
    return [choices[loss.argmin()] if np.isfinite(loss).any() else "" for loss in by_input]


def self_icl(asking: TaskPrompter, inputs: list[str], template, **sampling) -> list[str]:
    """Run Self-ICL (Chen et al., 2023): the student writes `n` demonstrations of its own for each input.

    `sampling` is that of their inputs, `n` included.
    """
    alike = asking.new_inputs(inputs, template, **sampling)
    flat = [text for texts in alike for text in texts]
    pairs = iter(zip(flat, asking.responses(flat, ()), strict=True))
    demos = [tuple(Demo(*next(pairs)) for _ in texts) for texts in alike]
    return asking.responses_each(inputs, demos)


def majority(test: list[Instance]) -> list[str]:
    """Respond to each instance with the most frequent label."""
    [(label, _)] = Counter(instance.references[0] for instance in test).most_common(1)
    return [label] * len(test)


def scores(name: str, target: Target, test: list[Instance], responses: list[str]) -> pd.DataFrame:
    """Score one baseline row by row, in the long form of `statistics`.

    SELF-GUIDE itself has no `name`. A classification has exact_match (the last whole label),
    exact_match_substring (as SELF-GUIDE's code reads it) and parsable (a label is named). A generation has
    rouge_l, rouge_l_char, exact_match of the text, and parsable (not empty).
    """
    rows = []
    for instance, response in zip(test, responses, strict=True):
        gold = instance.references
        if target.labels:
            label = labels.read(response, target.labels)
            substring = labels.read_substring(response, target.labels)
            marks = {"exact_match": label in gold, "exact_match_substring": substring in gold}
            marks["parsable"] = label is not None
        else:
            measures = (metrics.rouge_l, metrics.rouge_l_char, metrics.exact_match)
            marks = {measure.__name__: measure([response], [gold]) for measure in measures}
            marks["parsable"] = bool(response)
        rows.append(marks | {"id": instance.id})
    long = pd.DataFrame(rows).melt(id_vars="id", var_name="metric", value_name="score")
    prefix = f"ni.{name}." if name else "ni."
    columns = {"metric": prefix + long["metric"], "score": long["score"].astype(float)}
    return long.assign(**columns, stratum=target.name, weight=1.0)


def touched(pairs: list[Demo], target: Target, test: list[Instance]) -> list[str]:
    """List the test instances whose inputs overlap with those that the student wrote, or was shown."""
    shown = records.build({"instruction": pair.input} for pair in (*pairs, *target.demos))
    inputs = [instance.input for instance in test]
    return [test[i].id for i in contamination.touched(contamination.find(shown, {"": inputs}))]


def headline(target: Target) -> str:
    """Return the metric that a target is judged by."""
    return "exact_match" if target.labels or target.exact else "rouge_l"


def gains(scores: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Compute SELF-GUIDE's gain over each baseline, row by row."""
    table = scores.pivot(index="id", columns="metric", values="score")
    baselines = [name for name in table if name.endswith(f".{metric}") and name.count(".") == 2]
    gains = table[baselines].rsub(table[f"ni.{metric}"], axis=0)
    gains = gains.rename(columns=lambda name: f"ni.gain_over.{name.removeprefix('ni.')}")
    long = gains.reset_index().melt(id_vars="id", var_name="metric", value_name="score")
    return long.assign(stratum=scores["stratum"].iloc[0], weight=1.0)


def table(scores: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Tabulate SELF-GUIDE and its baselines, best first.

    `scores` is the result of `shared.write`. Columns: the task's metrics, `metric` first with its interval,
    and SELF-GUIDE's gain over the line.
    """
    lines: dict[str, dict[str, float]] = {}
    for name, (score, low, high) in scores.iterrows():
        *path, measure = name.split(".")[1:]
        line = lines.setdefault(path[-1] if path else "self_guide", {})
        gain = "gain " if path[:1] == ["gain_over"] else ""
        line[gain.strip() or measure] = score
        if measure == metric:
            line |= {f"{gain}low": low, f"{gain}high": high}
    ranked = pd.DataFrame.from_dict(lines, orient="index").sort_values(metric, ascending=False)
    first = [metric, "low", "high", "gain", "gain low", "gain high"]
    return ranked[first + [name for name in ranked if name not in first]]
