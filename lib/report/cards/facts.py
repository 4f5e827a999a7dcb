"""What a card tells, gathered for the templates beside this module and for its metadata."""

from pathlib import Path

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from lib import paths
from lib.report.cards import lineage, mix
from lib.report.cards.lineage import Evaluation, Step
from lib.report.cards.mix import Mix

STUDENT = "lib/gym/student"  # the embedded one
METHODS = {"tapir": "TAPIR", "self_guide": "SELF-GUIDE"}


def of_student(place: Path, sharing: list[Step], of: list[Evaluation], found: dict) -> dict:
    """Of the student in `place`; `of` are the evaluations of that one."""
    told, step = _common(sharing, found), sharing[0]
    chain = [it for it in told["made_from"] if it.notebook == step.notebook]
    control = "" if place.parent == step.folder else place.parent.name
    told |= {"control": control, "evaluations": of, "name": f"{told['name']}{control and '-'}{control}"}
    told |= {"chain": chain, "base": base(chain[0]), "rows": None if control else _taught(chain)}
    told |= {"taught": step.metrics.get(f"self_guide.training.{control or 'self_guide'}.rows")}
    free = told["rows"] and told["base"][0] == "embedded"
    return told | {"licence": _licence(told["rows"], told) if free else None}


def of_rows(path: Path, sharing: list[Step], found: dict) -> dict:
    """Of a file of rows."""
    told = _common(sharing, found) | {"file": path.name, "rows": mix.count([path]), "evaluations": []}
    writer = [it for it in told["made_from"] if it.notebook.startswith("self_guide/")]
    return told | {"licence": _licence(told["rows"], told), "base": base(writer[0]) if writer else None}


def _common(sharing: list[Step], found: dict) -> dict:
    step, made_from = sharing[0], lineage.ancestry(sharing[0])
    last = {it.notebook: it for it in made_from}  # of several rounds
    values = {notebook: it.values for notebook, it in last.items()}
    refinement = values.get("tapir/3_refinement")
    asked = refinement or values.get("tapir/2_oracle_judging", {})
    selection = values.get("tapir/1_data_selection", {})
    corpus = selection.get("source", "")
    task = values.get("self_guide/1_input_generation", {}).get("task", "")
    return {
        "name": f"{found['run']}-{step.arm}-s{step.seed}-{step.notebook.rpartition('/')[2]}-{step.round}",
        "step": step,
        "sharing": sharing,
        "found": found,
        "made_from": made_from,
        "method": METHODS.get(step.notebook.partition("/")[0], ""),
        "refinement": refinement,
        "corpus": corpus,
        "corpus_noise": selection.get("corpus_noise"),
        "corpus_metrics": last["tapir/1_data_selection"].metrics if corpus else {},
        "task": task,
        "oracle": asked.get("oracle", ""),
        "judge": asked.get("judge_model") or asked.get("oracle", ""),
        "embedded": corpus == "gym" or task.startswith("gym:"),
    }


def base(step: Step) -> tuple[str, str]:
    """Who came before this step: a kind (embedded, hub, folder, stage or unknown) and a name."""
    before = step.inputs.get("student_from")
    if isinstance(before, tuple):
        return "stage", before[0].name
    name = str(before or step.values.get("student", ""))
    if not name or name == STUDENT:
        return ("embedded" if name else "unknown"), name
    if on_hub(name):
        return "hub", name
    return "folder", Path(name).name  # where it lies is nobody's business


def on_hub(name: str) -> bool:
    """Whether a name can only be one of the hub."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return not paths.local(name).exists()


def _taught(chain: list[Step]) -> Mix | None:
    """The rows of all rounds, or the pairs of SELF-GUIDE."""
    files = [it.folder / "rows.parquet" for it in chain]
    if pairs := chain[-1].inputs.get("pairs_from"):
        files = [pairs if isinstance(pairs, Path) else pairs[0].folder / pairs[1]]
    there = [path for path in files if path.is_file()]
    return mix.count(there) if there else None


def _licence(rows: Mix, told: dict) -> str | None:
    """The licence of rows, if it is one, and no model wrote responses that may have terms of its own."""
    ours = told["embedded"] and told["oracle"] in ("", "exact")
    return mix.licence(rows) if ours or set(rows.responses) <= {"corpus", None} else None
