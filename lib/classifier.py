"""The tasks of many rows from the oracle's labels of a few: a light classifier, and how far it agrees with the oracle."""

from random import Random

import numpy as np
import pandas as pd
from datasets import Dataset
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline, make_union

from lib import duplicates, records
from lib.errors import UserError

FOLDS = 5
FEW = 50  # labels, below which agreement says nothing


def label(
    rows: Dataset, oracle, size: int, confident: float = 0.0, seed: int = 0
) -> tuple[Dataset, pd.DataFrame | None]:
    """Rows with their tasks: `size` of those that lack one are labelled by the oracle, a classifier fitted on them names the rest.

    Where its probability is below `confident` (0 to 1) it abstains: the task stays null. With a size of 0, or no fewer than lack a
    task, the oracle labels them all. Returns the rows and the held-out predictions (see `held_out`), None without a classifier.
    Raises UserError when the labels are too few to learn from.
    """
    missing = [i for i, task in enumerate(rows["task"]) if task is None]
    if not size or size >= len(missing):
        return oracle.classify(rows), None
    sample = sorted(Random(f"labels {seed}").sample(missing, size))
    tasks = rows["task"][:]
    for i, task in zip(sample, oracle.classify(rows.select(sample))["task"], strict=True):
        tasks[i] = task
    texts = [duplicates.full_text(**row) for row in records.walk(rows, *records.SAID)]
    known = [i for i, task in enumerate(tasks) if task is not None]
    told, labels = [texts[i] for i in known], [tasks[i] for i in known]
    if len(known) < FEW or len(set(labels)) < 2:
        raise UserError(
            f"{len(known)} labels of {len(set(labels))} tasks are too few to learn from: raise labelled_rows ({size})"
        )
    rest = sorted(set(missing) - set(sample))
    model = _model().fit(told, labels)
    for start in range(0, len(rest), records.GROUP):  # the features of all texts at once take gigabytes
        some = rest[start : start + records.GROUP]
        for i, chances in zip(some, model.predict_proba([texts[i] for i in some]), strict=True):
            tasks[i] = str(model.classes_[chances.argmax()]) if chances.max() >= confident else None
    return records.update(rows, task=tasks), held_out(told, labels, confident)


def held_out(texts: list[str], labels: list[str], confident: float = 0.0) -> pd.DataFrame:
    """What the classifier says of texts it was not fitted on, in five folds: columns task, predicted (null where it abstains).

    Tasks with fewer texts than folds are left out: nothing could be learned of them in a fold.
    """
    counts = pd.Series(labels).value_counts()
    kept = [i for i, task in enumerate(labels) if counts[task] >= FOLDS]
    told, tasks = [texts[i] for i in kept], np.array([labels[i] for i in kept])
    if len(set(tasks)) < 2:
        raise UserError("no two tasks have five labels each: raise labelled_rows")
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    chances = cross_val_predict(_model(), told, tasks, cv=folds, method="predict_proba")
    best = np.unique(tasks)[chances.argmax(axis=1)].astype(object)
    best[chances.max(axis=1) < confident] = None
    return pd.DataFrame({"task": tasks, "predicted": best})


def describe(predicted: pd.DataFrame) -> str:
    """How often classifier and oracle agree, in one sentence."""
    said = predicted.dropna()
    if not len(said):
        return f"The classifier abstains on all {len(predicted):,} held-out rows: lower confident."
    agreed, share = (said["task"] == said["predicted"]).mean(), 1 - len(said) / len(predicted)
    return f"The classifier agrees with the oracle on **{agreed:.0%}** of {len(said):,} held-out rows, and abstains on {share:.0%}."


def confused(predicted: pd.DataFrame, n: int = 5) -> pd.DataFrame:
    """The `n` most frequent confusions: task, predicted, rows."""
    wrong = predicted[predicted["task"] != predicted["predicted"]].dropna()
    return wrong.value_counts().head(n).rename("rows").reset_index()


def _model() -> Pipeline:
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True)
    # lbfgs, the default, keeps ten copies of the weights: a gigabyte and four times the time for 33 tasks
    return make_pipeline(
        make_union(words, characters), LogisticRegression(C=10, max_iter=2000, solver="newton-cg")
    )
