"""A target task: instruction, demonstrations, labels, and instances with gold outputs."""

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import NamedTuple

from datasets import Dataset

from lib import corpus, files, records
from lib.errors import UserError, named
from lib.text import clean

MOST_LABELS = 20  # different outputs of a classification task, at most
FEWEST_EACH = 2  # instances of a label of a classification task, on average
VALIDATION = 0.1  # share of the instances; the others are the test (SELF-GUIDE, section 4)


class Demo(NamedTuple):
    """A demonstration."""

    input: str
    output: str


class Instance(NamedTuple):
    """An input and all of its gold outputs."""

    id: str
    input: str
    references: list[str]


@dataclass(frozen=True)
class Target:
    """What a student is to learn; without labels it is a generation."""

    name: str
    instruction: str
    demos: tuple[Demo, ...]
    labels: tuple[str, ...] = ()
    exact: bool = False  # whether a generated output is simply right or wrong


class Material(NamedTuple):
    """A target and its gold: training may use `validation`, never `test`."""

    target: Target
    validation: list[Instance]
    test: list[Instance]
    blank: int = 0  # instances without an output, which are left out


def from_parameters(values: dict) -> Material:
    """Build the target of a notebook's parameters: a task file, or an instruction with demonstrations.

    Raises UserError for what is no demonstration, and for an output that is not among the labels.
    """
    if values["task"]:
        return load(values["task"], values["shots"], values["kind"], values["demos"], values["split_seed"])
    demos, labels = _demos(values["demos"], "demos"), tuple(values["labels"])
    _check_labels("demos", {demo.output for demo in demos}, labels)
    target = Target("inline", values["instruction"].strip(), demos, labels)
    if not values["gold"]:
        return Material(target, [], [])
    rows = corpus.load(values["gold"])
    columns = (rows[name] for name in ("input", "instruction", "references", "response"))
    fields = list(zip(*columns, strict=True))
    texts = [text or instruction for text, instruction, *_ in fields]
    test = _instances(rows, texts, [references or [response or ""] for *_, references, response in fields])
    _check_labels("gold", _outputs(test), labels)
    return Material(target, [], test, len(rows) - len(test))


def _check_labels(name: str, outputs: set[str], labels: tuple[str, ...]) -> None:
    if labels and (unknown := outputs - set(labels)):
        raise UserError(f"{name}: the outputs {named(unknown)} are not among the labels. Add them to labels.")


def load(
    source: str, shots: int = 3, kind: str = "auto", demos: list[dict[str, str]] = (), seed: int = 0
) -> Material:
    """Load a Super-NaturalInstructions file: a tenth of its instances for validation, the rest to test.

    `shots` is the most positive examples shown, one of each label first (0 for all); `demos` replace them.
    `kind` is classification, generation, or auto: a classification has one output per instance, of few that
    recur. Labels are the outputs of the instances, then of the demonstrations. Raises UserError for a file
    that is no task or shows no example.
    """
    rows = corpus.load(source, "natural_instructions")
    if len(set(rows["instruction"])) > 1:
        raise UserError(f"task={source}: it holds several tasks. Name one file.")
    instances = _instances(rows, rows["input"], rows["references"])
    if not instances:
        raise UserError(f"task={source}: none of its {len(rows):,} instances has an output. Name another.")
    examples = demos or json.loads(rows[0]["meta"] or "{}").get("Positive Examples") or []
    shown = _demos(examples, "demos" if demos else f"task={source}, Positive Examples")
    gold = sorted(_outputs(instances))
    labels = tuple(dict.fromkeys(gold + [demo.output for demo in shown]))
    if kind == "generation" or kind == "auto" and not _recur(labels, instances):
        labels = ()
    name, instruction = rows[0]["source"].partition(".json")[0], rows[0]["instruction"].strip()
    target = Target(name, instruction, _first_demos(shown, shots, labels), labels)
    return Material(target, *split(instances, bool(labels), seed), len(rows) - len(instances))


def _instances(rows: Dataset, texts: list[str], outputs: list[list[str]]) -> list[Instance]:
    """Strip the outputs; leave out rows without one."""
    stripped = [[output.strip() for output in each if output.strip()] for each in outputs]
    return [Instance(*values) for values in zip(rows["id"], texts, stripped, strict=True) if values[2]]


def _outputs(instances: list[Instance]) -> set[str]:
    return {output for instance in instances for output in instance.references}


def _recur(labels: tuple[str, ...], instances: list[Instance]) -> bool:
    """Say whether the outputs look like labels: one per instance, of few that recur."""
    single = all(len(instance.references) == 1 for instance in instances)
    return single and 1 < len(labels) <= min(MOST_LABELS, len(instances) / FEWEST_EACH)


def _demos(examples: object, where: str) -> tuple[Demo, ...]:
    demos = []
    for i, example in enumerate(examples if isinstance(examples, list) else [], 1):
        parts = [example.get(name) if isinstance(example, dict) else None for name in Demo._fields]
        parts = [part[0] if isinstance(part, list) and part else part for part in parts]
        if not all(isinstance(part, str) and part.strip() for part in parts):
            raise UserError(f"{where}, number {i}: an input or an output is missing. Write both, as texts.")
        demos.append(Demo(*(clean(part.strip()) for part in parts)))
    if not demos:
        raise UserError(f"{where}: there is no demonstration. Give one or more with demos.")
    return tuple(dict.fromkeys(demos))


def _first_demos(demos: tuple[Demo, ...], shots: int, labels: tuple[str, ...]) -> tuple[Demo, ...]:
    """Take the first `shots`, in their order; one of each label before a second one."""
    repeats, ranks = Counter(), []
    for i, demo in enumerate(demos):
        ranks.append((repeats[demo.output] if labels else 0, i))
        repeats[demo.output] += 1
    return tuple(demos[i] for i in sorted(i for _, i in sorted(ranks)[: shots or None]))


def split(instances: list[Instance], by_label: bool, seed: int) -> tuple[list[Instance], list[Instance]]:
    """Draw a tenth, of each label if `by_label`; instances with the same input stay together."""
    label_of: dict[str, str] = {}
    groups: dict[str, dict[str, None]] = {}  # inputs by label
    for instance in instances:
        label = label_of.setdefault(instance.input, instance.references[0] if by_label else "")
        groups.setdefault(label, {})[instance.input] = None
    drawn: set[str] = set()
    for label, inputs in groups.items():
        drawn |= set(Random(f"split {seed} {label}").sample(list(inputs), round(VALIDATION * len(inputs))))
    validation = [instance for instance in instances if instance.input in drawn]
    return validation, [instance for instance in instances if instance.input not in drawn]


def subset(instances: list[Instance], n: int, seed: int) -> list[Instance]:
    """Draw at most n instances, in their order; 0 for all."""
    if not n or n >= len(instances):
        return instances
    return [instances[i] for i in sorted(Random(f"subset {seed}").sample(range(len(instances)), n))]


def unseen_labels(material: Material) -> list[str]:
    """Return the labels that no instance has, where there are instances."""
    gold = _outputs(material.validation + material.test)
    return [label for label in material.target.labels if gold and label not in gold]


def write(material: Material, folder: Path) -> None:
    """Write target.json, validation.parquet and test.parquet."""
    files.write_json(folder / "target.json", asdict(material.target))
    for name in ("validation", "test"):
        instances = [instance._asdict() for instance in getattr(material, name)]
        rows = [row | {"instruction": material.target.instruction} for row in instances]
        records.write(records.build(rows), folder / f"{name}.parquet")


def read(folder: Path) -> Material:
    """Read the files that `write` wrote."""
    fields = files.read_json(folder / "target.json")
    if fields is None:
        raise UserError(f"{folder}: no readable target.json. Run self_guide/1_input_generation.")
    fields |= {"demos": tuple(Demo(*demo) for demo in fields["demos"]), "labels": tuple(fields["labels"])}
    gold = []
    for name in ("validation", "test"):
        rows = records.read(folder / f"{name}.parquet")
        columns = zip(rows["id"], rows["input"], rows["references"], strict=True)
        gold.append([Instance(*values) for values in columns])
    return Material(Target(**fields), *gold)
