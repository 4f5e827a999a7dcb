"""Score responses by IFEval, with the checkers of lm-evaluation-harness.

Zhou et al., 2023, arXiv 2311.07911. Sentences are split by the package `punkt`, which brings the data that
NLTK would download.
"""

import os
import random
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pandas as pd

from lib.errors import UserError
from lib.evaluation import shared, statistics

COLUMNS = ["key", "prompt", "response", "number", "instruction", "strict", "loose"]  # of checked.parquet


def prompts(source: str) -> list[dict]:
    """Load the prompts: {"key", "prompt", "instruction_id_list", "kwargs"}."""
    fields = {"key": int, "prompt": str, "instruction_id_list": list, "kwargs": list}
    return shared.load_records(source, "prompts", "key", **fields)


def responses(source: str, prompts: list[dict]) -> dict[str, str]:
    """Load a model's responses by prompt; raises UserError for an unknown prompt."""
    rows = shared.load_records(source, "responses", "prompt", prompt=str, response=str)
    responses = {row["prompt"]: row["response"] for row in rows}
    shared.check_known(responses, (row["prompt"] for row in prompts), f"responses={source}")
    return responses


def check(prompts: list[dict], responses: dict[str, str]) -> pd.DataFrame:
    """Check responses: a row of COLUMNS per instruction of each prompt.

    `strict` and `loose` are 1 or 0, null without a response. Loose also accepts the response without its
    first line, its last, or asterisks. Raises UserError for instructions or kwargs that no checker takes.
    """
    rows = []
    for row in prompts:
        response, names = responses.get(row["prompt"]), row["instruction_id_list"]
        marks = [(None, None)] * len(names) if response is None else _marks(row, response)
        for number, (name, both) in enumerate(zip(names, marks, strict=True)):
            rows.append((row["key"], row["prompt"], response, number, name, *both))
    return pd.DataFrame(rows, columns=COLUMNS).astype({"strict": float, "loose": float})


def _marks(row: dict, response: str) -> list[tuple[bool, bool]]:
    """Mark each instruction of a prompt: strictly, loosely."""
    package = _checkers()
    prompt = package.InputExample(row["key"], row["instruction_id_list"], row["prompt"], row["kwargs"])
    random.seed(row["key"])  # a checker draws what a prompt does not say
    try:
        strict = package.test_instruction_following_strict(prompt, response)
        loose = package.test_instruction_following_loose(prompt, response)
    except Exception as error:
        problem = f"the checkers fail at prompt {row['key']} ({error!r})"
        raise UserError(f"prompts: {problem}. Correct the file.") from None
    return list(zip(strict.follow_instruction_list, loose.follow_instruction_list, strict=True))


@cache
def _checkers():
    """Import the package's checkers, which split texts without downloaded data."""
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
        """Count the sign that a prompt names: for "#" or "!" the package draws a letter."""

        def build_description(self, *, letter=None, **rest):
            text = super().build_description(letter=letter, **rest)
            self._letter = letter.strip().lower() if letter else self._letter
            return text

    utils.instructions_registry.INSTRUCTION_DICT["keywords:letter_frequency"] = Letters
    return utils


def counts(table: pd.DataFrame) -> dict[str, int]:
    """Count prompts checked (n) and without a response (no_response)."""
    answered = table.drop_duplicates("key")["response"].notna()
    return {"n": int(answered.sum()), "no_response": int((~answered).sum())}


def scores(table: pd.DataFrame) -> pd.DataFrame:
    """Compute all ifeval metrics, in the long form of `statistics`.

    A prompt is followed when all of its instructions are; the instructions of a prompt are one group.
    """
    key, parts = table["key"].astype(str), []
    for rule in ("strict", "loose"):
        marks = pd.DataFrame(
            {"id": key + "." + table["number"].astype(str), "group": key, "score": table[rule]}
        )
        prompts = marks.groupby("group", as_index=False)["score"].min()
        parts += [prompts.assign(id=prompts["group"], metric=f"ifeval.prompt_{rule}")]
        parts += [marks.assign(metric=f"ifeval.instruction_{rule}")]
    return pd.concat(parts, ignore_index=True).assign(stratum="all", weight=1.0)


def followed(table: pd.DataFrame) -> dict[str, tuple[float, float, float]]:
    """Compute (share, low, high) of each kind of instruction that was followed strictly."""
    kinds = table["instruction"].str.partition(":")[2].str.replace("_", " ")
    long = scores(table)
    strict = long[long["metric"] == "ifeval.instruction_strict"]
    by_kind = strict.assign(metric=kinds.to_numpy()).dropna(subset=["score"])
    return {kind: tuple(values) for kind, values in statistics.intervals(by_kind).T.items()}


def explained(prompt: dict, response: str) -> dict[str, str]:
    """Show a prompt's instructions as the checkers read them, and which of them the response follows."""
    marks = check([prompt], {prompt["prompt"]: response})["strict"]
    names = zip(prompt["instruction_id_list"], prompt["kwargs"], marks, strict=True)
    lines = [
        f"{name} { ({key: value for key, value in settings.items() if value is not None}) }: "
        f"{'followed' if mark else 'not followed'}"
        for name, settings, mark in names
    ]
    return {"instructions": "\n".join(lines)}


def write(table: pd.DataFrame, responses: dict[str, str], folder: Path) -> None:
    """Write responses.jsonl, which can be given back, and checked.parquet."""
    rows = [{"prompt": prompt, "response": response} for prompt, response in responses.items()]
    shared.write_lines(folder / "responses.jsonl", rows)
    table.to_parquet(folder / "checked.parquet")
