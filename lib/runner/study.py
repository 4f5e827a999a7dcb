"""A params file, read and checked against the notebooks it names.

    stages: [tapir/1_data_selection, {repeat: rounds, stages: [tapir/4_training: {when: "round > 1"}]}, report: {once: true}]
    arms: {random: {selection: random}, tapir: {}}
    seeds: [0]
    params: {rounds: 2}

A study may name its `primary` contrasts before it runs. The arms in them take all `seeds`; those in other comparisons, which are
exploratory, may do with fewer: `exploratory_seeds`. `metric` names the score that the study is summed up by.

Everything is checked before anything runs. What a file sets itself must fit; what it inherits from the file
that it extends, and has no use for (the parameters of a stage that it leaves out, contrasts of other arms),
is left out and listed.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lib import paths
from lib.errors import UserError, named, one_line
from lib.evaluation import registry
from lib.runner import folders, params, params_file
from lib.runner.keys import RESERVED

LOGIC = (
    *(ast.Expression, ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub, ast.Name, ast.Load),
    *(ast.Constant, ast.Compare, ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE),
)


@dataclass(frozen=True)
class Entry:
    """One line under `stages`."""

    notebook: str
    values: dict
    when: str | None = None
    once: bool = False


@dataclass(frozen=True)
class Study:
    path: Path
    text: dict  # the params file, `extends` followed, without what is `unused`
    stages: list  # of Entry, or (repeat, [Entry])
    arms: dict[str, dict]
    seeds: dict[str, list[int]]  # by arm
    declared: dict[str, dict[str, params.Parameter]]  # by notebook, by name
    unused: tuple[str, ...] = ()  # inherited names that nothing here has a use for

    @property
    def all_seeds(self) -> list[int]:
        return list(dict.fromkeys(seed for seeds in self.seeds.values() for seed in seeds))

    @property
    def kinds(self) -> dict[str, str]:
        return {name: p.kind for of in self.declared.values() for name, p in of.items()}


def load(path: str | Path) -> Study:
    """Read a params file and the parameters cells of its notebooks. Raises UserError naming file and entry."""
    text, own = params_file.read(Path(path))
    stages = [_stage(entry, path) for entry in _list(text, "stages", path)]
    declared = {entry.notebook: _declared(entry.notebook) for entry in entries(stages)}
    _check_types(declared)
    text, unused = _fitting(text, own, Study(Path(path), text, stages, {}, {}, declared))
    arms = text.get("arms") or {"main": {}}
    study = Study(Path(path), text, stages, arms, _seeds(text, arms, path), declared, tuple(unused))
    _check(study)
    return study


def _fitting(text: dict, own: dict, study: Study) -> tuple[dict, list[str]]:
    """Leave out what a file inherits and has no use for; return its entries, and what was left out."""
    text, path = dict(text), study.path
    if text.get("arms"):
        text["arms"] = _arms(text["arms"], path)
    known = set(study.kinds) | own_names(study)
    unused = []

    def used(values: dict, kept: dict) -> dict:
        lost = [n for n in values if n not in kept and n not in known and not _is_reserved(n)]
        unused.extend(lost)
        return {name: value for name, value in values.items() if name not in lost}

    text["params"] = used(text["params"], own["params"])
    if text.get("arms") and "arms" not in own:
        text["arms"] = {arm: used(values, {}) for arm, values in text["arms"].items()}
    arms = set(text.get("arms") or ["main"])
    for key in [key for key in ("primary", "comparisons") if key not in own]:
        lost = [c for c in _list(text, key, path) if not set(str(c).split("_vs_")) <= arms]
        unused += map(str, lost)
        text |= {key: [c for c in text[key] if c not in lost]} if lost else {}
    if "exploratory_seeds" not in own and "exploratory_seeds" in text:
        fewer, seeds = _list(text, "exploratory_seeds", path), _list(text, "seeds", path)
        text["exploratory_seeds"] = [seed for seed in fewer if seed in seeds]
        if not text["exploratory_seeds"] or not text.get("primary"):
            del text["exploratory_seeds"]
    if "metric" not in own and text.get("metric") and not _has_metric(study, text["metric"]):
        unused.append(f"metric={text.pop('metric')}")
    return text, list(dict.fromkeys(unused))


def _arms(listed: object, path: object) -> dict[str, dict]:
    params_file.check_mapping(listed, f"{path}: arms")
    for arm, values in listed.items():
        check_name(str(arm), "arm")
        params_file.check_mapping(values or {}, f"{path}: the arm {arm}")
    return {str(arm): values or {} for arm, values in listed.items()}


# --- the file


def _list(text: dict, key: str, path: object) -> list:
    value = text.get(key) or []
    whole = key.endswith("seeds")
    if not isinstance(value, list) or (whole and any(type(seed) is not int for seed in value)):
        raise UserError(f"{path}: {key} must be a list{' of whole numbers' * whole}, not {value!r:.60}")
    if key == "stages" and not value:
        raise UserError(f"{path}: no stages; name at least one notebook under `stages`")
    return value


def _seeds(text: dict, arms: dict, path: object) -> dict[str, list[int]]:
    """The seeds of each arm; raises UserError for exploratory ones that the study does not have."""
    seeds = _list(text, "seeds", path) or [0]
    fewer = _list(text, "exploratory_seeds", path) or seeds
    if strange := set(fewer) - set(seeds):
        raise UserError(
            f"{path}: exploratory_seeds has {', '.join(map(str, sorted(strange)))}, which seeds ({seeds}) lacks: nothing to pair with"
        )
    primary = {arm for contrast in _list(text, "primary", path) for arm in str(contrast).split("_vs_")}
    if "exploratory_seeds" in text and not primary:
        raise UserError(
            f"{path}: exploratory_seeds needs primary contrasts: name them under `primary`, or leave it out"
        )
    return {arm: seeds if arm in primary else fewer for arm in arms}


def _stage(entry: object, path: object) -> Entry | tuple[object, list[Entry]]:
    if isinstance(entry, dict) and "repeat" in entry:
        if set(entry) != {"repeat", "stages"}:
            raise UserError(f"{path}: a repeat has the entries `repeat` and `stages`, not {named(entry)}")
        if entry["repeat"] in RESERVED:
            raise UserError(
                f"{path}: repeat={entry['repeat']}: the runner sets this name itself. Write a number or a name such as rounds."
            )
        return entry["repeat"], [_entry(inner, path) for inner in _list(entry, "stages", path)]
    return _entry(entry, path)


def _entry(entry: object, path: object) -> Entry:
    if isinstance(entry, str):
        entry = {entry: {}}
    if not isinstance(entry, dict) or len(entry) != 1:
        raise UserError(
            f"{path}: a stage is a notebook's name, or `name: {{when: …, once: …, parameter: value}}`, not {entry!r:.60}"
        )
    [(notebook, values)] = entry.items()
    params_file.check_mapping(values or {}, f"{path}: {named([notebook])}")
    values = dict(values or {})
    once, when = values.pop("once", False), values.pop("when", None)
    if when is not None:
        logic(str(when), path)
    return Entry(str(notebook), values, None if when is None else str(when), once is True)


def entries(stages: list) -> Iterator[Entry]:
    for stage in stages:
        yield from [stage] if isinstance(stage, Entry) else stage[1]


def _declared(notebook: str) -> dict[str, params.Parameter]:
    for part in notebook.split("/"):  # what it writes lies at the same place in outputs
        folders.check_plain(part, f"stages has the notebook {named([notebook])}, whose")
    path = folders.notebook_path(notebook)
    if not path.is_file():
        top = paths.ROOT / "notebooks"
        known = [p.relative_to(top).with_suffix("").as_posix() for p in top.rglob("*.ipynb")]
        raise UserError(f"there is no notebook {notebook}{params.nearest(notebook, known)}")
    content = params.read_notebook(path)
    return params.declared(content, path)


# --- checks


def _check_types(declared: dict[str, dict[str, params.Parameter]]) -> None:
    """One name has one type in all notebooks."""
    first: dict[str, tuple[str, str]] = {}
    for notebook, of in declared.items():
        for name, parameter in of.items():
            kind, where = first.setdefault(name, (parameter.kind, notebook))
            if kind != parameter.kind:
                raise UserError(
                    f"{name} is {kind} in {where} but {parameter.kind} in {notebook}: give them one type"
                )


def _check(study: Study) -> None:
    everywhere = set(study.kinds) | own_names(study)
    for where, values in [
        ("params", study.text["params"]),
        *((f"arm {arm}", v) for arm, v in study.arms.items()),
    ]:
        for name, value in values.items():
            check_value(study, f"{study.path}, {where}", name, value, everywhere)
    for entry in entries(study.stages):
        for name, value in entry.values.items():
            check_value(study, f"{study.path}, {entry.notebook}", name, value, study.declared[entry.notebook])
    _check_metric(study)
    for contrast in contrasts(study):
        a, _, b = contrast.partition("_vs_")
        for arm in (a, b):
            if arm not in study.arms:
                raise UserError(
                    f"{study.path}: {named([contrast])} compares {named([arm or '?'])}, which is no arm{params.nearest(arm, study.arms)}"
                )


def contrasts(study: Study) -> list[str]:
    """The comparisons to make, primary ones first."""
    listed = [*_list(study.text, "primary", study.path), *_list(study.text, "comparisons", study.path)]
    return list(dict.fromkeys(map(str, listed)))


def own_names(study: Study) -> set[str]:
    """Names that the study itself uses, in `repeat` and `when`."""
    repeats = {
        stage[0] for stage in study.stages if not isinstance(stage, Entry) and isinstance(stage[0], str)
    }
    trees = [logic(entry.when, study.path) for entry in entries(study.stages) if entry.when]
    return (repeats | {n.id for tree in trees for n in ast.walk(tree) if isinstance(n, ast.Name)}) - {"round"}


def _is_reserved(name: object) -> bool:
    return name in RESERVED or str(name).endswith(params.SECRET)


def _has_metric(study: Study, name: str) -> bool:
    """Say whether a stage can write a metric; what a notebook of one's own writes is not known before."""
    possible = registry.writable(study.declared)
    if any(map(registry.is_own, study.declared)):
        prefixes = {each.prefix for each in registry.BENCHMARKS}
        return name in registry.every() or name.partition(".")[0] not in prefixes
    return name in possible


def _check_metric(study: Study) -> None:
    name = study.text.get("metric")
    if not name or _has_metric(study, name):
        return
    where = f"{study.path}: metric={one_line(name, 60)}"
    if notebook := registry.notebook_of(name):
        raise UserError(f"{where}: no stage writes it. Add {notebook} to `stages`, or leave `metric` out.")
    possible = registry.writable(study.declared)
    near = params.nearest(name, possible or registry.every())
    raise UserError(
        f"{where}: no benchmark writes it{near}. Name one of {', '.join(possible) or 'an evaluation'}."
    )


def check_value(study: Study, where: str, name: str, value: object, known: set[str] | dict) -> None:
    if name in RESERVED:
        raise UserError(
            f"{where}: {name} is set by the runner (--run, arms, seeds, repeat), not as a parameter"
        )
    if str(name).endswith(params.SECRET):
        raise UserError(
            f"{where}: {named([name])} looks like a secret; keys come from the environment, never from a parameter"
        )
    if name not in known:
        raise UserError(f"{where}: no notebook declares {named([name])}{params.nearest(str(name), known)}")
    if name in study.kinds:
        params.coerce(value, study.kinds[name], f"{where}: {name}")


def check_name(name: str, what: str) -> None:
    folders.check_plain(name, what)
    if name == "all":
        raise UserError(f"the {what} name {name} must be another one (all is taken)")


def logic(text: str, path: object) -> ast.Expression:
    """A condition: names, numbers, comparisons, and/or/not."""
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise UserError(f"{path}: cannot read the condition `when: {text!r:.60}`") from None
    for node in ast.walk(tree):
        if not isinstance(node, LOGIC) or (
            isinstance(node, ast.Constant) and not isinstance(node.value, int | float | str)
        ):
            raise UserError(f"{path}: `when: {text!r:.60}` may use names, numbers, comparisons, and, or, not")
    return tree
