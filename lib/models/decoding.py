"""Decode a batch that finished sequences leave; transformers' `generate` carries them to the end."""

import torch
from transformers import DynamicCache, TopPLogitsWarper

from lib.models.types import SamplingParams

SHRINK = 0.8  # finished sequences leave the batch when no more than this share of it goes on


@torch.inference_mode()
def decode(
    model: torch.nn.Module, ids: torch.Tensor, mask: torch.Tensor, ends: torch.Tensor, params: SamplingParams
) -> list[list[int]]:
    """Return `params.n` continuations of each prompt, prompt by prompt, up to and with their end token.

    `ids` and `mask` are [prompts, tokens], padded on the left; `ends` are the tokens that end a sequence.
    """
    cache = DynamicCache(config=model.config)
    logits = _forward(model, ids, mask, cache)
    cache.batch_repeat_interleave(params.n)
    logits, mask = logits.repeat_interleave(params.n, 0), mask.repeat_interleave(params.n, 0)
    generated = torch.full((len(logits), params.max_tokens), -1, device=ids.device)
    rows, going = torch.arange(len(logits), device=ids.device), logits.new_ones(len(logits), dtype=bool)
    for step in range(params.max_tokens):
        tokens = next_tokens(logits, params)
        generated[rows[going], step] = tokens[going]
        going &= ~torch.isin(tokens, ends)
        if step + 1 == params.max_tokens or not going.any():
            break
        if going.sum() <= SHRINK * len(going):
            cache.batch_select_indices(going.nonzero().squeeze(1))
            rows, tokens, mask, going = (part[going] for part in (rows, tokens, mask, going))
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
        logits = _forward(model, tokens[:, None], mask, cache)
    return [[token for token in row if token >= 0] for row in generated.tolist()]


def _forward(
    model: torch.nn.Module, ids: torch.Tensor, mask: torch.Tensor, cache: DynamicCache
) -> torch.Tensor:
    """Return the next token's logits [rows, vocabulary]; `mask` covers the cache and `ids` [rows, tokens]."""
    positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
    output = model(ids, mask, position_ids=positions, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return output.logits[:, -1]


def next_tokens(logits: torch.Tensor, params: SamplingParams) -> torch.Tensor:
    """Choose a token [rows] by its logits [rows, vocabulary]."""
    if not params.temperature:
        return logits.argmax(1)
    if 0 < params.top_k < logits.shape[1]:
        least = logits.topk(params.top_k, 1).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    logits = logits.float() / params.temperature
    if params.top_p < 1:
        logits = TopPLogitsWarper(params.top_p)(None, logits)
    return torch.multinomial(logits.softmax(1), 1).squeeze(1)
