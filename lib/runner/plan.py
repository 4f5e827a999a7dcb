"""The plan of a run: every stage of every seed and arm, in order, with its parameters and what it reads.

A later one wins: notebook default < params < arm < -p < stage entry.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lib import paths
from lib.errors import UserError, named, one_line
from lib.runner import folders, params, references
from lib.runner.keys import RESERVED
from lib.runner.study import Entry, Study, condition

MOST_ROUNDS = 1000  # every one is a stage of the plan, which is made before anything runs


@dataclass(eq=False)
class Planned:
    """One stage of a run: a notebook in a round, for an arm and a seed."""

    notebook: str
    arm: str
    seed: int
    round: int
    values: dict  # of every declared parameter, the reserved ones included
    once: bool = False
    inputs: dict[str, "Path | tuple[Planned, str] | None"] = field(default_factory=dict)  # see `references`
    # while it runs
    folder: Path | None = None  # in the store, once it is finished
    status: str = ""  # then done or reused; or failed
    seconds: float = 0

    @property
    def name(self) -> str:
        return f"{self.notebook}@{self.round}"

    @property
    def label(self) -> str:
        """What it is called in a terminal."""
        return f"{self.name} · {self.arm} · s{self.seed}"

    @property
    def sources(self) -> "list[Planned]":
        """The stages that it reads."""
        return [value[0] for value in self.inputs.values() if isinstance(value, tuple)]


def plan(study: Study, run: str) -> list[Planned]:
    """Return all stages in their order; those marked `once` last, for the arm "all".

    Raises UserError for whatever would fail later because a value, a type or an input is wrong.
    """
    folders.check_plain(run, "run")
    if run in (folders.STORE, folders.BY_HAND, paths.downloads().name):
        raise UserError(f"--run={run}: outputs/{run} is no run's folder. Choose another name.")
    seeds = list(dict.fromkeys(seed for each in study.seeds.values() for seed in each))
    planned, fixed = [], study.params | {"run": run, "params_file": ""}
    for seed in seeds:
        for arm in [arm for arm in study.arms if seed in study.seeds[arm]]:
            values = fixed | study.arms[arm] | {"run": f"{run}/{arm}", "arm": arm, "seed": seed}
            planned += _connected(study, _stages(study, values))
    values = fixed | {"arm": folders.ALL_ARMS, "seed": seeds[0], "round": 0}
    last = [_planned(study, entry, values | entry.values) for entry in study.entries if entry.once]
    return planned + _connected(study, last)


def later_stages(planned: list[Planned], stage: Planned) -> list[dict]:
    """List the notebook and the parameters of every stage behind one, in its arm and seed."""
    after = planned[planned.index(stage) + 1 :]
    own = [each for each in after if (each.arm, each.seed) == (stage.arm, stage.seed)]
    return [{"notebook": each.notebook, "parameters": each.values} for each in own]


def _stages(study: Study, base: dict) -> Iterator[Planned]:
    """Yield the stages of an arm; the round is 0 before a repeat, its last after it."""
    number = 0
    for repeat, entries in study.blocks:
        rounds = [number]
        if repeat is not None:
            times = _value(study, repeat, base) if isinstance(repeat, str) else repeat
            if type(times) is not int or not 0 <= times <= MOST_ROUNDS:
                raise UserError(
                    f"{study.path}: repeat={named([repeat])}: {times!r:.60} is no number of rounds "
                    f"from 0 to {MOST_ROUNDS} (arm {base['arm']})"
                )
            rounds = range(number + 1, number + 1 + times)
        for number in rounds:
            for entry in entries:
                values = base | entry.values | {"round": number}
                if not entry.once and _applies(study, entry, values):
                    yield _planned(study, entry, values)


def _planned(study: Study, entry: Entry, values: dict) -> Planned:
    full = {}
    for name, p in study.declared[entry.notebook].items():
        full[name] = params.coerce(values.get(name, p.default), p.kind, f"{study.path}: {name}")
    full = references.with_hub_student(full)
    return Planned(entry.notebook, values["arm"], values["seed"], values["round"], full, entry.once)


def _connected(study: Study, stages: Iterator[Planned] | list[Planned]) -> list[Planned]:
    """Resolve the inputs of an arm's stages, each among those before it."""
    before: dict[str, Planned] = {}
    for stage in stages:
        for name in references.names(stage.values):
            where, advice = f"{stage.name} ({stage.arm}): {name}", "Add {notebook} to `stages` before it."
            text = stage.values[name]
            stage.inputs[name] = references.resolve(text, stage.round, before.values(), where, advice)
        if stage.name in before:
            raise UserError(f"{study.path}: {stage.name} stands twice for the arm {stage.arm}; keep one")
        before[stage.name] = stage
    return list(before.values())


# --- repeat and when


def _value(study: Study, name: str, values: dict, notebook: str = "") -> object:
    """Return the value of a name in `repeat` or `when`: as set, else the default."""
    if name in values:
        kind = study.kinds.get(name)
        return params.coerce(values[name], kind, f"{study.path}: {name}") if kind else values[name]
    for declared in (study.declared.get(notebook, {}), *study.declared.values()):
        if name in declared:
            return declared[name].default
    raise UserError(
        f"{study.path}: {named([name])} in `when` or `repeat` has no value (arm {values['arm']}), and no "
        "notebook declares it. Set it under `params`."
    )


def _applies(study: Study, entry: Entry, values: dict) -> bool:
    evaluate, names = condition(entry.when)
    operands = {name: _value(study, name, values, entry.notebook) for name in names}
    where = f"{study.path}: when={entry.when!r:.60} (arm {values['arm']})"
    try:
        result = evaluate(operands | {name: values[name] for name in RESERVED})
    except Exception as error:  # whatever the operators of its values raise
        raise UserError(f"{where}: {one_line(error)}") from None
    if not isinstance(result, bool):
        raise UserError(f"{where}: it must be true or false, not {result!r:.60}")
    return result
