"""Decoding gives what the library's `generate` gives, though finished sequences leave the batch."""

import pytest
import tiny
import torch

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
