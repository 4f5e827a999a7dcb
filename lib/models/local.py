"""A model in this process: padded batches on a CPU, continuous batching on a GPU."""

from collections.abc import Callable

import torch
from transformers import ContinuousBatchingConfig, GenerationConfig
from transformers.generation.continuous_batching import ContinuousBatchingManager

from lib.models import chat_template, decoding
from lib.models.backend import Backend, Batch
from lib.models.types import Completion, SamplingParams
from lib.text import opens_thought, split_thoughts

PADDED, CONTINUOUS = 64, 1024  # prompts in a batch
LOOK_S = 1  # seconds between two looks at a silent generation


class LocalBackend(Backend):
    """A causal language model and its tokenizer, loaded."""

    def __init__(self, model: torch.nn.Module, tokenizer):
        self.model, self.tokenizer = model, tokenizer

    @property
    def context(self) -> int | None:
        return context(self.model.config)

    @property
    def batch_size(self) -> int:
        return CONTINUOUS if on_gpu(self.model) else PADDED

    def complete(self, batches: dict[int, Batch], params: SamplingParams, store: Callable) -> None:
        """Answer one batch after the other."""
        for number, batch in batches.items():
            store(number, self.complete_batch(batch, params))

    def complete_batch(self, batch: Batch, params: SamplingParams) -> list[list[Completion]]:
        """Return the completions of a batch, prompt by prompt."""
        ends = set(chat_template.ends(self.tokenizer, self.model.generation_config))
        decode = self._decode_continuously if on_gpu(self.model) else self._decode_padded
        lengths, continuations = decode(batch, ends, params)
        tokens = iter(continuations)
        return [
            [self._completion(next(tokens), ends, prompt, length) for _ in range(params.n)]
            for prompt, length in zip(batch.prompts, lengths, strict=True)
        ]

    def _decode_continuously(self, batch: Batch, ends: set[int], params: SamplingParams) -> tuple[list, list]:
        """Return the tokens of each prompt, counted, and the continuations."""
        ids = self.tokenizer(batch.prompts, add_special_tokens=False)["input_ids"]
        return list(map(len, ids)), decode_continuously(self.model, ids, ends, params, batch.seed)

    def _decode_padded(self, batch: Batch, ends: set[int], params: SamplingParams) -> tuple[list, list]:
        """Return the tokens of each prompt, counted, and the continuations."""
        torch.manual_seed(batch.seed)
        inputs = self.tokenizer(batch.prompts, return_tensors="pt", padding=True, add_special_tokens=False)
        inputs = inputs.to(self.model.device)
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        ends = torch.tensor(sorted(ends), device=self.model.device)
        draw = params.max_tokens, params.n, params.temperature, params.top_k
        return mask.sum(1).tolist(), decoding.decode(self.model, ids, mask, ends, *draw)

    def _completion(self, ids: list[int], ends: set[int], prompt: str, prompt_tokens: int) -> Completion:
        finish_reason = "stop" if ids[-1] in ends else "length"
        whole = self.tokenizer.decode(ids)  # special tokens may enclose a thought
        reasoning, text = split_thoughts(whole, opens_thought(prompt))
        if text == whole:
            text = self.tokenizer.decode(ids, skip_special_tokens=True)
        else:
            special = [token for token in self.tokenizer.added_tokens_decoder.values() if token.special]
            for token in special:
                reasoning, text = reasoning.replace(token.content, ""), text.replace(token.content, "")
        return Completion(text, reasoning, finish_reason, prompt_tokens, len(ids))


def context(config) -> int | None:
    """Return the tokens of prompt and completion together; None where the model does not say."""
    return getattr(config.get_text_config(), "max_position_embeddings", None)


def on_gpu(model: torch.nn.Module) -> bool:
    return model.device.type == "cuda"


def decode_continuously(
    model: torch.nn.Module,
    prompts: list[list[int]],
    ends: set[int],
    params: SamplingParams,
    seed: int = 0,
    **cache: int,
) -> list[list[int]]:
    """Return `params.n` continuations of each prompt, prompt by prompt, up to and with their end token.

    The next prompt takes the place of a finished one at once. `cache` may set num_blocks and
    max_batch_tokens; else they are what the device's memory holds. Raises RuntimeError with the cause where a
    continuation fails.
    """
    manager = model.init_continuous_batching(
        _generation_config(ends, params), ContinuousBatchingConfig(seed=seed, **cache)
    )
    # generate_batch starts first: how many prompts its first step meets, and with it every draw, is then luck
    names = manager.add_requests(prompts, max_new_tokens=params.max_tokens)
    manager.start()
    try:
        continuations = _collect(manager, len(prompts) * params.n)
    finally:
        manager.stop(hard_stop=True)
        manager.destroy()
    copies = [*(f"__child#{i}" for i in range(params.n - 1)), ""]
    return [continuations[name + copy] for name in names for copy in copies]


def _generation_config(ends: set[int], params: SamplingParams) -> GenerationConfig:
    """Plain sampling, whatever the model's own configuration asks for."""
    sampling = {"do_sample": True, "temperature": params.temperature, "top_k": params.top_k, "top_p": 1.0}
    return GenerationConfig(
        eos_token_id=sorted(ends),
        max_new_tokens=params.max_tokens,
        num_return_sequences=params.n,
        **(sampling if params.temperature else {}),
    )


def _collect(manager: ContinuousBatchingManager, number: int) -> dict[str, list[int]]:
    continuations: dict[str, list[int]] = {}
    while len(continuations) < number:
        result = manager.get_result(timeout=LOOK_S)
        if result is None and not manager.is_running():
            raise RuntimeError("continuous batching ended before all continuations were made")
        if result and result.error:
            raise RuntimeError(f"continuous batching failed: {result.error}")
        if result and result.is_finished():
            continuations[result.request_id] = result.generated_tokens
    return continuations
