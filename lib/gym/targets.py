"""Chains of operations as target tasks for SELF-GUIDE."""

from random import Random

from lib import prompts
from lib.gym import EMBEDDED, operations
from lib.self_guide import generate
from lib.self_guide.target import Demo, Instance, Material, Target

VALIDATION, TEST = 100, 200  # instances


def load(source: str, shots: int = 3, split: str = "dev") -> Material:
    """Load "gym:<chain of operations>" as a target task.

    Demonstrations and validation come from the train split, the test from `split`. Raises UserError for
    an unknown operation.
    """
    chain = " ".join(source.removeprefix(EMBEDDED).replace(",", " ").split())
    operations.check_chain(chain)
    target = _target(chain, shots)
    shown = {demo.input for demo in target.demos}
    validation = _instances(chain, "train", VALIDATION, shown)
    return Material(target, validation, _instances(chain, split, TEST, shown))


def right(target: Target, inputs: list[str], outputs: list[str]) -> list[bool] | None:
    """Check each output; None for a target outside the embedded world."""
    if not target.exact:
        return None
    names = tuple(target.name.split())
    return [operations.apply(names, text) == output for text, output in zip(inputs, outputs, strict=True)]


def phrasing(chain: str) -> str:
    """Write a chain's prompt, with {x} for the word."""
    target, template = _target(chain, 3), prompts.template("self_guide_output")
    [turn] = generate.output_prompt(target.instruction, target.demos, "{x}", template)
    return turn["content"]


def _target(chain: str, shots: int) -> Target:
    instances = _instances(chain, "train", shots or 3, set(), "demonstrations")
    demos = tuple(Demo(instance.input, instance.references[0]) for instance in instances)
    return Target(chain, operations.describe(tuple(chain.split())), demos, exact=True)


def _instances(chain: str, split: str, n: int, excluded: set[str], tag: str = "") -> list[Instance]:
    """Draw `n` instances with different inputs, none of them excluded."""
    outputs: dict[str, str] = {}
    pairs = operations.pairs_of_split(chain, Random(f"target {chain} {split} {tag}"), split)
    while len(outputs) < n:
        text, output = next(pairs)
        if text not in excluded:
            outputs[text] = output
    return [Instance(f"{chain} {text}", text, [output]) for text, output in outputs.items()]
