"""IFEval: instructions that a program can check (Zhou et al., 2023, arXiv 2311.07911), with lm-evaluation-harness's checkers.

What they cannot check here, for want of NLTK's `punkt_tab`, is counted as not checked, and never as passed.
"""

import contextlib
import io
import json
import random
from functools import cache, partial
from pathlib import Path
from unittest import mock

import pandas as pd

from lib.batches import Ended
from lib.errors import UserError
from lib.evaluation import recordings, shared


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
    """A line an instruction: key, prompt, response, number, instruction, outcome ("checked", "not checked", "no response"), and
    whether it was followed, `strict` and `loose`: 1 or 0, null where the prompt's outcome is not "checked".

    Loose also accepts the response without its first line, its last, or asterisks.
    """
    lines = []
    for row in asked:
        outcome, strict, loose = _checked(row, answered.get(row["prompt"]))
        told = {
            "key": row["key"],
            "prompt": row["prompt"],
            "response": answered.get(row["prompt"]),
            "outcome": outcome,
        }
        each = zip(row["instruction_id_list"], strict, loose, strict=True)
        lines += [
            told | {"number": n, "instruction": of, "strict": s, "loose": lo}
            for n, (of, s, lo) in enumerate(each)
        ]
    table = pd.DataFrame(lines)
    return table.astype({"strict": float, "loose": float})


def _checked(row: dict, response: str | None) -> tuple[str, list, list]:
    """Of a prompt of which one instruction can't be checked none counts, or those left would be of another difficulty."""
    nothing = [None] * len(row["instruction_id_list"])
    if response is None:
        return "no response", nothing, nothing
    package = _checkers()
    given = package.InputExample(row["key"], row["instruction_id_list"], row["prompt"], row["kwargs"])
    random.seed(row["key"])  # a checker draws what a prompt does not say
    try:
        strict = package.test_instruction_following_strict(given, response)
        loose = package.test_instruction_following_loose(given, response)
    except Exception as error:
        if type(error) is LookupError:  # NLTK's word for data that it does not have
            return "not checked", nothing, nothing
        raise UserError(f"prompt {row['key']} has kwargs with which its checkers fail: {error}") from None
    return "checked", strict.follow_instruction_list, loose.follow_instruction_list


@cache
def _checkers():
    """The package's checkers. Its import looks for `punkt_tab`, and tries to fetch it."""
    import langdetect
    import nltk

    silent = partial(nltk.download, quiet=True, print_error_to=io.StringIO())
    with mock.patch.object(nltk, "download", silent), contextlib.redirect_stdout(io.StringIO()):
        from lm_eval.tasks.ifeval import instructions, utils

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
    """Prompts by outcome: n checked, not_checked and no_response."""
    outcomes = table.drop_duplicates("key")["outcome"].value_counts()
    names = {"n": "checked", "not_checked": "not checked", "no_response": "no response"}
    return {name: int(outcomes.get(outcome, 0)) for name, outcome in names.items()}


def scores(table: pd.DataFrame) -> pd.DataFrame:
    """Shares in the long form that lib.benchmarks reads: ifeval.prompt_strict, .prompt_loose, .instruction_strict, .instruction_loose.

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
