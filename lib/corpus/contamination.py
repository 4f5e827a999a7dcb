"""Contamination: rows that hold a benchmark's prompt, by three measures.

For each benchmark prompt p and each row (its turns, instruction and input, not its response):
- exact: p is the instruction, the input, both together or one of the turns, at any length;
- words: p, of 8 words or more, and the row share 8 words in a row;
- characters: at least 0.8 of p's distinct character 5-grams are found in the row.
Case, width, punctuation and white space do not count. A prompt of several turns is touched when any of them is.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from math import ceil
from pathlib import Path

from datasets import Dataset

from lib import records
from lib.corpus import sources

CAUSES = ("exact", "words", "characters")  # a row counts once, under the first that holds
WORDS, CHARACTERS, CONTAINED = 8, 5, 0.8
RARE = 4  # rare 5-grams that a row must share with a prompt to be compared with it; the result is the same from 1 on
Prompt = str | Sequence[str]  # one text, or the turns of one question


def prompts(path: str) -> list[Prompt]:
    """A benchmark file's prompts in file order: AlpacaEval's `instruction`, IFEval's `prompt`, MT-Bench's `turns`.

    Raises sources.BadInput for a file that is none of them, or holds no prompt.
    """
    found = [_prompt(record, where) for _, placed in sources.read(path) for where, record in placed]
    if not found:
        raise sources.BadInput(f"{path} holds no prompt to look for")
    return found


def _prompt(record: object, where: str) -> Prompt:
    record = record if isinstance(record, dict) else {}
    told = next((record[key] for key in ("instruction", "prompt", "turns") if key in record), None)
    turns = told if isinstance(told, list) else [told]
    if not turns or not all(isinstance(turn, str) for turn in turns):
        raise sources.BadInput(
            f"{where}: no benchmark prompt: expected instruction, prompt or turns, of text; found {told!r:.60}"
        )
    return told


def load(paths: Iterable[str]) -> dict[str, list[Prompt]]:
    """The prompts of benchmark files, each by the last two parts of its path."""
    return {"/".join(Path(path).parts[-2:]): prompts(path) for path in paths}


def find(rows: Dataset, prompts: dict[str, Sequence[Prompt]]) -> dict:
    """What the rows share with each benchmark (its name: its prompts).

    {"rows": n, "hit": n, "causes": {cause: rows}, "examples": [{"id", "benchmark", "prompt", "cause"}],
     "benchmarks": {name: {"prompts": n, "touched": [positions], "hit": rows, "causes": {cause: rows}}}}
    A row counts once, by its first cause: over all benchmarks in "causes", and again within each benchmark.
    `examples` has one entry a row and benchmark; `touched` every prompt that any row touches by any cause.
    """
    index = build_index(prompts)
    touched, examples = set(), []
    for row in records.walk(rows, "id", *records.SAID):
        row_id, first = row.pop("id"), {}
        for cause, places in zip(CAUSES, hits(index, **row), strict=True):
            touched |= places
            for name, prompt in sorted(places):
                first.setdefault(name, {"id": row_id, "benchmark": name, "prompt": prompt, "cause": cause})
        examples += first.values()
    names = {
        name: {
            "prompts": len(prompts[name]),
            "touched": sorted(prompt for where, prompt in touched if where == name),
            **count(one for one in examples if one["benchmark"] == name),
        }
        for name in prompts
    }
    return {"rows": len(rows), **count(examples), "benchmarks": names, "examples": examples}


def drop(rows: Dataset, prompts: dict[str, Sequence[Prompt]]) -> tuple[Dataset, dict]:
    """The rows that hold no prompt, and find's report."""
    report = find(rows, prompts)
    return records.without(rows, (one["id"] for one in report["examples"])), report


def describe(report: dict) -> str:
    """One line a benchmark: "- alpaca_eval: 12 of 805 prompts touched, by 15 rows (3 exact, 10 words, 2 characters)"."""
    return "\n".join(
        f"- {name}: {len(one['touched'])} of {one['prompts']:,} prompts touched, by {one['hit']:,} rows "
        f"({', '.join(f'{rows:,} {cause}' for cause, rows in one['causes'].items())})"
        for name, one in report["benchmarks"].items()
    )


def count(examples: Iterable[dict]) -> dict:
    """{"hit": rows, "causes": {cause: rows}}, each row once."""
    first: dict[str, str] = {}
    for one in examples:
        first[one["id"]] = min(first.get(one["id"], one["cause"]), one["cause"], key=CAUSES.index)
    return {"hit": len(first), "causes": {cause: list(first.values()).count(cause) for cause in CAUSES}}


# Looking up: a place is (benchmark, position of the prompt)


@dataclass(frozen=True)
class Index:
    exact: dict[str, set]  # whole text -> places
    words: dict[str, set]  # word 8-gram -> places
    rare: dict[str, list]  # rare character 5-gram -> numbers of the texts that have it
    texts: list["Text"]


@dataclass(frozen=True)
class Text:
    place: tuple[str, int]
    grams: set[str]  # its character 5-grams
    needed: int  # how many of them make it contained
    needed_rare: int  # and at least how many of its rare ones


def build_index(prompts: dict[str, Sequence[Prompt]]) -> Index:
    found = [
        ((name, i), normal(text))
        for name, all in prompts.items()
        for i, prompt in enumerate(all)
        for text in ([prompt] if isinstance(prompt, str) else prompt)
    ]
    index = Index(defaultdict(set), defaultdict(set), defaultdict(list), [])
    sets = [characters(text) for _, text in found]
    often = Counter(gram for grams in sets for gram in grams)
    for number, ((place, text), grams) in enumerate(zip(found, sets, strict=True)):
        index.exact[text].add(place)
        for gram in word_grams(text):
            index.words[gram].add(place)
        least = needed(grams)
        rare = sorted(grams, key=lambda gram: (often[gram], gram))[: len(grams) - least + min(RARE, least)]
        for gram in rare:  # with fewer than min(RARE, least) of these, too few are left
            index.rare[gram].append(number)
        index.texts.append(Text(place, grams, least, min(RARE, least)))
    return index


def hits(index: Index, turns: list[dict], instruction: str, input: str) -> tuple[set, set, set]:
    """The places that a row touches, by cause."""
    parts = [normal(part) for part in (*(turn["content"] for turn in turns), instruction, input)]
    whole, both = " ".join(filter(None, parts)), " ".join(filter(None, parts[-2:]))
    exact = {place for part in (*parts, both) if part for place in index.exact.get(part, ())}
    words = {place for gram in word_grams(whole) for place in index.words.get(gram, ())}
    own = characters(whole)
    rare = Counter(chain.from_iterable(index.rare[gram] for gram in own & index.rare.keys()))
    near = (index.texts[number] for number, n in rare.items() if n >= index.texts[number].needed_rare)
    return exact, words, {text.place for text in near if len(text.grams & own) >= text.needed}


def needed(grams: Collection[str]) -> int:
    """How many of a prompt's character 5-grams make it contained."""
    return ceil(CONTAINED * len(grams) - 1e-9)


def normal(text: str) -> str:
    """The words alone, in lower case, one space between; of a text without words, its signs."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(re.findall(r"\w+", folded) or folded.split())


def word_grams(text: str) -> set[str]:
    words = text.split(" ")
    return {" ".join(words[i : i + WORDS]) for i in range(len(words) - WORDS + 1)}


def characters(text: str) -> set[str]:
    return {text[i : i + CHARACTERS] for i in range(len(text) - CHARACTERS + 1)}
