"""A student of the embedded kind, untrained, and three rows to teach it, for tests that need real ones."""

import json
import shutil
from pathlib import Path

import torch

from lib import paths, records
from lib.gym.pretrain import byte_tokenizer, fresh_model

GYM = paths.ROOT / "lib/gym/student"
TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}]
ROWS = records.build(
    [
        {"instruction": "Say", "input": "cat", "response": "cat"},
        {"instruction": "Go on", "turns": TURNS, "response": "I do."},
        {"instruction": "Say", "input": "owls", "response": "owls"},
    ]
)


def ended_elsewhere(folder: Path) -> Path:
    """The embedded student, whose configs name another end token than its template writes (as Qwen2.5's base model's do)."""
    shutil.copytree(GYM, folder)
    for name, value in (("tokenizer_config", "<|system|>"), ("config", 258), ("generation_config", 258)):
        path = folder / f"{name}.json"
        key = "eos_token" if isinstance(value, str) else "eos_token_id"
        path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    return folder


def make(folder: Path) -> Path:
    torch.manual_seed(0)
    tokenizer = byte_tokenizer()
    markers = [tokenizer.convert_tokens_to_ids(token) for token in ("<|bos|>", "<|end|>", "<|pad|>")]
    fresh_model(len(tokenizer), *markers).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
