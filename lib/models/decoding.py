"""Decode without waiting for the longest sequence, for which transformers' `generate` waits.

On a CPU finished sequences leave the batch (`decode`). On a GPU, where a smaller batch is no faster, waiting
sequences take their place (`Slots`).
"""

import inspect
import warnings

import torch
from transformers import DynamicCache, DynamicLayer, StaticCache, StaticLayer, TopPLogitsWarper

from lib.errors import one_line
from lib.models.types import SamplingParams

SHRINK = 0.8  # finished sequences leave the batch when no more than this share of it goes on
REFILL = 1 / 8  # share of the slots that are free before prompts are read into them
READ = 2**16  # tokens of prompts that are read at a time, padding included
MEMORY = 0.6  # share of a GPU's free memory that the cache may take


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
    return _logits(model, ids, mask, positions, cache)


def _logits(model: torch.nn.Module, ids, mask, positions, cache) -> torch.Tensor:
    output = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
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


def fits_slots(model: torch.nn.Module) -> bool:
    """Whether `Slots` can hold a model: one without sliding windows and recurrent states."""
    try:
        layers = StaticCache(config=model.config, max_cache_len=1).layers
    except (KeyError, ValueError):
        return False
    return (
        all(type(layer) is StaticLayer for layer in layers)
        and model.config._attn_implementation == "sdpa"
        and getattr(model, "_can_compile_fullgraph", False)
        and "position_ids" in inspect.signature(model.forward).parameters
    )


class Slots:
    """Rows of a static cache in which sequences are decoded side by side, each at its own place.

    `rows` is a wish: fewer where the GPU's memory holds fewer. `length` is the most tokens of a sequence.
    All steps have one shape, so that a GPU can replay them as a CUDA graph: launching the kernels of a small
    model one by one takes longer than running them.
    """

    @torch.inference_mode()
    def __init__(self, model: torch.nn.Module, rows: int, length: int):
        read = DynamicCache(config=model.config)
        first = torch.ones(1, 1, dtype=torch.long, device=model.device)
        logits = _forward(model, first, first, read)
        self.wish, self.length = rows, length
        size = length * sum(part.nbytes for layer in read.layers for part in (layer.keys, layer.values))
        on_gpu = model.device.type == "cuda"
        if on_gpu:
            torch.cuda.empty_cache()
            while rows > 1 and rows * size > MEMORY * torch.cuda.mem_get_info(model.device)[0]:
                rows //= 2
        self.model, self.rows = model, rows
        self.tokens = first.repeat(rows, 1)  # the last of each row, [rows, 1]
        self.places = first.new_zeros(rows)  # where they go in the cache
        self.mask = first.new_zeros(rows, length, dtype=torch.bool)
        self.logits = logits.new_zeros(rows, logits.shape[1])  # of the next tokens
        self.cache = StaticCache(config=model.config, max_cache_len=length)
        self.cache.layers = [_Layer(layer, rows, length, self.places) for layer in read.layers]
        self.graph = self._captured() if on_gpu else None

    @torch.inference_mode()
    def decode(
        self, ids: torch.Tensor, mask: torch.Tensor, ends: torch.Tensor, params: SamplingParams
    ) -> list[list[int]]:
        """Return the continuations that `decode` returns, for any number of prompts."""
        generated: list[list[int]] = [[] for _ in range(len(ids) * params.n)]
        waiting, running, last = list(range(len(generated))), {}, set(ends.tolist())
        while waiting or running:
            free = [row for row in range(self.rows) if row not in running]
            if waiting and len(free) >= REFILL * self.rows:
                new = dict(zip(free, waiting, strict=False))
                del waiting[: len(new)]
                self._read(list(new), ids, mask, [number // params.n for number in new.values()])
                running |= new
            tokens = next_tokens(self.logits, params)
            self.tokens.copy_(tokens[:, None])
            tokens = tokens.tolist()
            for row, number in list(running.items()):
                generated[number].append(tokens[row])
                if tokens[row] in last or len(generated[number]) == params.max_tokens:
                    del running[row]
            if running:
                self.graph.replay() if self.graph else self._step()
        return generated

    def _read(self, rows: list[int], ids: torch.Tensor, mask: torch.Tensor, prompts: list[int]) -> None:
        """Read prompts into free rows, padded on the left to the longest of them."""
        width = int(mask[prompts].sum(1).max())
        pairs = torch.tensor([rows, prompts], device=ids.device)
        for at, which in pairs.split(max(1, READ // width), 1):
            cache, prompt_mask = DynamicCache(config=self.model.config), mask[which, -width:]
            self.logits[at] = _forward(self.model, ids[which, -width:], prompt_mask, cache)
            for layer, read in zip(self.cache.layers, cache.layers, strict=True):
                layer.keys[at, :, :width], layer.values[at, :, :width] = read.keys, read.values
            self.mask[at], self.places[at] = False, width
            self.mask[at, :width] = prompt_mask.bool()

    def _step(self) -> None:
        """Read the last token of each row; rows that have finished go on unread."""
        self.mask.scatter_(1, self.places[:, None], True)
        positions = self.mask.sum(1, keepdim=True) - 1
        logits = _logits(self.model, self.tokens, self.mask[:, None, None], positions, self.cache)
        self.logits.copy_(logits)
        self.places.add_(1).clamp_(max=self.length - 1)

    def _captured(self) -> "torch.cuda.CUDAGraph | None":
        """Capture a step as a CUDA graph; return None, with a warning, where that cannot be done."""
        try:
            with warnings.catch_warnings(action="ignore"):  # the debug mode is a prototype
                graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
                torch.cuda.synchronize()
                with torch.cuda.stream(stream):
                    self._step()  # sets up what is set up once
                    torch.cuda.set_sync_debug_mode("error")  # a capture that fails would break random draws
                    try:
                        self._step()
                    finally:
                        torch.cuda.set_sync_debug_mode("default")
                torch.cuda.synchronize()
                with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                    self._step()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            warnings.warn(
                f"generation is slow: no CUDA graph can be captured ({one_line(error)})", stacklevel=2
            )
            return None
        return graph


class _Layer(StaticLayer):
    """Keys and values of a layer, [rows, heads, length, size]; each row writes at its own place."""

    def __init__(self, like: DynamicLayer, rows: int, length: int, places: torch.Tensor):
        super().__init__(length)
        self.keys, self.values = (
            part.new_zeros(rows, part.shape[1], length, part.shape[3]) for part in (like.keys, like.values)
        )
        self.places, self.is_initialized = places[:, None, None, None], True

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs) -> tuple:
        for kept, new in ((self.keys, key_states), (self.values, value_states)):
            kept.scatter_(2, self.places.expand_as(new), new)
        return self.keys, self.values
