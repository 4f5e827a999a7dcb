"""A target task: instruction, demonstrations, labels, and instances with gold outputs."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import NamedTuple

from datasets import Dataset

from lib import corpus, files, prompts, records, show
from lib.errors import UserError, named
from lib.text import clean

MOST_LABELS = 20  # different outputs of a classification task, at most
FEWEST_EACH = 2  # instances of a label of a classification task, on average
OUTPUT_PROMPT = "self_guide_output"  # in params/prompts: how a student is asked to do a task
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

    def prompt(self, text: str, demos: Sequence[Demo]) -> list[dict]:
        """Ask for the output of one input, behind these demonstrations, if any."""
        shown = "".join(f"Input: {demo.input}\nOutput: {demo.output}\n" for demo in demos)
        [turn] = prompts.template(OUTPUT_PROMPT)(instruction=self.instruction, demos=shown, input=text)
        return [turn | {"content": turn["content"].strip()}]


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
        return load(values["task"], values["shots"], values["demos"])
    demos, labels = _demos(values["demos"], "demos"), tuple(values["labels"])
    rows = corpus.load(values["gold"]) if values["gold"] else records.build([])
    test = _instances(rows)
    for name, outputs in (("demos", {demo.output for demo in demos}), ("gold", _outputs(test))):
        if labels and (unknown := outputs - set(labels)):
            raise UserError(
                f"{name}: the outputs {named(unknown)} are not among the labels. Add them to labels."
            )
    target = Target("inline", values["instruction"].strip(), demos, labels)
    return Material(target, [], test, len(rows) - len(test))


def load(source: str, shots: int = 3, demos: list[dict[str, str]] = ()) -> Material:
    """Load a Super-NaturalInstructions file: a tenth of its instances for validation, the rest to test.

    `shots` is the most positive examples shown, one of each label first (0 for all); `demos` replace them.
    A classification has one output per instance, of few that recur; its labels are the outputs of the
    instances, then of the demonstrations. Raises UserError for a file that is no task or shows no example.
    """
    rows = corpus.load(source, "natural_instructions")
    if len(set(rows["instruction"])) > 1:
        raise UserError(f"task={source}: it holds several tasks. Name one file.")
    instances = _instances(rows)
    if not instances:
        raise UserError(f"task={source}: none of its {len(rows):,} instances has an output. Name another.")
    examples = demos or json.loads(rows[0]["meta"] or "{}").get("Positive Examples") or []
    shown = _demos(examples, "demos" if demos else f"task={source}, Positive Examples")
    labels = tuple(dict.fromkeys(sorted(_outputs(instances)) + [demo.output for demo in shown]))
    is_single = all(len(instance.references) == 1 for instance in instances)
    if not (is_single and 1 < len(labels) <= min(MOST_LABELS, len(instances) / FEWEST_EACH)):
        labels = ()
    name, instruction = rows[0]["source"].partition(".json")[0], rows[0]["instruction"].strip()
    target = Target(name, instruction, _first_demos(shown, shots, labels), labels)
    return Material(target, *split(instances, bool(labels)), len(rows) - len(instances))


def _instances(rows: Dataset) -> list[Instance]:
    """Read inputs and their stripped outputs; leave out rows without one."""
    instances = []
    for row in records.iter_rows(rows, "id", "instruction", "input", "references", "response"):
        outputs = [output.strip() for output in row["references"] or [row["response"] or ""]]
        instances.append(Instance(row["id"], row["input"] or row["instruction"], list(filter(None, outputs))))
    return [instance for instance in instances if instance.references]


def _outputs(instances: list[Instance]) -> set[str]:
    return {output for instance in instances for output in instance.references}


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
    outputs = [demo.output if labels else i for i, demo in enumerate(demos)]
    repeats = [outputs[:i].count(output) for i, output in enumerate(outputs)]
    first = sorted(range(len(demos)), key=repeats.__getitem__)[: shots or None]
    return tuple(demos[i] for i in sorted(first))


def split(instances: list[Instance], by_label: bool) -> tuple[list[Instance], list[Instance]]:
    """Draw a tenth, of each label if `by_label`; instances with the same input stay together."""
    label_of: dict[str, str] = {}
    for instance in instances:
        label_of.setdefault(instance.input, instance.references[0] if by_label else "")
    drawn: set[str] = set()
    for label in dict.fromkeys(label_of.values()):
        inputs = [text for text, each in label_of.items() if each == label]
        drawn |= set(Random(f"split 0 {label}").sample(inputs, round(VALIDATION * len(inputs))))
    validation = [instance for instance in instances if instance.input in drawn]
    return validation, [instance for instance in instances if instance.input not in drawn]


def subset(instances: list[Instance], n: int, seed: int) -> list[Instance]:
    """Draw at most n instances, in their order; 0 for all."""
    if not n or n >= len(instances):
        return instances
    return [instances[i] for i in sorted(Random(f"subset {seed}").sample(range(len(instances)), n))]


def describe(material: Material) -> str:
    """Describe a target and its gold, as Markdown."""
    target = material.target
    kind = f"labels {', '.join(map(show.code, target.labels))}" if target.labels else "a generation"
    text = f"{show.code(target.name)}, {kind}: {len(target.demos)} demonstrations. Gold: "
    text += f"{len(material.validation):,} instances for validation, {len(material.test):,} for the test."
    if material.blank:
        text += f" **{material.blank:,} instances have no output**, and are left out."
    gold = _outputs(material.validation + material.test)
    if gold and (unseen := [label for label in target.labels if label not in gold]):
        text += f" **No instance has the label {', '.join(map(show.code, unseen))}**: it stays a label."
    return text


def right(instances: list[Instance], inputs: Iterable[str], outputs: Iterable[str | None]) -> list[bool]:
    """Check each output against the references of its input among the instances."""
    references = {instance.input: instance.references for instance in instances}
    return [output in references[text] for text, output in zip(inputs, outputs, strict=True)]


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
    gold = (_instances(records.read(folder / f"{name}.parquet")) for name in ("validation", "test"))
    return Material(Target(**fields), *gold)
