"""Decoding with transformers' continuous batching, for a GPU: the next prompt takes a finished one's place at once."""

import torch
from transformers import ContinuousBatchingConfig, GenerationConfig
from transformers.generation.continuous_batching import ContinuousBatchingManager

LOOK_S = 1  # how often a silent generation is looked after


def decode(
    model: torch.nn.Module,
    prompts: list[list[int]],
    ends: set[int],
    limit: int,
    samples: int = 1,
    temperature: float = 0.0,
    top_k: int = 0,
    seed: int = 0,
    **cache: int,
) -> list[list[int]]:
    """`samples` continuations of each prompt, prompt by prompt, up to and with their end token, as `decoding.decode` has them.

    `cache` may set num_blocks and max_batch_tokens; else they are what the device's memory holds. The model's attention
    is another one meanwhile. Raises RuntimeError with the cause where a continuation fails.
    """
    manager = model.init_continuous_batching(
        _sampling(ends, limit, samples, temperature, top_k), ContinuousBatchingConfig(seed=seed, **cache)
    )
    # generate_batch starts first: how many prompts its first step meets, and with it every draw, is then a matter of luck
    names = manager.add_requests(prompts, max_new_tokens=limit)
    manager.start()
    try:
        made = _collect(manager, len(prompts) * samples)
    finally:
        manager.stop(hard_stop=True)
        manager.destroy()
    copies = [*(f"__child#{i}" for i in range(samples - 1)), ""]
    return [made[name + copy] for name in names for copy in copies]


def _sampling(ends: set[int], limit: int, samples: int, temperature: float, top_k: int) -> GenerationConfig:
    """Plain sampling, whatever the model's own configuration asks for."""
    drawn = (
        {"do_sample": True, "temperature": temperature, "top_k": top_k, "top_p": 1.0} if temperature else {}
    )
    return GenerationConfig(
        eos_token_id=sorted(ends), max_new_tokens=limit, num_return_sequences=samples, **drawn
    )


def _collect(manager: ContinuousBatchingManager, wanted: int) -> dict[str, list[int]]:
    made: dict[str, list[int]] = {}
    while len(made) < wanted:
        result = manager.get_result(timeout=LOOK_S)
        if result is None and not manager.is_running():
            raise RuntimeError("continuous batching ended before all continuations were made")
        if result and result.error:
            raise RuntimeError(f"continuous batching failed: {result.error}")
        if result and result.is_finished():
            made[result.request_id] = result.generated_tokens
    return made
