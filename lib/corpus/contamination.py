"""Find rows that hold a benchmark's prompt, by three measures.

For each benchmark prompt p and each row (its turns, instruction and input, not its response):
- exact: p is the instruction, the input, both together or one of the turns, at any length;
- words: p, of 8 words or more, and the row share 8 words in a row;
- characters: at least 0.8 of p's distinct character 5-grams are found in the row.
Case, width, punctuation and white space do not count. A prompt of several turns is touched when any of them
is.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from math import ceil
from pathlib import Path

import pandas as pd
from datasets import Dataset

from lib import records
from lib.corpus import sources

CAUSES = ("exact", "words", "characters")  # a row counts once, under the first that holds
WORDS, CHARACTERS, CONTAINED = 8, 5, 0.8
RARE = 4  # rare 5-grams that a row must share with a prompt to be compared; 1 gives the same result
Prompt = str | Sequence[str]  # one text, or the turns of one question
Location = tuple[str, int]  # benchmark, and position of the prompt


def prompts(path: str) -> list[Prompt]:
    """Read a benchmark's prompts: AlpacaEval's `instruction`, IFEval's `prompt`, MT-Bench's `turns`.

    Raises sources.BadInput for a file that is none of them, or holds no prompt.
    """
    listed = [_prompt(record, where) for _, located in sources.read(path) for where, record in located]
    if not listed:
        raise sources.BadInput(f"{path} holds no prompt to look for. Name another file.")
    return listed


def _prompt(record: object, where: str) -> Prompt:
    record = record if isinstance(record, dict) else {}
    prompt = next((record[key] for key in ("instruction", "prompt", "turns") if key in record), None)
    turns = prompt if isinstance(prompt, list) else [prompt]
    if not turns or not all(isinstance(turn, str) for turn in turns):
        message = f"{where}: no benchmark prompt, found {prompt!r:.60}."
        raise sources.BadInput(f"{message} Name a file with instruction, prompt or turns, of text.")
    return prompt


def load(paths: Iterable[str]) -> dict[str, list[Prompt]]:
    """Read the prompts of benchmark files, each named by the last two parts of its path."""
    return {"/".join(Path(path).parts[-2:]): prompts(path) for path in paths}


def find(rows: Dataset, prompts: dict[str, Sequence[Prompt]]) -> pd.DataFrame:
    """List which row touches which prompt of the benchmarks (their names: their prompts).

    Columns: id of the row, benchmark, prompt (its position) and cause, the first that holds.
    """
    index, overlaps = build_index(prompts), []
    for row in records.iter_rows(rows, "id", *records.PROMPT_COLUMNS):
        row_id, seen = row.pop("id"), set()
        for cause, locations in zip(CAUSES, hits(index, **row), strict=True):
            overlaps += [(row_id, *location, cause) for location in sorted(locations - seen)]
            seen |= locations
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


@dataclass(frozen=True, eq=False)  # hashed by identity: `hits` counts texts
class Text:
    location: Location
    grams: set[str]  # its character 5-grams
    needed: int  # how many of them a row must have
    needed_rare: int  # and at least how many of its rare ones


@dataclass(frozen=True)
class Index:
    exact: dict[str, set[Location]] = field(default_factory=lambda: defaultdict(set))  # by whole text
    words: dict[str, set[Location]] = field(default_factory=lambda: defaultdict(set))  # by word 8-gram
    rare: dict[str, list[Text]] = field(default_factory=lambda: defaultdict(list))  # by rare character 5-gram


def build_index(prompts: dict[str, Sequence[Prompt]]) -> Index:
    texts = [
        ((name, i), normal(text))
        for name, listed in prompts.items()
        for i, prompt in enumerate(listed)
        for text in ([prompt] if isinstance(prompt, str) else prompt)
    ]
    frequency = Counter(chain.from_iterable(characters(text) for _, text in texts))
    index = Index()
    for location, text in texts:
        index.exact[text].add(location)
        for gram in _word_grams(text):
            index.words[gram].add(location)
        grams = characters(text)
        needed = ceil(CONTAINED * len(grams) - 1e-9)
        entry = Text(location, grams, needed, min(RARE, needed))
        # a row with `needed` of all grams has `needed_rare` of these: it lacks len(grams) - needed at most
        rare = sorted(grams, key=lambda gram: (frequency[gram], gram))
        for gram in rare[: len(grams) - needed + entry.needed_rare]:
            index.rare[gram].append(entry)
    return index


def hits(index: Index, turns: list[dict], instruction: str, input: str) -> tuple[set, set, set]:
    """Return the locations that a row touches, by cause."""
    parts = [normal(part) for part in (*(turn["content"] for turn in turns), instruction, input)]
    whole, both = " ".join(filter(None, parts)), " ".join(filter(None, parts[-2:]))
    exact = {location for part in (*parts, both) if part for location in index.exact.get(part, ())}
    words = {location for gram in _word_grams(whole) for location in index.words.get(gram, ())}
    grams = characters(whole)
    shared = Counter(chain.from_iterable(index.rare[gram] for gram in grams & index.rare.keys()))
    near = (text for text, n in shared.items() if n >= text.needed_rare)
    return exact, words, {text.location for text in near if len(text.grams & grams) >= text.needed}


def normal(text: str) -> str:
    """Return the words in lower case, one space between; of a text without words, its signs."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(re.findall(r"\w+", folded) or folded.split())


def _word_grams(text: str) -> set[str]:
    words = text.split(" ")
    return {" ".join(words[i : i + WORDS]) for i in range(len(words) - WORDS + 1)}


def characters(text: str) -> set[str]:
    """Return the character 5-grams of a text."""
    return {text[i : i + CHARACTERS] for i in range(len(text) - CHARACTERS + 1)}
