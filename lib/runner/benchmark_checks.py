"""What can be known to be wrong of a benchmark's settings before anything runs."""

from lib import paths
from lib.errors import UserError
from lib.models import prices, weights
from lib.runner import checks

EVALUATOR = ("evaluation_judge", "evaluation_url")
FEWEST = 20  # fits of the length control


def alpaca_eval(values: dict) -> None:
    """A judge for what is judged: the embedded one for the embedded world, another for anything else."""
    from lib.evaluation import annotators

    exact, recorded = values["annotator"] == "exact", ("model_outputs", "annotations", "reference_outputs")
    if exact and (given := [name for name in (*recorded, *EVALUATOR) if values[name]]):
        raise UserError(
            f"{given[0]} is given, but annotator=exact knows the embedded world alone: "
            f"set annotator to {annotators.PUBLISHED}"
        )
    if values["annotations"] and not values["model_outputs"]:
        raise UserError("annotations are of recorded outputs: name these with model_outputs")
    if exact and not values["reference_from"]:
        raise UserError("reference_from is empty: name a student to compare with")
    judge = "" if exact else annotators.model(values["annotator"])
    _evaluation(values, recorded, values["model_outputs"], "" if values["annotations"] else judge)
    if values["lc_features"] and not paths.local(values["lc_features"]).is_file():
        raise UserError(f"lc_features: there is no file {values['lc_features']}")
    if values["lc_resamples"] < FEWEST:
        raise UserError(f"lc_resamples is {values['lc_resamples']}: an interval takes {FEWEST} fits or more")


def mt_bench(values: dict) -> None:
    """All of FastChat's files, or none for the embedded world."""
    from lib.evaluation import mt_judging

    recorded = ("questions", "reference_answers", "judge_prompts", "answers", "judgments")
    if not values["questions"] and (given := [name for name in (*recorded, *EVALUATOR) if values[name]]):
        raise UserError(
            f"{given[0]} is given without questions: name FastChat's question.jsonl with questions"
        )
    live = values["questions"] and not values["judgments"]
    if live and (lacking := [name for name in ("reference_answers", "judge_prompts") if not values[name]]):
        raise UserError(f"{lacking[0]} is empty: to ask a judge, name FastChat's file")
    if values["judged_model"] and not values["judgments"]:
        raise UserError("judged_model is given without judgments: name their file")
    if values["judgments_per_answer"] < 1:
        raise UserError(f"judgments_per_answer is {values['judgments_per_answer']}: it must be 1 or more")
    _evaluation(values, recorded, values["answers"] or values["judgments"], mt_judging.JUDGE if live else "")


def ifeval(values: dict) -> None:
    if values["responses"] and not values["prompts"]:
        raise UserError("responses are given without prompts: name IFEval's input_data.jsonl with prompts")
    _evaluation(values, ("prompts", "responses"), values["responses"])


def _evaluation(values: dict, files: tuple[str, ...], responses: str, judge: str = "") -> None:
    """Check what evaluations share; `responses` are recorded ones, `judge` is the default judge."""
    for name in files:
        checks.source(name, values[name])
    if not responses and not values["student_from"]:
        weights.place("student", values["student"])
    if judge:
        prices.check_budget(values["evaluation_judge"] or judge, values["budget_usd"] or None)
        checks.key(values, "evaluation_url")
        checks.ledger(values)
    if "max_unread" in values:
        checks.share(values, "max_unread")
    if (temperature := values.get("evaluation_temperature", 0)) < 0:
        raise UserError(f"evaluation_temperature is {temperature:g}: it must be 0 or above")
    for name in ("per_cell", "max_new_tokens"):
        if values[name] < 1:
            raise UserError(f"{name} is {values[name]}: it must be 1 or more")
    checks.asking(values)


CHECKS = {
    "evaluation/alpaca_eval": alpaca_eval,
    "evaluation/mt_bench": mt_bench,
    "evaluation/ifeval": ifeval,
}
