"""A student of the embedded kind, untrained, for tests that need a real one."""

from pathlib import Path

import torch

from lib.gym.pretrain import byte_tokenizer, fresh_model


def make(folder: Path) -> Path:
    torch.manual_seed(0)
    tokenizer = byte_tokenizer()
    markers = [tokenizer.convert_tokens_to_ids(token) for token in ("<|bos|>", "<|end|>", "<|pad|>")]
    fresh_model(len(tokenizer), *markers).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
