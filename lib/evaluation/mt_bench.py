"""MT-Bench: 80 questions of two turns and their answers (Zheng et al., 2023, arXiv 2306.05685), in FastChat's file formats."""

from lib import records
from lib.errors import UserError
from lib.evaluation import recordings
from lib.models.batches import Ended, Reply, ended
from lib.prompts import filled

TURNS = (1, 2)
# of a student's answers; others 0
TEMPERATURES = {"writing": 0.7, "roleplay": 0.7, "stem": 0.1, "humanities": 0.1}
REFERENCED = ("math", "reasoning", "coding")  # categories whose judge is shown a reference answer

Messages = list[dict]


def questions(source: str) -> list[dict]:
    """The questions: {"question_id", "category", "turns"}. Raises UserError for one without two turns, or that stands there twice."""
    kinds = {"question_id": int, "category": str, "turns": list}
    found = recordings.listed(source, "questions", "question_id", **kinds)
    for row in found:
        _two_turns(row["turns"], f"questions: {source}: question {row['question_id']}")
    return found


def answers(source: str, name: str, asked: list[dict]) -> dict[int, list[str]]:
    """The two turns of each answer, by question; `name` is the parameter. Raises UserError for one that is not whole, or to no question."""
    found = recordings.listed(source, name, "question_id", question_id=int, choices=list)
    turns = {}
    for row in found:
        first = row["choices"][0] if row["choices"] else None
        given = first.get("turns") if isinstance(first, dict) else None
        turns[row["question_id"]] = _two_turns(given, f"{name}: {source}: the answer to {row['question_id']}")
    recordings.check_asked(turns, (row["question_id"] for row in asked), f"{name}: {source}", "questions")
    return turns


def judge_prompts(source: str) -> dict[str, dict]:
    """The judge's prompts by name. Raises UserError where one of the four for single answers is missing."""
    kinds = {"name": str, "system_prompt": str, "prompt_template": str}
    found = {row["name"]: row for row in recordings.listed(source, "judge_prompts", "name", **kinds)}
    needed = {_prompt_name(category, turn) for category in ("math", "writing") for turn in TURNS}
    if lacking := needed - found.keys():
        raise UserError(f"judge_prompts: {source} lacks {', '.join(sorted(lacking))}")
    return found


def respond(asked: list[dict], student, seed: int, **how) -> tuple[dict[int, list[str]], Ended]:
    """A student's answers by question, each turn behind the one before, at the temperature of its category.

    Beside them, how the turns ended. `how` goes to `student.answer`.
    """
    from lib.models import student as students

    turns: dict[int, list[str]] = {row["question_id"]: [] for row in asked}
    made: list[Reply] = []
    for _ in TURNS:
        for temperature in sorted({_temperature(row) for row in asked}):
            alike = [row for row in asked if _temperature(row) == temperature]
            prompts = [conversation(row["turns"], turns[row["question_id"]]) for row in alike]
            replies = students.answer(student, prompts, temperature=temperature, seed=seed, **how)
            for row, (reply,) in zip(alike, replies, strict=True):
                turns[row["question_id"]].append(reply.text)
                made.append(reply)
    return turns, ended(made)


def conversation(turns: list[str], answered: list[str]) -> Messages:
    """What asks for the next turn: those that were answered, and the one that was not."""
    before = [
        {"role": role, "content": text}
        for pair in zip(turns, answered, strict=False)
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]
    return records.messages({"turns": before, "instruction": turns[len(answered)], "input": ""})


def to_judge(
    asked: list[dict], answered: dict[int, list[str]], gold: dict[int, list[str]], prompts: dict[str, dict]
) -> dict[tuple[int, int], Messages]:
    """What the judge is asked, by question and turn: about the first turn alone, about the second with both in sight.

    Raises UserError where a question of a category that is judged against a reference answer has none.
    """
    for row in asked:
        if row["category"] in REFERENCED and row["question_id"] not in gold:
            raise UserError(
                f"reference_answers has none for question {row['question_id']}, as {row['category']} needs"
            )
    return {
        (row["question_id"], turn): _messages(
            row, answered[row["question_id"]], gold, prompts[_prompt_name(row["category"], turn)]
        )
        for row in asked
        if row["question_id"] in answered
        for turn in TURNS
    }


def _messages(row: dict, answered: list[str], gold: dict[int, list[str]], prompt: dict) -> Messages:
    sides = row["turns"], answered, gold.get(row["question_id"], ["", ""])
    parts = {"question": row["turns"][0], "answer": answered[0]} | {
        f"{name}_{turn}": side[turn - 1]
        for name, side in zip(("question", "answer", "ref_answer"), sides, strict=True)
        for turn in TURNS
    }
    shown = filled(prompt["prompt_template"], parts)
    return [{"role": "system", "content": prompt["system_prompt"]}, {"role": "user", "content": shown}]


def _prompt_name(category: str, turn: int) -> str:
    kind = "single-math-v1" if category in REFERENCED else "single-v1"
    return kind if turn == 1 else f"{kind}-multi-turn"


def _temperature(row: dict) -> float:
    return TEMPERATURES.get(row["category"], 0.0)


def _two_turns(turns: object, where: str) -> list[str]:
    if not isinstance(turns, list) or len(turns) != len(TURNS) or not all(isinstance(t, str) for t in turns):
        raise UserError(f"{where} has no two turns of text")
    return turns
