"""What every trainer of the suite has in common: its arguments, and how it shows progress."""

import torch
from transformers import TrainerCallback, TrainingArguments

from lib.models.types import Report


def arguments(kind: type[TrainingArguments], **values) -> TrainingArguments:
    """Build arguments of a kind: one device, bfloat16 where it has that, and no output of its own."""
    on_gpu = torch.cuda.is_available()
    bf16 = on_gpu and torch.cuda.is_bf16_supported()
    built = kind(bf16=bf16, use_cpu=not on_gpu, disable_tqdm=True, dataloader_pin_memory=False, **values)
    built._n_gpu = 1  # with several visible ones DataParallel would make larger batches
    return built


class Progress(TrainerCallback):
    """Reports each step, and has the loss logged at the last one and at each checkpoint."""

    def __init__(self, report: Report):
        self.report = report

    def on_step_end(self, args, state, control, **kwargs):
        # a resumed training averages the losses from its checkpoint on
        saved = args.save_strategy == "steps" and state.global_step % args.save_steps == 0
        control.should_log |= saved or state.global_step == state.max_steps
        self.report(state.global_step, state.max_steps)
