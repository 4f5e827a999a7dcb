"""Supervised fine-tuning through TRL, in this process or in several: `accelerate launch -m lib.training.sft FOLDER` (see lib.training.launch)."""

import gc
import json
import math
import os
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from datasets import Dataset, concatenate_datasets
from peft import LoraConfig, PeftModel
from torch.utils.data import Sampler
from transformers import GenerationConfig, PrinterCallback, set_seed
from transformers.integrations import is_fsdp_enabled
from trl import SFTConfig, SFTTrainer

from lib import records
from lib.errors import UserError, one_line
from lib.files import die_with_parent
from lib.models import chat_template, loading
from lib.training import launch, steps, trainers
from lib.training.encoding import ENCODED, IGNORED
from lib.training.settings import Settings

Report = Callable[[int, int], None]  # (steps done, of so many)


def train(
    student: str | Path,
    tokenizer,
    encoded: Dataset,
    folder: Path,
    settings: Settings,
    seed: int = 0,
    report: Report = lambda done, total: None,
) -> list[dict]:
    """Fine-tune a student, a folder or a hub name, on encoded rows; save it as safetensors in `folder`/student.

    The optimizer and the schedule are fresh. With `settings.launch` processes of that command train, else this one; where an
    earlier one was stopped, it goes on from the last of `settings.save_steps`, which lie in `folder`/work. Nothing is left on the
    device. Returns the losses as [{"step", "loss"}], the last step among them. Raises UserError when the loss is
    no number, and before the first step where the student could not be saved or would not learn to stop.
    """
    job = launch.Job(str(student), tokenizer, encoded, folder, settings, seed)
    try:
        return launch.train(job, report) if settings.launch else _train(job, report)
    finally:
        gc.collect()  # a trainer and its parts refer to each other
        torch.cuda.empty_cache()


def _train(job: launch.Job, report: Report) -> list[dict]:
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(job.folder / "logs")
    job = job._replace(tokenizer=chat_template.trained(job.tokenizer))
    trainer = _trainer(job, report)
    try:
        trainer.train(resume_from_checkpoint=_last_checkpoint(job.folder / "work/trainer"))
        losses = [{"step": e["step"], "loss": e["loss"]} for e in trainer.state.log_history if "loss" in e]
        _check_losses(losses, job.settings)
        _save(trainer, job)
    finally:
        _let_go(trainer)
    return losses


def _let_go(trainer: SFTTrainer) -> None:
    """Leave nothing on the device, though an error's traceback may hold the trainer."""
    trainer.accelerator.free_memory()
    trainer.optimizer = trainer.lr_scheduler = None
    if _world() == 1:
        trainer.model.to("cpu").zero_grad()


def _check_losses(losses: list[dict], settings: Settings) -> None:
    lost = next((entry for entry in losses if not math.isfinite(entry["loss"])), None)
    if lost:
        rate = settings.learning_rate
        raise UserError(
            f"the loss became {lost['loss']} at step {lost['step']}: lower learning_rate ({rate})"
        )


def _last_checkpoint(folder: Path) -> str | None:
    """The latest checkpoint that was written to its end: its state comes last."""
    whole = [path.parent for path in folder.glob("checkpoint-*/trainer_state.json")]
    return str(max(whole, key=lambda path: int(path.name.split("-")[1]))) if whole else None


def _save(trainer: SFTTrainer, job: launch.Job) -> None:
    """The student, wherever its weights lie, with its adapter merged."""
    if trainer.is_fsdp_enabled:
        trainer.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
    final, private = job.folder / "student", job.folder / "work/trainer"
    place = private / "adapter" if job.settings.adapter_rank else final
    trainer.save_model(str(place))
    if not trainer.is_world_process_zero():
        return
    if not list(place.glob("*.safetensors")):
        raise UserError(
            "the weights were not gathered from the processes: with DeepSpeed's stage 3 set stage3_gather_16bit_weights_on_model_save"
        )
    if job.settings.adapter_rank:
        _merged(job, place).save_pretrained(final)
    job.tokenizer.save_pretrained(final)
    (final / "training_args.bin").unlink(missing_ok=True)  # a pickle
    shutil.rmtree(private, ignore_errors=True)


def _merged(job: launch.Job, adapter: Path) -> torch.nn.Module:
    """The student with its adapter, in float32: in bfloat16 most of what that learned would round away, in 4 bits all."""
    base = loading.load_model(job.student, full_precision=True, device="cpu")
    _configure(base, job.tokenizer)
    return PeftModel.from_pretrained(base, adapter).merge_and_unload()


def _configure(model: torch.nn.Module, tokenizer) -> list[int]:
    """Set end tokens that any server stops at, and sampling fields that can be saved; return the former."""
    ends = chat_template.ends(tokenizer, model.generation_config)
    for config in (model.generation_config, model.config.get_text_config(), model.config):
        config.eos_token_id = ends if len(ends) > 1 else ends[0]
    _make_sampling_valid(model.generation_config)
    return ends


def _make_sampling_valid(generation: GenerationConfig) -> None:
    """Correct sampling fields without do_sample, as LLaMA 2 and Vicuna have them: they cannot be saved."""
    try:
        generation.validate(strict=True)
    except ValueError:
        if generation.temperature == 0:  # greedy, which needs none of them
            generation.temperature = generation.top_p = generation.top_k = None
        else:
            generation.do_sample = True


def _check_saving(model: torch.nn.Module, job: launch.Job) -> None:
    """Save the files beside the weights on trial; raise UserError before a round is trained and then lost."""
    trial = job.folder / "work/trial"
    try:
        for part in (model.config, model.generation_config, job.tokenizer):
            part.save_pretrained(trial)
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f"student={job.student}: it could not be saved after training: {one_line(error)}. Correct its "
            "configuration files."
        ) from None
    finally:
        shutil.rmtree(trial, ignore_errors=True)


def _check_ends(encoded: Dataset, ends: list[int]) -> None:
    """Raise UserError where no row ends with an end token: the student would learn never to stop."""
    if not any(row["labels"][-1] in ends for row in records.iter_rows(encoded, "labels")):
        raise UserError(
            f"max_length={max(map(len, encoded['input_ids']))}: each of {len(encoded):,} rows is cut before "
            "its end token, so the student would not learn to stop. Raise it."
        )


def _trainer(job: launch.Job, report: Report) -> "_Trainer":
    settings, encoded = job.settings, job.encoded
    arguments = _arguments(job)  # introduces the processes to each other, which loading asks
    model = _load(job)
    _check_ends(encoded, _configure(model, job.tokenizer))
    collate = None
    if _first():
        _check_saving(model, job)
    if settings.packing:
        if _first():  # another may have no weights
            steps.check_packing(model, encoded)
        collate = partial(steps.packed, length=max(map(len, encoded["input_ids"])))
    set_seed(job.seed)  # the adapter is drawn below
    adapter = LoraConfig(
        r=settings.adapter_rank,
        lora_alpha=2 * settings.adapter_rank,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    trainer = _Trainer(
        model=model.train(),
        processing_class=job.tokenizer,
        train_dataset=concatenate_datasets([encoded, _without_loss()]) if _world() > 1 else encoded,
        data_collator=collate,
        callbacks=[_Progress(report, settings.save_steps)],
        args=arguments,
        peft_config=adapter if settings.adapter_rank else None,
    )
    trainer.remove_callback(PrinterCallback)  # a stage has one display of its own
    return trainer


def _load(job: launch.Job) -> torch.nn.Module:
    """The student on this process's device; where several train it, in memory, and the trainer places it.

    Where they share the weights (FSDP), only the first reads them: a model may be larger than a device, and
    several of it larger than the memory.
    """
    settings = job.settings
    device = "cpu" if _world() > 1 else ""
    shared = torch.cuda.is_available() and is_fsdp_enabled()  # accelerate shards on devices only
    empty = shared and not _first() and not settings.quantised
    return loading.load_model(job.student, not settings.adapter_rank, settings.quantised, device, empty)


def _world() -> int:
    """How many processes share a step."""
    return int(os.environ.get("WORLD_SIZE", 1))


def _first() -> bool:
    """Whether this process is alone, or the first of several."""
    return os.environ.get("RANK", "0") == "0"


def _without_loss() -> Dataset:
    """One row that completes the last step of a pass where processes share it."""
    return Dataset.from_dict({"input_ids": [[0, 0]], "labels": [[IGNORED] * 2]}, features=ENCODED)


class _Progress(trainers.Progress):
    def __init__(self, report: Report, save_steps: int):
        super().__init__(report)
        self.save_steps = save_steps

    def on_step_end(self, args, state, control, **kwargs):
        # the last loss, too; and a restart counts losses from its step on
        saved = self.save_steps and state.global_step % self.save_steps == 0
        control.should_log |= state.global_step == state.max_steps or bool(saved)
        super().on_step_end(args, state, control, **kwargs)


class _Trainer(SFTTrainer):
    def _get_train_sampler(self, dataset: Dataset | None = None) -> Sampler[int]:
        lengths = list(map(len, self.train_dataset["input_ids"]))
        step = self._train_batch_size * self.args.gradient_accumulation_steps * _world()
        filler = len(lengths) - 1 if _world() > 1 else None  # the row without loss
        in_a_pass = math.ceil(len(lengths[:filler]) / step)
        # asked, not told by set_epoch, which does not reach a sampler that is resumed in several processes
        return steps.LikeLengths(
            lengths[:filler], step, self.args.seed, filler, lambda: self.state.global_step // in_a_pass
        )


def _arguments(job: launch.Job) -> SFTConfig:
    settings, world = job.settings, _world()
    steps = math.ceil(len(job.encoded) / settings.batch_size) * settings.epochs
    on_device = settings.device_rows or settings.batch_size // world
    if settings.batch_size % (on_device * world):
        raise UserError(
            f"batch_size is {settings.batch_size}: {world} processes cannot share it, {on_device} rows at a time"
        )
    return trainers.arguments(
        SFTConfig,
        output_dir=str(job.folder / "work/trainer"),
        num_train_epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        warmup_steps=round(settings.warmup * steps),
        lr_scheduler_type="cosine",
        per_device_train_batch_size=on_device,
        gradient_accumulation_steps=settings.batch_size // (on_device * world),
        max_length=None,  # rows are already cut
        activation_checkpointing=settings.checkpointing,
        neftune_noise_alpha=settings.neftune or None,
        save_strategy="steps" if settings.save_steps else "no",
        save_steps=settings.save_steps or 1,
        save_total_limit=1,
        logging_steps=max(1, int(steps / 40)),
        logging_nan_inf_filter=False,  # it would log a diverged loss as 0
        report_to=settings.report_to,
        seed=job.seed,
    )


def main(place: Path) -> None:
    """One of several processes that train together the job that lib.training.launch wrote down in `place`."""
    die_with_parent(os.getppid())
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    report = partial(launch.note, place) if _first() else (lambda done, total: None)
    losses = _train(launch.read(place), report)
    if _first():
        (place / "losses.json").write_text(json.dumps(losses))


if __name__ == "__main__":
    with launch.told(Path(sys.argv[1])):
        main(Path(sys.argv[1]))
