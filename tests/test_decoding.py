"""Decoding gives what the library's `generate` gives, though finished sequences leave the batch."""

import pytest
import tiny
import torch
from transformers import AutoConfig, AutoModelForCausalLM, BloomConfig, Mamba2Config, MistralConfig

from lib import models
from lib.errors import UserError
from lib.models import decoding
from lib.models.types import SamplingParams

TEXTS = [
    "Reverse it. word",
    "What is 3 + 4?",
    "hi",
    "Sort these words in ascending order: pear, fig, apple",
    "",
]
LIMIT = 84
ENDLESS = torch.tensor([], dtype=torch.long)  # no token ends a sequence


@pytest.fixture(scope="module")
def student():
    return models.load("lib/gym/student")


@pytest.fixture(scope="module")
def prompts(student):
    texts = student.render([[{"role": "user", "content": text}] for text in TEXTS * 4])
    return student.tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)


def decode(student, prompts, ends=None, **params) -> list[list[int]]:
    ends = torch.tensor([student.tokenizer.eos_token_id]) if ends is None else ends
    ids, mask = prompts["input_ids"], prompts["attention_mask"]
    return decoding.decode(student.model, ids, mask, ends, SamplingParams(**params))


def by_generate(student, prompts) -> list[list[int]]:
    """The same continuations from transformers, cut behind their end token."""
    end, width = student.tokenizer.eos_token_id, prompts["input_ids"].shape[1]
    pad = student.tokenizer.pad_token_id
    generated = student.model.generate(**prompts, max_new_tokens=LIMIT, do_sample=False, pad_token_id=pad)
    rows = generated[:, width:].tolist()
    return [row[: row.index(end) + 1] if end in row else row for row in rows]


def test_greedy_decoding_equals_generate(student, prompts):
    expected = by_generate(student, prompts)
    assert len({len(row) for row in expected}) > 2, "the sequences must end at different steps"
    assert decode(student, prompts, max_tokens=LIMIT) == expected


@pytest.mark.parametrize("limit", [1, 2, LIMIT])
def test_no_sequence_is_longer_than_the_limit(student, prompts, limit):
    continuations = decode(student, prompts, ENDLESS, max_tokens=limit)
    assert [len(row) for row in continuations] == [limit] * 20


def test_the_samples_of_a_prompt_stand_together(student, prompts):
    once = decode(student, prompts, max_tokens=20)
    thrice = decode(student, prompts, n=3, temperature=1.0, top_k=1, max_tokens=20)
    assert thrice == [row for row in once for _ in range(3)]


def in_slots(student, prompts, rows, ends=None, **params) -> list[list[int]]:
    ends = torch.tensor([student.tokenizer.eos_token_id]) if ends is None else ends
    ids, mask = prompts["input_ids"], prompts["attention_mask"]
    slots = decoding.Slots(student.model, rows, ids.shape[1] + params["max_tokens"])
    return slots.decode(ids, mask, ends, SamplingParams(**params))


@pytest.mark.parametrize("rows", [3, 32])
def test_sequences_that_take_turns_in_slots_are_the_padded_ones(student, prompts, rows):
    """20 prompts of mixed length, which end at different steps."""
    assert in_slots(student, prompts, rows, max_tokens=LIMIT) == decode(student, prompts, max_tokens=LIMIT)


def test_slots_serve_one_batch_after_another_and_read_a_few_prompts_at_a_time(student, prompts, monkeypatch):
    monkeypatch.setattr(decoding, "READ", 100)
    slots = decoding.Slots(student.model, 4, prompts["input_ids"].shape[1] + 12)
    for at in (0, 1):
        ids, mask = (prompts[name][at:10:2] for name in ("input_ids", "attention_mask"))
        padded = decoding.decode(student.model, ids, mask, ENDLESS, SamplingParams(max_tokens=12))
        assert slots.decode(ids, mask, ENDLESS, SamplingParams(max_tokens=12)) == padded


@pytest.mark.parametrize("limit", [1, 5])
def test_samples_in_slots_stand_together_and_repeat_with_the_seed(student, prompts, limit):
    few, drawn = {name: part[:5] for name, part in prompts.items()}, []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        drawn.append(in_slots(student, few, 4, ENDLESS, n=3, temperature=2.0, max_tokens=limit))
    assert [len(row) for row in drawn[0]] == [limit] * 15
    assert drawn[0] == drawn[1] != drawn[2]
    greedy = decode(student, few, ENDLESS, max_tokens=limit)
    likeliest = in_slots(student, few, 4, ENDLESS, n=3, temperature=1.0, top_k=1, max_tokens=limit)
    assert likeliest == [row for row in greedy for _ in range(3)]


def test_a_step_that_cannot_be_captured_is_warned_of_and_taken_as_it_is(student, prompts):
    slots = decoding.Slots(student.model, 2, 8)
    with pytest.warns(UserWarning, match="generation is slow: no CUDA graph can be captured"):
        assert slots._captured() is None  # here, without a GPU


SHAPE = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
SHAPE |= {"num_key_value_heads": 2, "intermediate_size": 48, "pad_token_id": 0}


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "phi3", "gpt_neox", "gpt2", "mixtral"])
def test_slots_hold_families_without_sliding_windows(family):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **SHAPE)).eval()
    assert decoding.fits_slots(model)
    mask = torch.ones(5, 9, dtype=torch.long).triu(-3)
    ids, params = torch.randint(1, 64, mask.shape) * mask, SamplingParams(max_tokens=12)
    padded = decoding.decode(model, ids, mask, torch.arange(8), params)
    assert decoding.Slots(model, 2, 21).decode(ids, mask, torch.arange(8), params) == padded


@pytest.mark.parametrize(
    "config",
    [
        MistralConfig(**SHAPE, sliding_window=4),
        BloomConfig(**SHAPE),
        Mamba2Config(vocab_size=64, hidden_size=32, num_heads=4, head_dim=16, num_hidden_layers=2),
    ],
)
def test_slots_do_not_hold_others(config):
    assert not decoding.fits_slots(AutoModelForCausalLM.from_config(config))


def test_sampling_follows_the_tempered_distribution(tmp_path):
    student = models.load(tiny.make(tmp_path / "tiny"))
    prompt = student.tokenizer("a", return_tensors="pt", add_special_tokens=False)
    with torch.inference_mode():
        expected = (student.model(**prompt).logits[0, -1] / 0.5).softmax(0)
    torch.manual_seed(0)
    n = 20_000
    drawn = decode(student, prompt, ENDLESS, n=n, temperature=0.5, max_tokens=1)
    seen = torch.bincount(torch.tensor(drawn).squeeze(1), minlength=len(expected)) / n
    assert (seen - expected).abs().max() < 4 * (expected.max() * (1 - expected.max()) / n) ** 0.5 + 1e-3


def test_top_k_draws_from_the_likeliest_tokens_alone():
    logits = torch.tensor([[3.0, 2.0, 1.0, 0.0]]).repeat(2000, 1)
    torch.manual_seed(0)
    params = {k: SamplingParams(temperature=1.0, top_k=k) for k in (0, 1, 2, 9)}
    drawn = {k: set(decoding.next_tokens(logits, params[k]).tolist()) for k in params}
    assert drawn == {0: {0, 1, 2, 3}, 1: {0}, 2: {0, 1}, 9: {0, 1, 2, 3}}
    among_two = (decoding.next_tokens(logits, params[2]) == 0).float().mean().item()
    assert among_two == pytest.approx(torch.tensor([3.0, 2.0]).softmax(0)[0].item(), abs=0.05)


def test_top_p_draws_from_the_likeliest_tokens_that_together_have_it():
    logits = torch.tensor([[3.0, 2.0, 1.0, 0.0]]).repeat(2000, 1)  # 0.64, 0.24, 0.09, 0.03
    torch.manual_seed(0)
    params = {p: SamplingParams(temperature=1.0, top_p=p) for p in (0.5, 0.8, 1.0)}
    drawn = {p: set(decoding.next_tokens(logits, params[p]).tolist()) for p in params}
    assert drawn == {0.5: {0}, 0.8: {0, 1}, 1.0: {0, 1, 2, 3}}
    with pytest.raises(UserError, match="top_p=1.5: it is a probability"):
        SamplingParams(top_p=1.5)
