"""Refine the responses of hard and expanded rows by task (TAPIR, section 3.2)."""

from datasets import Dataset

from lib import records
from lib.tapir import judge
from lib.tapir.tasks import Task

NOTHING = {"refined": 0, "kept": 0, "rejected": 0, "unread": 0, "unusable": 0}


def rewrite(rows: Dataset, oracle, taxonomy: dict[str, Task]) -> Dataset:
    """Let the oracle rewrite responses, and the judge compare them with the first ones.

    Returns the rows that have a rewrite, in `refined_response`, with the `verdicts` of this comparison.
    """
    rewrites = oracle.refine(rows, {label: task.refine for label, task in taxonomy.items()})
    rewritten = [i for i, text in enumerate(rewrites) if text is not None]
    pairs = records.update(rows, refined_response=rewrites).select(rewritten)
    return records.update(pairs, verdicts=oracle.compare(pairs, "oracle_response", "refined_response"))


def is_kept(verdicts: list[dict]) -> bool:
    """Say whether a rewrite is kept: the judge scores it, and not below the first response."""
    first, refined = judge.mean_scores(verdicts)
    return refined is not None and refined >= first


def refine(
    rows: Dataset, oracle, taxonomy: dict[str, Task]
) -> tuple[Dataset, dict[str, int], dict[str, int]]:
    """Rewrite responses, and keep the rewrites that the judge does not score lower.

    A row trains on the refined response where it was kept, else on the oracle's. Returns the rows, the counts
    of NOTHING (unusable: no rewrite, a copy, a refusal), and the tally of the verdicts.
    """
    pairs = rewrite(rows, oracle, taxonomy)
    columns = pairs["id"], pairs["refined_response"], pairs["verdicts"]
    kept = {row_id: text for row_id, text, verdicts in zip(*columns, strict=True) if is_kept(verdicts)}
    unread = sum(None in judge.mean_scores(verdicts) for verdicts in pairs["verdicts"])
    styled = sum(task in taxonomy and taxonomy[task].refine != "none" for task in rows["task"])
    counts = {
        "refined": len(pairs),
        "kept": len(kept),
        "rejected": len(pairs) - len(kept) - unread,
        "unread": unread,
        "unusable": styled - len(pairs),
    }
    final = list(map(kept.get, rows["id"]))
    responses = [text or first for text, first in zip(final, rows["oracle_response"], strict=True)]
    sources = ["refined" if text else "oracle" for text in final]
    taught = records.update(rows, refined_response=final, response=responses, response_from=sources)
    return taught, counts, judge.tally(pairs)
