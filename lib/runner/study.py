"""A params file, read and checked against the notebooks it names.

    stages: [tapir/1_data_selection, {repeat: rounds, stages: [tapir/4_training: {when: "round > 1"}]},
             report: {once: true}]
    arms: {random: {selection: random}, tapir: {}}
    seeds: [0]
    threads: 1  # of each stage: the results are then the same whatever --jobs
    engine: ray  # generates students' responses on a cluster (lib.models.choose); the default is local
    params: {rounds: 2}

A study may name its `primary` contrasts before it runs. Their arms take all `seeds`; those of other
comparisons, which are exploratory, may take fewer: `exploratory_seeds`. `metric` names the headline score.

A file that `extends` another one holds the differences: its parameters and arms are merged with inherited
ones by name (`arm: null` leaves an arm out), and its other entries replace them. What a file sets itself
must fit. What it inherits and has no use for (parameters of a stage that it leaves out, contrasts of other
arms) is left out and listed.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from lib import models, paths
from lib.errors import UserError, named, nearest, one_line
from lib.evaluation import registry
from lib.runner import folders, params
from lib.runner.keys import RESERVED
from lib.runner.params_file import Entry, File, block, condition, read


@dataclass(frozen=True)
class Study:
    """A params file with the parameters of its notebooks."""

    path: Path
    text: dict  # the file, `extends` followed, without what is `unused`
    blocks: list[tuple[object, list[Entry]]]  # (repeat, stages); repeat is None where stages run once
    declared: dict[str, dict[str, params.Parameter]]  # by notebook, by name
    unused: tuple[str, ...] = ()  # inherited names that nothing here has a use for

    @property
    def params(self) -> dict:
        return self.text["params"]

    @cached_property
    def arms(self) -> dict[str, dict]:
        return self.text["arms"] or {"main": {}}

    @cached_property
    def seeds(self) -> dict[str, list[int]]:
        """The seeds of each arm: all in primary contrasts, the exploratory ones elsewhere."""
        seeds = self.text.get("seeds") or [0]
        fewer = self.text.get("exploratory_seeds") or seeds
        primary = {arm for contrast in self.text.get("primary", []) for arm in contrast.split("_vs_")}
        return {arm: seeds if arm in primary else fewer for arm in self.arms}

    @property
    def engine(self) -> str:
        """What generates students' responses, as `models.choose` takes it."""
        return models.engine(self.text.get("engine", "local"))

    @property
    def contrasts(self) -> list[str]:
        """The comparisons to make, primary ones first."""
        return list(dict.fromkeys([*self.text.get("primary", []), *self.text.get("comparisons", [])]))

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
        return repeats.union(*(condition(entry.when)[1] for entry in self.entries))

    @cached_property
    def names(self) -> set[str]:
        return {*self.kinds, *self.own_names}

    def can_write(self, metric: str) -> bool:
        """Say whether a stage can write a metric; a notebook of one's own can write any."""
        return metric in registry.writable(self.declared) or any(map(registry.is_own, self.declared))

    def check_name(self, where: str, name: object, names: set[str] | dict) -> None:
        """Raise UserError for a parameter that the runner sets, or none of `names`."""
        if name == "params_file":
            raise UserError(f"{where}: {name} is for notebooks opened by hand. Name the file in the command.")
        if name in RESERVED:
            raise UserError(f"{where}: {name} is set by the runner (--run, arms, seeds, repeat). Remove it.")
        if name in File.__annotations__ and name not in names:
            raise UserError(f"{where}: {name} is no parameter. Set it in the file itself, beside `params`.")
        if name not in names:
            near = nearest(str(name), names)
            raise UserError(f"{where}: no notebook declares {named([name])}{near}. See docs/parameters.md.")


def load(path: str | Path, overrides: dict[str, object] | None = None) -> Study:
    """Read and check a params file, and put -p values into it: {"name" or "arm.name": text}.

    Raises UserError naming file and entry, and for an override that would not act.
    """
    text, own = read(Path(path))
    if not text.get("stages"):
        raise UserError(f"{path}: no stages; name at least one notebook under `stages`")
    blocks = [block(item, path) for item in text["stages"]]
    declared = {entry.notebook: _declared(entry.notebook) for _, entries in blocks for entry in entries}
    study = _without_unused(Study(Path(path), text, blocks, declared), own)
    _check_names(study)
    _check_contrasts(study)
    return _overridden(study, overrides or {})


def _declared(notebook: str) -> dict[str, params.Parameter]:
    for part in notebook.split("/"):  # what it writes lies at the same place in outputs
        folders.check_plain(part, f"stages has the notebook {named([notebook])}, whose")
    path = folders.notebook_path(notebook)
    if not path.is_file():
        top = paths.ROOT / "notebooks"
        names = [p.relative_to(top).with_suffix("").as_posix() for p in top.rglob("*.ipynb")]
        raise UserError(f"there is no notebook {notebook}{nearest(notebook, names)}")
    return params.declared(params.read_notebook(path), path)


def _without_unused(study: Study, own: dict) -> Study:
    """Leave out what a file inherits and has no use for; `own` are its own entries."""
    text, arms, names = dict(study.text), study.text["arms"], study.names
    unused = [name for name in study.params if name not in names and name not in own["params"]]
    text["params"] = {name: value for name, value in study.params.items() if name not in unused}
    shadowed = set(own["params"]) if arms else set()  # by what every arm inherits
    for arm, values in arms.items():
        own_values = own.get("arms", {}).get(arm) or {}
        shadowed &= values.keys() - own_values.keys()
        lost = [name for name in values if name not in names and name not in own_values]
        text["arms"] |= {arm: {name: value for name, value in values.items() if name not in lost}}
        unused += lost
    unused += [f"the arm {arm}" for arm in own.get("arms", {}) if arm not in arms]
    if shadowed:
        raise UserError(f"{study.path}: every arm sets {named(shadowed)}. Set it there, or leave arms out.")
    for key in [key for key in ("primary", "comparisons") if key in text and key not in own]:
        unused += [contrast for contrast in text[key] if not set(contrast.split("_vs_")) <= set(arms)]
        text[key] = [contrast for contrast in text[key] if contrast not in unused]
    if "exploratory_seeds" in text and "exploratory_seeds" not in own:
        fewer = [seed for seed in text.pop("exploratory_seeds") if seed in text.get("seeds", [0])]
        text |= {"exploratory_seeds": fewer} if fewer and text.get("primary") else {}
    if "metric" in text and "metric" not in own and not study.can_write(text["metric"]):
        unused.append(f"metric={text.pop('metric')}")
    return replace(study, text=text, unused=tuple(dict.fromkeys(unused)))


def _overridden(study: Study, overrides: dict[str, object]) -> Study:
    given, arms = {}, {arm: dict(values) for arm, values in study.arms.items()}
    for key, text in overrides.items():
        arm, _, name = key.rpartition(".")
        where = f"-p {named([key])}"
        if arm and arm not in arms:
            raise UserError(f"{where}: there is no arm {named([arm])}{nearest(arm, arms)}")
        study.check_name(where, name, study.names)
        setting = [each for each, values in study.arms.items() if name in values]
        if setting and not arm:
            each = ", ".join(f"-p {a}.{name}={one_line(text, 60)}" for a in arms)
            raise UserError(f"{where}: the arm {setting[0]} sets it; say which you mean: {each}")
        entries = [entry for entry in study.entries if name in study.declared[entry.notebook]]
        if name not in study.own_names and all(name in entry.values for entry in entries):
            raise UserError(f"{where}: {study.path} sets it stage by stage. Change it there.")
        (arms[arm] if arm else given)[name] = params.from_text(text, study.kinds.get(name), where)
    return replace(study, text=study.text | {"params": study.params | given, "arms": arms})


# --- checks


def _check_names(study: Study) -> None:
    """Raise UserError for a parameter, an arm or a metric of a wrong name."""
    for arm in study.arms:
        folders.check_plain(arm, "arm")
        if arm == folders.ALL_ARMS:
            raise UserError(f"{study.path}: the arm name all is taken. Rename the arm.")
    parts = [("params", study.params, study.names)]
    parts += [(f"arm {arm}", values, study.names) for arm, values in study.arms.items()]
    parts += [(entry.notebook, entry.values, study.declared[entry.notebook]) for entry in study.entries]
    for where, values, names in parts:
        for name in values:
            study.check_name(f"{study.path}, {where}", name, names)
    if (metric := study.text.get("metric")) and not study.can_write(metric):
        possible = registry.writable(study.declared)
        near = nearest(metric, possible)
        raise UserError(
            f"{study.path}: metric={one_line(metric, 60)}: no stage writes it{near}. "
            f"Name one of {', '.join(possible) or 'an evaluation'}, or add its notebook to `stages`."
        )


def _check_contrasts(study: Study) -> None:
    """Raise UserError for contrasts of unknown arms and unfit exploratory seeds."""
    for contrast in study.contrasts:
        for arm in [arm for arm in contrast.partition("_vs_")[::2] if arm not in study.arms]:
            where = f"{study.path}: {named([contrast])} compares {named([arm])}"
            raise UserError(f"{where}, which is no arm{nearest(arm, study.arms)}")
    if "exploratory_seeds" in study.text:
        seeds = study.text.get("seeds", [0])
        if strange := set(study.text["exploratory_seeds"]) - set(seeds):
            raise UserError(f"{study.path}: exploratory_seeds has {named(strange)}, seeds has not. Add them.")
        if not study.text.get("primary"):
            raise UserError(f"{study.path}: exploratory_seeds needs contrasts under `primary`. Name them.")
