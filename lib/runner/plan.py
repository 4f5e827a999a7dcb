"""The plan of a run: every stage of every seed and arm, in order, with its parameters and what it reads.

A later one wins: notebook default < params < arm < -p < stage entry.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lib.errors import UserError, named, one_line
from lib.runner import folders, params, references
from lib.runner.keys import RESERVED
from lib.runner.params_file import Entry, condition, entries
from lib.runner.study import Study, check_name, check_value, own_names

MOST_ROUNDS = 1000  # every one is a stage of the plan, which is made before anything runs


@dataclass(frozen=True)
class Planned:
    """One stage to run: a notebook in a round, for an arm and a seed."""

    notebook: str
    arm: str
    seed: int
    round: int
    values: dict  # of every declared parameter, the reserved ones included
    once: bool = False

    @property
    def name(self) -> str:
        return f"{self.notebook}@{self.round}"

    @property
    def input_names(self) -> list[str]:
        """The names of the parameters that mean a file or folder of an earlier stage, or a path."""
        return [name for name in self.values if name.endswith("_from")]

    @property
    def label(self) -> str:
        """What it is called in a terminal."""
        return f"{self.name} · {self.arm} · s{self.seed}"


def plan(study: Study, run: str, overrides: dict[str, object]) -> list[Planned]:
    """All stages in the order they run; those marked `once` come last, for the arm "all".

    Raises UserError for whatever would fail later for want of a value, a type or an input.
    """
    check_name(run, "run")
    if run in (folders.STORE, folders.BY_HAND):
        raise UserError(f"--run={run}: outputs/{run} is no run's folder. Choose another name.")
    over = _overrides(study, overrides)
    _check_conditions(study, over)
    each = [(arm, seed) for seed in study.all_seeds for arm in study.arms if seed in study.seeds[arm]]
    planned = [p for arm, seed in each for p in _of_arm(study, run, arm, seed, over)]
    for entry in entries(study.stages):
        if entry.once:
            values = study.text["params"] | _for_arm(over, None) | entry.values
            planned.append(_planned(study, entry, values, run, "all", study.all_seeds[0], 0))
    _check_sources(study, planned)
    return planned


def source(stage: Planned, name: str, before: Iterable[Planned]) -> Path | tuple[Planned, str] | None:
    """Resolve the input `name` of a stage among the stages before it; see `references.resolve`."""
    same = [p for p in before if (p.arm, p.seed) == (stage.arm, stage.seed)]
    where = f"{stage.name} ({stage.arm}): {name}"
    return references.resolve(
        stage.values[name], stage.round, same, where, "Add {notebook} to `stages` before it."
    )


def _check_conditions(study: Study, over: dict) -> None:
    """Raise UserError for names in `repeat` and `when` that have no value in an arm."""
    for arm, values in study.arms.items():
        names = set(study.kinds) | set(study.text["params"]) | set(values)
        names |= set(_for_arm(over, None)) | set(_for_arm(over, arm))
        if lacking := own_names(study) - names:
            raise UserError(
                f"{study.path}: {named(lacking)} in `when` or `repeat` has no value (arm {arm}), and no "
                f"notebook declares it. Set it under `params`, "
                f"such as `params: {{{min(lacking)[:60]}: false}}`."
            )


def _check_sources(study: Study, planned: list[Planned]) -> None:
    seen: dict[tuple, Planned] = {}
    for stage in planned:
        for name in stage.input_names:
            source(stage, name, seen.values())
        position = stage.arm, stage.seed, stage.name
        if position in seen:
            raise UserError(f"{study.path}: {stage.name} stands twice for the arm {stage.arm}; keep one")
        seen[position] = stage


# --- values


def _overrides(study: Study, overrides: dict[str, object]) -> dict[tuple[str | None, str], object]:
    """-p values by (arm or None, name). Raises UserError for one that an arm's own value would contradict."""
    values = {}
    for key, value in overrides.items():
        arm, _, name = key.rpartition(".")
        if arm and arm not in study.arms:
            raise UserError(
                f"-p {named([key])}: there is no arm {named([arm])}{params.nearest(arm, study.arms)}"
            )
        names = set(study.kinds) | own_names(study)
        if name in RESERVED or name not in names:
            check_value(study, f"-p {named([key])}", name, None, names)
        setting = [a for a, values in study.arms.items() if name in values]
        if not arm and setting:
            each = ", ".join(f"-p {a}.{name}={one_line(value, 60)}" for a in study.arms)
            raise UserError(f"-p {name}: the arm {setting[0]} sets it; say which you mean: {each}")
        free = [
            e for e in entries(study.stages) if name in study.declared[e.notebook] and name not in e.values
        ]
        if not free and name not in own_names(study):
            raise UserError(
                f"-p {key}: {study.path} sets it stage by stage, which nothing overrides: change it there"
            )
        values[arm or None, name] = params.from_text(value, study.kinds.get(name), f"-p {key}")
    return values


def _for_arm(over: dict, arm: str | None) -> dict:
    return {name: value for (owner, name), value in over.items() if owner == arm}


def _of_arm(study: Study, run: str, arm: str, seed: int, over: dict) -> Iterator[Planned]:
    base, given = study.text["params"] | study.arms[arm], _for_arm(over, None) | _for_arm(over, arm)
    number = 0  # of the latest round: stages before a repeat are round 0, those after it its last
    for stage in study.stages:
        repeat, inside = (None, [stage]) if isinstance(stage, Entry) else stage
        rounds = [number]
        if repeat is not None:
            rounds = range(number + 1, number + 1 + _times(study, repeat, base | given, arm))
        for number in rounds:
            for entry in inside:
                values = base | given | entry.values
                if not entry.once and _applies(study, entry, number, values, arm):
                    yield _planned(study, entry, values, run, arm, seed, number)


def _planned(study: Study, entry: Entry, values: dict, run: str, arm: str, seed: int, number: int) -> Planned:
    declared = study.declared[entry.notebook]
    values = values | {"run": run, "arm": arm, "seed": seed, "round": number}
    full = {n: params.coerce(values[n], p.kind, n) if n in values else p.default for n, p in declared.items()}
    return Planned(entry.notebook, arm, seed, number, references.with_hub_student(full), entry.once)


def _value(study: Study, name: str, values: dict, guarded: str = "") -> object:
    """Return the value of a name in `repeat` or `when`: as set, else the default in a notebook."""
    if name in values:
        return params.coerce(values[name], study.kinds[name], name) if name in study.kinds else values[name]
    every = [study.declared.get(guarded, {}), *study.declared.values()]
    return next(declared[name].default for declared in every if name in declared)


def _times(study: Study, repeat: object, values: dict, arm: str) -> int:
    times = _value(study, repeat, values) if isinstance(repeat, str) else repeat
    if type(times) is not int or not 0 <= times <= MOST_ROUNDS:
        raise UserError(
            f"{study.path}: repeat {named([repeat])} must be a whole number from 0 to {MOST_ROUNDS:,}, "
            f"not {times!r:.60} (arm {arm})"
        )
    return times


def _applies(study: Study, entry: Entry, number: int, values: dict, arm: str) -> bool:
    if entry.when is None:
        return True
    evaluate, names = condition(entry.when, study.path)
    operands = {name: _value(study, name, values, entry.notebook) for name in names} | {"round": number}
    try:
        result = evaluate(operands)
    except Exception as error:  # whatever the operators of its values raise
        raise UserError(f"{study.path}: when={entry.when!r:.60}: {one_line(error)} (arm {arm})") from None
    if not isinstance(result, bool):
        raise UserError(
            f"{study.path}: `when: {entry.when}` must be true or false, it is {result!r:.60} (arm {arm})"
        )
    return result
