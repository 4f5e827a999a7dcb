"""Answer MT-Bench's questions, and have a judge rate each turn from 1 to 10.

80 questions of two turns (Zheng et al., 2023, arXiv 2306.05685), in FastChat's formats. A verdict without a
rating is asked for once more and then counted as unread: FastChat stores it as -1 and leaves it out.

A table of verdicts has a row for each turn: question_id, category, turn, judge, system and shown (what the
judge saw), rule (which rating counts, the first or the last), reply, finish, and score, null without a reply
or a rating.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd

from lib.errors import UserError, named
from lib.evaluation import shared
from lib.models.backend import Backend
from lib.models.server import ServerBackend
from lib.models.types import Completion, Ended, SamplingParams, ended
from lib.prompts import filled
from lib.text import split_thoughts

TURNS = (1, 2)
TEMPERATURES = {"writing": 0.7, "roleplay": 0.7, "stem": 0.1, "humanities": 0.1}  # of answers; others 0
REFERENCED = ("math", "reasoning", "coding")  # categories whose judge is shown a reference answer
# names of the judge's prompts: each turn, without and with a reference answer
PROMPTS = (("single-v1", "single-v1-multi-turn"), ("single-math-v1", "single-math-v1-multi-turn"))
SAMPLING = SamplingParams(max_tokens=2048)  # of a verdict
REPLY = 250  # tokens of a verdict, about
NUMBER = r"([0-9]+(?:\.[0-9]*)?)"
DOUBLE, SINGLE = re.compile(rf"\[\[ *+{NUMBER} *\]\]"), re.compile(rf"\[ *+{NUMBER} *\]")  # of a rating
# of FastChat's judgments
FIELDS = ["question_id", "turn", "user_prompt", "judgment", "judge", "rule", "finish", "score"]


def questions(source: str) -> list[dict]:
    """Load the questions: {"question_id", "category", "turns"}."""
    fields = {"question_id": int, "category": str, "turns": list}
    rows = shared.load_records(source, "questions", "question_id", **fields)
    for row in rows:
        _check_turns(row["turns"], f"questions={source}: question {row['question_id']}")
    return rows


def answers(source: str, parameter: str, questions: list[dict]) -> dict[int, list[str]]:
    """Load the two turns of each answer, by question; `parameter` names the source in errors."""
    where, turns = f"{parameter}={source}", {}
    for row in shared.load_records(source, parameter, "question_id", question_id=int, choices=list):
        first = row["choices"][0] if row["choices"] else None
        turns[row["question_id"]] = first.get("turns") if isinstance(first, dict) else None
        _check_turns(turns[row["question_id"]], f"{where}: the answer to {row['question_id']}")
    shared.check_known(turns, (row["question_id"] for row in questions), where)
    return turns


def _check_turns(turns: object, where: str) -> None:
    if not isinstance(turns, list) or [type(turn) for turn in turns] != [str] * len(TURNS):
        raise UserError(f"{where} has no two turns of text. Correct the file.")


def judge_prompts(source: str) -> dict[str, dict]:
    """Load the judge's prompts by name. Raises UserError where one for single answers is missing."""
    fields = {"name": str, "system_prompt": str, "prompt_template": str}
    prompts = {row["name"]: row for row in shared.load_records(source, "judge_prompts", "name", **fields)}
    if missing := {name for names in PROMPTS for name in names} - prompts.keys():
        raise UserError(f"judge_prompts={source}: it lacks {named(missing)}. Name FastChat's file.")
    return prompts


def first_turn(question: dict, student: Backend, params: SamplingParams) -> dict[str, str]:
    """Ask a student the first turn of one question, to be shown (`shared.ask_one`)."""
    temperature = TEMPERATURES.get(question["category"], 0.0)
    return shared.ask_one(
        student, shared.message(question["turns"][0]), replace(params, temperature=temperature)
    )


def respond(
    questions: list[dict], student: Backend, params: SamplingParams, **options
) -> tuple[dict[int, list[str]], Ended]:
    """Generate both turns of a student's answers, at the temperature of the category.

    Returns them by question, and how many were cut or hold thoughts alone. `options` go to `generate`.
    """
    chats: dict[int, list[dict]] = {row["question_id"]: [] for row in questions}
    replies: list[Completion] = []
    temperatures = {row["question_id"]: TEMPERATURES.get(row["category"], 0.0) for row in questions}
    for turn in TURNS:
        for temperature in sorted(set(temperatures.values())):
            alike = [row for row in questions if temperatures[row["question_id"]] == temperature]
            for row in alike:
                chats[row["question_id"]].append({"role": "user", "content": row["turns"][turn - 1]})
            prompts = [chats[row["question_id"]] for row in alike]
            batch = student.generate(prompts, replace(params, temperature=temperature), **options)
            for chat, (reply,) in zip(prompts, batch, strict=True):
                chat.append({"role": "assistant", "content": reply.text})
                replies.append(reply)
    answers = {number: [turn["content"] for turn in chat[1::2]] for number, chat in chats.items()}
    return answers, ended(replies)


def to_judge(
    questions: list[dict],
    answers: dict[int, list[str]],
    gold: dict[int, list[str]],
    prompts: dict[str, dict],
    judge: str,
) -> pd.DataFrame:
    """Build the table of verdicts before the judge is asked; without an answer `shown` is null.

    Raises UserError where a category that is judged against reference answers (`gold`) lacks one.
    """
    rows = []
    for question in questions:
        number, referenced = question["question_id"], question["category"] in REFERENCED
        if referenced and number in answers and number not in gold:
            raise UserError(f"reference_answers: question {number} has none. Name FastChat's file.")
        answer = answers.get(number, ["", ""])
        sides = {"question": question["turns"], "answer": answer, "ref_answer": gold.get(number, ["", ""])}
        parts = {"question": question["turns"][0], "answer": answer[0]}
        parts |= {f"{name}_{turn}": texts[turn - 1] for name, texts in sides.items() for turn in TURNS}
        for turn, name in zip(TURNS, PROMPTS[referenced], strict=True):
            shown = filled(prompts[name]["prompt_template"], parts) if number in answers else None
            row = {"question_id": number, "category": question["category"], "turn": turn, "shown": shown}
            rows.append(row | {"system": prompts[name]["system_prompt"]})
    return pd.DataFrame(rows).assign(judge=judge, rule="last")


def messages(verdicts: pd.DataFrame) -> list[list[dict]]:
    """Return the messages that a judge is sent for each line of `to_judge` with an answer."""
    return [
        [{"role": "system", "content": row.system}, {"role": "user", "content": row.shown}]
        for row in verdicts.dropna(subset=["shown"]).itertuples()
    ]


def ask(
    verdicts: pd.DataFrame, judge: ServerBackend, report: Callable[[int], None] | None = None
) -> pd.DataFrame:
    """Ask a judge for the verdicts, twice where a reply cannot be read, unless it would be cut again."""

    def unread(replies: list[Completion]) -> list[bool]:
        return [
            reply.finish_reason != "length" and read_rating(reply.text, last=True) is None
            for reply in replies
        ]

    replies = shared.ask(judge, "mt_bench", messages(verdicts), SAMPLING, unread, report)
    answered = verdicts.index[verdicts["shown"].notna()]
    texts = [None if reply.failed else reply.text for reply in replies]
    finish = pd.Series([reply.finish_reason for reply in replies], answered, dtype=object)
    return rated(verdicts.assign(reply=pd.Series(texts, answered, dtype=object), finish=finish))


def rated(verdicts: pd.DataFrame) -> pd.DataFrame:
    """Read the ratings of the replies; one that the token limit cut states none."""
    whole = verdicts[verdicts["reply"].notna() & (verdicts["finish"] != "length")]
    scores = {row.Index: read_rating(row.reply, row.rule == "last") for row in whole.itertuples()}
    return verdicts.assign(score=pd.Series(scores, verdicts.index, dtype=float))


def read_rating(reply: str, last: bool = False) -> float | None:
    """Read the rating that a verdict states, 0 to 10; None where it states none.

    "[[8]]" counts, failing that "[8]"; of several the first, as in FastChat, or the `last`. 0 is outside the
    scale that the prompt gives, but GPT-4 uses it.

    >>> read_rating("A fine answer. Rating: [[8.5]]")
    8.5
    >>> read_rating("arr[[0]] is wrong. Rating: [[7]]", last=True)
    7.0
    >>> read_rating("I would give it 8 of 10.")
    """
    text = split_thoughts(reply)[1]
    numbers = DOUBLE.findall(text) or SINGLE.findall(text)
    rating = float(numbers[-1 if last else 0]) if numbers else None
    return rating if rating is not None and rating <= 10 else None


def doubtful(verdicts: pd.DataFrame) -> pd.DataFrame:
    """Select the verdicts whose rating stands in single brackets alone: it may be an index in code."""
    scored = verdicts[verdicts["score"].notna()]
    return scored[scored["reply"].map(lambda reply: not DOUBLE.search(split_thoughts(reply)[1])).astype(bool)]


def recorded(questions: list[dict], source: str) -> pd.DataFrame:
    """Load the verdicts of a file of FastChat's, read again from their raw replies.

    Raises UserError for a file of several models, and for questions outside the set.
    """
    rows = shared.load_records(source, "judgments", question_id=int, turn=int, judgment=str)
    if len(models := {str(row.get("model") or "") for row in rows}) > 1:
        raise UserError(f"judgments={source}: it is of {named(models)}. Keep one model's lines.")
    turns = [(row["question_id"], row["category"], turn) for row in questions for turn in TURNS]
    evaluated = ((number, turn) for number, _, turn in turns)
    shared.check_known(((row["question_id"], row["turn"]) for row in rows), evaluated, f"judgments={source}")
    replies = pd.DataFrame(list(map(_columns, rows)))
    table = pd.DataFrame(turns, columns=["question_id", "category", "turn"]).merge(replies, how="left")
    return rated(table.fillna({"judge": "", "rule": "first", "finish": "", "shown": ""}))


def _columns(row: dict) -> dict:
    """Name a judgment's fields as columns; FastChat's `judge` lists the model and the prompt's name."""
    judge = row.get("judge")
    columns = {name: row.get(name) for name in ("question_id", "turn", "rule", "finish")}
    columns |= {"shown": row.get("user_prompt"), "reply": row["judgment"]}
    return columns | {"judge": judge[0] if isinstance(judge, list) and judge else judge}


def tally(verdicts: pd.DataFrame) -> dict[str, int]:
    """Count the verdicts, as `shared.tally` does."""
    return shared.tally(verdicts["score"], verdicts["reply"], verdicts["finish"] == "length")


def write(verdicts: pd.DataFrame, answers: dict[int, list[str]] | None, folder: Path) -> None:
    """Write answers.jsonl and judgments.jsonl, which can be given back."""
    turns = (answers or {}).items()
    rows = [{"question_id": number, "choices": [{"index": 0, "turns": texts}]} for number, texts in turns]
    shared.write_lines(folder / "answers.jsonl", rows)
    replied = verdicts.dropna(subset=["reply"]).fillna({"score": -1})
    replied = replied.rename(columns={"reply": "judgment", "shown": "user_prompt"})[FIELDS]
    judges = replied["judge"].map(lambda judge: [judge])
    shared.write_lines(folder / "judgments.jsonl", replied.assign(judge=judges).to_dict("records"))


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
