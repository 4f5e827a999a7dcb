"""The exact oracle: knows every answer, and can be as fallible as a real oracle."""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pandas as pd
from datasets import Dataset

from lib import records
from lib.errors import UserError
from lib.gym import families, world
from lib.tapir import judge
from lib.tapir.curriculum import mfd

# Fitted to the recorded GPT-4 verdicts of judged_pairs/cherry_llm; see docs/log.md for the command.
SPREAD = 0.844  # standard deviation of one score in one order, in points [0.72, 0.97]
FIRST_EDGE = -0.163  # points of advantage of the response shown first: GPT-4 favours the second
ROUNDING = 1 / 12  # variance that rounding to whole points adds
LEVELS = 3  # of each family


def about(meta: str) -> dict:
    """Read a row's instance. Raises UserError for a row of another source."""
    instance = json.loads(meta or "{}")
    if not {"family", "level", "answer", "steps"} <= instance.keys():
        raise UserError("oracle=exact: only rows of source=gym have known answers. Name an LLM as oracle.")
    return instance


@dataclass
class ExactOracle:
    """Answer, score, classify, rate, expand and refine rows of the embedded world.

    `judge_noise` multiplies the fitted spread and position edge; `oracle_error` is the share of wrong
    oracle responses. Both 0: an exact judge. `seen` holds instance keys that expansion may not repeat.
    """

    judge_noise: float = 1.0
    oracle_error: float = 0.0
    seed: int = 0
    seen: set[str] = field(default_factory=set)
    dropped: dict[str, dict] = field(default_factory=dict)  # by cause the first new row that was dropped
    drawn: int = 0  # expansions so far: expanding the same parent again gives another instance
    calls: int = 0  # questions answered, verdicts included

    def account(self) -> dict[str, float]:
        """Return the number of questions as a metric."""
        return {"oracle.calls": self.calls}

    def describe(self) -> str:
        """Describe the account in one sentence."""
        return f"The embedded oracle answered {self.calls:,} questions."

    def estimate(self, rows: Dataset, **calls: int) -> str:
        """Return an empty estimate: this oracle is free."""
        return ""

    def answer(self, rows: Dataset) -> Dataset:
        """Add a terse oracle_response where a row lacks one."""
        each = list(records.iter_rows(rows, "oracle_response", "meta", "id"))
        self.calls += sum(row["oracle_response"] is None for row in each)
        answers = [row["oracle_response"] or self._answer(about(row["meta"]), row["id"]) for row in each]
        return records.update(rows, oracle_response=answers)

    def classify(self, rows: Dataset) -> Dataset:
        """Add the task where a row lacks one."""
        each = list(records.iter_rows(rows, "task", "meta"))
        self.calls += sum(row["task"] is None for row in each)
        tasks = [row["task"] or families.task(about(row["meta"])["family"]) for row in each]
        return records.update(rows, task=tasks)

    def score(self, rows: Dataset, reference: str = "oracle_response") -> Dataset:
        """Judge column `reference` against student_response where a row has no verdicts."""
        each = records.iter_rows(rows, "id", "meta", "verdicts", reference, "student_response")
        verdicts = [row["verdicts"] or self._compare(row, reference, "student_response") for row in each]
        return judge.apply(records.update(rows, verdicts=verdicts))

    def compare(self, rows: Dataset, a: str, b: str) -> list[list[dict]]:
        """Judge columns `a` and `b` in both orders; the order oracle_first shows `a` first.

        A score is 1 + 9 x credit; a student_response scores the mean credit of `meta.samples`, if any.
        """
        return [self._compare(row, a, b) for row in records.iter_rows(rows, "id", "meta", a, b)]

    def _compare(self, row: dict, a: str, b: str) -> list[dict]:
        self.calls += len(judge.ORDERS)
        instance = about(row["meta"])
        samples = (instance.get("samples") if b == "student_response" else None) or [row[b]]
        score_a = 1 + 9 * world.credit(instance, row[a])
        score_b = 1 + 9 * sum(world.credit(instance, text or "") for text in samples) / len(samples)
        pair = f"{row['id']} {row[a]} {samples}"
        return [self._verdict(pair, order, score_a, score_b) for order in judge.ORDERS]

    def _verdict(self, pair: str, order: str, a: float, b: float) -> dict:
        """Return the verdict on two scores, with noise on each, in one order."""
        first, second = (a, b) if order == "oracle_first" else (b, a)
        rng = Random(f"judge {self.seed} {pair} {order} 1")
        rng.random()  # once decided whether a reply is unreadable: recorded figures rest on the draws below
        edge = self.judge_noise * FIRST_EDGE / 2
        spread = self.judge_noise * (SPREAD**2 - ROUNDING) ** 0.5
        noisy = [score + rng.gauss(0, spread) for score in (first + edge, second - edge)]
        scores = [min(10.0, max(1.0, score)) for score in noisy]
        if self.judge_noise:
            scores = [round(score) for score in scores]  # 94 % of the recorded scores are whole points
        reply = " ".join(f"{score:g}" for score in scores)
        return {"order": order, "attempt": 1, "reply": reply, "finish": "stop"}

    def rate(self, rows: Dataset, scale: str) -> list[float | None]:
        """Rate each row on one of `judge.SCALES`, with the judge's noise.

        Complexity is the level; the other scales rate whether the row's response is right.
        """
        self.calls += len(rows)
        low, high = judge.SCALES[scale]
        spread = self.judge_noise * SPREAD * (high - low) / 9  # a verdict's scale is 9 points long
        ratings = []
        for row in records.iter_rows(rows, "id", "meta", "response"):
            instance = about(row["meta"])
            credit = world.credit(instance, row["response"] or "")
            share = instance["level"] / LEVELS if scale == "complexity" else credit
            noise = Random(f"rate {self.seed} {scale} {row['id']}").gauss(0, spread)
            rating = low + (high - low) * share + noise
            ratings.append(min(high, max(low, round(2 * rating) / 2)))  # raters use halves
        return ratings

    def know(self, rows: Dataset, benchmarks: dict[str, list] | None = None) -> None:
        """Let expansion repeat none of these rows' instances, and start anew; text benchmarks hold none."""
        instances = map(about, rows["meta"])
        self.seen = {families.key(instance["family"], instance["payload"]) for instance in instances}
        self.drawn, self.dropped = 0, {}

    def expand(self, rows: Dataset) -> tuple[Dataset, Counter]:
        """Draw a new instance of each row's family and level; count rejected ones by cause."""
        children, drops = [], Counter()
        for parent in records.iter_rows(rows, "id", "meta", "hard"):
            rng, instance = Random(f"expand {self.seed} {parent['id']} {self.drawn}"), about(parent["meta"])
            self.drawn += 1
            self.calls += 1
            fresh = next(families.draw(instance["family"], instance["level"], rng))
            child = world.row(fresh, families.phrase(fresh, rng), None)
            name = families.key(fresh.family, fresh.payload)
            if name in self.seen:
                drops["duplicate"] += 1
                self.dropped.setdefault("duplicate", child)
                continue
            self.seen.add(name)
            child["oracle_response"] = self._answer(vars(fresh), child["instruction"])
            child |= {"task": families.task(fresh.family), "source": f"expanded:{parent['id']}"}
            children.append(child | {"hard": parent["hard"]})
        return records.build(children), drops

    def refine(self, rows: Dataset, styles: dict[str, str]) -> list[str | None]:
        """Add worked steps where a task's style asks; None where there are none to add."""
        refined = []
        for row in records.iter_rows(rows, "task", "meta", "oracle_response"):
            steps = about(row["meta"])["steps"] if styles[row["task"]] == "worked" else ""
            refined.append(f"{steps}\n{row['oracle_response']}" if steps else None)
        self.calls += len(refined) - refined.count(None)
        return refined

    def _answer(self, instance: dict, key: str) -> str:
        """Write the right response or, with probability `oracle_error`, a wrong one."""
        family, level, answer = (instance[name] for name in ("family", "level", "answer"))
        rng = Random(f"oracle {self.seed} {key}")
        if rng.random() < self.oracle_error:
            answer = world.wrong_answer(family, level, answer, rng)
        return world.terse(family, answer)


# How well the judge's MFD tells the failure rate, which only the embedded world knows


def mfd_by_cell(judged: Path, evaluated: pd.DataFrame) -> pd.DataFrame:
    """Tabulate MFD and failure rate by family and level.

    Columns: mean MFD over both orders and in the first alone, share of rows hard at 1, 2 and 3, and
    `failure`, the student's failure rate on fresh instances in `evaluated`.
    """
    rows = records.read(judged / "rows.parquet")
    table = pd.DataFrame(map(json.loads, rows["meta"]))[["family", "level"]]
    first = [judge.latest(verdicts).get("oracle_first") for verdicts in rows["verdicts"]]
    table["mfd"] = pd.Series(rows["mfd"][:], dtype=float)
    table["one_order"] = [mfd(*scores) if scores else None for scores in first]
    for threshold in (1, 2, 3):
        table[f"hard_{threshold}"] = table["mfd"] >= threshold
    fresh = evaluated[evaluated["kind"] == "trained"].groupby(["family", "level"])["credit"].mean()
    return table.groupby(["family", "level"]).mean().assign(failure=1 - fresh)


def agreement(cells: pd.DataFrame) -> pd.DataFrame:
    """Compare each measure of `mfd_by_cell` with the true failure rate, both 0 to 1."""
    implied = cells.drop(columns="failure").assign(mfd=cells["mfd"] / 9, one_order=cells["one_order"] / 9)
    columns = {
        "rank correlation": implied.corrwith(cells["failure"], method="spearman"),
        "failure rate it implies": implied.mean(),
        "distance from the true rate": implied.sub(cells["failure"], axis=0).abs().mean(),
    }
    return pd.DataFrame(columns)
