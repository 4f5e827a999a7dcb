"""A trained student on disk: whole weights, end tokens and sampling fields that any server accepts."""

import shutil
from pathlib import Path

import torch
from datasets import Dataset
from peft import PeftModel
from transformers import GenerationConfig
from trl import SFTTrainer

from lib import records
from lib.errors import UserError, one_line
from lib.models import chat_template, loading
from lib.training.launch import Job


def save(trainer: SFTTrainer, job: Job) -> None:
    """Save the student with its adapter merged, wherever its weights lie."""
    if trainer.is_fsdp_enabled:
        trainer.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
    final, work = job.folder / "student", job.folder / "work/trainer"
    folder = work / "adapter" if job.config.adapter_rank else final
    trainer.save_model(str(folder))
    if not trainer.is_world_process_zero():
        return
    if job.config.adapter_rank:
        _merged(job, folder).save_pretrained(final)
    job.tokenizer.save_pretrained(final)
    (final / "training_args.bin").unlink(missing_ok=True)  # a pickle
    shutil.rmtree(work, ignore_errors=True)


def _merged(job: Job, adapter: Path) -> torch.nn.Module:
    """Merge the adapter in float32: bfloat16 would round most of it away, 4 bits all of it."""
    base = loading.load_model(job.student, full_precision=True, device="cpu")
    configure(base, job)
    return PeftModel.from_pretrained(base, adapter).merge_and_unload()


def configure(model: torch.nn.Module, job: Job) -> list[int]:
    """Set end tokens that any server stops at, and sampling fields that can be saved; return the former."""
    ends = chat_template.ends(job.tokenizer, model.generation_config)
    for config in (model.generation_config, model.config.get_text_config(), model.config):
        config.eos_token_id = ends if len(ends) > 1 else ends[0]
    _make_valid(model.generation_config, job.student)
    return ends


def _make_valid(generation: GenerationConfig, student: str) -> None:
    """Correct sampling fields without do_sample, as LLaMA 2 and Vicuna have them: they cannot be saved."""
    try:
        generation.validate(strict=True)
        return
    except ValueError:
        if generation.temperature == 0:  # greedy, which needs none of them
            generation.temperature = generation.top_p = generation.top_k = None
        else:
            generation.do_sample = True
    try:
        generation.validate(strict=True)
    except ValueError as error:
        raise UserError(
            f"student={student}: it could not be saved after training: {one_line(error)} Correct its "
            "generation_config.json."
        ) from None


def check_ends(encoded: Dataset, ends: list[int]) -> None:
    """Raise UserError where no row ends with an end token: the student would learn never to stop."""
    if not any(row["labels"][-1] in ends for row in records.iter_rows(encoded, "labels")):
        raise UserError(
            f"max_length={max(map(len, encoded['input_ids']))}: each of {len(encoded):,} rows is cut before "
            "its end token, so the student would not learn to stop. Raise it."
        )
