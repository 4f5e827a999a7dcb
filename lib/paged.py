"""Responses by vLLM, for an actor that has a GPU: written by vLLM's documentation, as no machine of ours had it.

Its kernels are others than those of transformers: so are the replies, the sampled ones anyway.
"""

import zlib
from collections.abc import Callable
from importlib.util import find_spec

import torch
from transformers import GenerationConfig

from lib import completions, loaded
from lib.batches import NO_ROOM, Batch, How, Reply


def possible() -> bool:
    return torch.cuda.is_available() and find_spec("vllm") is not None


def load(place: str, tokenizer, context: int | None) -> Callable[..., list[list[Reply]]]:
    """What answers a batch, as `loaded.answer_batch` does, with the student in `place` loaded. A prompt that fills its `context` gets an
    empty reply that says so: vLLM would refuse the whole batch."""
    from vllm import LLM, SamplingParams, TokensPrompt

    model = LLM(model=place, dtype="bfloat16", generation_config="vllm")  # plain sampling, as without Ray
    ends = sorted(loaded.ends(_generation(place), tokenizer))

    def answer(batch: Batch, how: How) -> list[list[Reply]]:
        drawn = {
            "n": how.samples,
            "temperature": how.temperature,
            "max_tokens": how.limit,
            "top_k": how.top_k or -1,
        }
        ids = enumerate(tokenizer(batch.texts, add_special_tokens=False)["input_ids"])
        fits = {i: row for i, row in ids if not context or len(row) < context}
        made = model.generate(
            [TokensPrompt(prompt_token_ids=row) for row in fits.values()],
            [SamplingParams(**drawn, seed=_seed(batch, i), stop_token_ids=ends) for i in fits],
            use_tqdm=False,
        )
        opened = {i: completions.opens_thought(batch.texts[i]) for i in fits}
        told = {
            i: [_reply(said, opened[i]) for said in one.outputs] for i, one in zip(fits, made, strict=True)
        }
        return [told.get(i, [Reply("", NO_ROOM, 0)] * how.samples) for i in range(len(batch.texts))]

    return answer


def _generation(place: str) -> GenerationConfig:
    try:
        return GenerationConfig.from_pretrained(place)
    except OSError:  # a student without that file
        return GenerationConfig()


def _seed(batch: Batch, row: int) -> int:
    """Another one for each prompt, whose samples vLLM tells apart itself."""
    return zlib.crc32(f"{batch.seed} {row}".encode()) >> 1


def _reply(said, opened: bool) -> Reply:
    reasoning, text = completions.split_thoughts(said.text, opened)
    finish = "length" if said.finish_reason == "length" else "stop"
    return Reply(text, finish, len(said.token_ids), reasoning)
