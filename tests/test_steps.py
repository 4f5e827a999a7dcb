"""A pass holds every row once, in batches of like length; packed rows see themselves alone."""

import pytest
import tiny
import torch
from tiny import ROWS

from lib import models
from lib.training import data, encoding


def test_batches_hold_rows_of_like_length_in_random_order_and_every_row_once():
    lengths = [(7 * i) % 100 for i in range(1003)]
    sampler = data.LengthGroupedSampler(lengths, batch_size=4, seed=0)
    first = list(sampler)
    second = list(data.LengthGroupedSampler(lengths, batch_size=4, seed=0, epoch=lambda: 1))
    assert sorted(first) == sorted(second) == list(range(1003)) and first != second
    batches = [[lengths[i] for i in first[start : start + 4]] for start in range(0, 1000, 4)]
    assert sum(max(batch) - min(batch) for batch in batches) / len(batches) < 5  # 60 for batches by chance
    means = [sum(batch) for batch in batches]
    falls = sum(a > b for a, b in zip(means, means[1:], strict=False)) / len(means)
    assert 0.4 < falls < 0.6  # neither up nor down
    assert list(data.LengthGroupedSampler(lengths, 4, seed=0)) == first


def test_the_last_batch_is_completed_with_a_row_without_loss_where_batches_must_be_whole():
    sampler = data.LengthGroupedSampler([5, 6, 7], 4, seed=0, pad_row=3)
    assert len(sampler) == 4 and sorted(sampler) == [0, 1, 2, 3] and list(sampler)[3] == 3


def test_rows_lie_side_by_side_and_their_positions_restart():
    rows = [
        {"input_ids": [7, 8], "labels": [-100, 8]},
        {"input_ids": [9] * 3, "labels": [9] * 3},
        {"input_ids": [6] * 2, "labels": [-100, 6]},
    ]
    columns = {name: values.tolist() for name, values in data.packed(rows, 5).items()}
    assert columns["input_ids"] == [[7, 8, 9, 9, 9], [6, 6, 0, 0, 0]]
    assert columns["labels"] == [
        [-100, 8, -100, 9, 9],
        [-100, 6, -100, -100, -100],
    ]  # nothing of its own predicts a first token
    assert columns["position_ids"] == [[0, 1, 0, 1, 2], [0, 1, 0, 1, 2]]


def test_bins_are_shorter_where_that_takes_no_more_padding():
    rows = [{"input_ids": [7] * size, "labels": [7] * size} for size in (30, 3, 25, 7)]
    shapes = {length: tuple(data.packed(rows, length)["labels"].shape) for length in (32, 64, 128, 65)}
    assert shapes == {32: (3, 32), 64: (3, 32), 128: (3, 32), 65: (1, 65)}
    assert data.packed(rows[1:2] * 30, 64)["labels"].shape == (6, 16)
    assert data.packed(rows[1:2] * 21, 64)["labels"].shape == (1, 64)


def test_packed_and_alone_a_row_has_the_same_loss(tmp_path):
    loaded = models.load(tiny.make(tmp_path / "tiny"))
    encoded = encoding.encode(loaded.tokenizer, ROWS, 64)
    first, second, _ = map(len, encoded["input_ids"])
    bins = data.packed(list(encoded), first + second)
    labels = bins.pop("labels")
    assert len(labels) == 2  # two rows in the first bin
    with torch.inference_mode():
        log_probabilities = loaded.model(**bins, use_cache=False).logits[:, :-1].log_softmax(-1)
    here = labels[:, 1:] != encoding.IGNORED
    losses = -log_probabilities[here].gather(1, labels[:, 1:][here][:, None])[:, 0]
    alone, sizes = encoding.response_losses(loaded, encoded), encoding.response_tokens(encoded)
    packed = [part.sum().item() for part in losses.split(sizes)]
    assert packed == pytest.approx(alone, rel=1e-5)
