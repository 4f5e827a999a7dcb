"""What 200,000 rows cost on their way from a file to the selected ones, in seconds and memory: `make bench`."""

import json
import tempfile
import time
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from bench_oracle import peak
from reasoning_gym.data import read_data_file

from lib import (
    classifier,
    contamination,
    corpus,
    curriculum,
    duplicates,
    judge,
    paths,
    records,
    selection,
    tasks,
)

ROWS, LABELLED, SELECTED = 200_000, 5_000, 20_000
MOST_S, MOST_GB = 300, 4.0  # from the file to the selected rows, on two cores
REPEATS, NEAR = 0.02, 0.02  # shares of rows that repeat an earlier one, and that add a word to it
HOLDING = 0.001  # share of rows that hold a prompt
TAXONOMY = tasks.load_taxonomy("params/tasks/tapir.yaml")
VOCABULARY, TOPIC = 15_000, 400  # words; those that belong to a task


class Words:
    """Texts of real words, as uneven as a language's: the r-th of them has a weight of 1 / r, and short ones come first."""

    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)
        all = self.rng.permutation(read_data_file("words3to10.txt").split())[:VOCABULARY]
        self.all = all[np.argsort([len(word) + 4 * self.rng.random() for word in all])]
        self.upto = np.cumsum(1 / np.arange(1, len(self.all) + 1))

    def text(self, shortest: int, longest: int, topic: int = 0) -> str:
        """So many words, a fifth of them of one of the topics."""
        n = self.rng.integers(shortest, longest)
        found = np.searchsorted(self.upto, self.rng.random(n) * self.upto[-1])
        own = self.rng.random(n) < 0.2
        found[own] = self.rng.integers(1000 + TOPIC * topic, 1000 + TOPIC * (topic + 1), own.sum())
        return " ".join(self.all[found])


def alpaca_eval(words: Words) -> list[str]:
    """The prompts of AlpacaEval, or as many texts of their length where the recorded data are absent."""
    path = paths.recorded_data() / "alpaca_eval/gpt4_1106_preview/model_outputs.json.gz"
    return contamination.prompts(str(path)) if path.exists() else [words.text(8, 40) for _ in range(805)]


def records_of(n: int, words: Words, prompts: list[str]) -> Iterator[dict]:
    """Records as long as Alpaca's: 80 characters of instruction and input, 300 of output; `kind` is the true task."""
    first = {"instruction": "Begin.", "input": "", "output": "Begun.", "kind": "Others"}
    kinds, before = list(TAXONOMY), deque([first], maxlen=1000)
    for _ in range(n):
        topic, chance = int(words.rng.integers(len(kinds))), words.rng.random()
        earlier = before[words.rng.integers(len(before))]
        made = {"instruction": words.text(8, 22, topic), "input": "", "kind": kinds[topic]}
        made["output"] = words.text(10, 80, topic)
        if chance < HOLDING:
            made["input"] = prompts[words.rng.integers(len(prompts))]
        elif chance < HOLDING + NEAR:
            made = earlier | {"instruction": f"{earlier['instruction']} {words.text(1, 2)}"}
        elif chance < HOLDING + NEAR + REPEATS:
            made = earlier
        before.append(made)
        yield made


class Knowing:
    """An oracle that costs nothing: a row's task stands in its meta, a new row is a text that nobody saw."""

    def __init__(self):
        self.words = Words(seed=2)

    def classify(self, rows):
        return records.update(rows, task=[json.loads(meta)["kind"] for meta in rows["meta"]])

    def expand(self, rows):
        children = ({"instruction": self.words.text(8, 22), "task": task} for task in rows["task"])
        return records.build(children), Counter()


def judged(rows):
    """Rows with both verdicts on them, as a stage finds them in its ledger."""
    scores = np.random.default_rng(1).integers(1, 11, (len(rows), 4))
    replies = [(f"{a} {b}\nThe first is better.", f"{c} {d}\nSo is the second.") for a, b, c, d in scores]
    about = {"attempt": 1, "finish": "stop"}
    given = [
        [{"order": order, "reply": said, **about} for order, said in zip(judge.ORDERS, both, strict=True)]
        for both in replies
    ]
    said = [f"{text} {i}" for i, text in enumerate(rows["response"])]
    return records.update(rows, verdicts=given, student_response=said, oracle_response=rows["response"][:])


class Clock:
    """Seconds of each step and the peak memory after it, printed as a table."""

    def __init__(self):
        self.total = 0.0
        print(f"{'step':<24}{'rows':>9}{'seconds':>9}{'peak, GB':>10}")

    def __call__(self, name: str, work, *given):
        started = time.perf_counter()
        found = work(*given)
        took = time.perf_counter() - started
        self.total += took
        rows = found[0] if isinstance(found, tuple) else found
        print(f"{name:<24}{len(rows):>9,}{took:>9.1f}{peak() / 1000:>10.2f}", flush=True)
        return found

    def end(self) -> None:
        within = self.total < MOST_S and peak() / 1000 < MOST_GB
        print(f"{'all':<24}{'':>9}{self.total:>9.1f}{peak() / 1000:>10.2f}")
        print(f"{'within' if within else 'NOT within'} {MOST_S} s and {MOST_GB:g} GB")


def measure(folder: Path) -> None:
    clock, words = Clock(), Words(seed=0)
    prompts = alpaca_eval(words)
    with open(folder / "rows.jsonl", "w") as file:
        file.writelines(json.dumps(one) + "\n" for one in records_of(ROWS, words, prompts))
    rows = select_data(clock, folder, prompts)
    given = judge_rows(clock, folder, rows)
    given = clock("hard", with_hard, given)
    selected = clock("select", selection.select, given, "mfd", 0)
    clock("the rest", records.without, rows, selected["id"])
    clock.end()
    some = selected.select(range(min(SELECTED, len(selected))))
    pool, _ = clock("rebalance", tasks.rebalance, some, Knowing(), TAXONOMY, SELECTED, 0)
    clock("write and read", stored, pool, folder / "pool.parquet")


def select_data(clock: Clock, folder: Path, prompts: list[str]):
    """The steps of notebook 1."""
    rows = clock("load", corpus.load, str(folder / "rows.jsonl"))
    rows, _ = clock("drop exact repeats", duplicates.drop_exact, rows)
    rows, _ = clock("drop near-duplicates", duplicates.drop_near, rows)
    rows = clock("drop silent and long", with_response, rows)
    rows, _ = clock("drop contaminated", contamination.drop, rows, {"alpaca_eval": prompts})
    return clock("write and read", stored, rows, folder / "1.parquet")


def judge_rows(clock: Clock, folder: Path, rows):
    """The steps of notebook 2, with verdicts that cost nothing."""
    rows = clock("read verdicts", judge.apply, judged(rows))
    rows, _ = clock("name tasks", classifier.label, rows, Knowing(), LABELLED)
    rows = clock("MFD", with_mfd, rows)
    rows = clock("trust the judge", trust, rows)
    return clock("write and read", stored, rows, folder / "2.parquet")


def stored(rows, path: Path):
    return records.read(records.write(rows, path))


def with_response(rows):
    """The rows that have one and are not too long, as in notebook 1."""
    silent = [row["id"] for row in records.walk(rows, "id", "response") if not row["response"]]
    measured = records.walk(rows, "id", "response", *records.SAID)
    too_long = [row["id"] for row in measured if records.characters(row) > 4000]
    return records.without(rows, {*silent, *too_long})


def with_mfd(rows):
    pairs = zip(rows["oracle_score"], rows["student_score"], strict=True)
    return records.update(rows, mfd=[curriculum.mfd(*pair) for pair in pairs])


def with_hard(rows):
    return records.update(rows, hard=[curriculum.is_hard(value, 2.0) for value in rows["mfd"]])


def trust(rows):
    """What notebook 2 asks about the verdicts."""
    for ask in (judge.tally, judge.order_agreement, judge.position_edge, judge.length_correlation):
        ask(rows)
    for threshold in (1, 2, 3):
        judge.hard_set_overlap(rows, threshold)
    return rows


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        measure(Path(place))
