"""A params file, read and checked against the notebooks it names.

    stages: [tapir/1_data_selection, {repeat: rounds, stages: [tapir/4_training: {when: "round > 1"}]},
             report: {once: true}]
    arms: {random: {selection: random}, tapir: {}}
    seeds: [0]
    params: {rounds: 2}

A study may name its `primary` contrasts before it runs. Their arms take all `seeds`; those of other
comparisons, which are exploratory, may take fewer: `exploratory_seeds`. `metric` names the headline score.

What a file sets itself must fit. What it inherits from the file that it extends and has no use for
(parameters of a stage that it leaves out, contrasts of other arms) is left out and listed.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from lib import paths
from lib.errors import UserError, named, one_line
from lib.evaluation import registry
from lib.runner import folders, params
from lib.runner.keys import RESERVED
from lib.runner.params_file import Entry, block, condition, read


@dataclass(frozen=True)
class Study:
    """A params file with the parameters of its notebooks."""

    path: Path
    text: dict  # the file, `extends` followed, without what is `unused`
    blocks: list[tuple[object, list[Entry]]]  # (repeat, stages); repeat is None where stages run once
    declared: dict[str, dict[str, params.Parameter]]  # by notebook, by name
    params: dict
    arms: dict[str, dict]
    seeds: dict[str, list[int]]  # by arm
    unused: tuple[str, ...] = ()  # inherited names that nothing here has a use for

    @cached_property
    def entries(self) -> list[Entry]:
        return [entry for _, entries in self.blocks for entry in entries]

    @cached_property
    def kinds(self) -> dict[str, str]:
        return {name: p.kind for parameters in self.declared.values() for name, p in parameters.items()}

    @cached_property
    def own_names(self) -> set[str]:
        """The names that the study itself uses, in `repeat` and `when`."""
        repeats = {repeat for repeat, _ in self.blocks if isinstance(repeat, str)}
        return repeats.union(*(condition(entry.when)[1] for entry in self.entries if entry.when))

    @property
    def contrasts(self) -> list[str]:
        """The comparisons to make, primary ones first."""
        return list(dict.fromkeys([*self.text.get("primary", []), *self.text.get("comparisons", [])]))

    def check_name(self, where: str, name: object, names: set[str] | dict) -> None:
        """Raise UserError for a parameter that the runner sets, or that is none of `names`."""
        if name in RESERVED:
            raise UserError(f"{where}: {name} is set by the runner (--run, arms, seeds, repeat). Remove it.")
        if name not in names:
            near = params.nearest(str(name), names)
            raise UserError(f"{where}: no notebook declares {named([name])}{near}")


def load(path: str | Path) -> Study:
    """Read a params file and the parameters of its notebooks. Raises UserError naming file and entry."""
    text, own = read(Path(path))
    if not text.get("stages"):
        raise UserError(f"{path}: no stages; name at least one notebook under `stages`")
    blocks = [block(item, path) for item in text["stages"]]
    declared = {entry.notebook: _declared(entry.notebook) for _, entries in blocks for entry in entries}
    study = _fitting(Study(Path(path), text, blocks, declared, text["params"], {}, {}), own)
    names = {*study.kinds, *study.own_names}
    parts = [("params", study.params, names)]
    parts += [(f"arm {arm}", values, names) for arm, values in study.arms.items()]
    parts += [(entry.notebook, entry.values, declared[entry.notebook]) for entry in study.entries]
    for where, values, allowed in parts:
        for name in values:
            study.check_name(f"{path}, {where}", name, allowed)
    if (metric := study.text.get("metric")) and not _has_metric(study, metric):
        possible = registry.writable(study.declared)
        near = params.nearest(metric, possible)
        raise UserError(
            f"{path}: metric={one_line(metric, 60)}: no stage writes it{near}. "
            f"Name one of {', '.join(possible) or 'an evaluation'}, or add its notebook to `stages`."
        )
    for contrast in study.contrasts:
        a, _, b = contrast.partition("_vs_")
        for arm in {a, b} - set(study.arms):
            near = params.nearest(arm, study.arms)
            raise UserError(f"{path}: {named([contrast])} compares {named([arm])}, which is no arm{near}")
    return study


def _declared(notebook: str) -> dict[str, params.Parameter]:
    for part in notebook.split("/"):  # what it writes lies at the same place in outputs
        folders.check_plain(part, f"stages has the notebook {named([notebook])}, whose")
    path = folders.notebook_path(notebook)
    if not path.is_file():
        top = paths.ROOT / "notebooks"
        names = [p.relative_to(top).with_suffix("").as_posix() for p in top.rglob("*.ipynb")]
        raise UserError(f"there is no notebook {notebook}{params.nearest(notebook, names)}")
    return params.declared(params.read_notebook(path), path)


# --- what fits together


def _fitting(study: Study, own: dict) -> Study:
    """Leave out what a file inherits and has no use for; return the study with its arms and seeds."""
    text, path = dict(study.text), study.path
    arms = {arm: values or {} for arm, values in text.get("arms", {}).items()} or {"main": {}}
    for arm in arms:
        folders.check_plain(arm, "arm")
        if arm == "all":
            raise UserError(
                f"{path}: the arm name all is taken, by stages that run once. Choose another one."
            )
    names = {*study.kinds, *study.own_names}
    unused = [name for name in text["params"] if name not in names and name not in own["params"]]
    text["params"] = {name: value for name, value in text["params"].items() if name not in unused}
    if "arms" not in own:
        unused += [name for values in arms.values() for name in values if name not in names]
        arms = {arm: {n: v for n, v in values.items() if n in names} for arm, values in arms.items()}
    for key in [key for key in ("primary", "comparisons") if key in text and key not in own]:
        unused += [contrast for contrast in text[key] if not set(contrast.split("_vs_")) <= set(arms)]
        text[key] = [contrast for contrast in text[key] if contrast not in unused]
    seeds = text.get("seeds") or [0]
    if "exploratory_seeds" not in own and "exploratory_seeds" in text:
        fewer = [seed for seed in text.pop("exploratory_seeds") if seed in seeds]
        text |= {"exploratory_seeds": fewer} if fewer and text.get("primary") else {}
    if "metric" not in own and "metric" in text and not _has_metric(study, text["metric"]):
        unused.append(f"metric={text.pop('metric')}")
    if "arms" in text:
        text["arms"] = arms
    own_seeds, unused = _seeds(text, arms, path), tuple(dict.fromkeys(unused))
    return replace(study, text=text, params=text["params"], arms=arms, seeds=own_seeds, unused=unused)


def _seeds(text: dict, arms: dict, path: object) -> dict[str, list[int]]:
    """Return the seeds of each arm. Raises UserError for exploratory ones that the study does not have."""
    seeds = text.get("seeds") or [0]
    fewer = text.get("exploratory_seeds") or seeds
    if strange := set(fewer) - set(seeds):
        raise UserError(
            f"{path}: exploratory_seeds has {named(strange)}, which seeds ({seeds}) lacks. Add them."
        )
    primary = {arm for contrast in text.get("primary", []) for arm in contrast.split("_vs_")}
    if "exploratory_seeds" in text and not primary:
        raise UserError(f"{path}: exploratory_seeds needs primary contrasts. Name them under `primary`.")
    return {arm: seeds if arm in primary else fewer for arm in arms}


def _has_metric(study: Study, name: str) -> bool:
    """Say whether a stage can write a metric; what a notebook of one's own writes is not known before."""
    return name in registry.writable(study.declared) or any(map(registry.is_own, study.declared))
