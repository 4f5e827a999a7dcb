"""Read pairs of responses with recorded verdicts: Cherry LLM's, the Vicuna blog's, AlpacaEval's, MT-Bench's.

A pair is a row: oracle_response is the first response, student_response the second, and `verdicts` are the
recorded ones, in one order or both. `source` is the kind of the record, and `meta` has `models`, who wrote
both responses, where that is known.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable
from itertools import combinations
from random import Random

from datasets import Dataset

from lib import paths, records
from lib.corpus import formats, sources
from lib.corpus.fields import BadRow
from lib.errors import UserError, named
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
RESPONSES = ("oracle_response", "student_response")
COLUMNS = (*records.PROMPT_COLUMNS, *RESPONSES)  # that tell pairs apart
JUDGED_ANSWER = re.compile(  # in the prompt of MT-Bench's judge about a first turn
    r"\[Question\]\n(.*?)\n\n(?:\[The Start of Reference Answer\].*?\[The End of Reference Answer\]\n\n)?"
    r"\[The Start of Assistant's Answer\]\n(.*)\n\[The End of Assistant's Answer\]",
    re.DOTALL,
)


def load(files: Iterable[str], parameter: str = "pairs") -> tuple[Dataset, int]:
    """Read pairs from files, URLs, folders or patterns, and count those that repeat an earlier one.

    `parameter` names the files in errors. Of MT-Bench's judgments, each two models' answers to a first turn
    are a pair: second turns follow answers that differ. Raises UserError for a record of no known kind, for a
    review without its answers, for verdicts of several judges, and where there is no pair.
    """
    by_kind: dict[str, list[dict]] = {kind: [] for kind in KINDS}
    for file in files:
        for _, where, record in sources.read(file):
            where = f"{parameter}: {where}"
            kind = _kind(record, where)
            by_kind[kind].append(_cherry_llm(record, where) if kind == "cherry_llm" else record)
    judges = {record.get("annotator") for record in by_kind["alpaca_eval"]}
    judges |= {_judge(record) for record in by_kind["mt_bench"]}
    judges -= {None}
    if len(judges) > 1:
        raise UserError(f"{parameter}: these are verdicts of {named(judges)}. Name files of one judge.")
    rows = [*by_kind["cherry_llm"], *map(_alpaca_eval, by_kind["alpaca_eval"])]
    rows += _vicuna_blog(by_kind["review"], by_kind["answer"], by_kind["question"], parameter)
    rows += _mt_bench(by_kind["mt_bench"])
    if not rows:
        more = " MT-Bench's judgments need those of two models." if by_kind["mt_bench"] else ""
        raise UserError(f"{parameter}: there is no pair. Name files of recorded verdicts.{more}")
    pairs = records.build(rows)
    return pairs, sum(number > 0 for _, number in _texts(pairs))


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


def _judge(judgment: dict) -> str | None:
    """Return MT-Bench's judge; FastChat writes its name and that of its prompt."""
    judge = judgment.get("judge")
    return str(judge[0]) if isinstance(judge, list) and judge else judge


def _texts(pairs: Dataset) -> list[tuple[str, int]]:
    """Return each pair's texts, and how many earlier pairs have the same."""
    seen: Counter[str] = Counter()
    numbered = []
    for row in records.iter_rows(pairs, *COLUMNS):
        numbered.append((str(row), seen[str(row)]))
        seen[str(row)] += 1
    return numbered


def name_of(judge: str) -> str:
    """Return the name of a judge to show: of a recorded one that of its file."""
    file = paths.recorded_file(judge)
    return f"recorded {file.partition('#')[0].rpartition('/')[2]}" if file else judge


def draw(pairs: Dataset, count: int, max_characters: int) -> list[int]:
    """Draw the positions of `count` pairs, question and both responses of at most so many characters.

    0 for no limit. Raises UserError where no pair is so short.
    """
    columns = ("instruction", "input", *RESPONSES)
    lengths = [sum(map(len, row.values())) for row in records.iter_rows(pairs, *columns)]
    fitting = [i for i, length in enumerate(lengths) if not max_characters or length <= max_characters]
    if not fitting:
        raise UserError(
            f"longest={max_characters}: the shortest pair has {min(lengths):,} characters. Raise it."
        )
    return sorted(Random("pairs 0").sample(fitting, min(count or len(fitting), len(fitting))))


def align(pairs: Dataset, judged: Dataset) -> tuple[Dataset, Dataset]:
    """Take the pairs that both recordings have, in the same order. Raises UserError where they share none."""
    position = {text: i for i, text in enumerate(_texts(judged))}
    shared = {i: position[text] for i, text in enumerate(_texts(pairs)) if text in position}
    if not shared:
        raise UserError("judge: none of these pairs are in its recording. Name verdicts on the same pairs.")
    return records.take_rows(pairs, [*shared]), records.take_rows(judged, [*shared.values()])


def _pair(instruction: str, first: str, second: str, source: str, models: list, verdicts: list) -> dict:
    """Build a row; corpus_response is a response of usual length, for estimates."""
    row = {"instruction": instruction, "oracle_response": first, "student_response": second}
    row |= {"corpus_response": first, "source": source, "meta": json.dumps({"models": models})}
    return row | {"verdicts": verdicts}


def _verdict(reply: str, scores: list | None = None) -> list[dict]:
    """Return the one verdict of a pair; `scores` are those of a reply that is not read, [] for none."""
    return [{"order": ORDERS[0], "attempt": 1, "reply": reply, "finish": "stop", "expected": scores}]


def _cherry_llm(record: dict, where: str) -> dict:
    try:
        row, _ = formats.read(record, "cherry_llm:first")
    except BadRow as error:
        raise UserError(f"{where}: {error}. Correct or remove the record.") from None
    texts = (row[name] for name in ("instruction", *RESPONSES))
    return _pair(*texts, "cherry_llm", [], row["verdicts"]) | {"input": row["input"]}


def _alpaca_eval(record: dict) -> dict:
    """Read an annotation; `preference` is 1 for output_1 to 2 for output_2, and becomes 1 + 9 x a share."""
    value = record["preference"]
    second = value - 1 if isinstance(value, int | float) and 1 <= value <= 2 else None
    scores = [] if second is None else [10 - 9 * second, 1 + 9 * second]
    models = [record.get(name) or "unnamed" for name in ("generator_1", "generator_2")]
    outputs = (record["instruction"], record["output_1"], record["output_2"])
    return _pair(*outputs, "alpaca_eval", models, _verdict(f"preference: {value}", scores))


def _vicuna_blog(reviews: list, answers: list, questions: list, parameter: str) -> list[dict]:
    by_id = {answer["answer_id"]: answer for answer in answers}
    question_texts = {question["question_id"]: question["text"] for question in questions}
    rows = []
    for review in reviews:
        names, number = (review["answer1_id"], review["answer2_id"]), review["question_id"]
        missing = [f"answer {name}" for name in names if name not in by_id]
        missing += [] if number in question_texts else [f"question {number}"]
        if missing:
            raise UserError(
                f"{parameter}: {missing[0]} is in no file. A review needs the files of its answers and "
                "questions: name all of them, or their folder."
            )
        first, second = (by_id[name] for name in names)
        models = [first.get("model_id"), second.get("model_id")]
        texts = (question_texts[number], first["text"], second["text"])
        rows.append(_pair(*texts, "vicuna_blog", models, _verdict(review["text"])))
    return rows


def _mt_bench(judgments: list[dict]) -> list[dict]:
    by_question: dict[object, list[tuple[dict, re.Match]]] = {}
    for judgment in judgments:
        if judgment["turn"] == 1 and (texts := JUDGED_ANSWER.search(judgment["user_prompt"])):
            by_question.setdefault(judgment["question_id"], []).append((judgment, texts))
    rows = []
    for same_question in by_question.values():
        for (a, texts), (b, texts_b) in combinations(same_question, 2):
            if a["model"] == b["model"]:
                continue
            scores = [a["score"], b["score"]]
            read = all(isinstance(score, int | float) and score >= 0 for score in scores)  # -1 is unread
            reply = "\n\n".join(str(judgment.get("judgment", "")) for judgment in (a, b))
            verdict, models = _verdict(reply, scores if read else []), [a["model"], b["model"]]
            rows.append(_pair(texts[1], texts[2], texts_b[2], "mt_bench", models, verdict))
    return rows
