"""Judge: a pair's verdicts read into scores, counted, and examined for how far they can be trusted."""

import json
import re
from collections.abc import Iterable
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
from datasets import Dataset

from lib import records
from lib.errors import UserError
from lib.oracle.replies import said

ORDERS = ("oracle_first", "student_first")
NUMBER = r"([0-9]+(?:\.[0-9]+)?)(?:/10)?"
# possessive (*+) where two parts of a pattern may take the same signs: a line of a million spaces is read at once
# a line: "9 8.5"
PAIR = re.compile(rf"(?:scores?: *+)?[*(\[ ]*+{NUMBER}(?: *, *| +){NUMBER}[*)\]. ]*", re.IGNORECASE)
# not "8,5"
LABEL = r"Assistant {}(?:'s score)?\**:\** *" + NUMBER + r"(?= *(?:[(;]|,(?! *[0-9])|[–-] +[A-Za-z]|\.?$))"
LABELS = [re.compile(LABEL.format(i), re.MULTILINE) for i in (1, 2)]  # "Assistant 1: 3/10 - The answer is"
# "The output tuple is (10, 1)"
TUPLE = re.compile(rf"\btuple\b(?:(?!\btuple\b)[^()\n])*+\({NUMBER}, *{NUMBER}\)")


class Unread(UserError, ValueError):
    """Too many verdicts hold no scores."""


def read_scores(verdict: str) -> tuple[float, float] | None:
    """The two scores of a pair's verdict, in the order shown, 0 to 10; None when it does not state them.

    The prompt asks for a first line with two numbers. Judges that work the question out first give the scores
    later, as a line "Assistant 1: 3/10" for each or as "the tuple is (1, 3)"; other numbers are never scores. Two
    statements that differ are no statement. 0 is outside the scale asked for, 1 to 10, but GPT-4 gives it to
    empty responses.

    >>> read_scores("9 8.5\\nBoth assistants ...")
    (9.0, 8.5)
    >>> read_scores("On a scale of 1 to 10, I rate both highly.")
    """
    verdict = said(verdict)  # what a judge thought before is no verdict
    first_line = next(iter(verdict.strip().splitlines()), "")
    whole = PAIR.fullmatch(first_line)
    stated = {whole.groups()} if whole else {*TUPLE.findall(verdict), *labelled(verdict)}
    scores = {(float(one), float(two)) for one, two in stated}
    return scores.pop() if len(scores) == 1 and max(max(scores)) <= 10 else None


def labelled(verdict: str) -> set[tuple[float, float]]:
    one, two = (sorted(set(map(float, label.findall(verdict)))) for label in LABELS)
    # two of a kind contradict each other, as all of them would
    return {(a, b) for a in one[:2] for b in two[:2]}


def latest(verdicts: Iterable[dict]) -> dict[str, tuple[float, float]]:
    """(oracle, student) scores by order, from the latest attempt that can be read."""
    found = {}
    for verdict in sorted(verdicts, key=lambda verdict: verdict["attempt"] or 0):
        scores = verdict.get("expected") or read_scores(verdict["reply"] or "")
        if scores:
            found[verdict["order"]] = tuple(scores if verdict["order"] == "oracle_first" else scores[::-1])
    return found


def mean_scores(verdicts: Iterable[dict]) -> tuple[float, float] | tuple[None, None]:
    """(oracle_score, student_score), each the mean of both orders; (None, None) unless both orders were read."""
    found = latest(verdicts)
    if not all(order in found for order in ORDERS):
        return None, None
    (oracle_a, student_a), (oracle_b, student_b) = (found[order] for order in ORDERS)
    return (oracle_a + oracle_b) / 2, (student_a + student_b) / 2


def apply(rows: Dataset) -> Dataset:
    """Rows with oracle_score and student_score from their verdicts; a row without verdicts keeps what it has."""
    scores = [
        mean_scores(row["verdicts"]) if row["verdicts"] else (row["oracle_score"], row["student_score"])
        for row in records.walk(rows, "verdicts", "oracle_score", "student_score")
    ]
    return records.update(
        rows, oracle_score=[oracle for oracle, _ in scores], student_score=[student for _, student in scores]
    )


# Counting


def tally(rows: Dataset) -> dict[str, int]:
    """How many verdicts were read, unread, cut and missing, and their total; a verdict is one order of one row.

    cut: unread, and its last attempt ended at the token limit. missing: an order that was not judged, for want of a response
    or of a reply. Each verdict is counted once, attempts together.
    """
    counts = {"read": 0, "unread": 0, "cut": 0, "missing": 0, "total": 0}
    for row in records.walk(rows, "verdicts", "student_score"):
        verdicts = row["verdicts"]
        found = latest(verdicts)
        if not verdicts and row["student_score"] is not None:
            continue  # recorded scores without their verdicts
        last = {verdict["order"]: verdict for verdict in sorted(verdicts, key=lambda v: v["attempt"] or 0)}
        for order in ORDERS:
            told = last.get(order)
            outcome = "cut" if told and told["finish"] == "length" else "unread" if told else "missing"
            counts["read" if order in found else outcome] += 1
            counts["total"] += 1
    return counts


def describe(tally: dict[str, int]) -> str:
    """ "998 of 1,000 verdicts read (1 unread, 1 cut at the token limit)"."""
    lost = [f"{tally['unread']:,} unread"] * bool(tally["unread"])
    lost += [f"{tally['cut']:,} cut at the token limit"] * bool(tally["cut"])
    lost += [f"{tally['missing']:,} missing for want of a response or a reply"] * bool(tally["missing"])
    return f"{tally['read']:,} of {tally['total']:,} verdicts read" + (
        f" ({', '.join(lost)})" if lost else ""
    )


def check(tally: dict[str, int], max_unread: float = 0.05) -> None:
    """Raises Unread when more than this share of the verdicts, cut and missing ones included, could not be read."""
    share = (tally["total"] - tally["read"]) / max(tally["total"], 1)
    if share > max_unread:
        raise Unread(
            f"{share:.1%} of the verdicts could not be read, more than max_unread ({max_unread:.1%}): "
            f"{describe(tally)}. Read some of the replies; then mend the judge's prompt or its token limit, or raise max_unread to go on without them"
        )


# Trust: what the two orders say about the judge


_gaps: WeakKeyDictionary = WeakKeyDictionary()  # by_order of rows: six questions below ask for the same


def _latest(rows: Dataset) -> list[dict[str, tuple[float, float]]]:
    return [latest(row["verdicts"]) for row in records.walk(rows, "verdicts")]


def by_order(rows: Dataset) -> pd.DataFrame:
    """The gap oracle - student in each order (columns oracle_first, student_first), where both were read.

    Index: the row's position.
    """
    if rows in _gaps:
        return _gaps[rows]
    found = _latest(rows)
    both = {i: scores for i, scores in enumerate(found) if all(order in scores for order in ORDERS)}
    gaps = [[scores[order][0] - scores[order][1] for order in ORDERS] for scores in both.values()]
    _gaps[rows] = pd.DataFrame(gaps, index=list(both), columns=list(ORDERS), dtype=float)
    return _gaps[rows]


def averages(rows: Dataset) -> dict[str, tuple[float, float]]:
    """Mean (oracle, student) score by the order shown, over the verdicts read."""
    found = _latest(rows)
    scores = {order: [one[order] for one in found if order in one] for order in ORDERS}
    return {
        order: tuple(sum(side) / len(side) for side in zip(*all, strict=True))
        for order, all in scores.items()
    }


def recorded_averages(rows: Dataset) -> list[float]:
    """The four averages that a recording of pairs (Cherry LLM's `Meta_Info`) states; empty for other rows."""
    about = json.loads(rows[0]["meta"] or "{}").get("Meta_Info", {}) if len(rows) else {}
    return [
        score
        for name in ("average_scores", "average_scores_reverse")
        for score in json.loads(about.get(name, "[]"))
    ]


def order_agreement(rows: Dataset) -> float:
    """Share of pairs, 0 to 1, whose two orders name the same winner; a tie is an outcome of its own."""
    signs = np.sign(by_order(rows))
    return float((signs["oracle_first"] == signs["student_first"]).mean())


def position_edge(rows: Dataset) -> float:
    """Mean score advantage, in points, of whichever response is shown first."""
    gaps = by_order(rows)
    return float((gaps["oracle_first"] - gaps["student_first"]).mean() / 2)


def length_correlation(rows: Dataset, reference: str = "oracle_response") -> float:
    """Spearman correlation, -1 to 1, of oracle - student in score (mean of both orders) and in characters.

    `reference` is the column with the response that the student's was judged against.
    """
    gaps = by_order(rows).mean(axis=1)
    lengths = [
        len(row[reference] or "") - len(row["student_response"] or "")
        for row in records.walk(rows, reference, "student_response")
    ]
    return float(gaps.rank().corr(pd.Series(lengths, dtype=float).loc[gaps.index].rank()))


def hard_set_overlap(rows: Dataset, threshold: float = 2.0) -> float:
    """Jaccard overlap, 0 to 1, of the pairs with a gap >= threshold in one order and in the other; nan if none."""
    hard = by_order(rows) >= threshold
    either = hard.any(axis=1).sum()
    return float(hard.all(axis=1).sum() / either) if either else float("nan")


def noise(rows: Dataset) -> dict[str, float]:
    """What the two orders show of the judge's noise: the embedded judge's `judge_noise`.

    spread: sd, in points, of one score in one order around the mean of many, were the noise of the four scores of
    a pair independent (the gaps of the two orders differ by sd 2 x spread). edge: see position_edge. unread: share.
    """
    gaps, counts = by_order(rows), tally(rows)
    spread = float((gaps["oracle_first"] - gaps["student_first"]).std() / 2)
    unread = (counts["unread"] + counts["cut"]) / max(counts["total"], 1)
    return {"spread": spread, "edge": position_edge(rows), "unread": unread}
