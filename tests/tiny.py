"""A student of the embedded kind, untrained, and three rows to teach it, for tests that need real ones."""

from pathlib import Path

import torch

from lib import records
from lib.gym.pretrain import byte_tokenizer, fresh_model

TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}]
ROWS = records.build(
    [
        {"instruction": "Say", "input": "cat", "response": "cat"},
        {"instruction": "Go on", "turns": TURNS, "response": "I do."},
        {"instruction": "Say", "input": "owls", "response": "owls"},
    ]
)


def make(folder: Path) -> Path:
    torch.manual_seed(0)
    tokenizer = byte_tokenizer()
    markers = [tokenizer.convert_tokens_to_ids(token) for token in ("<|bos|>", "<|end|>", "<|pad|>")]
    fresh_model(len(tokenizer), *markers).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
