"""The tasks of many rows from the oracle's labels of a few: a classifier, and how far it agrees with the oracle.

It comes in two forms: TF-IDF with logistic regression, fitted in seconds anywhere, and a fine-tuned encoder such as DeBERTa
(lib/tapir/encoder.py).
"""

from collections import Counter
from collections.abc import Callable, Iterator
from random import Random

import pandas as pd
from datasets import Dataset
from scipy.sparse import csr_matrix
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline, make_union

from lib import records
from lib.corpus import duplicates
from lib.errors import UserError

FOLDS = 5
FEW = 50  # labels, below which agreement says nothing
Told = tuple[list[str], list[str]]  # texts, and the task of each
Ask = Callable[[list[str]], list[tuple[str, float]]]  # the likeliest task of each text, and its probability


def label(
    rows: Dataset, oracle, size: int, confident: float = 0.0, seed: int = 0, encoder: str = "", **how
) -> tuple[Dataset, pd.DataFrame | None]:
    """Rows with their tasks: `size` of those that lack one are labelled by the oracle, a classifier fitted on them names the rest.

    `encoder` is a hub name or a folder (`how` goes to `encoder.fit`), or empty for the light form. Where the probability is below
    `confident` (0 to 1) the classifier abstains: the task stays null. With a size of 0, or no fewer than lack a task, the oracle labels
    them all. Returns the rows and what the classifier says of labelled ones that it had not seen (columns task, predicted: null
    where it abstains), None without a classifier. Raises UserError when the labels are too few to learn from.
    """
    missing = [i for i, task in enumerate(rows["task"][:]) if task is None]
    if not size or size >= len(missing):
        return oracle.classify(rows), None
    sample = sorted(Random(f"labels {seed}").sample(missing, size))
    tasks = rows["task"][:]
    for i, task in zip(sample, oracle.classify(rows.select(sample))["task"], strict=True):
        tasks[i] = task
    known = [i for i, task in enumerate(tasks) if task is not None]
    told, labels = list(_texts(records.take_rows(rows, known))), [tasks[i] for i in known]
    if len(known) < FEW or len(set(labels)) < 2:
        raise UserError(
            f"{len(known)} labels of {len(set(labels))} tasks are too few to learn from: raise labelled_rows ({size})"
        )
    if encoder:
        ask, predicted = _encoded(told, labels, confident, encoder, seed=seed, **how)
    else:
        ask, predicted = _by_words(told, labels), held_out(told, labels, confident)
    rest = set(missing) - set(sample)
    asked = ((i, text) for i, text in enumerate(_texts(rows)) if i in rest)
    for part in records.batched(asked, records.GROUP):  # the features of all texts at once take gigabytes
        for (i, _), task in zip(part, _sure(ask([text for _, text in part]), confident), strict=True):
            tasks[i] = task
    return records.update(rows, task=tasks), predicted


def _texts(rows: Dataset) -> Iterator[str]:
    return (duplicates.full_text(**row) for row in records.iter_rows(rows, *records.PROMPT_COLUMNS))


def held_out(texts: list[str], labels: list[str], confident: float = 0.0) -> pd.DataFrame:
    """What the light form says of texts that it was not fitted on, in five folds: columns as `label` has them."""
    folds = _folds(texts, labels)
    return pd.concat(
        [_compare(_by_words(*learned), *held, confident) for learned, held in folds], ignore_index=True
    )


def describe(predicted: pd.DataFrame) -> str:
    """How often classifier and oracle agree, in one sentence."""
    said = predicted.dropna()
    if not len(said):
        return f"The classifier abstains on all {len(predicted):,} held-out rows: lower confident."
    agreed, share = (said["task"] == said["predicted"]).mean(), 1 - len(said) / len(predicted)
    return f"The classifier agrees with the oracle on **{agreed:.0%}** of {len(said):,} held-out rows, and abstains on {share:.0%}."


def confusion(predicted: pd.DataFrame, most: int = 8) -> dict[str, dict[str, float]]:
    """Of the held-out rows of each task the share that the classifier gives to each, for `plots.grid`.

    Where tasks are many: the `most` that are confused most often, a column for all other tasks, and one for rows on which it abstains.
    """
    wrong = predicted[predicted["task"] != predicted["predicted"]].dropna()
    mistaken, sizes = Counter([*wrong["task"], *wrong["predicted"]]), Counter(predicted["task"])
    shown = sorted(sizes, key=lambda task: (-mistaken[task], -sizes[task], task))[:most]
    said = predicted["predicted"].fillna("no task")
    said = said.where(said.isin([*shown, "no task"]), "other tasks")
    columns = shown + [name for name in ("other tasks", "no task") if name in set(said)]
    shares = pd.crosstab(predicted["task"], said, normalize="index").reindex(
        shown, columns=columns, fill_value=0.0
    )
    return {f"{task} ({sizes[task]:,})": shares.loc[task].to_dict() for task in shown}


def _by_words(texts: list[str], labels: list[str]) -> Ask:
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    features = make_union(words, make_pipeline(WithinWords(), TfidfTransformer(sublinear_tf=True)))
    # lbfgs, the default, keeps ten copies of the weights: a gigabyte and four times the time for 33 tasks
    regression = LogisticRegression(C=10, max_iter=2000, solver="newton-cg")
    model = make_pipeline(features, regression).fit(texts, labels)

    def ask(asked: list[str]) -> list[tuple[str, float]]:
        chances = model.predict_proba(asked)
        return [(str(model.classes_[row.argmax()]), row.max()) for row in chances]

    return ask


class WithinWords(BaseEstimator, TransformerMixin):
    """Counts of character 3- to 5-grams that stay within words, as CountVectorizer(analyzer="char_wb") has them.

    A word is cut once, however many texts have it: a fifth of the time.
    """

    def fit(self, texts: list[str], labels: object = None) -> "WithinWords":
        self.fit_transform(texts)
        return self

    def fit_transform(self, texts: list[str], labels: object = None) -> csr_matrix:
        self.grams = CountVectorizer(analyzer="char_wb", ngram_range=(3, 5), dtype=float)
        return self._counted(texts, self.grams.fit_transform)

    def transform(self, texts: list[str]) -> csr_matrix:
        return self._counted(texts, self.grams.transform)

    def _counted(self, texts: list[str], cut: Callable[[list[str]], csr_matrix]) -> csr_matrix:
        words = CountVectorizer(analyzer=str.split, dtype=float)
        counts = words.fit_transform(texts) @ cut(words.get_feature_names_out())
        counts.sort_indices()  # sums in one order have one result
        return counts


def _encoded(
    texts: list[str], labels: list[str], confident: float, name: str, **how
) -> tuple[Ask, pd.DataFrame]:
    """An encoder that learned from four fifths of the labels, and what it says of the last: one is fitted, not five and another."""
    from lib.tapir import encoder

    learned, held = next(_folds(texts, labels))
    ask = encoder.fit(name, *learned, **how)
    return ask, _compare(ask, *held, confident)


def _folds(texts: list[str], labels: list[str]) -> Iterator[tuple[Told, Told]]:
    """Five times four fifths of each task to learn from, and the fifth that is held out.

    Tasks with fewer than five labels are learned from, never held out. Raises UserError when fewer than two tasks have more.
    """
    counts = Counter(labels)
    many = [i for i, task in enumerate(labels) if counts[task] >= FOLDS]
    few = [i for i, task in enumerate(labels) if counts[task] < FOLDS]
    if len({labels[i] for i in many}) < 2:
        raise UserError("no two tasks have five labels each: raise labelled_rows")
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    for learned, held in folds.split(many, [labels[i] for i in many]):
        sides = [*(many[i] for i in learned), *few], [many[i] for i in held]
        yield tuple(([texts[i] for i in side], [labels[i] for i in side]) for side in sides)


def _compare(ask: Ask, texts: list[str], labels: list[str], confident: float) -> pd.DataFrame:
    return pd.DataFrame({"task": labels, "predicted": _sure(ask(texts), confident)})


def _sure(named: list[tuple[str, float]], confident: float) -> list[str | None]:
    return [task if chance >= confident else None for task, chance in named]
