"""The rows of a training step: batches of similar length, padded or packed side by side."""

from collections.abc import Callable, Iterator
from random import Random

import torch
from datasets import Dataset
from torch.utils.data import Sampler

from lib import records
from lib.errors import UserError
from lib.training.encoding import IGNORED

POOL = 50  # batches whose rows are sorted together
ALIGN = 16  # tokens: attention pads masks of other lengths, in every layer
LEAK = 1e-6  # share of the largest logit: kernels repeat exactly where nothing leaks


class LengthGroupedSampler(Sampler[int]):
    """Row numbers of one epoch: batches of similar length, in random order.

    The sampler of transformers goes from long to short again and again, which makes the loss oscillate.
    `epoch` returns the number of the epoch that begins, from 0. `pad_row` is the number of a row without
    loss, which fills the last batch: processes can only share a whole one.
    """

    def __init__(
        self,
        lengths: list[int],
        batch_size: int,
        seed: int,
        pad_row: int | None = None,
        epoch: Callable[[], int] = lambda: 0,
    ):
        self.lengths, self.batch_size, self.seed, self.epoch = lengths, batch_size, seed, epoch
        self.padding = [] if pad_row is None else [pad_row] * (-len(lengths) % batch_size)

    def __len__(self) -> int:
        return len(self.lengths) + len(self.padding)

    def __iter__(self) -> Iterator[int]:
        rng = Random(self.seed)
        for _ in range(self.epoch() + 1):  # a resumed training draws the earlier epochs again
            order = self._draw(rng)
        return iter(order + self.padding)

    def _draw(self, rng: Random) -> list[int]:
        order = rng.sample(range(len(self.lengths)), len(self.lengths))
        whole = len(order) // self.batch_size * self.batch_size
        pools = records.batched(order[:whole], self.batch_size * POOL)
        by_length = [row for pool in pools for row in sorted(pool, key=self.lengths.__getitem__)]
        batches = list(records.batched(by_length, self.batch_size))
        rng.shuffle(batches)
        return [row for batch in batches for row in batch] + order[whole:]  # a smaller batch comes last


def packed(rows: list[dict], length: int) -> dict[str, torch.Tensor]:
    """Lay encoded rows side by side in bins of equal length, each in the first bin with room.

    Returns input_ids, labels and position_ids, each [bins, length]. `length` is the most: bins of a half, a
    quarter … of it are taken where they need no more padding, as attention grows with the square. No row may
    be longer than `length`. Positions restart at every row: by them, without an attention mask and with
    use_cache=False, each row attends to itself alone. TRL's padding_free makes one bin of all rows:
    quadratic without FlashAttention.
    """
    longest, lengths = max(len(row["input_ids"]) for row in rows), [length]
    while lengths[-1] % (2 * ALIGN) == 0 and lengths[-1] // 2 >= longest:
        lengths.append(lengths[-1] // 2)
    tried = [_bins(rows, each) for each in reversed(lengths)]
    bins = min(tried, key=lambda bins: sum(len(bin["input_ids"]) for bin in bins))
    return {name: torch.tensor([bin[name] for bin in bins]) for name in bins[0]}


def _bins(rows: list[dict], length: int) -> list[dict[str, list[int]]]:
    bins: list[dict[str, list[int]]] = []
    for row in rows:
        size = len(row["input_ids"])
        bin = next((bin for bin in bins if len(bin["input_ids"]) + size <= length), None)
        if bin is None:
            bins.append(bin := {"input_ids": [], "labels": [], "position_ids": []})
        bin["input_ids"] += row["input_ids"]
        bin["labels"] += [IGNORED, *row["labels"][1:]]  # the row before does not predict the first token
        bin["position_ids"] += range(size)
    for bin in bins:
        room = length - len(bin["input_ids"])
        bin["input_ids"] += [0] * room
        bin["labels"] += [IGNORED] * room
        bin["position_ids"] += range(room)
    return bins


@torch.inference_mode()
def check_packing(model: torch.nn.Module, encoded: Dataset) -> None:
    """Raise UserError where the logits of a row depend on the row packed before it.

    Attention separates rows by their positions; recurrent states (Mamba, linear attention) do not.
    """
    row = torch.tensor(encoded[0]["input_ids"][:64], device=model.device)
    positions = torch.arange(len(row), device=model.device).repeat(1, 2)
    logits, changed = (
        model(input_ids=torch.cat([before, row])[None], position_ids=positions, use_cache=False).logits
        for before in (row, row.flip(0))
    )
    difference = (logits - changed)[0, len(row) :].abs().max()
    if difference > LEAK * logits.abs().max():
        raise UserError(
            "packing=true: in this student, packed rows influence each other. Choose a hardware profile "
            "without packing."
        )
