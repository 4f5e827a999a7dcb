"""Which rows are taught as hard: those MFD finds, or as many by chance."""

import doctest

import pytest
import torch

from lib import models, records
from lib.errors import UserError
from lib.models import loading
from lib.tapir import curriculum, judge, selection
from lib.training import encoding


def rows(*values, threshold=2.0):
    return records.build(
        {"instruction": str(i), "mfd": value, "hard": curriculum.is_hard(value, threshold)}
        for i, value in enumerate(values)
    )


JUDGED = rows(9.0, 0.0, 2.0, None, 1.0, -3.0)


def test_mfd_selects_the_rows_that_reach_the_threshold_and_no_unread_one():
    assert selection.select(JUDGED, "mfd", seed=0)["instruction"][:] == ["0", "2"]


def test_chance_draws_as_many_rows_as_mfd_finds_hard_from_all_of_them():
    drawn = [selection.select(JUDGED, "random", seed)["instruction"][:] for seed in range(20)]
    assert all(len(set(texts)) == 2 for texts in drawn)
    assert set().union(*drawn) == set("012345")


@pytest.mark.parametrize(
    "judged, name, reason",
    [
        (rows(None, None), "mfd", "threshold: no row has so high an MFD"),
        (rows(1.0, 0.0), "random", "threshold: no row has so high an MFD"),
        (rows(3.0, 3.0, None), "mfd", "does not differ between these rows"),
        (JUDGED, "ifd", "selection=ifd: it needs a student"),
        (JUDGED, "grape", "selection=grape: it needs a student"),
        (rows(1.0, 0.0), "grape", "threshold: no row has so high an MFD"),
        (JUDGED, "mdf", "selection=mdf: it is unknown. Choose one of mfd, random, longest"),
    ],
)
def test_what_cannot_be_selected_is_refused_with_its_reason(judged, name, reason):
    with pytest.raises(UserError, match=reason):
        selection.select(judged, name, seed=0)


# Baselines


def with_lengths(*lengths, mfd=None):
    """Rows whose responses have so many letters; half of them are hard."""
    judged, numbered = rows(*(mfd or [9.0, 0.0] * len(lengths))[: len(lengths)]), range(len(lengths))
    texts = {"instruction": [f"Say {i}" for i in numbered], "response": ["b" * length for length in lengths]}
    return records.update(judged, **texts)


def chosen(rows, name, **signals):
    return [int(text.split()[1]) for text in selection.select(rows, name, 0, **signals)["instruction"]]


def test_the_longest_responses_are_taken_as_many_as_are_hard():
    assert chosen(with_lengths(5, 9, 2, 7), "longest") == [1, 3]


def test_lion_takes_all_gaps_of_one_and_as_many_easy_rows():
    rows = with_lengths(*[1] * 8, mfd=[3.0, 1.0, 0.5, 0.0, -1.0, None, 0.0, 0.0])
    drawn = chosen(rows, "lion")
    assert drawn[:2] == [0, 1] and len(drawn) == 4 and set(drawn[2:]) <= {2, 3, 4, 6, 7}


def mean_loss(backend, start: str, text: str) -> float:
    """Of the tokens of `text` behind `start`, without batch, padding or labels."""
    tokenizer, model = backend.tokenizer, backend.model
    before = tokenizer(start, add_special_tokens=False)["input_ids"]
    ids = torch.tensor([before + tokenizer(text, add_special_tokens=False)["input_ids"]])
    with torch.inference_mode():
        chances = model(ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
    return -chances[len(before) - 1 :].mean().item()


PROMPT = "<|bos|><|user|>{}<|end|><|assistant|>"


def test_ifd_is_the_loss_with_the_instruction_over_the_loss_without(folder):
    rows, backend, text = with_lengths(3, 8), models.load(folder), "b" * 8 + "<|end|>"
    expected = mean_loss(backend, PROMPT.format("Say 1"), text) / mean_loss(backend, "<|bos|>", text)
    assert selection.ifd(rows, backend, 64)[1] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("bos", ["<|bos|>", None])
@pytest.mark.parametrize("prompt, response, length", [(8, 8, 64), (60, 60, 100), (60, 60, 70)])
def test_both_losses_of_ifd_are_over_the_same_tokens(folder, bos, prompt, response, length):
    tokenizer = loading.load_tokenizer(folder)
    tokenizer.bos_token = bos
    tokenizer.chat_template = tokenizer.chat_template.replace("bos_token", "''")
    rows = records.build([{"instruction": "i" * prompt, "response": "r" * response}])
    given, alone = (side[0]["labels"] for side in encoding.with_and_without(tokenizer, rows, length))
    taught = [[label for label in labels if label != encoding.IGNORED] for labels in (given, alone)]
    assert taught[0] == taught[1] and len(given) <= length and alone[0] == encoding.IGNORED
    room = min(response + 1, length - prompt - 3)  # two markers before the instruction, one behind
    assert len(taught[0]) == (room if bos else room - 1)


def test_ifd_takes_the_highest_ratios_but_none_above_one(folder, monkeypatch):
    monkeypatch.setattr(selection, "ifd", lambda rows, student, length: [0.5, 1.2, 0.9, 0.7])
    assert chosen(with_lengths(1, 2, 3, 4), "ifd", student=folder) == [2, 3]


TEXTS = [  # of the corpus, of the oracle
    ("Blue, and red.", "b"),
    ("zzzz", "The sea is wide and the night is long."),
    ("one two three", None),
    ("It is 9.", "It is 9."),
    ("Qx!", "the the the the"),
]


def with_candidates(mfd=None):
    columns = zip(*TEXTS, strict=True)
    named = dict(zip(("corpus_response", "oracle_response"), map(list, columns), strict=True))
    rows = with_lengths(*[1] * len(TEXTS), mfd=mfd)
    return records.update(rows, **named, response=named["corpus_response"])


def likeliest(folder) -> list[tuple[float, int, str, str]]:
    """The best candidate of each row by a loss of its own computing, best first; the corpus's where equal."""
    backend, ranked = models.load(folder), []
    for i, texts in enumerate(TEXTS):
        named = zip(texts, ("corpus", "oracle"), strict=True)
        prompt = PROMPT.format(f"Say {i}")
        options = [(mean_loss(backend, prompt, f"{t}<|end|>"), i, t, a) for t, a in named if t]
        ranked.append(min(options, key=lambda option: round(option[0], 5)))
    return sorted(ranked)


@pytest.mark.parametrize(
    "mfd, taken",
    [
        ([9.0, 0.0, 9.0, None, 0.0], 2),  # as many as are hard
        ([None] * 5, 4),  # not judged: as many as the pool is to hold
    ],
)
def test_grape_takes_the_response_of_the_smaller_loss_then_the_rows_of_the_smallest(folder, mfd, taken):
    best = sorted(likeliest(folder)[:taken], key=lambda option: option[1])
    selected = selection.select(with_candidates(mfd), "grape", student=folder, pool_rows=4)
    rows = records.iter_rows(selected, "instruction", "response", "response_from")
    assert [tuple(row.values()) for row in rows] == [
        (f"Say {i}", text, author) for _, i, text, author in best
    ]


def test_grape_without_an_oracle_ranks_the_corpuss_responses(folder):
    rows = records.update(with_candidates([None] * 5), oracle_response=[None] * 5)
    backend = models.load(folder)
    losses = [
        mean_loss(backend, PROMPT.format(f"Say {i}"), f"{text}<|end|>") for i, (text, _) in enumerate(TEXTS)
    ]
    expected = sorted(sorted(range(5), key=losses.__getitem__)[:3])
    assert selection.rate(rows, "grape", oracle=None) == {}
    assert chosen(rows, "grape", student=folder, pool_rows=3) == expected


class Rater:
    """Says these ratings, by scale."""

    def __init__(self, **ratings):
        self.ratings = ratings

    def rate(self, rows, scale):
        return self.ratings[scale][: len(rows)]


def rated(rows, name, **ratings):
    return chosen(rows, name, ratings=selection.rate(rows, name, Rater(**ratings)))


def test_score_takes_what_is_rated_four_and_a_half_or_better_and_nothing_without_a_rating():
    assert rated(with_lengths(1, 2, 3, 4), "score", accuracy=[4.5, 4.4, 5.0, 1.0]) == [0, 2]
    ratings = [None, *[5.0] * 20, *[1.0] * 19]
    assert rated(with_lengths(*range(1, 41)), "score", accuracy=ratings) == list(range(1, 21))


def test_deita_takes_the_most_complex_with_the_best_responses_as_many_as_are_hard():
    ratings = {"complexity": [6.0, 2.0, 3.0, 5.0], "quality": [1.0, 6.0, 5.0, 2.0]}
    assert rated(with_lengths(1, 2, 3, 4), "deita", **ratings) == [1, 2]


def test_deita_takes_nothing_that_is_too_like_what_it_took_before():
    colours = ["Name the seven colours of a rainbow.", "Name the seven colours of the rainbow."]
    rows = records.update(with_lengths(1, 2, 3, 4), instruction=[*colours, "Sing.", "Add."])
    ratings = {"complexity": [6.0, 5.0, 2.0, 1.0], "quality": [6.0, 6.0, 6.0, 6.0]}
    taken = selection.select(rows, "deita", 0, ratings=selection.rate(rows, "deita", Rater(**ratings)))
    assert taken["instruction"][:] == [colours[0], "Sing."]


def test_ratings_most_of_which_could_not_be_read_are_refused():
    with pytest.raises(UserError, match="50.0% of the ratings of accuracy could not be read"):
        selection.rate(with_lengths(1, 2, 3, 4), "score", Rater(accuracy=[None, None, 5.0, 1.0]))


RATINGS = {
    "4.5": 4.5,
    "Rating: 5 (excellent)": 5,
    "4 (out of 5)": 4,
    "4 (often right)": 4,
    "4 (out of 10)": None,
}
RATINGS |= {"Score: 4.5 (/5) - fine but for the end": 4.5, "4/10": None, "**Accuracy score: 3/5**.": 3}
RATINGS |= {"7": None, "On a scale of 0 to 5 I say 4": None}


@pytest.mark.parametrize("reply", RATINGS)
def test_a_rating_is_read_from_the_first_line_alone_or_not_at_all(reply):
    assert judge.read_rating(reply, "accuracy") == RATINGS[reply]


def test_the_examples_in_the_docstring_hold():
    assert not doctest.testmod(judge).failed
