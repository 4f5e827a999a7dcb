"""A notebook opened by hand: the values of its parameters, and what differs later from what was opened.

A later value wins: notebook default < params_file (params < arm < stage entry) < set by hand.
"""

import copy
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from lib import models, paths
from lib.errors import UserError, named
from lib.runner import display, folders, keys, params, references
from lib.runner.plan import Planned, later_stages, plan
from lib.runner.study import load

RUN_FIRST = (
    'Run notebooks/{notebook}.ipynb first{round}, or set run = "demo/tapir" to read what an arm wrote.'
)
AGAIN = "run the cell that opens it again, and those below"
BY_HAND, DEFAULT_RUN = "by hand", f"{folders.BY_HAND}/main"
FILLED = "_from_params_file"  # in a notebook's globals: what a params file gave them
_imported: dict[Path, str] = {}  # the syntax of lib's modules, as this kernel imported them


@dataclass
class Opened:
    """A stage that a notebook opened by hand; `values` are the notebook's globals."""

    values: dict
    notebook: dict  # as it was saved then
    plan: dict
    final: Path  # where its result will lie
    origins: dict[str, str]  # of values that are no defaults
    notes: list[str]  # what the reader should know
    later: list[dict]  # stages that the params file has after this one: {"notebook", "parameters"}
    edited: dict[str, str] = field(default_factory=dict)  # first lines of cells that ran, but were not saved

    @property
    def part(self) -> Path:
        """The folder to work in; a changed notebook has another one."""
        key = self.plan["key"][: folders.KEY_LENGTH]
        return folders.part_of(self.final.with_name(f"{self.final.name}.{key}"))

    def difference(self) -> str:
        """Say what differs now from what was opened, in one sentence; empty if nothing does."""
        values, old = self.values, self.plan["parameters"]
        plain = {n: v for n, v in values.items() if isinstance(v, bool | int | float | str | list | dict)}
        changed = [name for name in old if name not in plain or plain[name] != old[name]]
        opened = "when this stage was opened and is now"
        texts = [f"{name} was {old[name]!r:.60} {opened} {values.get(name)!r:.60}" for name in changed[:3]]
        texts += [f"{len(changed) - 3} more parameters changed"] if changed[3:] else []
        saved = f"notebooks/{self.plan['name'].rpartition('@')[0]}.ipynb as it was saved then"
        texts += [f"the cell `{line}` differs from {saved}" for line in self.edited.values()]
        save = "save the notebook, " if self.edited else ""
        return f"{'; '.join(texts)}: {save}{AGAIN}" if texts else ""

    def watch(self) -> None:
        """Show the difference below every cell that runs from now on."""
        if shell := display.shell():
            shell.events.register("post_run_cell", self._look)

    def end(self) -> None:
        """Watch no longer."""
        if (shell := display.shell()) and self._look in shell.events.callbacks["post_run_cell"]:
            shell.events.unregister("post_run_cell", self._look)

    def _look(self, result) -> None:
        cells = {cell.get("id"): cell for cell in self.notebook["cells"] if cell["cell_type"] == "code"}
        if saved := cells.get(result.info.cell_id or "unknown"):
            self.edited.pop(saved["id"], None)
            if not _is_same_code(saved, result.info.raw_cell):
                self.edited[saved["id"]] = next(iter(result.info.raw_cell.strip().splitlines()), "")[:60]
        if (text := self.difference()) and text not in str(result.error_in_exec):
            display.show(text)


def _is_same_code(saved: dict, ran: str) -> bool:
    try:
        return keys.code_cells({"cells": [saved | {"source": ran}]}) == keys.code_cells({"cells": [saved]})
    except UserError:  # no Python: it did nothing
        return True


def prepare(notebook: str, values: dict) -> Opened:
    """Give the globals of a notebook their values, and plan its stage.

    Raises UserError for a wrong value, a params file that does not fit, a missing input, and code that ran
    but is not what the record would claim.
    """
    from lib.runner import preflight

    path = folders.notebook_path(notebook)
    content = params.read_notebook(path)
    declared = params.declared(content, path)
    _check_saved(declared)
    _check_imported(keys.modules(keys.code_cells(content)))
    parameters, origins, notes, later = _values(notebook, declared, values)
    run, arm = folders.run_and_arm(parameters.get("run", DEFAULT_RUN))
    if arm == folders.ALL_ARMS and "run" in declared and "/" in declared["run"].default:
        raise UserError(f'run={run}: it lacks the arm. Set run = "{run}/main", or the name of another arm.')
    seed, round = (parameters.get(name, 0) for name in ("seed", "round"))
    inputs, older = _inputs(parameters, run, arm, seed)
    preflight.check(notebook, parameters)
    key = keys.stage_key(content, parameters, inputs)
    final = folders.stage_folder(folders.BY_HAND, arm, seed, notebook, round)
    new = keys.new_plan(f"{notebook}@{round}", key, parameters, inputs, f"{run}/{arm}")
    new |= {"input_keys": {name: path and keys.input_key(path) for name, path in inputs.items()}}
    file = parameters.get("params_file", "")
    new |= {"engine": load(paths.local(file)).engine if file else models.engine(), "seed": seed}
    notes += [f"A later stage cannot work. {text}" for text in preflight.problems(later)]
    notes += older + _outdated(inputs.values())
    notes += [f"Code and defaults are those that were saved at {_clock(path.stat().st_mtime)}."]
    if (record := folders.record(final)) and record["key"] == key and folders.is_complete(final):
        since = _clock(record["started_at"] + record["seconds"])
        notes.append(
            f"**Unchanged since {since}**: code, parameters and inputs are those of the result in "
            f"`{paths.short(final)}`. Go on with the next notebook, or run the cells below to make it again."
        )
    values.update(copy.deepcopy(parameters))
    values[FILLED] = {n: parameters[n] for n, origin in origins.items() if origin != BY_HAND}
    return Opened(values, content, new, final, origins, notes, later)


# --- values


def _values(notebook: str, declared: dict[str, params.Parameter], values: dict) -> tuple:
    """Return the effective values, the origins of those that are no defaults, notes, and the later stages."""
    given = {n: params.coerce(values.get(n, p.default), p.kind, n) for n, p in declared.items()}
    defaults = {name: parameter.default for name, parameter in declared.items()}
    # an edit of the parameters cell is by hand, though it was saved in the meantime
    unedited = defaults | (params.committed(folders.notebook_path(notebook)) or {})
    before = values.get(FILLED, {})
    given = {n: defaults[n] if n in before and value == before[n] else value for n, value in given.items()}
    by_hand = {name: value for name, value in given.items() if value != unedited[name]}
    file, notes = given.get("params_file", ""), []
    from_file, later = {}, []
    if file:
        from_file, notes, later = _from_params_file(file, notebook, given, declared)
        from_file = {n: v for n, v in from_file.items() if n not in by_hand and v != defaults[n]}
    parameters = references.with_hub_student(given | from_file)
    return parameters, dict.fromkeys(from_file, file) | dict.fromkeys(by_hand, BY_HAND), notes, later


def _from_params_file(file: str, notebook: str, given: dict, declared: dict) -> tuple[dict, list, list]:
    """Return the values that a params file has for a notebook in its arm and round, notes, later stages."""
    path, round = paths.local(file), given.get("round", 0)
    arm = folders.run_and_arm(given.get("run", DEFAULT_RUN))[1]
    if not path.is_file():
        raise UserError(f"params_file={file}: there is no such file. Correct the path.")
    study = load(path)
    notes = []
    if arm not in study.arms:
        arms = ", ".join(study.arms)
        notes.append(f"The arm {arm} is none of {file} ({arms}): what it sets for all arms holds.")
    seeds = dict.fromkeys(("seeds", "exploratory_seeds"), [given.get("seed", 0)])
    own = replace(study, text=study.text | seeds | {"arms": {arm: study.arms.get(arm, {})}})
    planned, later = plan(own, "by_hand"), []
    stages = [stage for stage in planned if stage.notebook == notebook]
    if stages:
        so_far = [stage for stage in stages if stage.round <= round]
        stage = so_far[-1] if so_far else stages[0]
        values, later = stage.values, later_stages(planned, stage)
    else:
        values = {name: v for name, v in (own.params | own.arms[arm]).items() if name in declared}
        values = {n: params.coerce(v, declared[n].kind, f"{file}: {n}") for n, v in values.items()}
    return {name: value for name, value in values.items() if name not in keys.RESERVED}, notes, later


# --- inputs


def _inputs(values: dict, run: str, arm: str, seed: int) -> tuple[dict[str, Path | None], list[str]]:
    """Resolve inputs among finished stages, of the latest round where it has none; and notes."""
    top, before = folders.outputs() / run / arm / f"s{seed}", []
    for path in top.rglob("*@*"):
        notebook, _, number = path.relative_to(top).as_posix().rpartition("@")
        if number.isdigit() and folders.is_complete(path):
            before.append(Planned(notebook, arm, seed, int(number), {}, folder=path.resolve()))
    inputs, notes, round = {}, [], values.get("round")
    for name in references.names(values):
        means = references.resolve(values[name], round, before, name, RUN_FIRST)
        inputs[name] = means[0].folder / means[1] if isinstance(means, tuple) else means
        if round and name == "student_from" and "{" not in values[name] and values[name].endswith("?"):
            if means is None:
                notes.append(f"No round has trained a student yet: this is `{values['student']}`.")
            elif isinstance(means, tuple) and means[0].round < round:
                notes.append(f"No student of round {round} is there: this is that of `{means[0].name}`.")
    return inputs, notes


def _outdated(inputs: Iterable[Path | None]) -> list[str]:
    """Name the stages behind the inputs whose own inputs were made again since."""
    texts, waiting = [], list(filter(None, inputs))
    for path in waiting:  # grows by what the stages read
        record = folders.record_of(path) or {}
        for name, key in record.get("input_keys", {}).items():
            source = record["inputs"][name] and Path(record["inputs"][name])
            if source and key != (keys.input_key(source) if source.exists() else None):
                again = (folders.record_of(source) or {"name": paths.short(source)})["name"]
                again = f"`{record['name']}` is out of date: `{again}` was run again since. Run it again."
                texts += [again] if again not in texts else []
            waiting += [source] if source and source not in waiting else []
    return texts


# --- code


def _check_saved(declared: dict[str, params.Parameter]) -> None:
    """Raise UserError for a parameter of the cell that ran, but not of the one on disk."""
    shell = display.shell()
    for source in reversed(shell.history_manager.input_hist_raw if shell else []):
        cell = {"cell_type": "code", "source": source, "metadata": {"tags": ["parameters"]}}
        try:
            ran = params.declared({"cells": [cell]}, "a cell")
        except UserError:
            continue
        if ran.keys() & declared.keys():
            if unsaved := ran.keys() - declared.keys():
                raise UserError(
                    f"{named(unsaved)}: the parameters cell declares it, but the notebook on disk does not. "
                    "Save the notebook, and run this cell again."
                )
            return


def _check_imported(modules: dict[Path, keys.Source]) -> None:
    """Raise UserError for a module of lib that changed after this kernel imported it."""
    shell = display.shell()
    reloads = shell and any("autoreload" in name for name in shell.extension_manager.loaded)
    for path, source in modules.items():
        name = ".".join(path.relative_to(paths.ROOT).with_suffix("").parts).removesuffix(".__init__")
        if reloads or name not in sys.modules:
            _imported.pop(path, None)
        if name in sys.modules and _imported.setdefault(path, source.shape) != source.shape:
            raise UserError(
                f"{paths.short(path)}: it changed after this kernel imported it. Restart the kernel, or load "
                "autoreload first (CONTRIBUTING.md)."
            )


def _clock(seconds: float) -> str:
    """Return the time of day, with the date where that is not today."""
    moment, day = time.localtime(seconds), "%Y-%m-%d"
    return time.strftime("%H:%M" if moment[:3] == time.localtime()[:3] else f"{day} %H:%M", moment)
