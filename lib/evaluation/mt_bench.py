"""Load MT-Bench's questions, answer them, and build the judge's prompts.

80 questions of two turns (Zheng et al., 2023, arXiv 2306.05685), in FastChat's formats.
"""

from dataclasses import replace

from lib.errors import UserError, named
from lib.evaluation import shared
from lib.models.backend import Backend
from lib.models.types import Completion, Ended, SamplingParams, ended
from lib.prompts import filled

TURNS = (1, 2)
TEMPERATURES = {"writing": 0.7, "roleplay": 0.7, "stem": 0.1, "humanities": 0.1}  # of answers; others 0
REFERENCED = ("math", "reasoning", "coding")  # categories whose judge is shown a reference answer
KINDS, ENDS = ("single-v1", "single-math-v1"), ("", "-multi-turn")  # names of the judge's prompts, by turn

Messages = list[dict]
TurnKey = tuple[int, int]  # question_id and turn


def questions(source: str) -> list[dict]:
    """Load the questions: {"question_id", "category", "turns"}."""
    fields = {"question_id": int, "category": str, "turns": list}
    rows = shared.load_records(source, "questions", "question_id", **fields)
    for row in rows:
        _check_turns(row["turns"], f"questions={source}: question {row['question_id']}")
    return rows


def answers(source: str, parameter: str, questions: list[dict]) -> dict[int, list[str]]:
    """Load the two turns of each answer, by question.

    `parameter` names the source in errors. Raises UserError for an answer without two turns, and for one to a
    question outside the set.
    """
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
    rows = shared.load_records(source, "judge_prompts", "name", **fields)
    prompts = {row["name"]: row for row in rows}
    if missing := {kind + end for kind in KINDS for end in ENDS} - prompts.keys():
        raise UserError(f"judge_prompts={source}: it lacks {named(missing)}. Name FastChat's file.")
    return prompts


def respond(
    questions: list[dict], student: Backend, params: SamplingParams, **options
) -> tuple[dict[int, list[str]], Ended]:
    """Generate both turns of a student's answers, at the temperature of the category.

    Returns them by question, and how many were cut or hold thoughts alone. `options` go to `generate`.
    """
    turns: dict[int, list[str]] = {row["question_id"]: [] for row in questions}
    replies: list[Completion] = []
    temperatures = {row["question_id"]: TEMPERATURES.get(row["category"], 0.0) for row in questions}
    for _ in TURNS:
        for temperature in sorted(set(temperatures.values())):
            alike = [row for row in questions if temperatures[row["question_id"]] == temperature]
            prompts = [conversation(row["turns"], turns[row["question_id"]]) for row in alike]
            batch = student.generate(prompts, replace(params, temperature=temperature), **options)
            for row, (reply,) in zip(alike, batch, strict=True):
                turns[row["question_id"]].append(reply.text)
                replies.append(reply)
    return turns, ended(replies)


def conversation(turns: list[str], answers: list[str]) -> Messages:
    """Build the messages that ask for the next turn, behind the answered ones."""
    pairs = zip(turns, answers, strict=False)
    texts = [text for pair in pairs for text in pair] + [turns[len(answers)]]
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


def to_judge(
    questions: list[dict], answers: dict[int, list[str]], gold: dict[int, list[str]], prompts: dict[str, dict]
) -> dict[TurnKey, Messages]:
    """Build the judge's messages about each turn; the second shows both.

    Raises UserError where a category that is judged against reference answers (`gold`) lacks one.
    """
    messages = {}
    for row in questions:
        number, referenced = row["question_id"], row["category"] in REFERENCED
        if referenced and number not in gold:
            raise UserError(f"reference_answers: question {number} has none. Name FastChat's file.")
        for turn, end in zip(TURNS, ENDS, strict=True) if number in answers else ():
            prompt = prompts[KINDS[referenced] + end]
            messages[number, turn] = _messages(row, answers[number], gold.get(number), prompt)
    return messages


def _messages(row: dict, answer: list[str], gold: list[str] | None, prompt: dict) -> Messages:
    parts = {"question": row["turns"][0], "answer": answer[0]}
    sides = {"question": row["turns"], "answer": answer, "ref_answer": gold or ["", ""]}
    parts |= {f"{name}_{turn}": side[turn - 1] for name, side in sides.items() for turn in TURNS}
    shown = filled(prompt["prompt_template"], parts)
    return [{"role": "system", "content": prompt["system_prompt"]}, {"role": "user", "content": shown}]
