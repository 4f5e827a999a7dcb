"""Find rows that hold a benchmark's prompt, by three measures.

For each benchmark prompt p and each row (its turns, instruction and input, not its response):
- exact: p is the instruction, the input, both together or one of the turns, at any length;
- words: p and the row share 8 words in a row; texts of fewer words are compared as a whole;
- characters: at least 0.8 of p's distinct character 5-grams are found in the row.
Case, width, punctuation and white space do not count. A prompt of several turns is touched when any of them
is.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from math import ceil
from pathlib import Path

import numpy as np
import pandas as pd
from datasets import Dataset

from lib import records
from lib.corpus import sources
from lib.corpus.duplicates import normal, shingles, words_of
from lib.errors import UserError

WORDS, CHARACTERS = 8, 5
# least share of a prompt's parts (texts, word 8-grams, character 5-grams) that a row must have; 0: any part
SHARES = {"exact": 1.0, "words": 0.0, "characters": 0.8}
CAUSES = tuple(SHARES)  # a row counts once, under the first that holds
Prompt = str | Sequence[str]  # one text, or the turns of one question


def prompts(path: str) -> list[Prompt]:
    """Read a benchmark's prompts; raise UserError for a file without them.

    They are AlpacaEval's `instruction`, IFEval's `prompt` and MT-Bench's `turns`.
    """
    listed = []
    for _, where, record in sources.read(path):
        fields = record if isinstance(record, dict) else {}
        prompt = next((fields[name] for name in ("instruction", "prompt", "turns") if name in fields), None)
        turns = prompt if isinstance(prompt, list) else [prompt]
        if not turns or not all(isinstance(turn, str) for turn in turns):
            message = f"{where}: no benchmark prompt, found {prompt!r:.60}."
            raise UserError(f"{message} Name a file with instruction, prompt or turns, of text.")
        listed.append(prompt)
    return listed


def load(paths: Iterable[str]) -> dict[str, list[Prompt]]:
    """Read benchmark files, each named by the last two parts of its path or address."""
    return {"/".join(Path(path.partition("#sha256=")[0]).parts[-2:]): prompts(path) for path in paths}


def find(rows: Dataset, prompts: dict[str, Sequence[Prompt]]) -> pd.DataFrame:
    """List which row touches which prompt of the benchmarks (name: prompts).

    Columns: id of the row, benchmark, prompt (its position) and cause, the first that holds.
    """
    index, overlaps = Index(prompts), []
    for row in records.iter_rows(rows, "id", *records.PROMPT_COLUMNS):
        row_id = row.pop("id")
        overlaps += [(row_id, *location, cause) for location, cause in index.causes(**row).items()]
    table = pd.DataFrame(overlaps, columns=["id", "benchmark", "prompt", "cause"])
    return table.astype({"cause": pd.CategoricalDtype(CAUSES, ordered=True)})


def touched(overlaps: pd.DataFrame, benchmark: str = "") -> list[int]:
    """Return the positions of a benchmark's prompts that any row touches."""
    return sorted(set(overlaps["prompt"][overlaps["benchmark"] == benchmark]))


def count_causes(overlaps: pd.DataFrame) -> dict[str, int]:
    """Count each row once, under the first of its causes."""
    first = overlaps.sort_values("cause").drop_duplicates("id")["cause"]
    return first.value_counts()[list(CAUSES)].to_dict()


def drop(rows: Dataset, prompts: dict[str, Sequence[Prompt]]) -> tuple[Dataset, pd.DataFrame]:
    """Drop the rows that hold a prompt; return the others, and what `find` returns."""
    overlaps = find(rows, prompts)
    return records.drop_ids(rows, overlaps["id"]), overlaps


def describe(overlaps: pd.DataFrame, prompts: dict[str, Sequence[Prompt]]) -> str:
    """Write one line a benchmark.

    "- alpaca_eval: 12 of 805 prompts touched, by 15 rows (3 exact, 10 words, 2 characters)"
    """
    lines = []
    for name in prompts:
        counts = count_causes(overlaps[overlaps["benchmark"] == name])
        causes = ", ".join(f"{rows:,} {cause}" for cause, rows in counts.items())
        share = f"{len(touched(overlaps, name))} of {len(prompts[name]):,} prompts touched"
        lines.append(f"- {name}: {share}, by {sum(counts.values()):,} rows ({causes})")
    return "\n".join(lines)


class Index:
    """Benchmark prompts by their parts; each turn of a prompt is a text of its own."""

    def __init__(self, prompts: dict[str, Sequence[Prompt]]):
        self.locations, parts = [], []
        # by cause: the texts that have a part, and how many parts of a text a row must have
        self.numbers, self.needed = {}, {}
        for name, listed in prompts.items():
            for position, prompt in enumerate(listed):
                for text in [prompt] if isinstance(prompt, str) else prompt:
                    self.locations.append((name, position))
                    parts.append(_parts([text]))
        for cause, share in SHARES.items():
            numbers = defaultdict(list)
            for number, part in enumerate(parts):
                for element in part[cause]:
                    numbers[element].append(number)
            self.numbers[cause] = {element: np.array(listed) for element, listed in numbers.items()}
            self.needed[cause] = np.array([max(1, ceil(share * len(part[cause]) - 1e-9)) for part in parts])

    def causes(self, turns: list[dict], instruction: str, input: str) -> dict[tuple[str, int], str]:
        """Return the first cause of each prompt (benchmark, position) that a row touches."""
        parts = _parts([*(turn["content"] for turn in turns), instruction, input])
        first = {}
        for cause, numbers in self.numbers.items():
            shared = [numbers[element] for element in parts[cause] & numbers.keys()]
            counts = np.bincount(np.concatenate(shared)) if shared else np.array([])
            for number in np.flatnonzero(counts >= self.needed[cause][: len(counts)]):
                first.setdefault(self.locations[number], cause)
        return first


def _parts(texts: list[str]) -> dict[str, set[str]]:
    """Return what a row's texts, or a prompt, can share with another, by cause."""
    texts = [" ".join(words_of(normal(text))) for text in texts]
    whole, both = " ".join(filter(None, texts)), " ".join(filter(None, texts[-2:]))
    characters = {whole[i : i + CHARACTERS] for i in range(len(whole) - CHARACTERS + 1)}
    return {
        "exact": {text for text in (*texts, both) if text},
        "words": shingles(whole, WORDS),
        "characters": characters,
    }
