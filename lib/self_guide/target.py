"""A target task: its instruction, a few demonstrations, its labels, and instances with gold outputs where there are any."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import NamedTuple

from lib import corpus, files, records
from lib.corpus.fields import describe
from lib.errors import UserError, named
from lib.text import clean

MOST_LABELS = 20  # different outputs of a classification task, at most
FEWEST_EACH = 2  # instances of one label, on average, that a classification task has
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
    """What a student is to learn; without labels it is a task of generation."""

    name: str
    instruction: str
    demos: tuple[Demo, ...]
    labels: tuple[str, ...] = ()
    exact: bool = False  # whether a generated output is simply right or wrong


class Material(NamedTuple):
    """A target and its gold: `validation` may be learnt from, `test` not. Empty where no gold is known."""

    target: Target
    validation: list[Instance]
    test: list[Instance]
    blank: int = 0  # instances that have no output, and are left out


def of(values: dict) -> Material:
    """The target that a notebook's parameters mean: a task file, or one that is written out.

    Raises UserError as these do.
    """
    task = values["task"]
    if not task:
        target = inline(values["instruction"].strip(), values["demos"], values["labels"])
        return Material(target, [], *instances(values["gold"], target.labels))
    return load(task, values["shots"], values["kind"], values["demos"], values["split_seed"])


def inline(instruction: str, demos: list[dict[str, str]], labels: list[str]) -> Target:
    """A target from its parts; raises UserError where a demonstration is none, or has an output that is no label."""
    target = Target("inline", instruction, _demos(demos, "demos"), tuple(labels))
    if strange := {demo.output for demo in target.demos} - set(labels) if labels else None:
        raise UserError(f"demos have the outputs {named(strange)}, which labels lacks: add them there")
    return target


def instances(source: str, labels: tuple[str, ...] = ()) -> tuple[list[Instance], int]:
    """Instances from rows of any format: the input, or an instruction without one, and all outputs; and how many have none.

    None for an empty source. Raises UserError for an output that `labels` lacks, where there are any.
    """
    if not source:
        return [], 0
    rows = corpus.load(source)
    outputs = [
        of or [response or ""] for of, response in zip(rows["references"], rows["response"], strict=True)
    ]
    texts = [text or told for text, told in zip(rows["input"], rows["instruction"], strict=True)]
    found, blank = _instances(rows["id"], texts, outputs)
    if labels and (strange := {out for one in found for out in one.references} - set(labels)):
        raise UserError(
            f"gold: {source} has the outputs {named(strange)}, which labels lacks: add them there"
        )
    return found, blank


def _instances(
    ids: Iterable[str], texts: Iterable[str], outputs: Iterable[list[str]]
) -> tuple[list[Instance], int]:
    """Outputs without white space at their ends, which nobody is asked for; and the number of those that say nothing at all."""
    said = [[out.strip() for out in of if out.strip()] for of in outputs]
    found = [Instance(*each) for each in zip(ids, texts, said, strict=True) if each[2]]
    return found, len(said) - len(found)


def load(
    source: str, shots: int = 3, kind: str = "auto", demos: list[dict[str, str]] = (), seed: int = 0
) -> Material:
    """A Super-NaturalInstructions file: a tenth of its instances for validation, the others for the test, label by label.

    `shots` is how many positive examples are shown at most, one of each label first; `demos` are others to show instead. With
    `kind` auto it is a classification where its instances have one output each, of few that come back. Its labels are those of
    the instances, then those that a demonstration alone has. Instances without an output are left out, and counted. Raises UserError for a file that is no task, or shows no example.
    """
    rows = corpus.load(source, "natural_instructions")
    if len(set(rows["instruction"])) > 1:
        raise UserError(f"{source} holds more than one task: name one file")
    found, blank = _instances(rows["id"], rows["input"], rows["references"])
    if not found:
        raise UserError(f"{source}: none of its {len(rows):,} instances has an output")
    given = demos or json.loads(rows[0]["meta"] or "{}").get("Positive Examples") or []
    shown = _demos(given, "demos" if demos else f"{source}: Positive Examples")
    labels = _labels(found, shown) if _classifies(found, shown, kind) else ()
    name = rows[0]["source"].partition(".json")[0]
    target = Target(name, rows[0]["instruction"].strip(), _chosen(shown, shots, labels), labels)
    return Material(target, *split(found, bool(labels), seed), blank)


def write(material: Material, folder: Path) -> None:
    """target.json, validation.parquet and test.parquet."""
    files.write_json(folder / "target.json", asdict(material.target))
    for name in ("validation", "test"):
        rows = [
            {
                "id": one.id,
                "instruction": material.target.instruction,
                "input": one.input,
                "references": one.references,
            }
            for one in getattr(material, name)
        ]
        records.write(records.build(rows), folder / f"{name}.parquet")


def read(folder: Path) -> Material:
    """What `write` wrote."""
    told = files.read_json(folder / "target.json")
    told |= {"demos": tuple(Demo(*demo) for demo in told["demos"]), "labels": tuple(told["labels"])}
    parts = [records.read(folder / f"{name}.parquet") for name in ("validation", "test")]
    gold = [zip(rows["id"], rows["input"], rows["references"], strict=True) for rows in parts]
    return Material(Target(**told), *([Instance(*each) for each in rows] for rows in gold))


def unseen_labels(material: Material) -> list[str]:
    """Labels that no instance has, where there are any instances."""
    gold = {out for instance in material.validation + material.test for out in instance.references}
    return [label for label in material.target.labels if gold and label not in gold]


def split(instances: list[Instance], by_label: bool, seed: int) -> tuple[list[Instance], list[Instance]]:
    """A tenth and the rest, of each label where asked for; instances with one input stay together, in their order."""
    groups: dict[str, dict[str, list[Instance]]] = {}
    label_of: dict[str, str] = {}
    for instance in instances:
        label = label_of.setdefault(instance.input, instance.references[0] if by_label else "")
        groups.setdefault(label, {}).setdefault(instance.input, []).append(instance)
    first: set[str] = set()
    for label, inputs in groups.items():
        first |= set(Random(f"split {seed} {label}").sample(list(inputs), round(VALIDATION * len(inputs))))
    return [it for it in instances if it.input in first], [it for it in instances if it.input not in first]


def subset(instances: list[Instance], n: int, seed: int) -> list[Instance]:
    """At most n of them, drawn at random, in their order; 0 for all."""
    if not n or n >= len(instances):
        return instances
    return [instances[i] for i in sorted(Random(f"subset {seed}").sample(range(len(instances)), n))]


def _demos(given: object, where: str) -> tuple[Demo, ...]:
    found = []
    for i, demo in enumerate(given if isinstance(given, list) else [], 1):
        parts = [demo.get(name) for name in Demo._fields] if isinstance(demo, dict) else []
        parts = [part[0] if isinstance(part, list) and part else part for part in parts]
        if len(parts) != 2 or not all(isinstance(part, str) and part.strip() for part in parts):
            raise UserError(
                f"{where}, number {i}: a demonstration has an input and an output, both texts; "
                f"found {describe(demo)}"
            )
        found.append(Demo(*(clean(part.strip()) for part in parts)))
    if not found:
        raise UserError(f"{where}: there is no demonstration, and SELF-GUIDE needs at least one: give demos")
    return tuple(dict.fromkeys(found))


def _classifies(instances: list[Instance], demos: tuple[Demo, ...], kind: str) -> bool:
    if kind != "auto":
        return kind == "classification"
    outputs = set(_labels(instances, demos))
    single = all(len(instance.references) == 1 for instance in instances)
    return single and 1 < len(outputs) <= min(MOST_LABELS, len(instances) / FEWEST_EACH)


def _labels(instances: list[Instance], demos: tuple[Demo, ...]) -> tuple[str, ...]:
    gold = sorted({one for instance in instances for one in instance.references})
    return tuple(dict.fromkeys(gold + [demo.output for demo in demos]))


def _chosen(demos: tuple[Demo, ...], shots: int, labels: tuple[str, ...]) -> tuple[Demo, ...]:
    """The first ones, in their order; of a classification the first of each label before a second one."""
    before = Counter()
    ranks = []
    for demo in demos:
        ranks.append(before[demo.output] if labels else 0)
        before[demo.output] += 1
    first = sorted(range(len(demos)), key=lambda i: (ranks[i], i))[: shots or None]
    return tuple(demos[i] for i in sorted(first))
