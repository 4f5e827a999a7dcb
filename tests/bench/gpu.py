"""What a GPU makes of the suite's own code: tokens a second, taught and generated, of students of 0.5B and 7B:
`PYTHONPATH=tests python -m bench gpu`. Without a GPU of a tiny student, to see that it runs.

The weights are drawn at random, as no hub is asked: speed and memory are those of real ones. Rows are as long as Alpaca's.
"""

import gc
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from bench.lines import compared
from datasets import Dataset
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedConfig, Qwen2Config

from lib.models import decoding, loading
from lib.models.types import SamplingParams
from lib.training import data, encoding, sft
from lib.training.config import TrainingConfig

SHAPES = {
    "0.5B (Qwen2.5)": Qwen2Config(
        vocab_size=151936, hidden_size=896, intermediate_size=4864, num_hidden_layers=24, num_attention_heads=14,
        num_key_value_heads=2, tie_word_embeddings=True, max_position_embeddings=4096,
    ),
    "7B (Llama 2)": LlamaConfig(max_position_embeddings=4096),
}  # fmt: skip
TINY = LlamaConfig(
    vocab_size=512, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4
)
PROMPT, RESPONSE = 60, 110  # mean tokens of a row, log-normal
BATCH = 32  # rows a step
STEPS, WARM = 12, 3  # optimizer steps, and those before the clock starts
PROMPTS, NEW = 512, 256  # to be continued, by so many tokens each


class Enough(Exception):
    """Ends a training that was timed."""


def rows(n: int, vocabulary: int, seed: int = 0) -> Dataset:
    """Encoded rows of random tokens, as uneven in length as Alpaca's."""
    rng = np.random.default_rng(seed)
    encoded = []
    for prompt, response in rng.lognormal(np.log([PROMPT, RESPONSE]) - 0.32, 0.8, (n, 2)).astype(int) + 2:
        ids = rng.integers(3, vocabulary, min(prompt + response, 2048))
        encoded.append(
            {"input_ids": ids, "labels": np.where(np.arange(len(ids)) < prompt, encoding.IGNORED, ids)}
        )
    return Dataset.from_list(encoded, features=encoding.ENCODED)


def saved(shape: PreTrainedConfig, folder: Path) -> Path:
    """A student of that shape in bfloat16, in a folder."""
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = AutoModelForCausalLM.from_config(shape, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    return folder


def taught(student: Path, encoded: Dataset, **settings) -> tuple[float, float]:
    """Tokens a second over the steps after the first ones, and the most memory in GB; stops before anything is saved."""
    config, times = TrainingConfig(epochs=1, batch_size=BATCH, **settings), []

    def report(done: int, total: int) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter())
        if done == STEPS:
            raise Enough

    reset()
    try:
        with TemporaryDirectory() as folder:
            sft.train(
                student,
                loading.load_tokenizer("lib/gym/student"),
                encoded,
                Path(folder),
                config,
                report=report,
            )
    except Enough:
        pass
    lengths = list(map(len, encoded["input_ids"]))
    order = list(
        data.LengthGroupedSampler(lengths, BATCH, seed=0)
    )  # as they were taught: of very unlike lengths
    tokens = sum(lengths[i] for i in order[WARM * BATCH : STEPS * BATCH])
    return tokens / (times[-1] - times[WARM - 1]), held()


def continued(model: torch.nn.Module, at_once: int, prompts: int, new: int) -> float:
    """New tokens a second of greedy decoding, over prompts of mixed length in padded batches."""
    ids = rows(prompts, model.config.vocab_size, seed=1)["input_ids"]
    ids = sorted((row[:200] for row in ids), key=len, reverse=True)
    started = time.perf_counter()
    generated = [
        row for at in range(0, prompts, at_once) for row in padded(model, ids[at : at + at_once], new)
    ]
    return sum(map(len, generated)) / (time.perf_counter() - started)


def padded(model: torch.nn.Module, prompts: list[list[int]], new: int) -> list[list[int]]:
    """Continue a batch that is padded on the left."""
    longest, device = max(map(len, prompts)), model.device
    ids = torch.tensor([[0] * (longest - len(row)) + row for row in prompts], device=device)
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in prompts], device=device)
    ends = torch.tensor([model.config.vocab_size - 1], device=device)
    return decoding.decode(model, ids, mask, ends, SamplingParams(max_tokens=new))


def reset() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def held() -> float:
    """Most GB of the GPU's memory since `reset`; 0 without a GPU."""
    return torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else 0.0


def variants(name: str) -> dict[str, dict]:
    """The settings a student is taught with."""
    large = {"checkpointing": True} if "7B" in name else {}
    settings = {f"packed, {n} at a time": {"packing": True, "device_rows": n} for n in (4, 16, BATCH)}
    settings["padded, 16 at a time"] = {"device_rows": 16}
    settings[f"LoRA of rank 16, packed, {BATCH} at a time"] = {"adapter_rank": 16, "packing": True}
    return {variant: large | values for variant, values in settings.items()}


def student_lines(name: str, shape: PreTrainedConfig, folder: Path, prompts: int, new: int) -> Iterator[dict]:
    """The lines of a student, as they are measured."""
    student, encoded = saved(shape, folder), rows(BATCH * (STEPS + 2), shape.vocab_size)
    for variant, settings in variants(name).items():
        what = f"{name}, taught, {variant}"
        try:
            speed, memory = taught(student, encoded, **settings)
            yield compared(what, "tokens/s", speed, None, "")
            if memory:
                yield compared(f"{what}, most memory", "GB", memory, None, "")
        except torch.OutOfMemoryError:
            yield compared(what, "tokens/s", "it does not fit", None, "")
    reset()
    model = loading.load_model(student)
    for at_once in (64, 256, 512):
        reset()
        what = f"{name}, generated, {at_once} at a time"
        try:
            yield compared(what, "tokens/s", continued(model, at_once, prompts, new), None, "")
        except torch.OutOfMemoryError:
            yield compared(what, "tokens/s", "it does not fit", None, "")
    del model
    reset()


def measure(
    shapes: dict[str, PreTrainedConfig] | None = None, prompts: int = PROMPTS, new: int = NEW
) -> list[dict]:
    """A line for each way, which is printed as soon as there is one: a GPU may be lent for minutes."""
    measured = []
    for name, shape in (shapes or (SHAPES if torch.cuda.is_available() else {"tiny": TINY})).items():
        with TemporaryDirectory() as folder:
            for line in student_lines(name, shape, Path(folder), prompts, new):
                print(line["what"], line["suite"], line["unit"], file=sys.stderr, flush=True)
                measured.append(line)
    return measured
