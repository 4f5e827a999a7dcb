"""A classifier labels what the oracle did not, and says how far it agrees."""

from random import Random

import pandas as pd
import pytest

from lib import records
from lib.errors import UserError
from lib.tapir import classifier

VERBS = {
    "Math": ["add", "subtract", "divide", "multiply", "count"],
    "Code": ["program", "debug", "compile", "refactor", "test"],
}


def rows(n: int, seed: int = 0):
    """Instructions whose verb says which task they are of; the task is in meta, for the oracle."""
    rng = Random(seed)
    tasks = [rng.choice(list(VERBS)) for _ in range(n)]
    return records.build(
        {"instruction": f"Please {rng.choice(VERBS[task])} item {i} for me", "meta": task}
        for i, task in enumerate(tasks)
    )


class Oracle:
    """Labels from meta, and counts them."""

    calls = 0

    def classify(self, rows):
        self.calls += rows["task"][:].count(None)
        pairs = zip(rows["task"], rows["meta"], strict=True)
        return records.update(rows, task=[task or meta for task, meta in pairs])


def test_a_few_labels_name_all_the_rest():
    given, oracle = rows(600), Oracle()
    labelled, predicted = classifier.label(given, oracle, 120)
    assert oracle.calls == 120
    right = [task == meta for task, meta in zip(labelled["task"], given["meta"], strict=True)]
    assert sum(right) / 600 > 0.97
    assert (predicted["task"] == predicted["predicted"]).mean() > 0.95 and len(predicted) == 120
    assert "agrees with the oracle on **" in classifier.describe(predicted)


@pytest.mark.parametrize("size", [0, 600, 10_000])
def test_without_a_size_the_oracle_labels_all(size):
    oracle = Oracle()
    labelled, predicted = classifier.label(rows(600), oracle, size)
    assert oracle.calls == 600 and predicted is None and None not in labelled["task"][:]


def test_a_task_that_a_row_has_is_kept_and_learned_from():
    given = rows(300)
    half = records.update(given, task=[None if i % 2 else "Kept" for i in range(300)])
    labelled, _ = classifier.label(half, Oracle(), 60)
    assert labelled["task"][::2] == ["Kept"] * 150 and {"Math", "Code"} & set(labelled["task"][1::2])


def test_confusion_gives_the_share_of_each_task_that_goes_to_each():
    pairs = [("Math", "Math")] * 3 + [("Math", "Code"), ("Code", "Code"), ("Code", "Code"), ("Art", "Art")]
    shares = classifier.confusion(pd.DataFrame(pairs, columns=["task", "predicted"]))
    assert shares["Math (4)"] == {"Math": 0.75, "Code": 0.25, "Art": 0}
    assert shares["Code (2)"] == {"Math": 0, "Code": 1, "Art": 0}
    assert shares["Art (1)"]["Art"] == 1


def test_a_task_with_too_few_labels_to_hold_out_is_learned_all_the_same():
    texts = [f"{verb} {i}" for i in range(10) for verb in ("add", "debug")] + ["paint a fish"] * 4
    labels = ["Math", "Code"] * 10 + ["Art"] * 4
    assert set(classifier.held_out(texts, labels)["task"]) == {"Math", "Code"}
    pairs = list(zip(texts, labels, strict=True)) * 3
    labelled = [{"instruction": text, "task": task} for text, task in pairs]
    unlabelled = [{"instruction": "paint a fish", "meta": "Art"}, *rows(30)]
    named, _ = classifier.label(records.build([*labelled, *unlabelled]), Oracle(), 25, seed=1)
    assert "Art" in named["task"][-31:]


def test_too_few_labels_are_refused():
    with pytest.raises(UserError, match="labelled_rows=20: too few to learn from"):
        classifier.label(rows(100), None, 20)  # known before the oracle is asked
