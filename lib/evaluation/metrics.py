"""Score responses against references by exact match and ROUGE-L, in [0, 1].

Each function takes as many lists of references as predictions, and raises ValueError where a list is missing
or empty, or where there are no predictions.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
from rapidfuzz.distance import LCSseq


def exact_match(predictions: list[str], references: list[list[str]]) -> float:
    """Compute the share of predictions that equal a reference, both stripped."""
    return _mean(lambda text, gold: text.strip() in map(str.strip, gold), predictions, references)


def rouge_l(predictions: list[str], references: list[list[str]]) -> float:
    """Compute mean ROUGE-L F1 of stemmed words, with the nearest reference."""
    score = _scorer().score_multi
    return _mean(lambda text, gold: score(gold, text)["rougeL"].fmeasure, predictions, references)


def rouge_l_char(predictions: list[str], references: list[list[str]]) -> float:
    """Compute mean ROUGE-L F1 of characters, with the first reference (SELF-GUIDE's)."""

    def f1(text: str, gold: list[str]) -> float:
        return 2 * LCSseq.similarity(text, gold[0]) / max(len(text) + len(gold[0]), 1)

    return _mean(f1, predictions, references)


@cache
def _scorer():
    from rouge_score.rouge_scorer import RougeScorer  # imports NLTK, which takes seconds

    return RougeScorer(["rougeL"], use_stemmer=True)


def _mean(score: Callable, predictions: list[str], references: list[list[str]]) -> float:
    if not predictions or len(predictions) != len(references) or not all(references):
        counts = f"predictions={len(predictions)}, references={len(references)}"
        raise ValueError(f"{counts}: each prediction needs its own list, with one reference or more.")
    return float(np.mean([score(text, gold) for text, gold in zip(predictions, references, strict=True)]))
