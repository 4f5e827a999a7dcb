"""A student that is loaded in this process: its replies to batches, padded on a CPU, by continuous batching on a GPU."""

import torch
from transformers import GenerationConfig

from lib.models import chat_template, continuous, decoding
from lib.models.batches import Batch, How, Keep, Reply
from lib.text import opens_thought, split_thoughts


def answer(model: torch.nn.Module, tokenizer, batches: dict[int, Batch], how: How, keep: Keep) -> None:
    """Give `keep` the replies to each batch, one batch after the other."""
    for number, batch in batches.items():
        keep(number, answer_batch(model, tokenizer, batch, how))


def answer_batch(model: torch.nn.Module, tokenizer, batch: Batch, how: How) -> list[list[Reply]]:
    """The replies to each text of a batch."""
    decode = _continuous if on_gpu(model) else _padded
    closing = ends(model.generation_config, tokenizer)
    drawn = decode(model, tokenizer, batch, closing, how)
    prompts = [text for text in batch.texts for _ in range(how.samples)]
    made = [_reply(ids, closing, tokenizer, text) for ids, text in zip(drawn, prompts, strict=True)]
    return [made[i : i + how.samples] for i in range(0, len(made), how.samples)]


def ends(generation: GenerationConfig, tokenizer) -> set[int]:
    """The tokens that close a response."""
    return set(chat_template.ends(tokenizer, generation))


def on_gpu(model: torch.nn.Module) -> bool:
    return model.device.type == "cuda"


def _padded(model, tokenizer, batch: Batch, ends: set[int], how: How) -> list[list[int]]:
    torch.manual_seed(batch.seed)
    asked = tokenizer(batch.texts, return_tensors="pt", padding=True, add_special_tokens=False)
    asked = asked.to(model.device)
    closing = torch.tensor(sorted(ends), device=model.device)
    drawn = how.limit, how.samples, how.temperature, how.top_k
    return decoding.decode(model, asked["input_ids"], asked["attention_mask"], closing, *drawn)


def _continuous(model, tokenizer, batch: Batch, ends: set[int], how: How) -> list[list[int]]:
    ids = tokenizer(batch.texts, add_special_tokens=False)["input_ids"]
    drawn = how.limit, how.samples, how.temperature, how.top_k
    return continuous.decode(model, ids, ends, *drawn, seed=batch.seed)


def _reply(ids: list[int], ends: set[int], tokenizer, prompt: str = "") -> Reply:
    finish = "stop" if ids[-1] in ends else "length"
    whole = tokenizer.decode(ids)  # special tokens may enclose a thought
    reasoning, text = split_thoughts(whole, opens_thought(prompt))
    if text == whole:
        return Reply(tokenizer.decode(ids, skip_special_tokens=True), finish, len(ids))
    special = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    for token in special:
        reasoning, text = reasoning.replace(token, ""), text.replace(token, "")
    return Reply(text, finish, len(ids), reasoning)
