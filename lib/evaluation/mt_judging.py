"""MT-Bench's verdicts: one answer, one turn, rated 1 to 10 by a judge, as FastChat has it.

A verdict that holds no rating is asked for once more and then counted as unread: FastChat stores it as -1 and leaves it out.
"""

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd

from lib.errors import UserError, named
from lib.evaluation import recordings, shared
from lib.evaluation.mt_bench import TURNS, Messages
from lib.models import prices
from lib.models.chat import Endpoint, Request
from lib.models.completions import split_thoughts
from lib.oracle import estimate

JUDGE = "gpt-4"  # of the published scores
SAMPLING = {"temperature": 0, "max_tokens": 2048}
REPLY = 250  # tokens of a verdict, about
NUMBER = r"([0-9]+(?:\.[0-9]*)?)"
RATINGS = (re.compile(rf"\[\[ *+{NUMBER} *\]\]"), re.compile(rf"\[ *+{NUMBER} *\]"))
# in a reply that was cut any other number may be an index: "arr[[0]] is"
STATED = (re.compile(rf"rating[:*\s]{{1,9}}\[\[ *+{NUMBER} *\]\]", re.IGNORECASE),)

# A table of verdicts has a line for each that is needed: question_id, category, turn, judgment (its number, from 1), judge, shown
# (what the judge saw), rule (which rating counts, the first or the last), reply, finish, and score,
# null where there is no reply or it could not be read.


def read_rating(reply: str, whole: bool = True, last: bool = False) -> float | None:
    """The rating that a verdict states, 0 to 10: "[[8]]", failing that "[8]"; None where it states none.

    Of several the first counts, as in FastChat, or the `last`. "[8]" is FastChat's rule, and may be an index
    in a piece of code: of a reply that is not `whole` it is not taken. 0 is outside the scale asked for, but
    GPT-4 gives it.

    >>> read_rating("A fine answer. Rating: [[8.5]]")
    8.5
    >>> read_rating("arr[[0]] is wrong. Rating: [[7]]", last=True)
    7.0
    >>> read_rating("I would give it 8 of 10.")
    """
    patterns = RATINGS if whole else STATED if last else RATINGS[:1]
    text = split_thoughts(reply)[1]
    found = next(filter(None, (pattern.findall(text) for pattern in patterns)), None)
    rating = float(found[-1 if last else 0]) if found else None
    return rating if rating is not None and rating <= 10 else None


def doubtful(verdicts: pd.DataFrame) -> pd.DataFrame:
    """The verdicts whose rating stands in single brackets alone."""
    firm = verdicts["reply"].map(
        lambda reply: isinstance(reply, str) and read_rating(reply, whole=False) is not None
    )
    return verdicts[verdicts["score"].notna() & ~firm.astype(bool)]


def needed(
    asked: list[dict], prompts: dict[tuple[int, int], Messages], judge: str, judgments: int = 1
) -> pd.DataFrame:
    """The table of verdicts before the judge was asked; `prompts` are by question and turn, none where there is no answer."""
    return _table(
        (
            row,
            turn,
            n,
            {"judge": judge, "user_prompt": _shown(prompts.get((row["question_id"], turn))), "rule": "last"},
        )
        for row in asked
        for turn in TURNS
        for n in range(1, judgments + 1)
    )


def _shown(messages: Messages | None) -> str:
    return messages[-1]["content"] if messages else ""


def rated(verdicts: pd.DataFrame, replies: list[str | None], finishes: list[str]) -> pd.DataFrame:
    """The verdicts with these replies, read."""
    each = zip(replies, finishes, verdicts["rule"], strict=True)
    scores = [
        None if reply is None else read_rating(reply, finish != "length", rule == "last")
        for reply, finish, rule in each
    ]
    told = {"reply": pd.Series(replies, verdicts.index, dtype=object), "finish": finishes}
    return verdicts.assign(**told, score=pd.Series(scores, verdicts.index, dtype=float))


def ask(
    verdicts: pd.DataFrame,
    prompts: dict[tuple[int, int], Messages],
    judge: Endpoint,
    report: Callable[[int], None] = lambda done: None,
) -> pd.DataFrame:
    """The verdicts with a judge's replies. What can't be read is asked for once more, what got no reply when the stage runs again."""
    judgments = verdicts["judgment"].max()
    there = [place in prompts for place in zip(verdicts["question_id"], verdicts["turn"], strict=True)]
    for first in (True, False):
        open_ = verdicts[there] if first else verdicts[verdicts["score"].isna() & verdicts["reply"].notna()]
        attempts = open_["judgment"] + (0 if first else judgments)
        shown = zip(open_["question_id"], open_["turn"], attempts, strict=True)
        calls = [Request(prompts[n, turn], "mt_bench", int(attempt), SAMPLING) for n, turn, attempt in shown]
        said = judge.chat(calls, report) if calls else []
        told = rated(open_, [reply.text for reply in said], [reply.finish for reply in said])
        told = told[told["reply"].notna()]  # what was said before stands, where there is nothing new
        verdicts = pd.concat([verdicts.drop(told.index), told]).sort_index()
    return verdicts


def expected(prompts: dict[tuple[int, int], Messages], judgments: int, judge: Endpoint) -> str:
    """What asking a judge will take, as markdown."""
    tokens = sum(map(prices.tokens, prompts.values())) / max(len(prompts), 1)
    ahead = estimate.ahead(judge, "mt_bench", len(prompts) * judgments, tokens, REPLY)
    return estimate.describe([ahead], judge)


def recorded(
    asked: list[dict], source: str, model: str = "", answered: dict[int, list[str]] | None = None
) -> pd.DataFrame:
    """The verdicts in a file of FastChat's, read again from their raw replies; what it lacks is missing.

    Raises UserError for a file of several models of which none is named, for verdicts on other answers than these, and where a
    recorded score is not what its reply says.
    """
    kinds = {"question_id": int, "turn": int, "judgment": str}
    rows = _of_model(recordings.listed(source, "judgments", "", **kinds), source, model)
    found: dict[tuple[int, int], list[dict]] = {}
    for row in rows:
        found.setdefault((row["question_id"], row["turn"]), []).append(row)
        _check_record(row, source, answered or {})
    if strange := found.keys() - {(row["question_id"], turn) for row in asked for turn in TURNS}:
        raise UserError(
            f"judgments: {source} is of question {min(strange)[0]}, turn {min(strange)[1]}, which there is not"
        )
    lines = [
        (row, turn, n, told)
        for row in asked
        for turn in TURNS
        for n, told in enumerate(found.get((row["question_id"], turn), [{}]), 1)
    ]
    replies = [told.get("judgment") for *_, told in lines]
    return rated(_table(lines), replies, [str(told.get("finish") or "") for *_, told in lines])


def _of_model(rows: list[dict], source: str, model: str) -> list[dict]:
    models = {str(row.get("model") or "") for row in rows}
    if model not in models and (model or len(models) > 1):
        raise UserError(f"judgments: {source} is of {named(models)}: name one of them with judged_model")
    return [row for row in rows if not model or row.get("model") == model]


def _check_record(row: dict, source: str, answered: dict[int, list[str]]) -> None:
    where = f"judgments: {source}: question {row['question_id']}, turn {row['turn']}"
    stated, read = (
        row.get("score"),
        read_rating(row["judgment"], row.get("finish") != "length", row.get("rule") == "last"),
    )
    if stated is not None and (None if stated == -1 else stated) != read:
        raise UserError(f"{where} has the score {stated!r:.60}, but its reply says {read}")
    turns = answered.get(row["question_id"], [])[: row["turn"]]
    if row.get("user_prompt") and not all(turn in row["user_prompt"] for turn in turns):
        raise UserError(f"{where} is about another answer than the one in answers")


def _table(lines: Iterable[tuple[dict, int, int, dict]]) -> pd.DataFrame:
    """The table from (question, turn, number of the judgment, what FastChat's record of it holds)."""
    columns = ["question_id", "category", "turn", "judgment", "judge", "shown", "rule"]
    rows = [
        (
            *(row["question_id"], row["category"], turn, n, _judge(told)),
            str(told.get("user_prompt") or ""),
            str(told.get("rule") or "first"),
        )
        for row, turn, n, told in lines
    ]
    return pd.DataFrame(rows, columns=columns).assign(reply=None, finish="", score=float("nan"))


def _judge(told: dict) -> str:
    """FastChat names the judge and its prompt, in a list."""
    name = told.get("judge") or ""
    return str(name[0] if isinstance(name, list) else name)


def tally(verdicts: pd.DataFrame) -> dict[str, int]:
    """How many verdicts were read, and how many not; see `shared.tally`."""
    return shared.tally(verdicts["score"], verdicts["reply"], verdicts["finish"] == "length")


def write(verdicts: pd.DataFrame, answered: dict[int, list[str]] | None, folder: Path) -> None:
    """answers.jsonl (where there are answers) and judgments.jsonl, in FastChat's form: both can be given back as recorded ones."""
    turns = (
        {"question_id": number, "choices": [{"index": 0, "turns": of}]}
        for number, of in (answered or {}).items()
    )
    told = (
        {
            "question_id": line.question_id,
            "turn": line.turn,
            "judge": [line.judge],
            "finish": line.finish,
            "rule": line.rule,
            "user_prompt": line.shown,
            "judgment": line.reply,
            "score": -1 if pd.isna(line.score) else line.score,
        }
        for line in verdicts.itertuples()
        if pd.notna(line.reply)
    )
    for name, rows in (("answers", turns), ("judgments", told)):
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
        if lines:
            (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")


def scores(verdicts: pd.DataFrame) -> pd.DataFrame:
    """Ratings in the long form that lib.evaluation.statistics reads: mt_bench.score, .turn_1, .turn_2, and one metric a category.

    The turns of a question belong together; several judgments of one turn count as the mean of those that were read.
    """
    mean = verdicts.groupby(["question_id", "category", "turn"], as_index=False)["score"].mean()
    question, turn = mean["question_id"].astype(str), mean["turn"].astype(str)
    rows = pd.DataFrame(
        {
            "stratum": "all",
            "weight": 1.0,
            "id": question + "." + turn,
            "group": question,
            "score": mean["score"],
        }
    )
    kinds = pd.Series("score", mean.index), "turn_" + turn, mean["category"]
    return pd.concat([rows.assign(metric="mt_bench." + kind) for kind in kinds], ignore_index=True)
