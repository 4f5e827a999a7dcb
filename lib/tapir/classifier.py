"""Label many rows by a classifier that learns from the oracle's labels of a few.

It has two forms: TF-IDF with logistic regression, fitted in seconds anywhere, and a fine-tuned encoder such
as DeBERTa (lib/tapir/encoder.py).
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from random import Random

import pandas as pd
from datasets import Dataset
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline, make_union

from lib import records
from lib.corpus import duplicates
from lib.errors import UserError

FOLDS = StratifiedKFold(5, shuffle=True, random_state=0)
FEW = 50  # labels, below which agreement says nothing
Predict = Callable[[list[str]], Sequence[str]]  # the task of each text


def label(
    rows: Dataset,
    oracle,
    size: int,
    seed: int = 0,
    encoder: str = "",
    **settings,
) -> tuple[Dataset, pd.DataFrame | None]:
    """Label `size` rows by the oracle, and the rest by a classifier fitted on these.

    `encoder` is a hub name or a folder (`settings` go to `encoder.fit`), or empty for the light form. With a
    size of 0, or no fewer than lack a task, the oracle labels all. Returns the rows, and of held-out rows the
    task and the one predicted, or None without a classifier. Raises UserError for too few labels.
    """
    tasks = rows["task"][:]
    missing = [i for i, task in enumerate(tasks) if task is None]
    if not size or size >= len(missing):
        return oracle.classify(rows), None
    check_size(tasks, size)
    sample = sorted(Random(f"labels {seed}").sample(missing, size))
    for i, task in zip(sample, oracle.classify(rows.select(sample))["task"], strict=True):
        tasks[i] = task
    labelled = [i for i, task in enumerate(tasks) if task is not None]
    texts, labels = list(_texts(records.take_rows(rows, labelled))), [tasks[i] for i in labelled]
    predict, predicted = _fit(texts, labels, encoder, seed=seed, **settings)
    rest = set(missing) - set(sample)
    unlabelled = ((i, text) for i, text in enumerate(_texts(rows)) if i in rest)
    for group in records.batched(unlabelled, records.GROUP):  # all features at once take gigabytes
        for (i, _), task in zip(group, predict([text for _, text in group]), strict=True):
            tasks[i] = task
    return records.update(rows, task=tasks), predicted


def check_size(tasks: list[str | None], size: int) -> None:
    """Raise UserError where `size` more labels, beside those that rows have, are too few to learn from."""
    missing = tasks.count(None)
    if 0 < size < missing and len(tasks) - missing + size < FEW:
        raise UserError(
            f"labelled_rows={size}: too few to learn from. Set it to {FEW} or above, or to 0 for all."
        )


def _texts(rows: Dataset) -> Iterator[str]:
    return (duplicates.full_text(**row) for row in records.iter_rows(rows, *records.PROMPT_COLUMNS))


def _common(labels: list[str]) -> list[int]:
    """Return the positions of tasks with a label per fold; others are not held out."""
    counts = Counter(labels)
    return [i for i, task in enumerate(labels) if counts[task] >= FOLDS.n_splits]


def held_out(texts: list[str], labels: list[str]) -> pd.DataFrame:
    """Predict each text by a light form that did not see it; columns as in `label`."""
    common = _common(labels)
    texts, labels = [texts[i] for i in common], [labels[i] for i in common]
    predicted = cross_val_predict(_model(), texts, labels, cv=FOLDS)
    return pd.DataFrame({"task": labels, "predicted": predicted})


def _model() -> Pipeline:
    features = make_union(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True),
    )
    # lbfgs, the default, keeps ten copies of the weights: a gigabyte and four times the time for 33 tasks
    return make_pipeline(features, LogisticRegression(C=10, max_iter=2000, solver="newton-cg"))


def _fit(texts: list[str], labels: list[str], name: str, **settings) -> tuple[Predict, pd.DataFrame]:
    """Fit a form on labelled texts; predict such texts by a fit that did not see them."""
    common = _common(labels)
    if len(labels) < FEW or len({labels[i] for i in common}) < 2:
        raise UserError(
            f"labelled_rows: {len(labels)} labels of {len(set(labels))} tasks are too few for a classifier. "
            f"Raise it, to {FEW} labels or more, of which two tasks have {FOLDS.n_splits} each."
        )
    if not name:
        return _model().fit(texts, labels).predict, held_out(texts, labels)
    from lib.tapir import encoder

    # once, as it takes long: on four fifths of the labels
    _, fold = next(FOLDS.split(common, [labels[i] for i in common]))
    held = [common[i] for i in fold]
    learnt = sorted(set(range(len(labels))) - set(held))
    predict = encoder.fit(name, [texts[i] for i in learnt], [labels[i] for i in learnt], **settings)
    predicted = {"task": [labels[i] for i in held], "predicted": predict([texts[i] for i in held])}
    return predict, pd.DataFrame(predicted)


def describe(predicted: pd.DataFrame) -> str:
    """Say in one sentence how often classifier and oracle agree."""
    agreement = (predicted["task"] == predicted["predicted"]).mean()
    return (
        f"The classifier agrees with the oracle on **{agreement:.0%}** of {len(predicted):,} held-out rows."
    )


def confusion(predicted: pd.DataFrame, most: int = 8) -> dict[str, dict[str, float]]:
    """Return the share of each task's held-out rows that goes to each task.

    Shows the `most` tasks that are confused most often, with a column for other tasks.
    """
    wrong = predicted[predicted["task"] != predicted["predicted"]]
    mistaken, sizes = Counter([*wrong["task"], *wrong["predicted"]]), Counter(predicted["task"])
    shown = sorted(sizes, key=lambda task: (-mistaken[task], -sizes[task], task))[:most]
    columns = predicted["predicted"].where(predicted["predicted"].isin(shown), "other tasks")
    shares = pd.crosstab(predicted["task"], columns, normalize="index")
    order = [*shown, *(["other tasks"] if "other tasks" in shares else [])]
    shares = shares.reindex(index=shown, columns=order, fill_value=0.0)
    return {f"{task} ({sizes[task]:,})": shares.loc[task].to_dict() for task in shown}
