"""Stand-ins for AlpacaEval, MT-Bench, IFEval and recorded verdicts in the embedded world.

Held-out instances of the taught families, judged exactly where a judge is needed. These scores show that an
evaluation runs and rank students of this world; they say nothing about the benchmarks.
"""

import json

import pandas as pd
from datasets import Dataset

from lib import records
from lib.evaluation import alpaca, mt_bench
from lib.gym import world
from lib.gym.families import parse_constraints
from lib.gym.oracle import ExactOracle


def instructions(per_cell: int) -> list[dict]:
    """Draw prompts: {"instruction", "dataset": the family, "about": the instance}."""
    rows = world.evaluation_set("dev", per_cell, trained_only=True)
    instances = zip(rows["instruction"], map(json.loads, rows["meta"]), strict=True)
    return [{"instruction": text, "dataset": about["family"], "about": about} for text, about in instances]


def prefer(pairs: pd.DataFrame, prompts: list[dict]) -> pd.DataFrame:
    """Add `preference`: 1 or 2 where only that output is right, else a tie, 1.5."""
    about = pairs["instruction"].map({row["instruction"]: row["about"] for row in prompts})
    first, second = (about.combine(pairs[name], world.credit) for name in ("output_1", "output_2"))
    return pairs.assign(preference=alpaca.TIE + (second - first) / 2, judge="exact", raw_completion=None)


def judged_pairs(per_cell: int) -> Dataset:
    """Draw pairs of a right response and one that is wrong in half of them, judged exactly but for noise."""
    rows = world.evaluation_set("dev", per_cell, trained_only=True)
    second = ExactOracle(oracle_error=0.5).answer(rows)["oracle_response"][:]
    rows = records.update(ExactOracle().answer(rows), student_response=second)
    return ExactOracle().score(rows)


def conversations(per_cell: int) -> list[dict]:
    """Draw MT-Bench questions: two turns of one family and level, each with "about"."""
    rows = instructions(2 * per_cell)
    return [
        {
            "question_id": n,
            "category": pair[0]["dataset"],
            "turns": [row["instruction"] for row in pair],
            "about": [row["about"] for row in pair],
        }
        for n, pair in enumerate(zip(rows[::2], rows[1::2], strict=True), 1)
    ]


def rated(questions: list[dict], answers: dict[int, list[str]]) -> pd.DataFrame:
    """Rate each answer exactly, as a table of `mt_bench`: 10 if right, else 1."""
    rows = []
    for question in questions:
        exchanges = list(zip(question["turns"], answers[question["question_id"]], strict=True))
        texts = [f"User: {prompt}\n\nStudent: {answer}" for prompt, answer in exchanges]
        for turn, (_, answer) in zip(mt_bench.TURNS, exchanges, strict=True):
            credit = world.credit(question["about"][turn - 1], answer)
            row = {name: question[name] for name in ("question_id", "category")} | {"turn": turn}
            row |= {"shown": "\n\n".join(texts[:turn]), "reply": f"Rating: [[{1 + 9 * credit:g}]]"}
            rows.append(row)
    return mt_bench.rated(pd.DataFrame(rows).assign(judge="exact", rule="last", finish="stop"))


def constrained(per_cell: int) -> list[dict]:
    """Draw prompts whose constraints IFEval's checkers know."""
    rows = [row for row in instructions(per_cell) if row["dataset"] == "format_constraints"]
    prompts = []
    for n, row in enumerate(rows):
        rules, words, count, prefix = parse_constraints(row["about"]["payload"])
        extra = 2 if prefix else 1  # words of a right answer beside those listed: "Answer:", and the prefix
        limit = {"relation": "less than", "num_words": (count or len(words)) + extra + 1}
        checks = [("length_constraints:number_words", limit)]
        checks += [] if count else [("keywords:existence", {"keywords": words})]
        checks += [("keywords:existence", {"keywords": [prefix]})] if prefix else []
        checks += [] if "commas" in rules else [("punctuation:no_comma", {})]
        names, kwargs = map(list, zip(*checks, strict=True))
        texts = {"key": n, "prompt": row["instruction"], "about": row["about"]}
        prompts.append(texts | {"instruction_id_list": names, "kwargs": kwargs})
    return prompts
