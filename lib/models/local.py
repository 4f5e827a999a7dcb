"""A model in this process, which completes batches of prompts padded to one length."""

from collections.abc import Callable

import torch

from lib.models import chat_template, decoding
from lib.models.backend import Backend, Batch
from lib.models.types import Completion, SamplingParams
from lib.text import opens_thought, split_thoughts

ON_CPU, ON_GPU, IN_SLOTS = 64, 1024, 4096  # prompts in a batch
SLOTS = 512  # sequences that a GPU decodes side by side
STEP = 64  # the lengths of slots are its multiples: a CUDA graph has one length


class LocalBackend(Backend):
    """A causal language model and its tokenizer, loaded."""

    def __init__(self, model: torch.nn.Module, tokenizer):
        self.model, self.tokenizer = model, tokenizer
        self.context = context(model.config)
        on_gpu = model.device.type == "cuda"
        self.in_slots, self.slots = on_gpu and decoding.fits_slots(model), None
        self.most_slots = SLOTS
        self.batch_size = IN_SLOTS if self.in_slots else ON_GPU if on_gpu else ON_CPU

    def complete(self, batches: dict[int, Batch], params: SamplingParams, store: Callable) -> None:
        """Complete one batch after the other; nothing stays on the GPU but the model."""
        try:
            for number, batch in batches.items():
                store(number, self.complete_batch(batch, params))
        finally:
            self.slots = None

    def complete_batch(self, batch: Batch, params: SamplingParams) -> list[list[Completion]]:
        """Return the completions of a batch, prompt by prompt; in halves where they exceed a GPU's memory."""
        try:
            return self._complete_at_once(batch, params)
        except torch.OutOfMemoryError:
            if len(batch.prompts) == 1:
                raise
        if self.slots:
            self.most_slots, self.slots = max(1, self.slots.rows // 2), None
        torch.cuda.empty_cache()
        half = len(batch.prompts) // 2
        first, second = batch.prompts[:half], batch.prompts[half:]
        return [
            *self.complete_batch(Batch(first, batch.seed), params),
            *self.complete_batch(Batch(second, batch.seed + half), params),
        ]

    def _complete_at_once(self, batch: Batch, params: SamplingParams) -> list[list[Completion]]:
        torch.manual_seed(batch.seed)
        inputs = self.tokenizer(batch.prompts, return_tensors="pt", padding=True, add_special_tokens=False)
        ids, mask = (inputs[name].to(self.model.device) for name in ("input_ids", "attention_mask"))
        ends = chat_template.ends(self.tokenizer, self.model.generation_config)
        continuations = iter(self._decode(ids, mask, torch.tensor(ends, device=ids.device), params))
        return [
            [read(self.tokenizer, next(continuations), ends, prompt, tokens) for _ in range(params.n)]
            for prompt, tokens in zip(batch.prompts, mask.sum(1).tolist(), strict=True)
        ]

    def _decode(self, ids, mask, ends, params: SamplingParams) -> list[list[int]]:
        if not self.in_slots:
            return decoding.decode(self.model, ids, mask, ends, params)
        rows, length = min(self.most_slots, len(ids) * params.n), ids.shape[1] + params.max_tokens
        length = max(length, min(-(-length // STEP) * STEP, self.context or 0))
        if not self.slots or (self.slots.wish, self.slots.length) != (rows, length):
            self.slots = None  # before there are others: they fill the GPU
            self.slots = decoding.Slots(self.model, rows, length)
        return self.slots.decode(ids, mask, ends, params)


def read(tokenizer, ids: list[int], ends: list[int], prompt: str, prompt_tokens: int) -> Completion:
    """Read a completion from its tokens, with the thoughts before the text split off."""
    whole = tokenizer.decode(ids)  # special tokens may enclose a thought
    reasoning, text = split_thoughts(whole, opens_thought(prompt))
    if text == whole:
        text = tokenizer.decode(ids, skip_special_tokens=True)
    else:
        for token in tokenizer.added_tokens_decoder.values():
            if token.special:
                reasoning, text = reasoning.replace(token.content, ""), text.replace(token.content, "")
    finish_reason = "stop" if ids[-1] in ends else "length"
    return Completion(text, reasoning, finish_reason, prompt_tokens, len(ids))


def context(config) -> int | None:
    """Return the tokens of prompt and completion together; None where the model does not say."""
    return getattr(config.get_text_config(), "max_position_embeddings", None)
