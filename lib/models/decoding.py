"""Decode a batch that finished sequences leave; transformers' `generate` carries them to the end."""

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

SHRINK = 0.8  # finished sequences leave the batch when no more than this share of it goes on
ROOM = 64  # tokens a cache grows by at a time


class _RoomyLayer(DynamicLayer):
    """Keys and values [rows, heads, tokens, width] with room to grow, so that a token copies nothing."""

    room: tuple[torch.Tensor, torch.Tensor] | None = None  # what self.keys and self.values are the start of

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs):
        if not self.is_initialized:
            return super().update(key_states, value_states)
        start, end = self.keys.shape[2], self.keys.shape[2] + key_states.shape[2]
        if self.room is None or end > self.room[0].shape[2]:
            self.room = _grown(self.keys, end + ROOM), _grown(self.values, end + ROOM)
        for store, new in zip(self.room, (key_states, value_states), strict=True):
            store[:, :, start:end] = new
        self.keys, self.values = (store[:, :, :end] for store in self.room)
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        super().batch_select_indices(indices)
        self.room = None


def _grown(states: torch.Tensor, tokens: int) -> torch.Tensor:
    rows, heads, length, width = states.shape
    store = states.new_empty(rows, heads, tokens, width)
    store[:, :, :length] = states
    return store


def _cache(config) -> DynamicCache:
    """The cache this kind of model wants, its plain layers with room to grow."""
    cache = DynamicCache(config=config)
    cache.layers = [_RoomyLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


@torch.inference_mode()
def decode(
    model: torch.nn.Module,
    ids: torch.Tensor,
    mask: torch.Tensor,
    ends: torch.Tensor,
    limit: int,
    samples: int = 1,
    temperature: float = 0.0,
    top_k: int = 0,
) -> list[list[int]]:
    """`samples` continuations of each left-padded prompt, prompt by prompt, up to and with their end token.

    `ids` and `mask` are [prompts, tokens], `ends` the tokens that close a sequence. Temperature 0 is greedy,
    top_k 0 draws from all tokens.
    """
    cache = _cache(model.config)
    logits = _forward(model, ids, mask, cache)
    cache.batch_repeat_interleave(samples)
    logits, mask = logits.repeat_interleave(samples, 0), mask.repeat_interleave(samples, 0)
    generated = torch.full((len(logits), limit), -1, device=ids.device)
    rows, going = torch.arange(len(logits), device=ids.device), logits.new_ones(len(logits), dtype=bool)
    for step in range(limit):
        tokens = _next_tokens(logits, temperature, top_k)
        generated[rows[going], step] = tokens[going]
        going &= ~torch.isin(tokens, ends)
        if step + 1 == limit or not going.any():
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


def _next_tokens(logits: torch.Tensor, temperature: float, top_k: int) -> torch.Tensor:
    if not temperature:
        return logits.argmax(1)
    if 0 < top_k < logits.shape[1]:
        least = logits.topk(top_k, 1).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    return torch.multinomial((logits.float() / temperature).softmax(1), 1).squeeze(1)
