"""What every `Trainer` here has in common: one device, no bars and files of its own, and steps that are told."""

from collections.abc import Callable

import torch
from transformers import TrainerCallback, TrainingArguments


def arguments(kind: type[TrainingArguments], **own) -> TrainingArguments:
    """Arguments of this kind with what all share: bfloat16 where the device has it, nothing printed."""
    on_gpu = torch.cuda.is_available()
    made = kind(
        bf16=on_gpu and torch.cuda.is_bf16_supported(),
        use_cpu=not on_gpu,
        disable_tqdm=True,
        dataloader_pin_memory=False,
        **own,
    )
    made._n_gpu = 1  # of several that are visible: DataParallel would make larger batches
    return made


class Progress(TrainerCallback):
    """Tells `report` the steps done, and of how many."""

    def __init__(self, report: Callable[[int, int], None]):
        self.report = report

    def on_step_end(self, args, state, control, **kwargs):
        self.report(state.global_step, state.max_steps)
