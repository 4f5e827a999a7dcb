"""Make lib/gym/warm_student, the embedded student after the demo's warm-up (round 0).

    make demo
    python -m tools.warm_student

By hand, notebook 2 judges this student and notebook 4 trains it, so that nobody has to run a round 0 first.
"""

import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

FOLDER = "outputs/demo/warm_up/s0/tapir/4_training@0/student"
WARM = Path("lib/gym/warm_student")


def store(folder: str) -> None:
    """Save a trained student in bfloat16, which halves its 5 MB."""
    AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).save_pretrained(WARM)
    AutoTokenizer.from_pretrained(folder).save_pretrained(WARM)


if __name__ == "__main__":
    store(*sys.argv[1:] or [FOLDER])
