"""Settings that cannot work are refused before anything runs.

A parameter means the same in every notebook of the suite, so its rule stands here once, by its name. What has
an owner is constructed: a TrainingConfig, a taxonomy, a selection.
"""

import os
from functools import cache, partial
from pathlib import Path

from lib import corpus, models, paths
from lib.corpus import sources
from lib.errors import UserError
from lib.evaluation import registry
from lib.gym import EMBEDDED
from lib.models import catalog, loading
from lib.models.ledger import Ledger
from lib.models.types import check_samples
from lib.oracle import expected
from lib.self_guide.pairs import OTHER_PROMPTS, TRAINING_BASELINES
from lib.tapir import curriculum, selection, tasks
from lib.training.config import TrainingConfig

AT_LEAST_0 = ("input_rounds", "input_temperature", "labelled_rows", "round_rows", "round_tokens", "shots")
AT_LEAST_0 += ("longest", "rows", "test_rows", "validated_rows")
AT_LEAST_1 = ("corpus_rows", "input_tokens", "max_new_tokens", "output_samples", "per_cell", "pool_rows")
LEAST = dict.fromkeys(AT_LEAST_0, 0) | dict.fromkeys(AT_LEAST_1, 1)
LEAST |= {"max_length": 2}
CHOICES = {
    "baselines": TRAINING_BASELINES,
    "skipped": OTHER_PROMPTS,
    "judge_scores": ("text", *expected.BY_PROBABILITY),
    "reference": ("oracle", "corpus"),
    "split": ("dev", "test"),
    "unfit_judge": ("refuse", "warn"),
}
OWNERS = {  # each raises UserError for a value that it does not take
    "bad_rows": partial(corpus.check, "auto"),
    "classifier": partial(loading.locate, "classifier"),
    "format": partial(corpus.check, bad_rows="refuse"),
    "selection": selection.find,
    "tasks": tasks.load_taxonomy,
}
BENCHMARK_FILES = ("prompts", "responses", "model_outputs", "annotations")
BENCHMARK_FILES += ("questions", "reference_answers", "judge_prompts", "answers", "judgments")
FILES = ("source", "benchmarks", "task", "gold", "pairs", *BENCHMARK_FILES)
NEEDS = {"annotations": "model_outputs", "classifier": "labelled_rows"}


def check(notebook: str, values: dict) -> None:
    """Raise UserError naming a parameter of the suite's notebooks that cannot work."""
    if registry.is_own(notebook):
        return
    check_settings(notebook, values)
    for name in asked_models(notebook, values):  # a key, a price: better known before anything is trained
        try:
            catalog.find_offered(values[name], values["budget_usd"], models.ledger_only())
        except UserError as error:
            raise UserError(f"{name}: {error}") from None
        check_ledger(models.ledger_path(), models.ledger_only())


def check_settings(notebook: str, values: dict) -> None:
    """Raise UserError as `check` does, but for models that are asked: no key is needed."""
    for name, value in values.items():
        _check_value(name, value)
        if NEEDS.get(name) in values and value and not values[NEEDS[name]]:
            raise UserError(f"{name}={value}: it needs {NEEDS[name]}. Set that, too.")
    if "output_samples" in values:
        check_samples(values["output_samples"], values["output_temperature"])
    if values.get("student") and not (values.get("student_from") and values.get("round", 1)):
        loading.locate("student", values["student"])
    if file := catalog.chat_template(values.get("student", "")):
        loading.template(file)
    if url := catalog.split(values.get("student", ""))[1]:
        catalog.address(url)
    if "learning_rate" in values:
        TrainingConfig.from_parameters(values)
    if values.get("round") and "alpha" in values:
        curriculum.share_of_hard(values["round"], values["alpha"], values["alpha_step"])
    by_oracle = values.get("refine") or values.get("expand")
    if by_oracle and values.get("selection") in selection.ON_CORPUS_RESPONSES:
        raise UserError(
            f"selection={values['selection']}: it trains on the corpus's responses, which are not refined "
            "and expanded rows lack. Set refine and expand to false."
        )
    if "instruction" in values:
        _check_target(values)
    if benchmark := registry.benchmark(notebook):
        _check_benchmark(benchmark, values)


def problems(stages: list[dict]) -> list[str]:
    """Name what cannot work in stages {"notebook", "parameters"}, a sentence each, without repeats."""
    sentences = {}
    for stage in stages:
        try:
            check(stage["notebook"], stage["parameters"])
        except UserError as error:
            sentences.setdefault(str(error), f"{stage['notebook']}: {error}")
    return list(sentences.values())


# --- one parameter


def _check_value(name: str, value: object) -> None:
    if name == "least_share" and not 0 <= value <= 1:
        raise UserError(f"{name}={value:g}: it is a share. Set it from 0 to 1.")
    if name in LEAST and value < LEAST[name]:
        raise UserError(f"{name}={value:g}: it is too low. Set it to {LEAST[name]} or above.")
    chosen = value if isinstance(value, list) else [value]
    if name in CHOICES and (unknown := [each for each in chosen if each not in CHOICES[name]]):
        raise UserError(f"{name}={unknown[0]}: it is unknown. Choose of {', '.join(CHOICES[name])}.")
    if name == "input_prompt" and not (paths.ROOT / f"params/prompts/{value}.md").is_file():
        raise UserError(f"{name}={value}: there is no params/prompts/{value}.md. Correct the name.")
    for path in chosen if name in FILES else []:
        _check_file(name, path)
    if name == "lc_features" and value and not paths.local(value).is_file():
        raise UserError(f"lc_features={value}: there is no such file. Correct the path.")
    if name in OWNERS and value:
        OWNERS[name](value)


def _check_file(name: str, path: str) -> None:
    """Raise UserError for a file that is not there; hub names are not looked up."""
    if path and path != "gym" and not path.startswith(EMBEDDED):
        try:
            sources.local_files(path)
        except UserError as error:
            raise UserError(f"{name}: {error}") from None


# --- several parameters


def _check_target(values: dict) -> None:
    """Check that a target task is named once: as a task, or as an instruction."""
    if bool(values["task"]) == bool(values["instruction"].strip()):
        raise UserError(
            "name one task: a file or a chain of operations with task, or what is to be done with "
            "instruction, demos and labels. Empty the default with -p task=."
        )
    useless = ("labels", "gold") if values["task"] else ()
    for name in (*useless, *(["demos"] if values["task"].startswith(EMBEDDED) else [])):
        if values[name]:
            raise UserError(f"{name}={values[name]}: it only applies with instruction. Remove it.")


def _check_benchmark(benchmark: registry.Benchmark, values: dict) -> None:
    """Check that the embedded world gets no files, and a benchmark all it needs."""
    if benchmark.is_stand_in(values):
        for name in (*BENCHMARK_FILES, "benchmark_judge"):
            if values.get(name, "") not in ("", "exact"):
                raise UserError(
                    f"{name}={values[name]}: the embedded world does not use it. "
                    f"Set {benchmark.stand_in[0]}, or remove it."
                )
        if not values.get("reference_from", "unused"):
            raise UserError("reference_from is empty. Name a student to compare with.")
    elif "judge_prompts" in values and not values["judgments"]:
        for name in ("reference_answers", "judge_prompts"):
            if not values[name]:
                raise UserError(f"{name} is empty, but the judge needs it. Name FastChat's file.")


# --- models that cost money


def asked_models(notebook: str, values: dict) -> list[str]:
    """List the parameters that name the models which a notebook of the suite asks, students aside.

    Raises UserError for those that do not fit one another.
    """
    if "oracle" in values:
        embedded = [name for name in ("oracle", "judge") if values[name] == "exact"]
        if embedded and values["judge"] != values["oracle"] and values["judge"]:
            raise UserError(
                f"judge={values['judge']}: the embedded oracle judges its own responses, and no others. "
                "Leave judge empty, or name another oracle."
            )
        return [] if embedded else [name for name in ("oracle", "judge") if values[name]]
    if "pairs" in values:
        return _compared_judge(values)
    if values.get("annotator", "exact") != "exact":
        from lib.evaluation import annotators

        annotators.config(values["annotator"])  # raises for an unknown one
    if "benchmark_judge" not in values or values.get("annotations") or values.get("judgments"):
        return []
    benchmark = registry.benchmark(notebook)
    if benchmark and benchmark.is_stand_in(values):
        return []
    if values["benchmark_judge"] == "exact":
        raise UserError("benchmark_judge=exact: it judges the embedded world alone. Name another model.")
    return ["benchmark_judge"]


def _compared_judge(values: dict) -> list[str]:
    """Check the judge of evaluation/judge; list it where it is asked."""
    judge, pairs = values["judge"], values["pairs"]
    if not pairs and judge != "exact":
        raise UserError(f"judge={judge}: pairs is empty. Name files of recorded verdicts: -p pairs=FILE.")
    if pairs and judge == "exact":
        raise UserError(
            "judge=exact: it judges the embedded world alone. Name another judge, or leave pairs empty."
        )
    if not judge.startswith(paths.RECORDED):  # with or without a file behind it
        if judge.startswith("record") or os.path.isfile(paths.local(judge)):
            raise UserError(f"judge={judge}: to name a recording, write recorded:FILE.")
        return ["judge"] if pairs else []
    file = paths.recorded_file(judge)
    if not file or not sources.local_files(file):
        raise UserError(f"judge={judge}: there is no such file. Write recorded:FILE, a path or an address.")
    if values["judge_scores"] != "text":
        raise UserError(f"judge_scores={values['judge_scores']}: a recorded judge has its scores. Remove it.")
    return []


@cache
def check_ledger(path: Path, read_only: bool) -> None:
    """Raise UserError for a ledger that cannot be opened."""
    if read_only or path.exists():
        Ledger(path, read_only).close()
