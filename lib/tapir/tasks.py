"""Tasks: the taxonomy, the mix of a set of rows, and how many rows of each task a pool needs (TAPIR, 3.2)."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from random import Random

from datasets import Dataset, concatenate_datasets

from lib import files, paths, records
from lib.errors import UserError, named, one_line

STYLES = ("worked", "code", "detailed", "none")  # how responses are refined; worked: steps before the answer


@dataclass(frozen=True)
class Task:
    """One label: its share of the pool, 0 to 1, and the style in which its responses are refined."""

    share: float
    refine: str


def load_taxonomy(path: str | Path) -> dict[str, Task]:
    """Read params/tasks/*.yaml.

    Raises UserError when it is no such file, a style is unknown, or the shares do not sum to 1 within 0.01.
    """
    try:
        told = files.load_yaml(paths.local(str(path)).read_text(encoding="utf-8"), "it")
        tasks = {str(label): _task(entry) for label, entry in told.items()}
    except (OSError, AttributeError, TypeError, ValueError, UserError) as error:
        raise UserError(
            f"{path} is no taxonomy (label: {{share: 0.2, refine: worked}}): {one_line(error)}"
        ) from None
    if strange := {task.refine for task in tasks.values()} - set(STYLES):
        raise UserError(f"{path}: refine is {named(strange)}: choose among {', '.join(STYLES)}")
    total = sum(task.share for task in tasks.values())
    if abs(total - 1) > 0.01 or any(not 0 <= task.share <= 1 for task in tasks.values()):
        raise UserError(f"{path}: the shares must lie in [0, 1] and sum to 1, they sum to {total:g}")
    return tasks


def _task(entry: dict) -> Task:
    """Raises TypeError or ValueError for an entry that is none."""
    task = Task(**entry)
    if isinstance(task.share, bool) or not isinstance(task.refine, str):
        raise TypeError("share is a number and refine a text")
    return Task(float(task.share), task.refine)


def check_labels(rows: Dataset, taxonomy: dict[str, Task]) -> None:
    """Raises UserError where rows have a label that the taxonomy lacks."""
    unknown = set(rows["task"][:]) - set(taxonomy) - {None}
    if unknown:
        raise UserError(f"the taxonomy has no task named {named(unknown)}: add it, or label the rows again")


def mix(rows: Dataset, taxonomy: dict[str, Task]) -> dict[str, float]:
    """The share of each task among the rows, as `check_labels` lets pass; rows that no label was found for count in none of them."""
    check_labels(rows, taxonomy)
    counts = Counter(rows["task"][:])
    return {label: counts[label] / max(len(rows), 1) for label in taxonomy}


def quotas(taxonomy: dict[str, Task], size: int) -> dict[str, int]:
    """Rows of each task in a pool of `size`, by largest remainder, so that they sum to it exactly."""
    total = sum(task.share for task in taxonomy.values())
    exact = {label: task.share / total * size for label, task in taxonomy.items()}
    counts = {label: int(value) for label, value in exact.items()}
    for label in sorted(exact, key=lambda label: counts[label] - exact[label])[: size - sum(counts.values())]:
        counts[label] += 1
    return counts


def calls_ahead(
    selected: Dataset, taxonomy: dict[str, Task], size: int, expand: bool, refine: bool
) -> dict[str, int]:
    """How many calls of each purpose `rebalance` and refining its pool ask for, if every new row is of use."""
    have = Counter(task for task in selected["task"] if task in taxonomy)
    wanted = quotas(taxonomy, size) if expand else have
    new = sum(max(0, n - have[label]) for label, n in wanted.items() if have[label])
    styled = sum(n for label, n in wanted.items() if have[label] and taxonomy[label].refine != "none")
    refined = styled if refine else 0
    return {"expand": new, "classify": new, "answer": new, "refine": refined, "judge": 2 * refined}


def rebalance(parents: Dataset, oracle, taxonomy: dict[str, Task], size: int, seed: int, tries: int = 5):
    """A pool of `size` rows in the taxonomy's mix: parents where there are enough, else expanded from them.

    Never by repeating rows. Returns the pool and {"<task>": {"parents", "expanded", "short", "dropped: <why>"}}.
    """
    parts, account, places = [], {}, defaultdict(list)
    for i, task in enumerate(parents["task"][:]):
        places[task].append(i)
    for label, wanted in quotas(taxonomy, size).items():
        own = records.take_rows(parents, places[label]).shuffle(seed=seed)
        kept = own.select(range(min(wanted, len(own))))
        made, drops = _expand(kept, oracle, wanted - len(kept), tries)
        account[label] = {
            "parents": len(kept),
            "expanded": len(made),
            "short": wanted - len(kept) - len(made),
        } | {f"dropped: {why}": n for why, n in drops.items()}
        parts += [kept, *([made] if len(made) else [])]
    return concatenate_datasets(parts), account


def _expand(parents: Dataset, oracle, wanted: int, tries: int) -> tuple[Dataset, Counter]:
    """Up to `wanted` new rows from parents taken in turn; every rejected one is counted once, by cause."""
    made, drops = parents.select([]), Counter()
    for attempt in range(tries if len(parents) else 0):
        missing = wanted - len(made)
        if missing <= 0:
            break
        turn = Random(f"{attempt}").sample(range(len(parents)), len(parents))
        asked = parents.select([turn[i % len(parents)] for i in range(missing)])
        fresh, rejected = oracle.expand(asked)
        made = concatenate_datasets([made, fresh])
        drops.update(rejected)
    return made, drops
