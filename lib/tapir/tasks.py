"""The taxonomy, and a pool of rows in its mix of tasks (TAPIR, section 3.2)."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pandas as pd
from datasets import Dataset, concatenate_datasets

from lib import files, paths, records
from lib.errors import UserError, named, one_line

STYLES = ("worked", "code", "detailed", "none")  # of refined responses; worked: steps before the answer
TRIES = 5  # expansions of a task until its quota is met


@dataclass(frozen=True)
class Task:
    """A label's share of the pool, 0 to 1, and the style of its refined responses."""

    share: float
    refine: str


def load_taxonomy(path: str | Path) -> dict[str, Task]:
    """Read params/tasks/*.yaml.

    Raises UserError for another file, an unknown style, and shares that do not sum to 1 within 0.01.
    """
    try:
        entries = files.load_yaml(paths.local(str(path)).read_text(encoding="utf-8"), "YAML")
        tasks = {str(label): Task(**entry) for label, entry in entries.items()}
        total, styles = sum(task.share for task in tasks.values()), {task.refine for task in tasks.values()}
    except (OSError, AttributeError, TypeError, ValueError, UserError) as error:
        reason = one_line(error)
        raise UserError(f"{path} is no taxonomy (label: {{share: 0.2, refine: worked}}): {reason}") from None
    if unknown := styles - set(STYLES):
        raise UserError(f"{path}: refine={named(unknown)} is unknown. Choose of {', '.join(STYLES)}.")
    if not abs(total - 1) <= 0.01 or any(task.share < 0 for task in tasks.values()):
        raise UserError(f"{path}: the shares sum to {total:g}. Let them lie in [0, 1] and sum to 1.")
    return tasks


def check_labels(rows: Dataset, taxonomy: dict[str, Task]) -> None:
    """Raise UserError where rows have a label that the taxonomy lacks."""
    if unknown := set(rows["task"][:]) - set(taxonomy) - {None}:
        raise UserError(f"the taxonomy has no task named {named(unknown)}. Add it, or label the rows again.")


def mix(rows: Dataset, taxonomy: dict[str, Task]) -> dict[str, float]:
    """Return each task's share of the rows; rows without a label count in none."""
    counts = Counter(rows["task"][:])
    return {label: counts[label] / max(len(rows), 1) for label in taxonomy}


def quotas(taxonomy: dict[str, Task], size: int) -> dict[str, int]:
    """Return the rows per task of a pool, by largest remainder: they sum to `size`."""
    total = sum(task.share for task in taxonomy.values())
    exact = {label: task.share / total * size for label, task in taxonomy.items()}
    counts = {label: int(value) for label, value in exact.items()}
    by_remainder = sorted(exact, key=lambda label: counts[label] - exact[label])
    for label in by_remainder[: size - sum(counts.values())]:
        counts[label] += 1
    return counts


def targets(selected: Dataset, taxonomy: dict[str, Task], size: int, expand: bool = True) -> pd.DataFrame:
    """Tabulate what a pool holds and needs by task, if no new row is dropped.

    Columns: refined as, share now, share wanted, rows now, rows wanted, to add, left out. A task without a
    row now cannot be expanded: nothing is added to it.
    """
    counts = Counter(selected["task"])
    now = pd.Series({label: counts[label] for label in taxonomy})
    wanted = pd.Series(quotas(taxonomy, size)) if expand else now
    table = pd.DataFrame({"refined as": {label: task.refine for label, task in taxonomy.items()}})
    table["share now"] = pd.Series(mix(selected, taxonomy))
    table["share wanted"] = pd.Series({label: task.share for label, task in taxonomy.items()})
    table["rows now"], table["rows wanted"] = now, wanted
    table["to add"], table["left out"] = (wanted - now).clip(0).where(now > 0, 0), (now - wanted).clip(0)
    return table


def calls_ahead(
    selected: Dataset, taxonomy: dict[str, Task], size: int, expand: bool, refine: bool
) -> dict[str, int]:
    """Count the calls of `rebalance` and refining by purpose, if no row is dropped."""
    table = targets(selected, taxonomy, size, expand)
    new, refinable = int(table["to add"].sum()), (table["refined as"] != "none") & (table["rows now"] > 0)
    refined = int(table["rows wanted"][refinable].sum()) if refine else 0
    return {"expand": new, "classify": new, "answer": new, "refine": refined, "judge": 2 * refined}


def rebalance(
    parents: Dataset, oracle, taxonomy: dict[str, Task], size: int, seed: int
) -> tuple[Dataset, dict[str, dict[str, int]]]:
    """Make a pool in the taxonomy's mix: parents where there are enough, else expand.

    Never by repeating rows. Returns the pool and {"<task>": {"parents", "expanded", "short", "dropped:
    <cause>"}}.
    """
    parts, account = [], {}
    labels = parents["task"][:]
    for label, wanted in quotas(taxonomy, size).items():
        candidates = records.take_rows(parents, [i for i, task in enumerate(labels) if task == label])
        taken = candidates.shuffle(seed=seed).select(range(min(wanted, len(candidates))))
        new, drops = _expand(taken, oracle, wanted - len(taken))
        counts = {"parents": len(taken), "expanded": len(new), "short": wanted - len(taken) - len(new)}
        account[label] = counts | {f"dropped: {cause}": n for cause, n in drops.items()}
        parts += [taken, new]
    return concatenate_datasets(parts), account


def _expand(parents: Dataset, oracle, wanted: int) -> tuple[Dataset, Counter]:
    """Make up to `wanted` new rows from parents in turn; count rejected ones by cause."""
    new, drops = parents.select([]), Counter()
    for attempt in range(TRIES if len(parents) else 0):
        missing = wanted - len(new)
        if missing <= 0:
            break
        order = Random(f"{attempt}").sample(range(len(parents)), len(parents))
        fresh, rejected = oracle.expand(parents.select([order[i % len(order)] for i in range(missing)]))
        new = concatenate_datasets([new, fresh])
        drops.update(rejected)
    return new, drops
