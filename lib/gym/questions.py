"""Stand-ins for AlpacaEval, MT-Bench and IFEval in the embedded world, in the formats that their modules read.

Held-out instances of the taught families; where a judge is needed, it is exact. They show that an evaluation runs, and rank
students of this world; they say nothing of the benchmarks.
"""

import json

import pandas as pd

from lib.evaluation import mt_bench, mt_judging
from lib.gym import formats, world

TIE = 1.5


def instructions(split: str, per_cell: int) -> list[dict]:
    """One turn each: {"instruction", "dataset": the family, "about": the instance}."""
    rows = world.taught_set(split, per_cell)
    known = map(json.loads, rows["meta"])
    return [
        {"instruction": text, "dataset": about["family"], "about": about}
        for text, about in zip(rows["instruction"], known, strict=True)
    ]


def prefer(pairs: pd.DataFrame, asked: list[dict]) -> pd.DataFrame:
    """The pairs with `preference`: 2 where the second output alone is right, 1 where the first alone is, else a tie, 1.5."""
    about = {row["instruction"]: row["about"] for row in asked}
    gains = [
        world.credit(about[row.instruction], row.output_2)
        - world.credit(about[row.instruction], row.output_1)
        for row in pairs.itertuples()
    ]
    return pairs.assign(preference=[TIE + gain / 2 for gain in gains], judge="exact", raw_completion=None)


def conversations(split: str, per_cell: int) -> list[dict]:
    """Two turns of one family and level: {"question_id", "category": the family, "turns", "about": the instance of each turn}."""
    rows = instructions(split, 2 * per_cell)
    pairs = zip(rows[::2], rows[1::2], strict=True)
    return [
        {
            "question_id": n,
            "category": first["dataset"],
            "turns": [first["instruction"], second["instruction"]],
            "about": [first["about"], second["about"]],
        }
        for n, (first, second) in enumerate(pairs, 1)
    ]


def rated(asked: list[dict], answered: dict[int, list[str]]) -> pd.DataFrame:
    """An exact judge's verdicts, as `mt_judging` has them: 10 for a right answer, 1 for a wrong one."""
    shown = {
        (row["question_id"], turn): [
            {"role": "user", "content": _told(row["turns"], answered[row["question_id"]], turn)}
        ]
        for row in asked
        for turn in mt_bench.TURNS
    }
    verdicts = mt_judging.needed(asked, shown, "exact")
    about = {row["question_id"]: row["about"] for row in asked}
    right = [
        world.credit(about[line.question_id][line.turn - 1], answered[line.question_id][line.turn - 1])
        for line in verdicts.itertuples()
    ]
    replies = [f"Rating: [[{1 + 9 * credit:g}]]" for credit in right]
    return mt_judging.rated(verdicts, replies, ["stop"] * len(replies))


def _told(turns: list[str], answers: list[str], turn: int) -> str:
    """A conversation up to the answer of a turn."""
    told = list(zip(turns, answers, strict=True))[:turn]
    return "\n\n".join(f"User: {question}\n\nStudent: {answer}" for question, answer in told)


def constrained(split: str, per_cell: int) -> list[dict]:
    """Prompts with constraints that IFEval's checkers know: words to keep, how many words at most, a prefix, no commas."""
    rows = [row for row in instructions(split, per_cell) if row["dataset"] == "format_constraints"]
    return [
        {"key": n, "prompt": row["instruction"], "about": row["about"]} | _checkable(row["about"]["payload"])
        for n, row in enumerate(rows)
    ]


def _checkable(payload: str) -> dict:
    """The constraints of a payload that a checker of IFEval knows."""
    asked, words, exactly, prefix = formats.read(payload)
    beside = 2 if prefix else 1  # words beside those asked for: the answer's marker, and the prefix
    most = (exactly or len(words)) + beside
    checks = [("length_constraints:number_words", {"relation": "less than", "num_words": most + 1})]
    checks += [] if exactly else [("keywords:existence", {"keywords": words})]
    checks += [("keywords:existence", {"keywords": [prefix]})] if prefix else []
    checks += [] if "commas" in asked else [("punctuation:no_comma", {})]
    return {"instruction_id_list": [name for name, _ in checks], "kwargs": [told for _, told in checks]}
