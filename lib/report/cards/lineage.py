"""What students and rows were made from, and whose the scores are, by a run's summary and its records."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from lib import files
from lib.errors import UserError
from lib.evaluation.registry import JUDGES, RECORDED
from lib.runner import folders
from lib.runner.plan import Planned, source


@dataclass(frozen=True)
class Step(Planned):
    """A stage as one arm and seed went through it; `folder` may be shared with others."""

    number: int = 0  # its place among the steps
    folder: Path = Path()
    record: dict = field(default_factory=dict)  # its stage.json
    metrics: dict = field(default_factory=dict)
    inputs: dict = field(default_factory=dict)  # {"pool_from": (step, file) or a path or None}


class Evaluation(NamedTuple):
    """What one evaluation says of one student."""

    step: Step
    scores: dict[str, tuple[float, float, float]]  # with their 95 % interval
    counts: dict[str, float]  # what else it measured, without one
    judges: list[str]


def steps(run: Path, found: dict) -> list[Step]:
    """The completed stages of a summary, in their order, without pages about the whole run."""
    made: list[Step] = []
    for line in found.get("stages", ()):
        record = folders.record(run / line["folder"]) if "folder" in line else None
        if record and line["arm"] in found["arms"]:
            step = _step(line, len(made), run / line["folder"], record)
            ours = [other for other in made if (other.arm, other.seed) == (step.arm, step.seed)]
            step.inputs.update({n: _source(step, n, ours) for n in step.values if n.endswith("_from")})
            made.append(step)
    return made


def _step(line: dict, number: int, folder: Path, record: dict) -> Step:
    notebook, _, round = line["name"].rpartition("@")
    metrics = files.read_json(folder / "metrics.json") or {}
    told = {"number": number, "folder": folder, "record": record, "metrics": metrics}
    return Step(notebook, line["arm"], line["seed"], int(round), record["parameters"], **told)


def _source(step: Step, name: str, before: list[Step]) -> tuple[Step, str] | Path | None:
    """What an input means in this arm: the paths in the record are those of the arm that ran it, then."""
    try:
        return source(step, name, before)
    except UserError:  # the arm that ran it names its inputs in another way
        return None


def ancestry(step: Step) -> list[Step]:
    """All that a step was made from, in the order it was made, itself last."""
    found, waiting = {step.number: step}, [step]
    while waiting:
        for means in waiting.pop().inputs.values():
            if isinstance(means, tuple) and means[0].number not in found:
                found[means[0].number] = means[0]
                waiting.append(means[0])
    return [found[number] for number in sorted(found)]


def evaluations(steps: list[Step]) -> dict[Path, list[Evaluation]]:
    """By a student's folder, what was measured of that one; a shared evaluation stands once."""
    found: dict[Path, dict[Path, Evaluation]] = {}
    for step in steps:
        asked = step.notebook.startswith("evaluation/") and not any(map(step.values.get, RECORDED))
        for line, student in _students(step) if asked else ():
            found.setdefault(student, {}).setdefault(step.folder, _evaluation(step, line))
    return {student: list(of.values()) for student, of in found.items()}


def _students(step: Step) -> Iterator[tuple[str, Path]]:
    """The students that an evaluation asked, each with its line in the metrics (see _line)."""
    for name, line in (("student_from", ""), ("tapir_from", "tapir")):
        if isinstance(means := step.inputs.get(name), tuple):
            yield line, means[0].folder / means[1]
    if isinstance(means := step.inputs.get("baselines_from"), tuple):
        yield from ((it.parent.name, it) for it in sorted((means[0].folder / means[1]).glob("*/student")))


def _evaluation(step: Step, line: str) -> Evaluation:
    own = {name: value for name, value in step.metrics.items() if _line(name) == line and value is not None}
    known = [name for name in own if {f"{name}_low", f"{name}_high"} <= own.keys()]
    scores = {name: (own[name], own[f"{name}_low"], own[f"{name}_high"]) for name in known}
    told = {*known, *(f"{name}_{end}" for name in known for end in ("low", "high"))}
    counts = {n: value for n, value in own.items() if n not in told and not n.startswith("oracle.")}
    judges = (files.read_json(step.folder / JUDGES) or {}).get("judges", [])
    return Evaluation(step, scores, counts, judges)


def _line(metric: str) -> str:
    """Whose a metric is: "gold" of "ni.gold.exact_match"; empty for the student it is all about."""
    parts = metric.split(".")
    return parts[1] if parts[0] == "ni" and len(parts) == 3 else ""
