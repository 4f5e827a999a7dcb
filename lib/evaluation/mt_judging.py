"""Ask, read and count MT-Bench's verdicts: each rates one turn from 1 to 10.

A verdict without a rating is asked for once more and then counted as unread: FastChat stores it as -1 and
leaves it out. A table of verdicts has a row for each that is needed: question_id, category, turn, judgment
(its number, from 1), judge, shown (what the judge saw), rule (which rating counts, the first or the last),
reply, finish, and score, null without a reply or a rating.
"""

import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from lib.errors import UserError, named
from lib.evaluation import shared
from lib.evaluation.mt_bench import TURNS, Messages, TurnKey
from lib.models import catalog
from lib.models.server import ServerBackend
from lib.models.types import SamplingParams
from lib.oracle import estimate
from lib.text import split_thoughts

SAMPLING = SamplingParams(max_tokens=2048)
REPLY = 250  # tokens of a verdict, about
NUMBER = r"([0-9]+(?:\.[0-9]*)?)"
RATINGS = (re.compile(rf"\[\[ *+{NUMBER} *\]\]"), re.compile(rf"\[ *+{NUMBER} *\]"))
# in a reply that was cut any other number may be an index: "arr[[0]] is"
STATED = (re.compile(rf"rating[:*\s]{{1,9}}\[\[ *+{NUMBER} *\]\]", re.IGNORECASE),)
# FastChat's fields, and the columns of a table of verdicts
FIELDS = {"judge": "judge", "finish": "finish", "rule": "rule", "user_prompt": "shown", "judgment": "reply"}
ABSENT = {"judge": "", "finish": "", "rule": "first", "shown": ""}


def read_rating(reply: str, whole: bool = True, last: bool = False) -> float | None:
    """Read the rating that a verdict states, 0 to 10; None where it states none.

    "[[8]]" counts, failing that "[8]"; of several the first, as in FastChat, or the `last`. "[8]" may be an
    index in a piece of code: of a reply that is not `whole` it is not taken. 0 is outside the scale that the
    prompt gives, but GPT-4 uses it.

    >>> read_rating("A fine answer. Rating: [[8.5]]")
    8.5
    >>> read_rating("arr[[0]] is wrong. Rating: [[7]]", last=True)
    7.0
    >>> read_rating("I would give it 8 of 10.")
    """
    patterns = RATINGS if whole else STATED if last else RATINGS[:1]
    text = split_thoughts(reply)[1]
    numbers = next(filter(None, (pattern.findall(text) for pattern in patterns)), None)
    rating = float(numbers[-1 if last else 0]) if numbers else None
    return rating if rating is not None and rating <= 10 else None


def doubtful(verdicts: pd.DataFrame) -> pd.DataFrame:
    """Select the verdicts whose rating stands in single brackets alone."""
    scored = verdicts[verdicts["score"].notna()]
    alone = scored["reply"].map(lambda reply: read_rating(reply, whole=False) is None)
    return scored[alone.astype(bool)]


def needed(
    questions: list[dict], prompts: dict[TurnKey, Messages], judge: str, judgments: int = 1
) -> pd.DataFrame:
    """Build the table of verdicts before the judge is asked."""
    table = _turns(questions).merge(pd.DataFrame({"judgment": range(1, judgments + 1)}), how="cross")
    shown = {key: messages[-1]["content"] for key, messages in prompts.items()}
    table = table.assign(judge=judge, shown=[shown.get(key, "") for key in _keys(table)], rule="last")
    return table.assign(reply=None, finish="", score=float("nan"))


def _turns(questions: list[dict]) -> pd.DataFrame:
    table = pd.DataFrame(questions)[["question_id", "category"]]
    return table.merge(pd.DataFrame({"turn": TURNS}), how="cross")


def _keys(table: pd.DataFrame) -> list[TurnKey]:
    return list(zip(table["question_id"], table["turn"], strict=True))


def rated(verdicts: pd.DataFrame, replies: list[str | None], finishes: list[str]) -> pd.DataFrame:
    """Give the verdicts these replies, and read their ratings."""
    scores = [
        read_rating(reply, finish != "length", rule == "last") if isinstance(reply, str) else None
        for reply, finish, rule in zip(replies, finishes, verdicts["rule"], strict=True)
    ]
    columns = {"reply": pd.Series(replies, verdicts.index, dtype=object), "finish": finishes}
    return verdicts.assign(**columns, score=pd.Series(scores, verdicts.index, dtype=float))


def ask(
    verdicts: pd.DataFrame,
    prompts: dict[TurnKey, Messages],
    judge: ServerBackend,
    report: Callable[[int], None] = lambda done: None,
) -> pd.DataFrame:
    """Ask a judge for the verdicts: twice where a reply cannot be read."""
    judgments = verdicts["judgment"].max()
    pending = verdicts[[key in prompts for key in _keys(verdicts)]]
    for earlier in (0, judgments):
        shown = [prompts[key] for key in _keys(pending)]
        attempts = (pending["judgment"] + earlier).tolist()
        answers = judge.generate(
            shown, SAMPLING, lambda done, _: report(done), purpose="mt_bench", attempts=attempts
        )
        replies = [reply for (reply,) in answers]
        texts = [None if reply.failed else reply.text for reply in replies]
        read = rated(pending, texts, [reply.finish_reason for reply in replies])
        read = read[read["reply"].notna()]  # an earlier reply stays where the second call fails
        verdicts = pd.concat([verdicts.drop(read.index), read]).sort_index()
        pending = verdicts[verdicts["score"].isna() & verdicts["reply"].notna()]
    return verdicts


def expected(prompts: dict[TurnKey, Messages], judgments: int, judge: ServerBackend) -> str:
    """Describe the calls, tokens and money that the judge will take, as markdown."""
    tokens = sum(map(catalog.tokens, prompts.values())) / max(len(prompts), 1)
    ahead = estimate.ahead(judge, "mt_bench", len(prompts) * judgments, tokens, REPLY)
    return estimate.describe([ahead], judge)


def recorded(questions: list[dict], source: str, model: str = "") -> pd.DataFrame:
    """Load the verdicts of a file of FastChat's, read again from their raw replies.

    Raises UserError for a file of several models of which none is named, and for questions outside the set.
    """
    rows = shared.load_records(source, "judgments", question_id=int, turn=int, judgment=str)
    models = {str(row.get("model") or "") for row in rows}
    if model not in models and (model or len(models) > 1):
        raise UserError(f"judged_model={model!r}: {source} is of {named(models)}. Name one of them.")
    turns = _turns(questions)
    keys = ((row["question_id"], row["turn"]) for row in rows)
    shared.check_known(keys, _keys(turns), f"judgments={source}")
    records = pd.DataFrame([row for row in rows if not model or row.get("model") == model])
    records = records.reindex(columns=["question_id", "turn", *FIELDS]).rename(columns=FIELDS)
    records["judge"] = records["judge"].explode().groupby(level=0).first()  # FastChat adds the prompt's name
    table = turns.merge(records, how="left").astype(dict.fromkeys(FIELDS.values(), object)).fillna(ABSENT)
    table["judgment"] = table.groupby(["question_id", "turn"]).cumcount() + 1
    return rated(table, table["reply"].tolist(), table["finish"].tolist())


def tally(verdicts: pd.DataFrame) -> dict[str, int]:
    """Count the verdicts, as `shared.tally` does."""
    return shared.tally(verdicts["score"], verdicts["reply"], verdicts["finish"] == "length")


def write(verdicts: pd.DataFrame, answers: dict[int, list[str]] | None, folder: Path) -> None:
    """Write answers.jsonl and judgments.jsonl, which can be given back."""
    if answers:
        choices = {number: [{"index": 0, "turns": turns}] for number, turns in answers.items()}
        rows = ({"question_id": number, "choices": choices[number]} for number in choices)
        shared.write_lines(folder / "answers.jsonl", rows)
    given = verdicts.dropna(subset=["reply"]).astype({"score": object}).fillna({"score": -1})
    columns = {column: field for field, column in FIELDS.items()}
    records = given[["question_id", "turn", *columns, "score"]].rename(columns=columns).to_dict("records")
    if records:
        rows = (record | {"judge": [record["judge"]]} for record in records)
        shared.write_lines(folder / "judgments.jsonl", rows)


def scores(verdicts: pd.DataFrame) -> pd.DataFrame:
    """Compute all mt_bench metrics, in the long form of `statistics`.

    The turns of a question are one group; several judgments of one turn count as the mean of those read.
    """
    mean = verdicts.groupby(["question_id", "category", "turn"], as_index=False)["score"].mean()
    question, turn = mean["question_id"].astype(str), mean["turn"].astype(str)
    columns = {"stratum": "all", "weight": 1.0, "id": question + "." + turn, "group": question}
    rows = pd.DataFrame(columns | {"score": mean["score"]})
    metrics = pd.Series("score", mean.index), "turn_" + turn, mean["category"]
    return pd.concat([rows.assign(metric="mt_bench." + metric) for metric in metrics], ignore_index=True)
