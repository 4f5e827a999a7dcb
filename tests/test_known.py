"""What expansion may not generate again, found without comparing all with all, and as rouge-score would find it."""

from random import Random

import pytest
from rouge_score import rouge_scorer

from lib import records
from lib.corpus import novelty
from lib.corpus.novelty import NoveltyFilter

ASKED = (
    "add the two numbers 3 and 17 then write a short poem about rivers in french please explain why it is so"
)


def sentences(n: int, seed: int) -> list[str]:
    """Sentences that share much: every second one is another with a few words changed."""
    known_words, rng, texts = ASKED.split(), Random(seed), []
    for i in range(n):
        new = i % 2 or not texts
        words = rng.choices(known_words, k=rng.randint(3, 25)) if new else rng.choice(texts).split()
        for at in rng.sample(range(len(words)), len(words) // 4 * (i % 2 == 0)):
            words[at] = rng.choice([*known_words, "Zürich", "co-operate", "don't"])
        texts.append(" ".join(words))
    return texts


def test_rouge_l_to_the_nearest_is_that_of_rouge_score():
    pool, scorer = sentences(80, 0), rouge_scorer.RougeScorer(["rougeL"])
    seen = NoveltyFilter()
    for text in pool:
        seen.add(text)
    too_similar = []
    for text in sentences(160, 0)[80:]:  # they go on from the pool's
        nearest = max(scorer.score(earlier, text)["rougeL"].fmeasure for earlier in pool)
        assert seen.rouge_l(text) == pytest.approx(nearest if nearest > novelty.ROUGE_L else 0.0)
        too_similar.append(nearest > novelty.ROUGE_L)
    assert 0.1 < sum(too_similar) / len(too_similar) < 0.95  # else nothing was shown


LONG = " ".join(f"word{i}" for i in range(60))


@pytest.mark.parametrize(
    "text, why",
    [
        ("  Name three RIVERS in France. ", "duplicate"),
        ("Name three big rivers in France.", "too similar"),
        (" ".join(LONG.split()[30:] + LONG.split()[:30]), "near-duplicate"),  # its halves swapped
        ("What is the meaning of life? Say it in one word.", "in a benchmark"),
        ("Which river flows through Rome?", ""),
        ("", ""),
    ],
)
def test_each_reason_is_named(text, why):
    seen = NoveltyFilter({"a benchmark": ["What is the meaning of life?"]})
    seen.add_rows(
        records.build([{"instruction": "Name three rivers", "input": "in France."}, {"instruction": LONG}])
    )
    seen.add("Name three rivers in France.")
    assert seen.rejection_reason(text) == why
