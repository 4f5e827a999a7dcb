"""Chains of operations as target tasks: SELF-GUIDE is shown them, and knows whether what it wrote is right."""

from random import Random

from lib import prompts
from lib.gym import EMBEDDED, operations
from lib.gym.splits import split_of
from lib.self_guide import generate
from lib.self_guide.target import Demo, Instance, Material, Target

VALIDATION, TEST = 100, 200  # instances of each
PROMPT = "self_guide_output"


def chain(source: str) -> str:
    """The chain that a source names. Raises UserError where it is none."""
    found = " ".join(source.removeprefix(EMBEDDED).replace(",", " ").split())
    operations.check_chain(found)
    return found


def load(source: str, shots: int = 3, split: str = "dev") -> Material:
    """A chain as a target: its name as the instruction, demonstrations and validation from what may be learnt, the test from `split`."""
    name = chain(source)
    target = _target(name, shots)
    shown = {demo.input for demo in target.demos}
    return Material(
        target, _instances(name, "train", VALIDATION, shown), _instances(name, split, TEST, shown)
    )


def gold(name: str, text: str) -> str:
    """What a chain makes of any text; empty where nothing is left."""
    return operations.apply(tuple(name.split()), text)


def right(target: Target, texts: list[str], outputs: list[str]) -> list[bool] | None:
    """Whether each output is right, where that is known for any input: in the embedded world."""
    if not target.exact:
        return None
    return [gold(target.name, text) == output for text, output in zip(texts, outputs, strict=True)]


def phrasing(name: str) -> str:
    """The prompt of a chain, with {x} for the word."""
    target = _target(name, 3)
    [turn] = generate.output_prompt(target.instruction, target.demos, "{x}", prompts.template(PROMPT))
    return turn["content"]


def _target(name: str, shots: int) -> Target:
    demos = _instances(name, "train", shots or 3, set(), "demonstrations")
    instruction = operations.describe(tuple(name.split()))
    return Target(name, instruction, tuple(Demo(one.input, one.references[0]) for one in demos), exact=True)


def _instances(name: str, split: str, n: int, without: set[str], tag: str = "") -> list[Instance]:
    rng, found = Random(f"target {name} {split} {tag}"), {}
    while len(found) < n:
        [(text, made)] = operations.pairs(tuple(name.split()), rng, 1)
        if text not in without and split_of(name, text) == split:
            found[text] = Instance(f"{name} {text}", text, [made])
    return list(found.values())
