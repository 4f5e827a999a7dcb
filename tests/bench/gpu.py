"""The speed of the suite's own code on a GPU, beside its peers, in less than eight minutes:
`PYTHONPATH=tests python -m bench gpu`. Without a GPU it measures a tiny student, to see that it runs.

The weights are drawn at random, as no hub is asked: speed and memory are those of real ones. Rows are as long as
Alpaca's. What is compiled or captured once is timed apart.
"""

import gc
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from bench.lines import compared
from datasets import Dataset
from transformers import AutoModelForCausalLM, GenerationConfig, LlamaConfig, PreTrainedConfig, Qwen2Config

from lib.models import chat_template, decoding, loading, local
from lib.models.types import SamplingParams
from lib.training import data, encoding, sft
from lib.training.config import TrainingConfig

GPU = torch.cuda.is_available()
SMALL = Qwen2Config(
    vocab_size=151936, hidden_size=896, intermediate_size=4864, num_hidden_layers=24, num_attention_heads=14,
    num_key_value_heads=2, tie_word_embeddings=True, max_position_embeddings=4096,
)  # fmt: skip
LARGE = LlamaConfig(max_position_embeddings=4096)
TINY = LlamaConfig(
    vocab_size=512, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4
)
STUDENTS = {"0.5B (Qwen2.5)": SMALL, "7B (Llama 2)": LARGE} if GPU else {"tiny": TINY}
TOKENIZER = "lib/gym/student"  # any: the tokens are drawn
PROMPT, RESPONSE = 60, 110  # mean tokens of a row, log-normal
BATCH = 32  # rows a step
STEPS = 12  # of an epoch; the clock runs over the second, when all shapes have been compiled
PROMPTS, NEW = 512, 256  # to be continued, by so many tokens each
MANY, MEAN, MOST = 2048, 137, 512  # prompts whose responses are as long as Alpaca's
EQUAL, EQUAL_NEW = 64, 64  # greedy responses that are compared, by so many tokens
# goals on a GPU of this kind (H200), for the 0.5B student
GENERATED, USEFUL, BARE, COMPILED_BARE = 20_000, 12_000, 0.95, 1.5


class Enough(Exception):
    """Ends a training that was timed."""


def rows(n: int, vocabulary: int, seed: int = 0) -> Dataset:
    """Encoded rows of random tokens and an end token, as uneven in length as Alpaca's."""
    rng, end = np.random.default_rng(seed), chat_template.end(loading.load_tokenizer(TOKENIZER)).id
    encoded = []
    for prompt, response in rng.lognormal(np.log([PROMPT, RESPONSE]) - 0.32, 0.8, (n, 2)).astype(int) + 2:
        ids = rng.integers(3, vocabulary, min(prompt + response, 2048))
        ids[-1] = end
        encoded.append(
            {"input_ids": ids, "labels": np.where(np.arange(len(ids)) < prompt, encoding.IGNORED, ids)}
        )
    return Dataset.from_list(encoded, features=encoding.ENCODED)


def saved(shape: PreTrainedConfig, folder: Path) -> Path:
    """A student of that shape in bfloat16, in a folder."""
    with torch.device("cuda" if GPU else "cpu"):
        model = AutoModelForCausalLM.from_config(shape, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    return folder


# Training


def clock(times: list[float]) -> None:
    if GPU:
        torch.cuda.synchronize()
    times.append(time.perf_counter())


def taught(student: Path, encoded: Dataset, **settings) -> tuple[float, float]:
    """Tokens a second over the second epoch, and seconds until it begins; stops before anything is saved."""
    # of many epochs: the loss is logged as often as in a training of a usual length
    config, times = TrainingConfig(epochs=50, batch_size=BATCH, packing=True, **settings), []

    def report(done: int, total: int) -> None:
        if done in (STEPS, 2 * STEPS):
            clock(times)
        if done == 2 * STEPS:
            raise Enough

    reset()
    clock(times)
    try:
        with TemporaryDirectory() as folder:
            tokenizer = loading.load_tokenizer(TOKENIZER)
            sft.train(student, tokenizer, encoded, Path(folder), config, report=report)
    except Enough:
        pass
    return sum(map(len, encoded["input_ids"])) / (times[2] - times[1]), times[1] - times[0]


def bare(student: Path, encoded: Dataset) -> float:
    """Tokens a second of what every tutorial writes, on the suite's own bins, which are laid out beforehand."""
    reset()
    model, times = loading.load_model(student, full_precision=True).train(), []
    lengths, device = list(map(len, encoded["input_ids"])), model.device
    order = list(data.LengthGroupedSampler(lengths, BATCH, seed=0))
    longest = -(-max(lengths) // data.ALIGN) * data.ALIGN
    bins = [
        data.packed([encoded[i] for i in order[at : at + BATCH]], longest)
        for at in range(0, len(order), BATCH)
    ]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    for step, columns in enumerate(2 * bins):
        if step == STEPS:
            clock(times)
        with torch.autocast(device.type, torch.bfloat16, enabled=GPU):
            columns = {name: part.to(device) for name, part in columns.items()}
            loss = model(**columns, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    clock(times)
    return sum(lengths) / (times[1] - times[0])


# Generation


def prompts_of(model: torch.nn.Module, n: int) -> list[list[int]]:
    ids = rows(n, model.config.vocab_size, seed=1)["input_ids"]
    return sorted((row[:200] for row in ids), key=len, reverse=True)


def as_batch(
    model: torch.nn.Module, prompts: list[list[int]]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Tokens and mask, padded on the left, and no end tokens."""
    longest, device = max(map(len, prompts)), model.device
    ids = torch.tensor([[0] * (longest - len(row)) + row for row in prompts], device=device)
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in prompts], device=device)
    return ids, mask, torch.tensor([], dtype=torch.long, device=device)


class Ending(decoding.Slots):
    """Slots whose sequences end after so many tokens as `lengths` says, prompt by prompt."""

    lengths: torch.Tensor

    def decode(self, ids, mask, ends, params) -> list[list[int]]:
        self.left, draw = torch.zeros(self.rows, dtype=torch.long, device=ids.device), decoding.next_tokens
        end = self.logits.shape[1] - 1

        def next_tokens(logits, params):
            logits[:, end] = -torch.inf
            self.left -= 1
            return draw(logits, params).masked_fill(self.left == 0, end)

        decoding.next_tokens = next_tokens
        try:
            return super().decode(ids, mask, torch.tensor([end]), params)
        finally:
            decoding.next_tokens = draw

    def _read(self, rows, ids, mask, prompts) -> None:
        super()._read(rows, ids, mask, prompts)
        self.left[rows] = self.lengths[prompts]


def in_slots(
    model: torch.nn.Module, prompts: list, most: int, lengths: list | None = None
) -> tuple[float, ...]:
    """New tokens a second, seconds until the slots were ready, and the number of slots."""
    reset()
    times = []
    clock(times)
    ids, mask, ends = as_batch(model, prompts)
    length = -(-(ids.shape[1] + most) // local.STEP) * local.STEP
    slots = (Ending if lengths else decoding.Slots)(model, min(local.SLOTS, len(prompts)), length)
    if lengths:
        slots.lengths = torch.tensor(lengths, device=ids.device)
    clock(times)
    generated = slots.decode(ids, mask, ends, SamplingParams(max_tokens=most))
    clock(times)
    assert not lengths or [len(row) for row in generated] == lengths
    return sum(map(len, generated)) / (times[2] - times[1]), times[1] - times[0], slots.rows


def padded(model: torch.nn.Module, prompts: list, most: int) -> float:
    """New tokens a second of the loop that a CPU takes."""
    reset()
    times = []
    clock(times)
    generated = decoding.decode(model, *as_batch(model, prompts), SamplingParams(max_tokens=most))
    clock(times)
    return sum(map(len, generated)) / (times[1] - times[0])


def continuous(model: torch.nn.Module, prompts: list, most: int, lengths: list) -> float:
    """New tokens a second of transformers' continuous batching, once it is warm."""
    reset()
    times, settings = (
        [],
        GenerationConfig(max_new_tokens=most, do_sample=False, eos_token_id=-1, pad_token_id=0),
    )
    with model.continuous_batching_context_manager(generation_config=settings, timeout=5) as manager:
        clock(times)
        for prompt, length in zip(prompts, lengths, strict=True):
            manager.add_request(prompt, max_new_tokens=length)
        tokens = ended = 0
        while ended < len(prompts):
            result = manager.get_result(timeout=1)
            if result and result.is_finished():
                tokens, ended = tokens + len(result.generated_tokens), ended + 1
            elif not result and not manager.is_running():
                raise RuntimeError(f"it ended after {ended} of {len(prompts)} prompts")
        clock(times)
    assert tokens == sum(lengths)
    return tokens / (times[1] - times[0])


def equal(model: torch.nn.Module, prompts: list, most: int) -> float:
    """Share of greedy responses that slots and the padded loop have alike, in float32: bfloat16 rounds ties apart."""
    reset()
    ids, mask, ends = as_batch(model.float(), prompts)
    params = SamplingParams(max_tokens=most)
    slots = decoding.Slots(model, len(prompts) // 4, ids.shape[1] + most).decode(ids, mask, ends, params)
    return sum(map(list.__eq__, slots, decoding.decode(model, ids, mask, ends, params))) / len(prompts)


def alpaca_lengths(n: int, mean: float, most: int) -> list[int]:
    """Tokens of responses, log-normal, with that mean once they are cut at `most`."""
    draws, low, high = np.random.default_rng(0).standard_normal(n), 0.0, np.log(2 * most)
    for _ in range(40):
        middle = (low + high) / 2
        lengths = np.clip(np.exp(middle + 0.8 * draws).astype(int), 1, most)
        low, high = (middle, high) if lengths.mean() < mean else (low, middle)
    return lengths.tolist()


def reset() -> None:
    gc.collect()
    if GPU:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def held() -> float:
    """Most GB of the GPU's memory since `reset`; 0 without a GPU."""
    return torch.cuda.max_memory_allocated() / 1e9 if GPU else 0.0


# Lines


def attempt(work: Callable, *given, **settings):
    """What `work` returns, or why it returns nothing: the other lines are measured all the same."""
    try:
        return work(*given, **settings)
    except Exception as error:
        return f"failed: {type(error).__name__}: {str(error)[:200]}"


def goal(least: float) -> float | None:
    return least if GPU else None


def generation(name: str, student: Path, prompts: int, new: int, many: int, most: int) -> Iterator[dict]:
    model = loading.load_model(student)
    what = f"{name}, generated, {prompts} prompts, {new} tokens each"
    speed, ready, slots = in_slots(model, prompts_of(model, prompts), new)
    yield compared(f"{what}, in {slots} slots", "tokens/s", speed, GENERATED, "the goal", goal(1.0))
    yield compared(f"{what}, until the slots are ready", "s", ready, None, "")
    peer = attempt(padded, model, prompts_of(model, prompts), new)
    yield compared(what, "tokens/s", speed, peer, "padded batches, which rows leave")
    lengths, questions = alpaca_lengths(many, MEAN, most), prompts_of(model, many)
    what = f"{name}, generated, {many:,} prompts, {np.mean(lengths):.0f} tokens on average, {most} at most"
    speed, _, slots = in_slots(model, questions, most, lengths)
    yield compared(f"{what}, in {slots} slots", "tokens/s", speed, USEFUL, "the goal", goal(1.0))
    yield compared(f"{what}, most memory", "GB", held(), None, "")
    peer = attempt(continuous, model, questions, most, lengths)
    yield compared(what, "tokens/s", speed, peer, "continuous batching of transformers, once it is warm")
    share = attempt(equal, model, prompts_of(model, EQUAL), EQUAL_NEW if GPU else new)
    yield compared(f"{name}, {EQUAL} greedy responses as the padded loop's", "share", share, None, "")


def training(name: str, student: Path, encoded: Dataset) -> Iterator[dict]:
    large = name.startswith("7B")  # whose activations are recomputed
    what = f"{name}, taught, packed, {BATCH} rows a step"
    peer = None if large else attempt(bare, student, encoded)
    variants = {"": (BARE, {}), ", compiled": (COMPILED_BARE, {"compile": True})}
    for words, (least, settings) in variants.items():
        result = attempt(taught, student, encoded, checkpointing=large, **settings)
        speed, ready = (result, None) if isinstance(result, str) else result
        bound = goal(least) if isinstance(peer, float) and isinstance(speed, float) else None
        yield compared(f"{what}{words}", "tokens/s", speed, peer, "a bare loop on the same bins", bound)
        if ready:
            yield compared(f"{what}{words}, the first epoch, loading and compiling", "s", ready, None, "")
            yield compared(f"{what}{words}, most memory", "GB", held(), None, "")


def measure(
    students: dict[str, PreTrainedConfig] | None = None,
    prompts: int = PROMPTS if GPU else 16,
    new: int = NEW if GPU else 16,
    many: int = MANY if GPU else 32,
    most: int = MOST if GPU else 32,
) -> list[dict]:
    """A line for each way, which is printed as soon as there is one: a GPU may be lent for minutes."""
    measured = []
    for name, shape in (students or STUDENTS).items():
        with TemporaryDirectory() as folder:
            student, encoded = saved(shape, Path(folder)), rows(BATCH * STEPS, shape.vocab_size)
            parts = [training(name, student, encoded)]
            if not name.startswith("7B"):
                parts.insert(0, generation(name, student, prompts, new, many, most))
            for line in (line for part in parts for line in part):
                print(line["what"], line["suite"], line["unit"], line["peer"], file=sys.stderr, flush=True)
                measured.append(line)
    return measured
