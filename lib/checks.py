"""What can be known to be wrong before anything runs: settings that contradict each other, or that nothing can be done with."""

from collections.abc import Callable

from lib import curriculum, selection, tasks, weights
from lib.errors import UserError
from lib.oracle import prices
from lib.settings import Settings, check_labelling, check_sampling, check_server


def check(notebook: str, values: dict) -> None:
    """Raises UserError naming the parameter that is wrong in a notebook's values."""
    CHECKS.get(notebook, lambda values: None)(values)


def judging(values: dict) -> None:
    tasks.load_taxonomy(values["tasks"])
    _oracle(values)
    if values["reference"] not in ("oracle", "corpus"):
        raise UserError(f"reference is {values['reference']!r}: it must be oracle or corpus")
    check_labelling(values["labelled_rows"], values["confident"], values["classifier"])
    check_sampling(values["samples"], values["temperature"])
    _share(values, "max_unread")
    asking(values)


def asking(values: dict) -> None:
    check_server(values["student_url"], values["chat_template"], values["concurrency"])


def refinement(values: dict) -> None:
    tasks.load_taxonomy(values["tasks"])
    _oracle(values)
    selection.check_name(values["selection"])
    _share(values, "max_unread")
    if values["expand"] and values["pool_rows"] < 1:
        raise UserError(f"pool_rows is {values['pool_rows']}: it must be 1 or more")
    if values["corpus_responses"] and (values["refine"] or values["expand"]):
        raise UserError(
            "corpus_responses has nothing to refine, and expanded rows have none: set refine and expand to false"
        )


def training(values: dict) -> None:
    if values["round"]:
        curriculum.share_of_hard(values["round"], values["alpha"], values["alpha_step"])
    else:
        weights.place("student", values["student"])
    if values["chat_template"]:
        weights.template(values["chat_template"])
    for name, least in (("round_rows", 0), ("round_tokens", 0), ("max_length", 2)):
        if values[name] < least:
            raise UserError(f"{name} is {values[name]}: it must be {least} or above")
    Settings.of(values)


def _share(values: dict, name: str) -> None:
    if not 0 <= values[name] <= 1:
        raise UserError(f"{name} is {values[name]:g}: it is a share, 0 to 1")


def _oracle(values: dict) -> None:
    """A budget needs a price, for whoever is asked."""
    if values["oracle"] != "exact":
        for model in (values["oracle"], values["judge_model"] or values["oracle"]):
            prices.check_budget(model, values["budget_usd"] or None)


CHECKS: dict[str, Callable[[dict], None]] = {
    "tapir/2_oracle_judging": judging,
    "tapir/3_refinement": refinement,
    "tapir/4_training": training,
    "evaluation/gym": asking,
}
