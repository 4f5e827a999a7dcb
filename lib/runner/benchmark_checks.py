"""Refuse settings of a benchmark that are known to be wrong before anything runs."""

from lib import paths
from lib.errors import UserError
from lib.models import weights
from lib.runner import checks

LEAST = {"evaluation_temperature": 0, "per_cell": 1, "max_new_tokens": 1, "judgments_per_answer": 1}
LEAST |= {"lc_resamples": 20}  # fits of the length control, that an interval needs


def alpaca_eval(values: dict) -> None:
    from lib.evaluation import annotators

    exact, recorded = values["annotator"] == "exact", ("model_outputs", "annotations", "reference_outputs")
    if exact:
        remedy = f"annotator=exact judges the embedded world alone. Set annotator to {annotators.PUBLISHED}."
        _refuse(values, (*recorded, *_judge(values)), remedy)
    if exact and not values["reference_from"]:
        raise UserError("reference_from is empty. Name a student to compare with.")
    if not values["model_outputs"]:
        _refuse(values, ("annotations",), "it is of recorded outputs. Name these with model_outputs.")
    if not exact:
        annotators.config(values["annotator"])
    if values["lc_features"] and not paths.local(values["lc_features"]).is_file():
        raise UserError(f"lc_features={values['lc_features']}: there is no such file. Correct the path.")
    _evaluation(values, recorded, values["model_outputs"], not exact and not values["annotations"])


def mt_bench(values: dict) -> None:
    recorded = ("questions", "reference_answers", "judge_prompts", "answers", "judgments")
    if not values["questions"]:
        remedy = "the embedded world takes no files. Name FastChat's question.jsonl with questions."
        _refuse(values, (*recorded, *_judge(values)), remedy)
    if not values["judgments"]:
        _refuse(values, ("judged_model",), "it names a model in judgments. Name their file with judgments.")
    live = bool(values["questions"] and not values["judgments"])
    if live and (missing := [name for name in ("reference_answers", "judge_prompts") if not values[name]]):
        raise UserError(f"{missing[0]} is empty, but the judge needs it. Name FastChat's file.")
    _evaluation(values, recorded, values["answers"] or values["judgments"], live)


def ifeval(values: dict) -> None:
    if not values["prompts"]:
        _refuse(values, ("responses",), "it needs prompts. Name IFEval's input_data.jsonl with prompts.")
    _evaluation(values, ("prompts", "responses"), values["responses"])


def _judge(values: dict) -> list[str]:
    """Return the parameter of the judge where it names another one than the embedded."""
    return [] if values["benchmark_judge"] == "exact" else ["benchmark_judge"]


def _evaluation(values: dict, files: tuple[str, ...], responses: str, live: bool = False) -> None:
    """Check common settings; `responses` are recorded ones, and a `live` judge is asked."""
    for name in files:
        checks.source(name, values[name])
    if not responses and not values["student_from"]:
        weights.locate("student", values["student"])
    if live and not _judge(values):
        raise UserError("benchmark_judge=exact: it judges the embedded world alone. Name another model.")
    if live:
        checks.model("benchmark_judge", values)
    if "max_unread" in values:
        checks.share(values, "max_unread")
    for name in LEAST.keys() & values.keys():
        if values[name] < LEAST[name]:
            raise UserError(f"{name}={values[name]:g}: it must be {LEAST[name]} or above.")
    checks.asking(values)


def _refuse(values: dict, names: tuple[str, ...], reason: str) -> None:
    for name in names:
        if values[name]:
            raise UserError(f"{name}={values[name]}: {reason}")


CHECKS = {
    "evaluation/alpaca_eval": alpaca_eval,
    "evaluation/mt_bench": mt_bench,
    "evaluation/ifeval": ifeval,
}
