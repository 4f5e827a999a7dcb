"""IFEval: instructions that a program can check, with lm-evaluation-harness's checkers.

Zhou et al., 2023, arXiv 2311.07911. Sentences are split by the package `punkt`, which brings the data that NLTK would download.
"""

import json
import os
import random
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pandas as pd

from lib.errors import UserError
from lib.evaluation import recordings, shared
from lib.models.batches import Ended


def prompts(source: str) -> list[dict]:
    """The prompts: {"key", "prompt", "instruction_id_list", "kwargs"}. Raises UserError for one with an instruction that no checker knows, or
    with none, or that stands there twice."""
    kinds = {"key": int, "prompt": str, "instruction_id_list": list, "kwargs": list}
    found = recordings.listed(source, "prompts", "key", **kinds)
    known = _checkers().instructions_registry.INSTRUCTION_DICT
    for row in found:
        where, names = f"prompts: {source}: prompt {row['key']}", row["instruction_id_list"]
        if unknown := [name for name in names if not isinstance(name, str) or name not in known]:
            raise UserError(f"{where} has the instruction {unknown[0]!r:.60}, which no checker knows")
        if (
            not names
            or len(row["kwargs"]) != len(names)
            or not all(isinstance(of, dict) for of in row["kwargs"])
        ):
            raise UserError(f"{where} needs one instruction or more, and for each an object in kwargs")
    return found


def responses(source: str, asked: list[dict]) -> dict[str, str]:
    """A model's responses by prompt. Raises UserError for one to no prompt, and for a prompt that is answered twice."""
    found = recordings.listed(source, "responses", "prompt", prompt=str, response=str)
    said = {row["prompt"]: row["response"] for row in found}
    recordings.check_asked(said, (row["prompt"] for row in asked), f"responses: {source}", "prompts")
    return said


def respond(asked: list[dict], student, **how) -> tuple[dict[str, str], Ended]:
    """A student's responses by prompt, and how they ended; `how` goes to `student.answer`."""
    texts, ended = shared.responses([row["prompt"] for row in asked], student, **how)
    return {row["prompt"]: text for row, text in zip(asked, texts, strict=True)}, ended


def check(asked: list[dict], answered: dict[str, str]) -> pd.DataFrame:
    """Check responses: a row per instruction with key, prompt, response, number, instruction, strict, loose.

    `strict` and `loose` are 1 or 0, null without a response. Loose also accepts the response without its
    first line, its last, or asterisks. Raises UserError for kwargs with which a checker fails.
    """
    rows = []
    for row in asked:
        response = answered.get(row["prompt"])
        common = {"key": row["key"], "prompt": row["prompt"], "response": response}
        rows += [common | {"number": n} | marks for n, marks in enumerate(_marks(row, response))]
    return pd.DataFrame(rows).astype({"strict": float, "loose": float})


def _marks(row: dict, response: str | None) -> list[dict]:
    """Each instruction of a prompt with its marks, strict and loose."""
    names = row["instruction_id_list"]
    if response is None:
        return [{"instruction": name, "strict": None, "loose": None} for name in names]
    package = _checkers()
    prompt = package.InputExample(row["key"], names, row["prompt"], row["kwargs"])
    random.seed(row["key"])  # a checker draws what a prompt does not say
    try:
        strict = package.test_instruction_following_strict(prompt, response).follow_instruction_list
        loose = package.test_instruction_following_loose(prompt, response).follow_instruction_list
    except Exception as error:
        raise UserError(f"prompt {row['key']} has kwargs with which its checkers fail: {error}") from None
    marks = zip(names, strict, loose, strict=True)
    return [{"instruction": name, "strict": s, "loose": lo} for name, s, lo in marks]


@cache
def _checkers():
    """The package's checkers, which split texts without downloaded data."""
    import langdetect
    import nltk
    import punkt

    os.environ["LOCAL_RANK"] = "1"  # on import, the process of rank 0 downloads the data of NLTK's splitter
    from lm_eval.tasks.ifeval import instructions, instructions_util, utils

    del os.environ["LOCAL_RANK"]

    def words(text: str) -> list[str]:
        split = nltk.tokenize.NLTKWordTokenizer().tokenize
        return [word for sentence in punkt.sent_tokenize(text) for word in split(sentence)]

    instructions_util.count_sentences = lambda text: len(punkt.sent_tokenize(text))
    instructions_util.nltk = SimpleNamespace(tokenize=nltk.tokenize, word_tokenize=words)
    langdetect.DetectorFactory.seed = 0  # else the same text may be of two languages

    class Letters(instructions.LetterFrequencyChecker):
        """Counts the sign that the prompt names: in place of "#" or "!" the package draws a letter."""

        def build_description(self, *, letter=None, **rest):
            text = super().build_description(letter=letter, **rest)
            self._letter = letter.strip().lower() if letter else self._letter
            return text

    utils.instructions_registry.INSTRUCTION_DICT["keywords:letter_frequency"] = Letters
    return utils


def counts(table: pd.DataFrame) -> dict[str, int]:
    """Prompts checked (n) and without a response (no_response)."""
    answered = table.drop_duplicates("key")["response"].notna()
    return {"n": int(answered.sum()), "no_response": int((~answered).sum())}


def scores(table: pd.DataFrame) -> pd.DataFrame:
    """Shares in the long form that lib.evaluation.statistics reads: ifeval.prompt_strict, .prompt_loose, .instruction_strict, .instruction_loose.

    A prompt is followed when all of its instructions are; the instructions of a prompt belong together.
    """
    key = table["key"].astype(str)
    each = pd.DataFrame({"id": key + "." + table["number"].astype(str), "group": key})
    parts = []
    for how in ("strict", "loose"):
        whole = table.groupby(key)[how].agg(lambda marks: marks.min(skipna=False))
        prompt = pd.DataFrame({"id": whole.index, "group": whole.index, "score": whole.to_numpy()})
        parts += [prompt.assign(metric=f"ifeval.prompt_{how}")]
        parts += [each.assign(score=table[how], metric=f"ifeval.instruction_{how}")]
    return pd.concat(parts, ignore_index=True).assign(stratum="all", weight=1.0)


def by_instruction(table: pd.DataFrame) -> pd.DataFrame:
    """The strict scores of the instructions in long form, a metric a kind of instruction."""
    kinds = table["instruction"].str.partition(":")[2].str.replace("_", " ")
    every = scores(table)
    every = every[every["metric"] == "ifeval.instruction_strict"]  # in the order of the table
    return every.assign(metric=kinds.to_numpy()).dropna(subset=["score"])


def write(table: pd.DataFrame, answered: dict[str, str], folder: Path) -> None:
    """responses.jsonl, which can be given back as recorded ones, and checked.parquet, a line an instruction."""
    lines = (
        json.dumps({"prompt": prompt, "response": said}, ensure_ascii=False) + "\n"
        for prompt, said in answered.items()
    )
    (folder / "responses.jsonl").write_text("".join(lines), encoding="utf-8")
    table.to_parquet(folder / "checked.parquet")
