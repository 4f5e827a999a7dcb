"""Which rows a training step holds, and how they lie in it: side by side without padding, or padded to the longest."""

from collections.abc import Callable, Iterator
from random import Random

import torch
from datasets import Dataset
from torch.utils.data import Sampler

from lib.errors import UserError
from lib.training.encoding import IGNORED

POOL = 50  # batches whose rows are sorted together
CHECKED = 64  # tokens of a row that packing is checked on
LEAK = 1e-6  # share of the largest logit: kernels repeat exactly where nothing leaks


class LikeLengths(Sampler[int]):
    """Row numbers of one pass: batches of rows of like length, in random order; `which` says, whenever a
    pass begins, which one it is, from 0 on.

    The library's own grouping runs from long to short again and again, which the loss then follows. Where several processes
    share a step, all batches must be whole: `filler`, the number of a row without loss, completes the last one.
    """

    def __init__(
        self,
        lengths: list[int],
        batch_size: int,
        seed: int,
        filler: int | None = None,
        which: Callable[[], int] = lambda: 0,
    ):
        self.lengths, self.batch_size, self.seed, self.which = lengths, batch_size, seed, which
        self.fill = [] if filler is None else [filler] * (-len(lengths) % batch_size)

    def __len__(self) -> int:
        return len(self.lengths) + len(self.fill)

    def __iter__(self) -> Iterator[int]:
        rng = Random(self.seed)
        passes = (self._order(rng) for _ in range(self.which() + 1))
        *_, order = passes  # a restart draws those before it, too
        return iter(order + self.fill)

    def _order(self, rng: Random) -> list[int]:
        order = rng.sample(range(len(self.lengths)), len(self.lengths))
        size, whole = self.batch_size, len(order) // self.batch_size * self.batch_size
        sorted_ = [
            i
            for start in range(0, whole, size * POOL)
            for i in sorted(order[start : min(start + size * POOL, whole)], key=self.lengths.__getitem__)
        ]
        batches = [sorted_[start : start + size] for start in range(0, whole, size)]
        rng.shuffle(batches)
        return [i for batch in batches for i in batch] + order[whole:]  # a smaller batch comes last


def packed(rows: list[dict], length: int) -> dict[str, torch.Tensor]:
    """Encoded rows side by side in bins of `length` tokens: input_ids, labels and position_ids, each [bins, length].

    Rows keep their order within a bin; each goes into the first bin with room. Positions restart at every row and there is no
    attention mask, from which a model (asked with use_cache=False) knows that a row sees itself alone. No row may be longer than `length`.
    """
    bins: list[list[dict]] = []
    for row in rows:
        fitting = (some for some in bins if _size(some) + len(row["input_ids"]) <= length)
        room = next(fitting, None)
        if room is None:
            bins.append(room := [])
        room.append(row)
    made = {"input_ids": [], "labels": [], "position_ids": []}
    for some in bins:
        empty = length - _size(some)
        ids, labels = [row["input_ids"] for row in some], [[IGNORED, *row["labels"][1:]] for row in some]
        made["input_ids"].append(sum(ids, []) + [0] * empty)
        made["labels"].append(sum(labels, []) + [IGNORED] * empty)
        made["position_ids"].append([i for one in (*ids, range(empty)) for i in range(len(one))])
    return {name: torch.tensor(values) for name, values in made.items()}


@torch.inference_mode()
def check_packing(model: torch.nn.Module, rows: Dataset) -> None:
    """Raises UserError where what a model says of a row depends on the row packed before it.

    Attention keeps them apart, states that are carried along (Mamba's, linear attention's) or positions counted elsewhere do not.
    """
    first, second = (dict(rows[i], input_ids=rows[i]["input_ids"][:CHECKED]) for i in (0, len(rows) - 1))
    other = dict(first, input_ids=first["input_ids"][::-1])
    length = _size([first, second])
    bins = [
        packed([one | {"labels": one["input_ids"]} for one in pair], length)
        for pair in ((first, second), (other, second))
    ]
    here = [{name: bin[name].to(model.device) for name in ("input_ids", "position_ids")} for bin in bins]
    said = [model(**bin, use_cache=False).logits[0, len(first["input_ids"]) :].float() for bin in here]
    if (said[0] - said[1]).abs().max() > LEAK * said[0].abs().max():
        raise UserError("this student mixes rows that are packed side by side: set packing to false")


def _size(rows: list[dict]) -> int:
    return sum(len(row["input_ids"]) for row in rows)
