"""Refine the responses of hard and expanded rows by task (TAPIR, section 3.2)."""

from datasets import Dataset

from lib import records
from lib.tapir import judge
from lib.tapir.tasks import Task

NOTHING = {"refined": 0, "kept": 0, "rejected": 0, "unread": 0, "unusable": 0}


def refine(
    rows: Dataset, oracle, taxonomy: dict[str, Task]
) -> tuple[Dataset, dict[str, int], dict[str, int]]:
    """Let the oracle rewrite responses, and the judge reject lower scored rewrites.

    A row trains on the refined response where it was kept, else on the oracle's. Returns the rows, the counts
    of NOTHING (unusable: no rewrite, a copy, a refusal), and the tally of the verdicts.
    """
    styles = {label: task.refine for label, task in taxonomy.items()}
    rewrites = oracle.refine(rows, styles)
    rewritten = [i for i, text in enumerate(rewrites) if text is not None]
    pairs = records.update(rows, refined_response=rewrites).select(rewritten)
    pairs = records.update(pairs, verdicts=oracle.compare(pairs, "oracle_response", "refined_response"))
    scores = [judge.mean_scores(verdicts) for verdicts in pairs["verdicts"]]
    kept = {i for i, (old, new) in zip(rewritten, scores, strict=True) if new is not None and new >= old}
    unread = scores.count((None, None))

    final = [text if i in kept else None for i, text in enumerate(rewrites)]
    responses = [text or first for text, first in zip(final, rows["oracle_response"], strict=True)]
    sources = ["refined" if text else "oracle" for text in final]
    counts = {
        "refined": len(rewritten),
        "kept": len(kept),
        "rejected": len(rewritten) - len(kept) - unread,
        "unread": unread,
        "unusable": sum(styles.get(task, "none") != "none" for task in rows["task"]) - len(rewritten),
    }
    columns = {"refined_response": final, "response": responses, "response_from": sources}
    return records.update(rows, **columns), counts, judge.tally(pairs)
