"""What can be known to be wrong before anything runs: settings that contradict each other, or that nothing can be done with."""

from collections.abc import Callable

from lib import curriculum, selection, tasks
from lib.errors import UserError
from lib.settings import Settings


def check(notebook: str, values: dict) -> None:
    """Raises UserError naming the parameter that is wrong in a notebook's values."""
    CHECKS.get(notebook, lambda values: None)(values)


def judging(values: dict) -> None:
    tasks.load_taxonomy(values["tasks"])
    _oracle(values)
    if values["reference"] not in ("oracle", "corpus"):
        raise UserError(f"reference is {values['reference']!r}: it must be oracle or corpus")
    if values["labelled_rows"] < 0 or not 0 <= values["confident"] <= 1:
        raise UserError(
            f"labelled_rows is {values['labelled_rows']} and confident {values['confident']:g}: the one must be 0 or more, the "
            "other a probability"
        )
    if values["samples"] < 1:
        raise UserError(f"samples is {values['samples']}: it must be 1 or more")
    if values["samples"] > 1 and not values["temperature"]:
        raise UserError(
            f"samples={values['samples']} at temperature 0 would all be the same: raise it, or ask for one"
        )


def refinement(values: dict) -> None:
    tasks.load_taxonomy(values["tasks"])
    _oracle(values)
    if values["selection"] not in selection.NAMES:
        raise UserError(
            f"selection {values['selection']!r} is unknown: choose one of {', '.join(selection.NAMES)}"
        )
    if values["expand"] and values["pool_rows"] < 1:
        raise UserError(f"pool_rows is {values['pool_rows']}: it must be 1 or more")
    if values["corpus_responses"] and (values["refine"] or values["expand"]):
        raise UserError(
            "corpus_responses has nothing to refine, and expanded rows have none: set refine and expand to false"
        )


def training(values: dict) -> None:
    if values["round"]:
        curriculum.share_of_hard(values["round"], values["alpha"], values["alpha_step"])
    Settings(**{name: values[name] for name in Settings.__dataclass_fields__})


def _oracle(values: dict) -> None:
    """A budget needs a price, for whoever is asked."""
    from lib.oracle import prices

    asked = {values["oracle"], values["judge_model"] or values["oracle"]} - {"exact"}
    unknown = sorted(model for model in asked if prices.of(model) is None)
    if values["oracle"] != "exact" and values["budget_usd"] and unknown:
        raise UserError(
            f"budget_usd={values['budget_usd']:g}, but the price of {unknown[0]} is unknown: add it to params/prices.yaml"
        )


CHECKS: dict[str, Callable[[dict], None]] = {
    "tapir/2_oracle_judging": judging,
    "tapir/3_refinement": refinement,
    "tapir/4_training": training,
}
