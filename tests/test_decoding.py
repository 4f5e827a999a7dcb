"""Decoding gives what the library's `generate` gives, though finished sequences leave the batch."""

import pytest
import tiny
import torch

from lib import models
from lib.models import decoding

TEXTS = [
    "Reverse it. word",
    "What is 3 + 4?",
    "hi",
    "Sort these words in ascending order: pear, fig, apple",
    "",
]
LIMIT = decoding.ROOM + 20  # the cache has to grow


@pytest.fixture(scope="module")
def asked():
    return models.load("lib/gym/student")


@pytest.fixture(scope="module")
def prompts(asked):
    turns = [[{"role": "user", "content": text}] for text in TEXTS * 4]
    texts = [
        asked.tokenizer.apply_chat_template(t, tokenize=False, add_generation_prompt=True) for t in turns
    ]
    return asked.tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)


def ended(asked) -> torch.Tensor:
    return torch.tensor([asked.tokenizer.eos_token_id])


def by_generate(asked, prompts, limit: int = LIMIT) -> list[list[int]]:
    """The same continuations from transformers, cut behind their end token."""
    end, width = asked.tokenizer.eos_token_id, prompts["input_ids"].shape[1]
    pad = asked.tokenizer.pad_token_id
    made = asked.model.generate(**prompts, max_new_tokens=limit, do_sample=False, pad_token_id=pad)
    rows = made[:, width:].tolist()
    return [row[: row.index(end) + 1] if end in row else row for row in rows]


def test_greedy_decoding_equals_generate(asked, prompts):
    expected = by_generate(asked, prompts)
    assert len({len(row) for row in expected}) > 2, "the sequences must end at different steps"
    ids, mask = prompts["input_ids"], prompts["attention_mask"]
    assert decoding.decode(asked.model, ids, mask, ended(asked), LIMIT) == expected


@pytest.mark.parametrize("limit", [1, 2, LIMIT])
def test_no_sequence_is_longer_than_the_limit(asked, prompts, limit):
    ids, mask = prompts["input_ids"], prompts["attention_mask"]
    made = decoding.decode(asked.model, ids, mask, torch.tensor([], dtype=torch.long), limit)
    assert [len(row) for row in made] == [limit] * len(ids)


def test_the_samples_of_a_prompt_stand_together(asked, prompts):
    ids, mask = prompts["input_ids"], prompts["attention_mask"]
    once = decoding.decode(asked.model, ids, mask, ended(asked), 20)
    thrice = decoding.decode(asked.model, ids, mask, ended(asked), 20, samples=3)
    assert thrice == [row for row in once for _ in range(3)]


def test_sampling_follows_the_tempered_distribution(tmp_path):
    asked = models.load(tiny.make(tmp_path / "tiny"))
    prompt = asked.tokenizer("a", return_tensors="pt", add_special_tokens=False)
    with torch.inference_mode():
        expected = (asked.model(**prompt).logits[0, -1] / 0.5).softmax(0)
    torch.manual_seed(0)
    n, none = 20_000, torch.tensor([], dtype=torch.long)
    made = decoding.decode(asked.model, prompt["input_ids"], prompt["attention_mask"], none, 1, n, 0.5)
    seen = torch.bincount(torch.tensor([token for (token,) in made]), minlength=len(expected)) / n
    assert (seen - expected).abs().max() < 4 * (expected.max() * (1 - expected.max()) / n) ** 0.5 + 1e-3


def test_top_k_draws_from_the_likeliest_tokens_alone():
    logits = torch.tensor([[3.0, 2.0, 1.0, 0.0]]).repeat(2000, 1)
    torch.manual_seed(0)
    drawn = {k: set(decoding._next_tokens(logits, 1.0, k).tolist()) for k in (0, 1, 2, 9)}
    assert drawn == {0: {0, 1, 2, 3}, 1: {0}, 2: {0, 1}, 9: {0, 1, 2, 3}}
    among_two = (decoding._next_tokens(logits, 1.0, 2) == 0).float().mean().item()
    assert among_two == pytest.approx(torch.tensor([3.0, 2.0]).softmax(0)[0].item(), abs=0.05)
