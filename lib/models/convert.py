"""Unpack a GGUF student into an ordinary folder: `python -m lib.models.convert GGUF FOLDER`."""

import sys
from pathlib import Path

import torch

from lib import models
from lib.errors import UserError


def convert(gguf: str, folder: Path) -> None:
    """Save the student as safetensors in bfloat16, with all that belongs to it, unless the folder exists."""
    if folder.exists():
        return
    unpacked = models.load(gguf)
    part = folder.with_name(f"{folder.name}.part")  # a folder that exists is whole
    unpacked.model.to(torch.bfloat16).save_pretrained(part)
    unpacked.tokenizer.save_pretrained(part)
    part.rename(folder)


if __name__ == "__main__":
    try:
        convert(sys.argv[1], Path(sys.argv[2]))
    except UserError as error:
        sys.exit(str(error))
