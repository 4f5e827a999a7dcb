"""A params file, read and checked against the notebooks it names.

    stages: [tapir/1_data_selection, {repeat: rounds, stages: [tapir/4_training: {when: "round > 1"}]},
             report: {once: true}]
    arms: {random: {selection: random}, tapir: {}}
    seeds: [0]
    params: {rounds: 2}

A study may name its `primary` contrasts before it runs. Their arms take all `seeds`; those of other
comparisons, which are exploratory, may take fewer: `exploratory_seeds`. `metric` names the headline score.

Everything is checked before anything runs. What a file sets itself must fit. What it inherits from the file
that it extends and has no use for (parameters of a stage that it leaves out, contrasts of other arms) is left
out and listed.
"""

from dataclasses import dataclass
from pathlib import Path

from lib import paths
from lib.errors import UserError, named, one_line
from lib.evaluation import registry
from lib.runner import folders, params, params_file
from lib.runner.keys import RESERVED


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
        return {name: p.kind for parameters in self.declared.values() for name, p in parameters.items()}


def load(path: str | Path) -> Study:
    """Read a params file and the parameters of its notebooks. Raises UserError naming file and entry."""
    text, own = params_file.read(Path(path))
    stages = params_file.stages(text, path)
    declared = {entry.notebook: _declared(entry.notebook) for entry in params_file.entries(stages)}
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
    names = set(study.kinds) | own_names(study)
    unused = []

    def used(values: dict, kept: dict) -> dict:
        lost = [n for n in values if n not in kept and n not in names and not _is_reserved(n)]
        unused.extend(lost)
        return {name: value for name, value in values.items() if name not in lost}

    text["params"] = used(text["params"], own["params"])
    if text.get("arms") and "arms" not in own:
        text["arms"] = {arm: used(values, {}) for arm, values in text["arms"].items()}
    arms = set(text.get("arms") or ["main"])
    for key in [key for key in ("primary", "comparisons") if key not in own]:
        lost = [c for c in params_file.list_of(text, key, path) if not set(str(c).split("_vs_")) <= arms]
        unused += map(str, lost)
        text |= {key: [c for c in text[key] if c not in lost]} if lost else {}
    if "exploratory_seeds" not in own and "exploratory_seeds" in text:
        fewer, seeds = (
            params_file.list_of(text, "exploratory_seeds", path),
            params_file.list_of(text, "seeds", path),
        )
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


def _seeds(text: dict, arms: dict, path: object) -> dict[str, list[int]]:
    """The seeds of each arm; raises UserError for exploratory ones that the study does not have."""
    seeds = params_file.list_of(text, "seeds", path) or [0]
    fewer = params_file.list_of(text, "exploratory_seeds", path) or seeds
    if strange := set(fewer) - set(seeds):
        raise UserError(
            f"{path}: exploratory_seeds has {named(strange)}, which seeds ({seeds}) lacks. "
            "Add them to `seeds`."
        )
    primary = {
        arm for contrast in params_file.list_of(text, "primary", path) for arm in str(contrast).split("_vs_")
    }
    if "exploratory_seeds" in text and not primary:
        raise UserError(
            f"{path}: exploratory_seeds needs primary contrasts: name them under `primary`, or leave it out"
        )
    return {arm: seeds if arm in primary else fewer for arm in arms}


def _declared(notebook: str) -> dict[str, params.Parameter]:
    for part in notebook.split("/"):  # what it writes lies at the same place in outputs
        folders.check_plain(part, f"stages has the notebook {named([notebook])}, whose")
    path = folders.notebook_path(notebook)
    if not path.is_file():
        top = paths.ROOT / "notebooks"
        names = [p.relative_to(top).with_suffix("").as_posix() for p in top.rglob("*.ipynb")]
        raise UserError(f"there is no notebook {notebook}{params.nearest(notebook, names)}")
    content = params.read_notebook(path)
    return params.declared(content, path)


# --- checks


def _check_types(declared: dict[str, dict[str, params.Parameter]]) -> None:
    """One name has one type in all notebooks."""
    first: dict[str, tuple[str, str]] = {}
    for notebook, parameters in declared.items():
        for name, parameter in parameters.items():
            kind, where = first.setdefault(name, (parameter.kind, notebook))
            if kind != parameter.kind:
                raise UserError(
                    f"{name} is {kind} in {where} but {parameter.kind} in {notebook}: give them one type"
                )


def _check(study: Study) -> None:
    names = set(study.kinds) | own_names(study)
    parts = [("params", study.text["params"], names)]
    parts += [(f"arm {arm}", values, names) for arm, values in study.arms.items()]
    parts += [(e.notebook, e.values, study.declared[e.notebook]) for e in params_file.entries(study.stages)]
    for where, values, names in parts:
        for name, value in values.items():
            check_value(study, f"{study.path}, {where}", name, value, names)
    _check_metric(study)
    for contrast in contrasts(study):
        a, _, b = contrast.partition("_vs_")
        for arm in (a, b):
            if arm not in study.arms:
                near = params.nearest(arm, study.arms)
                raise UserError(
                    f"{study.path}: {named([contrast])} compares {named([arm or '?'])}, which is no arm{near}"
                )


def contrasts(study: Study) -> list[str]:
    """The comparisons to make, primary ones first."""
    listed = [
        *params_file.list_of(study.text, "primary", study.path),
        *params_file.list_of(study.text, "comparisons", study.path),
    ]
    return list(dict.fromkeys(map(str, listed)))


def own_names(study: Study) -> set[str]:
    """Return the names that the study itself uses, in `repeat` and `when`."""
    repeats = {stage[0] for stage in study.stages if isinstance(stage, tuple) and isinstance(stage[0], str)}
    whens = [entry.when for entry in params_file.entries(study.stages) if entry.when]
    return repeats.union(*(params_file.condition(when, study.path)[1] for when in whens))


def _is_reserved(name: object) -> bool:
    return name in RESERVED or str(name).endswith(params.SECRET)


def _has_metric(study: Study, name: str) -> bool:
    """Say whether a stage can write a metric; what a notebook of one's own writes is not known before."""
    possible = registry.writable(study.declared)
    if any(map(registry.is_own, study.declared)):
        prefixes = {each.prefix for each in registry.BENCHMARKS}
        return name in registry.WRITERS or name.partition(".")[0] not in prefixes
    return name in possible


def _check_metric(study: Study) -> None:
    name = study.text.get("metric")
    if not name or _has_metric(study, name):
        return
    where = f"{study.path}: metric={one_line(name, 60)}"
    if benchmark := registry.WRITERS.get(name):
        raise UserError(
            f"{where}: no stage writes it. Add {benchmark.notebook} to `stages`, or leave `metric` out."
        )
    possible = registry.writable(study.declared)
    near = params.nearest(name, possible or registry.WRITERS)
    raise UserError(
        f"{where}: no benchmark writes it{near}. Name one of {', '.join(possible) or 'an evaluation'}."
    )


def check_value(study: Study, where: str, name: str, value: object, names: set[str] | dict) -> None:
    if name in RESERVED:
        raise UserError(
            f"{where}: {name} is set by the runner (--run, arms, seeds, repeat), not as a parameter"
        )
    if str(name).endswith(params.SECRET):
        raise UserError(
            f"{where}: {named([name])} looks like a secret; keys come from the environment. Remove it."
        )
    if name not in names:
        raise UserError(f"{where}: no notebook declares {named([name])}{params.nearest(str(name), names)}")
    if name in study.kinds:
        params.coerce(value, study.kinds[name], f"{where}: {name}")


def check_name(name: str, what: str) -> None:
    folders.check_plain(name, what)
    if name == "all":
        raise UserError(f"the {what} name {name} must be another one (all is taken)")
