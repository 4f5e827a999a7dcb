"""How a student is taught and asked, and tasks are named: light to import, so that settings can be checked before torch is needed."""

import os
import shlex
import shutil
import sys
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path

from lib.errors import UserError
from lib.models import weights

JUDGES = "judges.json"  # where an evaluation notes who judged
RECORDED = ("model_outputs", "answers", "judgments", "responses")  # where one is given, no student is asked
FILTERS = ("empty", "length", "noise", "duplicate")  # of SELF-GUIDE, in their order
BESIDE = ("demos_only", "shuffled_labels", "gold")  # what a student is taught beside its own pairs
WAYS = ("zero_shot", "few_shot", "self_consistency", "constrained", "self_icl", "synthetic_in_context")
REPORTERS = ("tensorboard", "trackio", "wandb")


@dataclass(frozen=True)
class Settings:
    """How a student is taught. Raises UserError for what can't be."""

    epochs: float = 3.0
    learning_rate: float = 2e-5  # peak of a cosine schedule
    warmup: float = 0.03  # share of the steps in which the rate rises
    batch_size: int = 32  # rows a step
    device_rows: int = 0  # rows of a step that are on the device at a time; 0 for all of them
    checkpointing: bool = False  # recompute activations: less memory, about a third more time
    adapter_rank: int = 0  # of a LoRA adapter on all linear layers, merged at the end; 0 to train all weights
    quantised: bool = False  # QLoRA: the weights below the adapter in 4 bits (NF4) while it is taught
    neftune: float = 0.0  # NEFTune's alpha (Jain et al., 2024): noise on the embeddings; 0 for none
    packing: bool = False  # rows of a step side by side without padding: for GPUs
    save_steps: int = 0  # steps after which a restart can go on; 0 for the round from its start
    report_to: str = "none"  # tensorboard, trackio, wandb
    launch: str = ""  # trains in processes of its own, such as "accelerate launch --num_processes 8"

    @classmethod
    def of(cls, parameters: dict) -> "Settings":
        """The settings among a notebook's parameters."""
        return cls(**{each.name: parameters[each.name] for each in fields(cls)})

    def __post_init__(self):
        for name in ("epochs", "learning_rate", "batch_size"):
            if not getattr(self, name) > 0:
                raise UserError(f"{name} is {getattr(self, name)}: it must be above 0")
        for name in ("device_rows", "adapter_rank", "neftune", "save_steps"):
            if getattr(self, name) < 0:
                raise UserError(f"{name} is {getattr(self, name)}: it must be 0 or above")
        if not 0 <= self.warmup <= 1:
            raise UserError(f"warmup is {self.warmup}: it is a share of the steps, 0 to 1")
        if self.packing and self.neftune:
            raise UserError("neftune's noise depends on padding: set packing to false, or neftune to 0")
        if self.quantised and not self.adapter_rank:
            raise UserError("quantised weights can't be taught themselves: set adapter_rank, such as 16")
        if self.device_rows and self.batch_size % self.device_rows:
            raise UserError(
                f"device_rows is {self.device_rows}: it must divide batch_size ({self.batch_size}), so that a step is whole"
            )
        if self.report_to != "none" and (self.report_to not in REPORTERS or not find_spec(self.report_to)):
            raise UserError(
                f"report_to is {self.report_to!r}, which is not installed: pip install one of {', '.join(REPORTERS)}, or set it to none"
            )
        self.command()

    def command(self) -> list[str]:
        """The words of `launch`, the first one as the path of a program: one beside this Python, or anywhere."""
        try:
            first, *rest = shlex.split(self.launch) or [""]
        except ValueError as error:
            raise UserError(f"launch is {self.launch!r}: {error}") from None
        beside = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        found = shutil.which(first, path=beside) if first else None
        if first and not found:
            raise UserError(f"launch is {self.launch!r}, but there is no program {first}")
        return [found, *rest] if found else []


def check_labelling(labelled_rows: int, confident: float, classifier: str) -> None:
    """Raises UserError for impossible numbers, or a classifier that would not be used or whose folder is not there."""
    if labelled_rows < 0 or not 0 <= confident <= 1:
        raise UserError(
            f"labelled_rows is {labelled_rows} and confident {confident:g}: the one must be 0 or more, the other a probability"
        )
    if classifier and not labelled_rows:
        raise UserError(
            f"classifier={classifier} would never be used: with labelled_rows=0 the oracle names every task; raise that or leave it out"
        )
    if classifier:
        weights.place("classifier", classifier)
