"""Does our IFD choose what Cherry LLM's chose? `PYTHONPATH=tests python -m bench.cherry STUDENT [ROWS]`, on the recorded Alpaca rows.

Theirs is the IFD of a LLaMA-7B that had seen a thousand of the rows; ours that of a student which should have, too.
"""

import sys
from random import Random

import numpy as np
from scipy.stats import spearmanr

from lib import corpus, models, records
from lib.tapir import selection

SHARE, RESAMPLES, LONGEST = (
    0.05,
    2000,
    900,
)  # the share both choose; the longest row, in characters, that a context of 1,024 holds


def main(student: str, n: int = 0) -> None:
    rows = corpus.load("$RECORDED_DATA/instructions/alpaca_davinci003_union_subset.json.xz")
    cherry_ids = set(corpus.load("$RECORDED_DATA/instructions/cherry_alpaca_5_percent.json.xz")["id"])
    short = [i for i, row in enumerate(rows) if row["response"] and records.characters(row) <= LONGEST]
    rows = records.take_rows(rows, sorted(Random(0).sample(short, n)) if n else short)
    scores = np.array(selection.ifd(rows, models.load(student), 1024))
    scores[scores > 1] = -1  # what IFD leaves out
    cherry = np.array([row_id in cherry_ids for row_id in rows["id"]])
    rng = np.random.default_rng(0)
    drawn = [
        _lead(scores[picks], cherry[picks]) for picks in rng.integers(len(rows), size=(RESAMPLES, len(rows)))
    ]
    low, high = np.percentile(drawn, [2.5, 97.5])
    print(
        f"{len(rows):,} rows, {cherry.mean():.1%} of them chosen by Cherry LLM; of our top {SHARE:.0%} by {_lead(scores, cherry):+.1%} more"
    )
    print(f"95 % interval of the difference [{low:+.1%}, {high:+.1%}]")
    lengths = np.array([len(text) for text in rows["response"]])
    print(
        f"the longest {SHARE:.0%} of responses instead: {_lead(lengths, cherry):+.1%}; rank correlation of IFD and length {spearmanr(scores, lengths)[0]:.2f}"
    )


def _lead(scores: np.ndarray, cherry: np.ndarray) -> float:
    """By how much the share of their choice is larger among the rows with the highest scores."""
    top = np.argsort(-scores, kind="stable")[: round(SHARE * len(scores))]
    return cherry[top].mean() - cherry.mean()


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
