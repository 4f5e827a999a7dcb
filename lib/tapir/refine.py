"""Better responses for hard and expanded rows, in the style of their task (TAPIR, section 3.2)."""

from datasets import Dataset

from lib import records
from lib.tapir import judge
from lib.tapir.tasks import Task

NOTHING = {"refined": 0, "kept": 0, "rejected": 0, "unread": 0, "unusable": 0}


def refine(
    rows: Dataset, oracle, taxonomy: dict[str, Task]
) -> tuple[Dataset, dict[str, int], dict[str, int]]:
    """Have the oracle rewrite responses, and let the judge reject a rewrite that it scores lower.

    Every row then trains on the refined response where it was kept, else on the oracle's. Returns the rows; how many were
    refined and of these kept, rejected and unread, and how many rewrites were of no use (nothing, a copy, a refusal); and the
    tally of the verdicts.
    """
    styles = {label: task.refine for label, task in taxonomy.items()}
    refined = oracle.refine(rows, styles)
    candidates = [i for i, text in enumerate(refined) if text is not None]
    compared = rows.select(candidates)
    compared = records.update(
        compared,
        student_response=[refined[i] for i in candidates],
        meta=[oracle.without_samples(text) for text in compared["meta"]],
        verdicts=[[] for _ in candidates],
    )
    judged = oracle.score(compared)
    keeps = {
        i: new is not None and new >= old
        for i, new, old in zip(candidates, judged["student_score"], judged["oracle_score"], strict=True)
    }
    unread = sum(score is None for score in judged["student_score"])
    kept = sum(keeps.values())
    final = [refined[i] if keeps.get(i) else None for i in range(len(rows))]
    out = records.update(
        rows,
        refined_response=final,
        response=[text or fallback for text, fallback in zip(final, rows["oracle_response"], strict=True)],
        response_from=["refined" if text else "oracle" for text in final],
    )
    counts = {
        "refined": len(candidates),
        "kept": kept,
        "rejected": len(candidates) - kept - unread,
        "unread": unread,
        "unusable": sum(styles.get(task, "none") != "none" for task in rows["task"]) - len(candidates),
    }
    return out, counts, judge.tally(judged)
