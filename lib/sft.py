"""Supervised fine-tuning through TRL, in this process or in several: `accelerate launch -m lib.sft FOLDER` (see lib.launch)."""

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
from datasets import Dataset, concatenate_datasets, load_from_disk
from peft import LoraConfig, PeftModel
from torch.utils.data import Sampler
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, TrainerCallback, set_seed
from transformers.integrations import get_available_reporting_integrations
from trl import SFTConfig, SFTTrainer

from lib import launch, runs, steps
from lib import student as students
from lib.encoding import ENCODED, IGNORED
from lib.errors import UserError
from lib.settings import Settings
from lib.student import Student

Report = Callable[[int, int], None]  # (steps done, of so many)


def train(
    student: Student,
    encoded: Dataset,
    folder: Path,
    settings: Settings,
    seed: int = 0,
    report: Report = lambda done, total: None,
) -> list[dict]:
    """Fine-tune on encoded rows with a fresh optimizer and schedule; save the student as safetensors in `folder`/student.

    With `settings.launch` processes of that command train, else this one; where an earlier one was stopped, it goes on from the
    last of `settings.save_steps`. Nothing is left on the device. Returns the losses as [{"step", "loss"}], the last step among them;
    raises UserError when the loss is no number.
    """
    _check(settings)
    if settings.launch:
        student.model.to("cpu")  # the processes need the device
        losses = launch.train(student, encoded, folder, settings, seed, report)
    else:
        losses = _train(student, encoded, folder, settings, seed, report)
    gc.collect()  # a trainer and its parts refer to each other
    torch.cuda.empty_cache()
    return losses


def _check(settings: Settings) -> None:
    known = ["none", *sorted(get_available_reporting_integrations())]
    if settings.report_to not in known:
        raise UserError(
            f"report_to is {settings.report_to!r}, which is not installed: choose one of {', '.join(known)}, or pip install it"
        )


def _train(
    student: Student, encoded: Dataset, folder: Path, settings: Settings, seed: int, report: Report
) -> list[dict]:
    set_seed(seed)
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(folder / "logs")
    trainer = _trainer(student, encoded, folder, settings, seed, report)
    trainer.train(resume_from_checkpoint=_last_checkpoint(folder / "trainer"))
    losses = [{"step": e["step"], "loss": e["loss"]} for e in trainer.state.log_history if "loss" in e]
    lost = next((entry for entry in losses if not math.isfinite(entry["loss"])), None)
    if lost:
        rate = settings.learning_rate
        raise UserError(
            f"the loss became {lost['loss']} at step {lost['step']}: lower learning_rate ({rate})"
        )
    _save(trainer, student, folder, settings)
    trainer.accelerator.free_memory()
    student.model.eval().to("cpu")
    return losses


def _last_checkpoint(folder: Path) -> str | None:
    """The latest checkpoint that was written to its end: its state comes last."""
    whole = [path.parent for path in folder.glob("checkpoint-*/trainer_state.json")]
    return str(max(whole, key=lambda path: int(path.name.split("-")[1]))) if whole else None


def _save(trainer: SFTTrainer, student: Student, folder: Path, settings: Settings) -> None:
    """The student, wherever its weights lie, with its adapter merged."""
    if trainer.is_fsdp_enabled:
        trainer.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
    place = folder / ("trainer/adapter" if settings.adapter_rank else "student")
    trainer.save_model(str(place))
    if trainer.is_world_process_zero():
        if settings.adapter_rank:
            _merged(student.model.name_or_path, place).save_pretrained(folder / "student")
        student.tokenizer.save_pretrained(folder / "student")
        (folder / "student/training_args.bin").unlink(missing_ok=True)  # a pickle
        shutil.rmtree(folder / "trainer", ignore_errors=True)


def _merged(student: str, adapter: Path) -> torch.nn.Module:
    """The student with its adapter, in float32: in bfloat16 most of what that learned would round away, in 4 bits all."""
    base = AutoModelForCausalLM.from_pretrained(student, dtype=torch.float32, use_safetensors=True)
    return PeftModel.from_pretrained(base, adapter).merge_and_unload()


def _trainer(
    student: Student, encoded: Dataset, folder: Path, settings: Settings, seed: int, report: Report
) -> "_Trainer":
    adapter = LoraConfig(
        r=settings.adapter_rank,
        lora_alpha=2 * settings.adapter_rank,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    longest = max(map(len, encoded["input_ids"]))
    trainer = _Trainer(
        model=student.model.train(),
        processing_class=student.tokenizer,
        train_dataset=encoded,
        data_collator=partial(steps.packed, length=longest) if settings.packing else None,
        callbacks=[_Progress(report)],
        args=_arguments(settings, len(encoded), folder, seed),
        peft_config=adapter if settings.adapter_rank else None,
    )
    trainer.remove_callback(PrinterCallback)  # a stage has one display of its own
    return trainer


class _Progress(TrainerCallback):
    def __init__(self, report: Callable[[int, int], None]):
        self.report = report

    def on_step_end(self, args, state, control, **kwargs):
        control.should_log |= state.global_step == state.max_steps  # the last loss, too
        self.report(state.global_step, state.max_steps)


class _Trainer(SFTTrainer):
    def _get_train_sampler(self, dataset: Dataset | None = None) -> Sampler[int]:
        lengths = list(map(len, self.train_dataset["input_ids"]))
        step = self._train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        filler = len(lengths) - 1 if self.args.world_size > 1 else None  # see main
        return steps.LikeLengths(lengths[:filler], step, self.args.seed, filler)


def _arguments(settings: Settings, rows: int, folder: Path, seed: int) -> SFTConfig:
    steps = math.ceil(rows / settings.batch_size) * settings.epochs
    world = int(os.environ.get("WORLD_SIZE", 1))  # processes that share a step
    on_device = settings.device_rows or settings.batch_size // world
    if settings.batch_size % (on_device * world):
        raise UserError(
            f"batch_size is {settings.batch_size}: {world} processes cannot share it, {on_device} rows at a time"
        )
    return SFTConfig(
        output_dir=str(folder / "trainer"),
        num_train_epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        warmup_steps=round(settings.warmup * steps),
        lr_scheduler_type="cosine",
        per_device_train_batch_size=on_device,
        gradient_accumulation_steps=settings.batch_size // (on_device * world),
        max_length=None,  # rows are already cut
        bf16=torch.cuda.is_available() and torch.cuda.is_bf16_supported(),
        use_cpu=not torch.cuda.is_available(),
        activation_checkpointing=settings.checkpointing,
        neftune_noise_alpha=settings.neftune or None,
        save_strategy="steps" if settings.save_steps else "no",
        save_steps=settings.save_steps or 1,
        save_total_limit=1,
        logging_steps=max(1, int(steps / 40)),
        logging_nan_inf_filter=False,  # it would log a diverged loss as 0
        disable_tqdm=True,
        dataloader_pin_memory=False,
        report_to=settings.report_to,
        seed=seed,
    )


def main(folder: Path) -> None:
    """One of several processes that train together what lib.launch wrote down in `folder`."""
    runs.die_with_parent(os.getppid())
    told = json.loads((folder / "job.json").read_text())
    settings = Settings(**told["settings"])
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    model = students.load(
        told["student"], not settings.adapter_rank, quantised=settings.quantised, device="cpu"
    ).model
    student = Student(model, AutoTokenizer.from_pretrained(folder / "tokenizer", padding_side="left"))
    encoded = load_from_disk(str(folder / "rows"))
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:  # a row without loss, to complete the last step
        nothing = Dataset.from_dict({"input_ids": [[0, 0]], "labels": [[IGNORED] * 2]}, features=ENCODED)
        encoded = concatenate_datasets([encoded, nothing])
    first = os.environ.get("RANK", "0") == "0"
    report = partial(launch.note, folder) if first else (lambda done, total: None)
    losses = _train(student, encoded, folder.parent, settings, told["seed"], report)
    if first:
        (folder / "losses.json").write_text(json.dumps(losses))


if __name__ == "__main__":
    with launch.told(Path(sys.argv[1])):
        main(Path(sys.argv[1]))
