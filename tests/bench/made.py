"""Data made on the spot: records as long as Alpaca's with repeats, near-repeats and benchmark prompts among them, their judges' verdicts, an oracle that knows."""

import json
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from reasoning_gym.data import read_data_file

from lib import paths, records
from lib.corpus import contamination
from lib.tapir import tasks

REPEATS, NEAR = 0.02, 0.02  # shares of rows that repeat an earlier one, and that add words to it
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

    def texts(self, n: int, shortest: int, longest: int, topics: np.ndarray | int = 0) -> list[str]:
        """Texts of so many words, a fifth of them of the text's topic."""
        sizes = self.rng.integers(shortest, longest, n)
        indices = np.searchsorted(self.upto, self.rng.random(sizes.sum()) * self.upto[-1])
        own = self.rng.random(len(indices)) < 0.2
        topics = np.repeat(np.broadcast_to(topics, n), sizes)[own]
        indices[own] = 1000 + TOPIC * topics + self.rng.integers(0, TOPIC, own.sum())
        words, ends = self.all[indices].tolist(), sizes.cumsum().tolist()
        return [" ".join(words[end - size : end]) for end, size in zip(ends, sizes.tolist(), strict=True)]


def alpaca_eval() -> list[str]:
    """The prompts of AlpacaEval, or as many texts of their length where the recorded data are absent."""
    path = paths.recorded_data() / "alpaca_eval/gpt4_1106_preview/model_outputs.json.gz"
    return contamination.prompts(str(path)) if path.exists() else Words(seed=2).texts(805, 8, 40)


def records_of(n: int, prompts: list[str], part: int = 1000) -> Iterator[dict]:
    """Records as long as Alpaca's: 80 characters of instruction and input, 300 of output; `kind` is the true task."""
    words, kinds = Words(seed=0), list(TAXONOMY)
    before = deque(
        [{"instruction": "Begin.", "input": "", "output": "Begun.", "kind": "Others"}], maxlen=1000
    )
    for _ in range(0, n, part):
        topics = words.rng.integers(0, len(kinds), part)
        texts = [words.texts(part, *lengths, topics) for lengths in ((8, 22), (10, 80))]
        chances, more = words.rng.random(part), words.texts(part, 1, 6)
        for topic, chance, addition, instruction, output in zip(topics, chances, more, *texts, strict=True):
            earlier = before[words.rng.integers(len(before))]
            record = {"instruction": instruction, "input": "", "output": output, "kind": kinds[topic]}
            if chance < HOLDING:
                record["input"] = prompts[words.rng.integers(len(prompts))]
            elif chance < HOLDING + NEAR:
                record = earlier | {"instruction": f"{earlier['instruction']} {addition}"}
            elif chance < HOLDING + NEAR + REPEATS:
                record = earlier
            before.append(record)
            yield record


def write_file(folder: Path, n: int) -> None:
    with open(folder / "rows.jsonl", "w") as file:
        file.writelines(json.dumps(record) + "\n" for record in records_of(n, alpaca_eval()))


class Knowing:
    """An oracle that costs nothing: a row's task stands in its meta."""

    def classify(self, rows):
        return records.update(rows, task=[json.loads(meta)["kind"] for meta in rows["meta"]])


def judged(rows):
    """Rows with both verdicts on them, as a stage finds them in its ledger."""
    scores = np.random.default_rng(1).integers(1, 11, (len(rows), 4))
    about = {"attempt": 1, "finish": "stop"}
    given = (
        [
            {"order": "oracle_first", "reply": f"{a} {b}\nThe first is better.", **about},
            {"order": "student_first", "reply": f"{c} {d}\nSo is the second.", **about},
        ]
        for a, b, c, d in scores
    )
    responses = (row["response"] for row in records.iter_rows(rows, "response"))
    longer = (f"{row['response']} {i}" for i, row in enumerate(records.iter_rows(rows, "response")))
    return records.update(rows, verdicts=given, student_response=longer, oracle_response=responses)
