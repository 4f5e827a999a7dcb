"""Read pairs of responses with recorded verdicts: Cherry LLM's, the Vicuna blog's, AlpacaEval's, MT-Bench's.

A pair is a row: oracle_response is the first response, student_response the second, and `verdicts` are the
recorded ones. `meta` has `models`, who wrote both, where that is known, and `source` the kind of the record.
"""

import json
import re
from collections.abc import Iterable
from itertools import combinations
from random import Random

from datasets import Dataset

from lib import paths, records
from lib.corpus import formats, sources
from lib.errors import UserError
from lib.tapir.judge import ORDERS

# fields that tell records apart, and their types: reviews of the Vicuna blog, its answers and questions are
# files of their own
KINDS: dict[str, dict[str, type]] = {
    "cherry_llm": {"Answer1": str, "Answer2": str, "review": str, "review_reverse": str},
    "alpaca_eval": {"instruction": str, "output_1": str, "output_2": str, "preference": object},
    "mt_bench": {"question_id": object, "turn": int, "model": str, "user_prompt": str, "score": object},
    "review": {"question_id": object, "answer1_id": str, "answer2_id": str, "text": str},
    "answer": {"question_id": object, "answer_id": str, "text": str},
    "question": {"question_id": object, "category": str, "text": str},
}
COLUMNS = (*records.PROMPT_COLUMNS, "oracle_response", "student_response")
JUDGED_ANSWER = re.compile(  # in the prompt of MT-Bench's judge about a first turn
    r"\[Question\]\n(.*?)\n\n(?:\[The Start of Reference Answer\].*?\[The End of Reference Answer\]\n\n)?"
    r"\[The Start of Assistant's Answer\]\n(.*)\n\[The End of Assistant's Answer\]",
    re.DOTALL,
)


def load(files: Iterable[str], parameter: str = "pairs") -> Dataset:
    """Read pairs from files, URLs or patterns; `parameter` names them in errors.

    Of MT-Bench's judgments, each two models' answers to a first turn are a pair: second turns follow answers
    that differ. Raises UserError for a record of no known kind, for a review without its answers, and where
    there is no pair.
    """
    by_kind: dict[str, list[dict]] = {kind: [] for kind in KINDS}
    for file in files:
        for _, where, record in sources.read(file):
            kind = _kind(record, f"{parameter}: {where}")
            by_kind[kind].append(record)
    rows = [_cherry_llm(record) for record in by_kind["cherry_llm"]]
    rows += [_alpaca_eval(record) for record in by_kind["alpaca_eval"]]
    rows += _vicuna_blog(by_kind["review"], by_kind["answer"], by_kind["question"], parameter)
    rows += _mt_bench(by_kind["mt_bench"])
    if not rows:
        raise UserError(f"{parameter}: there is no pair. Name files of recorded verdicts.")
    return records.build(rows)


def _kind(record: object, where: str) -> str:
    keys = record.keys() if isinstance(record, dict) else set()
    kind = next((kind for kind, fields in KINDS.items() if fields.keys() <= keys), None)
    if kind is None:
        raise UserError(
            f"{where} is no recorded verdict. Known are Cherry LLM's reviews, those of the Vicuna blog with "
            "their answers and questions, AlpacaEval's annotations and MT-Bench's judgments."
        )
    for name, wanted in KINDS[kind].items():
        if not isinstance(record[name], wanted):
            value = f"{record[name]!r:.60}"
            raise UserError(f"{where}: `{name}` must be {wanted.__name__}, not {value}. Correct the file.")
    return kind


def file_of(judge: str) -> str:
    """Return the file, or pattern, of a judge that is recorded:FILE; empty for another judge."""
    return judge.removeprefix(paths.RECORDED) if judge.startswith(paths.RECORDED) else ""


def choose(pairs: Dataset, most: int, longest: int) -> Dataset:
    """Draw `most` pairs of at most `longest` characters, question and both responses; 0 for no limit.

    Raises UserError where no pair is so short.
    """
    lengths = [sum(map(len, row.values())) for row in records.iter_rows(pairs, "instruction", *COLUMNS[3:])]
    fitting = [i for i, length in enumerate(lengths) if not longest or length <= longest]
    if not fitting:
        raise UserError(f"longest={longest}: the shortest pair has {min(lengths):,} characters. Raise it.")
    drawn = Random("pairs 0").sample(fitting, min(most or len(fitting), len(fitting)))
    return records.take_rows(pairs, sorted(drawn))


def align(pairs: Dataset, judged: Dataset) -> tuple[Dataset, Dataset]:
    """Take the pairs that both recordings have, in the same order. Raises UserError where they share none."""
    texts = [
        [json.dumps([*row.values()]) for row in records.iter_rows(each, *COLUMNS)] for each in (pairs, judged)
    ]
    position = {text: i for i, text in enumerate(texts[1])}
    both = {i: position[text] for i, text in enumerate(texts[0]) if text in position}
    if not both:
        raise UserError(
            "judge: the recorded judge saw none of these pairs. Name verdicts on the same responses."
        )
    return records.take_rows(pairs, [*both]), records.take_rows(judged, [*both.values()])


def _pair(instruction: str, first: str, second: str, source: str, models: list, verdicts: list[dict]) -> dict:
    """Build a row; corpus_response is a response of usual length, for estimates."""
    row = {"instruction": instruction, "oracle_response": first, "student_response": second}
    row |= {"corpus_response": first, "source": source, "meta": json.dumps({"models": models})}
    return row | {"verdicts": [{"attempt": 1, "finish": "stop"} | verdict for verdict in verdicts]}


def _cherry_llm(record: dict) -> dict:
    row, _ = formats.read(record, "cherry_llm:first")
    pair = _pair(row["instruction"], row["oracle_response"], row["student_response"], "cherry_llm", [], [])
    return pair | {"input": row["input"], "verdicts": row["verdicts"]}


def _alpaca_eval(record: dict) -> dict:
    """Read an annotation; `preference` is 1 for output_1 to 2 for output_2, and becomes 1 + 9 x a share."""
    value = record["preference"]
    second = value - 1 if isinstance(value, int | float) and 1 <= value <= 2 else None
    scores = None if second is None else [10 - 9 * second, 1 + 9 * second]
    verdict = {"order": ORDERS[0], "reply": f"preference: {value}", "expected": scores}
    models = [record.get("generator_1"), record.get("generator_2")]
    outputs = (record["instruction"], record["output_1"], record["output_2"])
    return _pair(*outputs, "alpaca_eval", models, [verdict])


def _vicuna_blog(reviews: list, answers: list, questions: list, parameter: str) -> list[dict]:
    by_id = {answer["answer_id"]: answer for answer in answers}
    question_texts = {question["question_id"]: question["text"] for question in questions}
    rows = []
    for review in reviews:
        names = review["answer1_id"], review["answer2_id"]
        number = review["question_id"]
        if missing := [name for name in names if name not in by_id]:
            raise UserError(f"{parameter}: answer {missing[0]} is in no file. Name the answers' files, too.")
        if number not in question_texts:
            raise UserError(f"{parameter}: question {number} is in no file. Name the questions' file, too.")
        first, second = (by_id[name] for name in names)
        verdict = {"order": ORDERS[0], "reply": review["text"]}
        models = [first.get("model_id"), second.get("model_id")]
        texts = (question_texts[number], first["text"], second["text"])
        rows.append(_pair(*texts, "vicuna_blog", models, [verdict]))
    return rows


def _mt_bench(judgments: list[dict]) -> list[dict]:
    by_question: dict[tuple, list[dict]] = {}
    for judgment in judgments:
        if judgment["turn"] == 1 and JUDGED_ANSWER.search(judgment["user_prompt"]):
            by_question.setdefault(judgment["question_id"], []).append(judgment)
    rows = []
    for same_question in by_question.values():
        for both in combinations(same_question, 2):
            texts = [JUDGED_ANSWER.search(judgment["user_prompt"]) for judgment in both]
            scores = [judgment["score"] for judgment in both]
            read = all(isinstance(score, int | float) and score >= 0 for score in scores)  # -1 is unread
            expected = scores if read else None
            reply = "\n\n".join(str(judgment.get("judgment", "")) for judgment in both)
            verdict = {"order": ORDERS[0], "reply": reply, "expected": expected}
            models = [judgment["model"] for judgment in both]
            rows.append(_pair(texts[0][1], texts[0][2], texts[1][2], "mt_bench", models, [verdict]))
    return rows
