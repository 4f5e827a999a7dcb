"""The exact oracle of the embedded world: it knows the answers, and can be as fallible as a real one."""

import json
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import NoReturn

from datasets import Dataset

from lib import records
from lib.errors import UserError
from lib.gym import draw, world
from lib.gym.families import Exercise
from lib.tapir import judge, ratings

# Fitted to the recorded GPT-4 verdicts of judged_pairs/cherry_llm; see LOG.md for the command.
SPREAD = 0.844  # standard deviation of one score in one order, in points [0.72, 0.97]
FIRST_EDGE = -0.163  # points by which the response shown first is ahead: those judges favour the second
ROUNDING = 1 / 12  # variance that rounding to whole points adds by itself
LEVELS = 3  # of each family
UNREAD = 0.0  # share of replies without readable scores: 0 of 956


def about(meta: str) -> dict:
    """The instance that a row keeps. Raises UserError for a row of another world: its answer is not known here."""
    try:
        kept = json.loads(meta)
        return kept if {"family", "level", "answer", "steps"} <= kept.keys() else _stranger()
    except ValueError:
        _stranger()


def _stranger() -> NoReturn:
    raise UserError(
        "the embedded oracle knows rows of the embedded world alone: for others name an LLM oracle"
    )


@dataclass
class ExactOracle:
    """Answers, scores, classifies, expands and refines rows of the embedded world, whole batches at a time.

    `judge_noise` multiplies the fitted spread, position edge and unread share; `oracle_error` is the share of
    wrong oracle responses. Both 0: an exact judge. `known` holds payloads that expansion may not repeat.
    """

    judge_noise: float = 1.0
    oracle_error: float = 0.0
    seed: int = 0
    known: set[str] = field(default_factory=set)
    drawn: int = 0  # expansions so far, so that asking once more is another draw
    calls: int = 0  # questions answered, judgements included

    def account(self) -> dict[str, float]:
        """What the oracle was asked, as metrics."""
        return {"oracle.calls": self.calls}

    def describe(self) -> str:
        """The account in one sentence."""
        return f"The embedded oracle answered {self.calls:,} questions."

    def estimate(self, rows: Dataset, **calls: int) -> str:
        """Nothing to say: it costs nothing, whatever is asked."""
        return ""

    def answer(self, rows: Dataset) -> Dataset:
        """Add oracle_response where a row lacks one, terse: the answer line alone."""
        told = [
            text or self._told(meta, row_id)
            for text, meta, row_id in zip(rows["oracle_response"], rows["meta"], rows["id"], strict=True)
        ]
        self.calls += sum(text is None for text in rows["oracle_response"])
        return records.update(rows, oracle_response=told)

    def classify(self, rows: Dataset) -> Dataset:
        """Add the task of each row that lacks one."""
        pairs = list(zip(rows["task"], rows["meta"], strict=True))
        self.calls += sum(task is None for task, _ in pairs)
        tasks = [draw.task(about(meta)["family"]) if task is None else task for task, meta in pairs]
        return records.update(rows, task=tasks)

    def score(self, rows: Dataset) -> Dataset:
        """Judge oracle_response against student_response in both orders, where a row has no verdicts yet.

        A score is 1 + 9 x credit; where `meta.samples` holds several student responses, their mean credit.
        An unreadable reply is asked for once more.
        """
        needed = rows.select_columns(["id", "meta", "oracle_response", "student_response", "verdicts"])
        return judge.apply(
            records.update(rows, verdicts=[row["verdicts"] or self._judge(row) for row in needed])
        )

    def _judge(self, row: dict) -> list[dict]:
        """The verdicts of one row, in both orders."""
        known = about(row["meta"])
        samples = known.get("samples") or [row["student_response"]]
        right = sum(world.credit(known, text or "") for text in samples) / len(samples)
        scores = 1 + 9 * world.credit(known, row["oracle_response"]), 1 + 9 * right
        pair = f"{row['id']} {row['oracle_response']} {samples}"
        made = [verdict for order in judge.ORDERS for verdict in self._verdicts(pair, order, *scores)]
        self.calls += len(made)
        return made

    def rate(self, rows: Dataset, scale: str) -> list[float | None]:
        """A rating of each row on one of `ratings.SCALES`, with the judge's noise: complexity is the level, the other two say
        whether the row's response is right."""
        low, high = ratings.SCALES[scale]
        self.calls += len(rows)
        return [
            self._rated(scale, row["id"], low + (high - low) * self._worth(scale, row))
            for row in records.iter_rows(rows, "id", "meta", "response")
        ]

    def _worth(self, scale: str, row: dict) -> float:
        """Where on a scale a row lies, 0 to 1."""
        known = about(row["meta"])
        return (
            known["level"] / LEVELS if scale == "complexity" else world.credit(known, row["response"] or "")
        )

    def _rated(self, scale: str, row_id: str, value: float) -> float:
        low, high = ratings.SCALES[scale]
        spread = self.judge_noise * SPREAD * (high - low) / 9  # a verdict's scale is 9 points long
        noisy = value + Random(f"rate {self.seed} {scale} {row_id}").gauss(0, spread)
        return min(high, max(low, round(2 * noisy) / 2))  # raters use halves

    def know(self, rows: Dataset, benchmarks: dict[str, list] | None = None) -> None:
        """Remember what these rows are about: expansion repeats none of it. Instances cannot be those of a text benchmark."""
        self.known |= {f"{it['family']} {it['payload']}" for it in map(about, rows["meta"])}

    def expand(self, rows: Dataset) -> tuple[Dataset, Counter]:
        """One new instance for each row: same family, same level; plus the rejected ones by cause."""
        made, drops = [], Counter()
        for parent, meta, hard in zip(rows["id"], rows["meta"], rows["hard"], strict=True):
            it = about(meta)
            rng = Random(f"expand {self.seed} {parent} {self.drawn}")
            self.drawn += 1
            self.calls += 1
            instance = next(draw.draw(it["family"], it["level"], rng))
            key = f"{instance.family} {instance.payload}"
            if key in self.known:
                drops["duplicate"] += 1
                continue
            self.known.add(key)
            made.append(self._child(instance, parent, rng) | {"hard": hard})
        return records.build(made), drops

    def _child(self, instance: Exercise, parent: str, rng: Random) -> dict:
        fresh = world.row(instance, draw.phrase(instance, rng), None)
        told = self._told(fresh["meta"], fresh["instruction"])
        return fresh | {
            "oracle_response": told,
            "task": draw.task(instance.family),
            "source": f"expanded:{parent}",
        }

    def refine(self, rows: Dataset, styles: dict[str, str]) -> list[str | None]:
        """The refined response of each row in the style of its task; None where there is nothing to refine."""
        refined = []
        for task, meta, told in zip(rows["task"], rows["meta"], rows["oracle_response"], strict=True):
            steps = about(meta)["steps"] if styles[task] == "worked" else ""
            refined.append(f"{steps}\n{told}" if steps else None)
        self.calls += sum(text is not None for text in refined)
        return refined

    def without_samples(self, meta: str) -> str:
        return json.dumps(about(meta) | {"samples": []}, ensure_ascii=False)

    def _told(self, meta: str, row_id: str) -> str:
        """The oracle's terse response: right, or with probability `oracle_error` that to another instance."""
        it, rng = about(meta), Random(f"oracle {self.seed} {row_id}")
        wrong = rng.random() < self.oracle_error
        answer = world.wrong_answer(it["family"], it["level"], it["answer"], rng) if wrong else it["answer"]
        return world.terse(it["family"], answer)

    def _verdicts(self, pair: str, order: str, oracle: float, student: float) -> list[dict]:
        """The judge's reply in one order, asked a second time where the first can't be read."""
        made = []
        for attempt in (1, 2):
            rng = Random(f"judge {self.seed} {pair} {order} {attempt}")
            reply = self._reply(rng, *((oracle, student) if order == judge.ORDERS[0] else (student, oracle)))
            made.append({"order": order, "attempt": attempt, "reply": reply, "finish": "stop"})
            if judge.read_scores(reply):
                break
        return made

    def _reply(self, rng: Random, first: float, second: float) -> str:
        if rng.random() < self.judge_noise * UNREAD:
            return "Both responses have their merits."
        edge = self.judge_noise * FIRST_EDGE / 2
        spread = self.judge_noise * (SPREAD**2 - ROUNDING) ** 0.5
        noisy = [score + rng.gauss(0, spread) for score in (first + edge, second - edge)]
        shown = [min(10.0, max(1.0, score)) for score in noisy]
        if self.judge_noise:
            shown = [round(score) for score in shown]  # 94 % of the recorded scores are whole points
        return " ".join(f"{score:g}" for score in shown)
