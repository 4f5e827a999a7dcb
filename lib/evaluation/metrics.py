"""Responses scored against references: exact match and ROUGE-L."""

from collections.abc import Callable
from functools import cache

import numpy as np
from rapidfuzz.distance import LCSseq


def exact_match(predictions: list[str], references: list[list[str]]) -> float:
    """The share of predictions that equal one of their references, white space at the ends aside."""
    return _mean(lambda said, gold: said.strip() in {one.strip() for one in gold}, predictions, references)


def rouge_l(predictions: list[str], references: list[list[str]]) -> float:
    """Mean ROUGE-L F1: words, stemmed; of several references the one that is nearest."""
    return _mean(
        lambda said, gold: _scorer().score_multi(gold, said)["rougeL"].fmeasure, predictions, references
    )


def rouge_l_char(predictions: list[str], references: list[list[str]]) -> float:
    """Mean F1 of the longest common subsequence of *characters* with the first reference: what SELF-GUIDE's code computes."""

    def f1(said: str, gold: list[str]) -> float:
        return 2 * LCSseq.similarity(said, gold[0]) / max(len(said) + len(gold[0]), 1)

    return _mean(f1, predictions, references)


@cache
def _scorer():
    from rouge_score.rouge_scorer import RougeScorer  # imports NLTK, which takes seconds

    return RougeScorer(["rougeL"], use_stemmer=True)


def _mean(score: Callable, predictions: list[str], references: list[list[str]]) -> float:
    if not predictions or len(predictions) != len(references) or not all(references):
        raise ValueError(
            f"{len(predictions)} predictions, {len(references)} lists of references, {sum(not one for one in references)} of "
            "them empty: each prediction needs its own list, with one reference or more"
        )
    return float(np.mean([score(said, gold) for said, gold in zip(predictions, references, strict=True)]))
