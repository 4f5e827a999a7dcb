"""A student that is loaded in this process: its replies to batches, padded on a CPU, by continuous batching on a GPU."""

from collections.abc import Callable

import torch
from transformers import GenerationConfig

from lib import continuous, decoding
from lib.batches import Batch, Reply


def answer(
    model: torch.nn.Module,
    tokenizer,
    batches: dict[int, Batch],
    samples: int,
    temperature: float,
    limit: int,
    top_k: int,
    keep: Callable[[int, list[list[Reply]]], None],
) -> None:
    """Give `keep` the replies to each batch, one batch after the other."""
    for number, batch in batches.items():
        keep(number, answer_batch(model, tokenizer, batch, samples, temperature, limit, top_k))


def answer_batch(
    model: torch.nn.Module, tokenizer, batch: Batch, samples: int, temperature: float, limit: int, top_k: int
) -> list[list[Reply]]:
    """`samples` replies to each text of a batch."""
    decode = _continuous if on_gpu(model) else _padded
    closing = ends(model.generation_config, tokenizer)
    drawn = decode(model, tokenizer, batch, closing, limit, samples, temperature, top_k)
    made = [_reply(ids, closing, tokenizer) for ids in drawn]
    return [made[i : i + samples] for i in range(0, len(made), samples)]


def ends(generation: GenerationConfig, tokenizer) -> set[int]:
    """The tokens that close a response."""
    named = torch.tensor(generation.eos_token_id or []).flatten().tolist()
    return {*named, tokenizer.eos_token_id}


def on_gpu(model: torch.nn.Module) -> bool:
    return model.device.type == "cuda"


def _padded(model, tokenizer, batch: Batch, ends: set[int], *how) -> list[list[int]]:
    torch.manual_seed(batch.seed)
    asked = tokenizer(batch.texts, return_tensors="pt", padding=True, add_special_tokens=False)
    asked = asked.to(model.device)
    closing = torch.tensor(sorted(ends), device=model.device)
    return decoding.decode(model, asked["input_ids"], asked["attention_mask"], closing, *how)


def _continuous(model, tokenizer, batch: Batch, ends: set[int], *how) -> list[list[int]]:
    ids = tokenizer(batch.texts, add_special_tokens=False)["input_ids"]
    return continuous.decode(model, ids, ends, *how, seed=batch.seed)


def _reply(ids: list[int], ends: set[int], tokenizer) -> Reply:
    text = tokenizer.decode(ids, skip_special_tokens=True)
    return Reply(text, "stop" if ids[-1] in ends else "length", len(ids))
