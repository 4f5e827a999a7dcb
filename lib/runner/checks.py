"""Settings that contradict each other or cannot work: refused before anything runs."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

from lib import models, paths
from lib.errors import UserError
from lib.gym import EMBEDDED, check_split
from lib.models import catalog, weights
from lib.models.ledger import Ledger
from lib.models.types import check_samples
from lib.self_guide.filters import FILTERS
from lib.self_guide.pairs import PROMPTING_BASELINES, TRAINING_BASELINES
from lib.tapir import curriculum, selection, tasks
from lib.training.config import TrainingConfig


def start_here(values: dict) -> None:
    """A row of the embedded world to follow, and one of everything at least."""
    from lib.gym import world

    if values["family"] not in world.CORPUS_MIX:
        raise UserError(f"family is {values['family']!r}: the families are {', '.join(world.CORPUS_MIX)}")
    for name in ("corpus_rows", "max_new_tokens", "pool_rows", "per_cell"):
        if values[name] < 1:
            raise UserError(f"{name} is {values[name]}: it must be 1 or more")
    tasks.load_taxonomy(values["tasks"])
    weights.locate("student", values["student"])
    check_samples(values["samples"], values["temperature"])
    check_split(values["split"])
    share(values, "oracle_error")
    TrainingConfig(**{name: values[name] for name in ("epochs", "learning_rate", "batch_size")})


def data_selection(values: dict) -> None:
    """Files that are named are there, and the source is read in a way that there is."""
    for name in values["benchmarks"]:
        source("benchmarks", name)
    if values["source"] != "gym":
        from lib import corpus

        corpus.check(values["format"], values["bad_rows"])
        source("source", values["source"])


def judging(values: dict) -> None:
    tasks.load_taxonomy(values["tasks"])
    _oracle(values)
    choice(values, "reference", "oracle", "corpus")
    labelling(values)
    check_samples(values["samples"], values["temperature"])
    share(values, "max_unread")
    choice(values, "judge_scores", "text", "expected")
    choice(values, "unfit_judge", "refuse", "warn")
    asking(values)


def labelling(values: dict) -> None:
    """How tasks are labelled: a classifier needs labels to learn from."""
    if values["labelled_rows"] < 0:
        raise UserError(f"labelled_rows={values['labelled_rows']}: it must be 0 or above.")
    share(values, "confident")
    classifier = values["classifier"]
    if classifier and not values["labelled_rows"]:
        raise UserError(f"classifier={classifier}: it needs labels to learn from. Set labelled_rows above 0.")
    if classifier:
        weights.locate("classifier", classifier)


def choice(values: dict, name: str, *allowed: str) -> None:
    if values[name] not in allowed:
        raise UserError(f"{name} is {values[name]!r}: it must be {' or '.join(allowed)}")


def asking(values: dict) -> None:
    if values["chat_template"]:
        weights.template(values["chat_template"])
    models.check_engine(*(values[name] for name in ("student", "engine", "chat_template", "actors")))


def refinement(values: dict) -> None:
    tasks.load_taxonomy(values["tasks"])
    _oracle(values)
    selection.find(values["selection"])
    share(values, "max_unread")
    choice(values, "judge_scores", "text", "expected")
    if values["expand"] and values["pool_rows"] < 1:
        raise UserError(f"pool_rows is {values['pool_rows']}: it must be 1 or more")
    if values["corpus_responses"] and (values["refine"] or values["expand"]):
        raise UserError(
            "corpus_responses has nothing to refine, and expanded rows have none: "
            "set refine and expand to false"
        )


def training(values: dict) -> None:
    if values["round"]:
        curriculum.share_of_hard(values["round"], values["alpha"], values["alpha_step"])
    else:
        weights.locate("student", values["student"])
    if values["chat_template"]:
        weights.template(values["chat_template"])
    for name, least in (("round_rows", 0), ("round_tokens", 0), ("max_length", 2)):
        if values[name] < least:
            raise UserError(f"{name} is {values[name]}: it must be {least} or above")
    TrainingConfig.from_parameters(values)


def input_generation(values: dict) -> None:
    if bool(values["task"]) == bool(values["instruction"].strip()):
        raise UserError(
            "name one task: a file or a chain of operations with task, "
            "or what is to be done with instruction, demos and labels. "
            "task is set by default: -p task= empties it"
        )
    embedded = values["task"].startswith(EMBEDDED)
    useless = ("labels", "gold", *(["demos"] if embedded else [])) if values["task"] else ("kind",)
    if given := [name for name in useless if values[name] not in ("", [], "auto")]:
        whose = "an instruction" if values["task"] else "a task file"
        raise UserError(f"{given[0]} is of {whose}, and of no use here: leave it out")
    check_split(values["split"])
    if values["kind"] not in ("auto", "classification", "generation"):
        raise UserError(f"kind is {values['kind']!r}: it must be auto, classification or generation")
    for name in ("task", "gold"):
        if not values[name].startswith(EMBEDDED):
            source(name, values[name])
    for name in ("shots", "input_rounds", "input_temperature", "input_top_k"):
        if values[name] < 0:
            raise UserError(f"{name} is {values[name]:g}: it must be 0 or above")
    for name in ("round_prompts", "input_tokens"):
        if values[name] < 1:
            raise UserError(f"{name} is {values[name]}: it must be 1 or more")
    _self_guide(values, "input_prompt", "input_prompt_label", "output_prompt")


def output_generation(values: dict) -> None:
    check_samples(values["output_samples"], values["output_temperature"])
    share(values, "least_share")
    for name, least in (("output_top_k", 0), ("validated_rows", 0), ("max_new_tokens", 1)):
        if values[name] < least:
            raise UserError(f"{name} is {values[name]}: it must be {least} or above")
    _self_guide(values, "output_prompt")


def self_training(values: dict) -> None:
    if strange := set(values["baselines"]) - set(TRAINING_BASELINES):
        raise UserError(
            f"baselines has {', '.join(sorted(strange))}: those that are taught are "
            f"{', '.join(TRAINING_BASELINES)}"
        )
    weights.locate("student", values["student"])
    if values["chat_template"]:
        weights.template(values["chat_template"])
    _prompt(values, "output_prompt")
    TrainingConfig.from_parameters(values)


def natural_instructions(values: dict) -> None:
    others = [name for name in PROMPTING_BASELINES if name != "few_shot"]
    if strange := set(values["skipped"]) - set(others):
        raise UserError(f"skipped has {', '.join(sorted(strange))}: there are {', '.join(others)}")
    for name in ("test_rows", "context_pairs"):
        if values[name] < 0:
            raise UserError(f"{name} is {values[name]}: it must be 0 or above")
    output_generation(values | {"validated_rows": 0})
    _prompt(values, "input_prompt")


def _self_guide(values: dict, *prompts: str) -> None:
    if strange := set(values["filters"]) - set(FILTERS):
        raise UserError(f"filters has {', '.join(sorted(strange))}: there are {', '.join(FILTERS)}")
    weights.locate("student", values["student"])
    for name in prompts:
        _prompt(values, name)
    asking(values)


def _prompt(values: dict, name: str) -> None:
    if not (paths.ROOT / "params/prompts" / f"{values[name]}.md").is_file():
        raise UserError(f"{name} is {values[name]}: there is no params/prompts/{values[name]}.md")


def source(name: str, path: str) -> None:
    """A file that is named is there; a hub name is looked up when it is read."""
    from lib.corpus import sources

    try:
        if path:
            sources.local_files(path)
    except UserError as error:
        raise UserError(f"{name}: {error}") from None


def model(parameter: str, values: dict) -> None:
    """Raise UserError for a model that cannot be asked: better to know before anything was trained.

    Where it can be, the ledger that keeps its calls is usable, too.
    """
    try:
        catalog.find_offered(values[parameter], values["budget_usd"], models.ledger_only())
    except UserError as error:
        raise UserError(f"{parameter}={error}") from None
    _open(models.ledger_path(), models.ledger_only())


@cache
def _open(path: Path, read_only: bool) -> None:
    if read_only or path.exists():
        Ledger(path, read_only).close()


def share(values: dict, name: str) -> None:
    if not 0 <= values[name] <= 1:
        raise UserError(f"{name} is {values[name]:g}: it is a share, 0 to 1")


def _oracle(values: dict) -> None:
    """Both models can be asked; the embedded oracle judges alone."""
    embedded = [name for name in ("oracle", "judge") if values[name] == "exact"]
    if embedded and values["judge"] != values["oracle"] and values["judge"]:
        raise UserError(
            f"judge={values['judge']}: the embedded oracle judges its own responses, and no others. Leave "
            "judge empty, or name another oracle."
        )
    for name in () if embedded else filter(values.get, ("oracle", "judge")):
        model(name, values)


CHECKS: dict[str, Callable[[dict], None]] = {
    "0_start_here": start_here,
    "tapir/1_data_selection": data_selection,
    "tapir/2_oracle_judging": judging,
    "tapir/3_refinement": refinement,
    "tapir/4_training": training,
    "self_guide/1_input_generation": input_generation,
    "self_guide/2_output_generation": output_generation,
    "self_guide/3_training": self_training,
    "evaluation/natural_instructions": natural_instructions,
    "evaluation/gym": asking,
}
