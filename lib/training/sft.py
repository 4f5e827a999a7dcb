"""Supervised fine-tuning through TRL, in this process or as one of several (see lib.training.launch)."""

import gc
import math
import os
import shutil
import sys
from functools import partial
from pathlib import Path

import torch
from datasets import Dataset, concatenate_datasets
from peft import LoraConfig, PeftModel
from torch.utils.data import Sampler
from transformers import GenerationConfig, PrinterCallback, set_seed
from transformers.integrations import is_fsdp_enabled
from transformers.modeling_layers import GradientCheckpointingLayer
from trl import SFTConfig, SFTTrainer
from trl.trainer import add_fused_lm_head

from lib import files, records
from lib.errors import UserError
from lib.models import chat_template, loading
from lib.models.types import Report
from lib.training import data, launch, trainers
from lib.training.config import TrainingConfig
from lib.training.encoding import ENCODED, IGNORED

PAD_ROW = {"input_ids": [[0, 0]], "labels": [[IGNORED] * 2]}  # fills the last step that processes share
PROCESSES = int(os.environ.get("WORLD_SIZE", 1))  # which share a step
FIRST = os.environ.get("RANK", "0") == "0"  # this process is alone, or the first of several


def train(
    student: str | Path,
    tokenizer,
    encoded: Dataset,
    folder: Path,
    config: TrainingConfig,
    seed: int = 0,
    report: Report = lambda done, total: None,
) -> list[dict]:
    """Fine-tune a student, a folder or a hub name, and save it as safetensors in `folder`/student.

    The optimizer and the schedule are fresh; a stopped training resumes from its last checkpoint in
    `folder`/work. Nothing stays on the device. Returns the losses as [{"step", "loss"}], with the last step.
    Raises UserError when the loss is no number, and before the first step where the student would not learn
    to stop.
    """
    job = launch.Job(str(student), tokenizer, encoded, folder, config, seed)
    gc.collect()  # what an interrupted training has left
    gc.freeze()  # accelerate collects twice, and all that was there before takes long to search
    try:
        return launch.train(job, report) if config.launch else _train(job, report)
    finally:
        gc.collect()  # a trainer and its parts refer to each other
        gc.unfreeze()
        torch.cuda.empty_cache()


def _train(job: launch.Job, report: Report) -> list[dict]:
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(job.folder / "logs")
    job = job._replace(tokenizer=chat_template.trained(job.tokenizer))
    trainer = _trainer(job, report)
    try:
        trainer.train(resume_from_checkpoint=_last_checkpoint(job.folder / "work/trainer"))
        losses = [{"step": e["step"], "loss": e["loss"]} for e in trainer.state.log_history if "loss" in e]
        for entry in losses:
            if not math.isfinite(entry["loss"]):
                at = f"{entry['loss']} at step {entry['step']}"
                raise UserError(f"learning_rate={job.config.learning_rate}: the loss became {at}. Lower it.")
        _save(trainer, job)
    finally:  # leave nothing on the device, though an error's traceback may hold the trainer
        trainer.accelerator.free_memory()
        trainer.optimizer = trainer.lr_scheduler = None
        if PROCESSES == 1:
            trainer.model.to("cpu").zero_grad()
    return losses


def _last_checkpoint(folder: Path) -> str | None:
    """Find the latest complete checkpoint: its trainer_state.json is written last."""
    complete = [path.parent for path in folder.glob("checkpoint-*/trainer_state.json")]
    return str(max(complete, key=lambda path: int(path.name.split("-")[1]))) if complete else None


def _trainer(job: launch.Job, report: Report) -> "_Trainer":
    config, encoded = job.config, job.encoded
    arguments = _sft_arguments(job)  # connects the processes, before loading
    model = _load(job)
    _check_ends(encoded, _set_ends(model, job.tokenizer))
    if config.packing and FIRST:  # others may hold no weights
        data.check_packing(model, encoded)
    if config.compile:
        _compile(model)
    length = math.ceil(max(map(len, encoded["input_ids"])) / data.ALIGN) * data.ALIGN
    pad_row = Dataset.from_dict(PAD_ROW, features=ENCODED)
    rank = config.adapter_rank
    adapter = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
    set_seed(job.seed)  # the adapter's weights are drawn below
    trainer = _Trainer(
        model=model.train(),
        processing_class=job.tokenizer,
        train_dataset=concatenate_datasets([encoded, pad_row]) if PROCESSES > 1 else encoded,
        data_collator=partial(data.packed, length=length) if config.packing else None,
        callbacks=[trainers.Progress(report)],
        args=arguments,
        peft_config=adapter if rank else None,
    )
    trainer.remove_callback(PrinterCallback)  # a stage has one display of its own
    add_fused_lm_head(trainer.model.get_base_model() if rank else model)  # without entropy and accuracy
    return trainer


def _load(job: launch.Job) -> torch.nn.Module:
    """Load the student onto this process's device, or into memory where several processes train it.

    Where they share the weights (FSDP), only the first reads them: a model may be larger than a device, and
    several copies of it larger than the memory.
    """
    config, device = job.config, "cpu" if PROCESSES > 1 else ""
    shared = torch.cuda.is_available() and is_fsdp_enabled()  # accelerate shards on devices only
    empty = shared and not FIRST and not config.quantised
    return loading.load_model(job.student, not config.adapter_rank, config.quantised, device, empty)


def _compile(model: torch.nn.Module) -> None:
    """Compile each decoder layer on its own: the whole model takes minutes, equal layers share one code."""
    torch._dynamo.config.suppress_errors = True  # what cannot be compiled runs as it is, with a warning
    for layer in model.modules():
        if isinstance(layer, GradientCheckpointingLayer):
            layer.compile(dynamic=True)


class _Trainer(SFTTrainer):
    """TRL's trainer without entropy, accuracy and FLOPs of each step: a GPU waits until they are read."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        if self.aux_loss_enabled or return_outputs or num_items_in_batch is None:  # mixtures of experts
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        log_probs = model(**inputs, use_cache=False, fused_lm_head=True).log_probs
        loss = (-log_probs).sum() / torch.as_tensor(num_items_in_batch).clamp(min=1)
        return loss * self.accelerator.num_processes  # whose gradients are averaged

    def floating_point_ops(self, inputs: dict) -> int:
        return 0

    def _get_train_sampler(self, dataset: Dataset | None = None) -> Sampler[int]:
        lengths = list(map(len, self.train_dataset["input_ids"]))
        pad_row = len(lengths) - 1 if PROCESSES > 1 else None
        step = self._train_batch_size * self.args.gradient_accumulation_steps * PROCESSES
        lengths = lengths[:pad_row]
        steps_per_epoch = math.ceil(len(lengths) / step)
        # set_epoch does not reach a sampler that is resumed in several processes
        return data.LengthGroupedSampler(
            lengths, step, self.args.seed, pad_row, lambda: self.state.global_step // steps_per_epoch
        )


def _sft_arguments(job: launch.Job) -> SFTConfig:
    config = job.config
    steps = math.ceil(len(job.encoded) / config.batch_size) * config.epochs
    rows = config.device_rows or max(1, config.batch_size // PROCESSES)
    if config.batch_size % (rows * PROCESSES):
        raise UserError(
            f"batch_size={config.batch_size}: {PROCESSES} processes cannot share it, {rows} rows at a time. "
            f"Set a multiple of {rows * PROCESSES}."
        )
    return trainers.arguments(
        SFTConfig,
        output_dir=str(job.folder / "work/trainer"),
        num_train_epochs=config.epochs,
        learning_rate=config.learning_rate,
        warmup_steps=round(config.warmup * steps),
        lr_scheduler_type="cosine",
        per_device_train_batch_size=rows,
        gradient_accumulation_steps=config.batch_size // (rows * PROCESSES),
        max_length=None,  # rows are already cut
        activation_checkpointing=config.checkpointing,
        save_strategy="steps" if config.save_steps else "no",
        save_steps=config.save_steps or 1,
        save_total_limit=1,
        logging_steps=max(1, int(steps / 40)),
        logging_nan_inf_filter=False,  # it would log a diverged loss as 0
        report_to=config.report_to,
        seed=job.seed,
    )


def _set_ends(model: torch.nn.Module, tokenizer) -> list[int]:
    """Set the end tokens that any server stops at, in configurations that can be saved; return them.

    LLaMA 2 and Vicuna have sampling fields without do_sample, which transformers ignores and does not save.
    """
    generation = model.generation_config
    ends = chat_template.ends(tokenizer, generation)
    try:
        generation.validate(strict=True)
    except ValueError:
        tokens = {"bos_token_id": tokenizer.bos_token_id, "pad_token_id": tokenizer.pad_token_id}
        generation = model.generation_config = GenerationConfig(**tokens)
    for config in (generation, model.config.get_text_config(), model.config):
        config.eos_token_id = ends if len(ends) > 1 else ends[0]
    return ends


def _check_ends(encoded: Dataset, ends: list[int]) -> None:
    """Raise UserError where no row ends with an end token: the student would learn never to stop."""
    if not any(row["labels"][-1] in ends for row in records.iter_rows(encoded, "labels")):
        raise UserError(
            f"max_length={max(map(len, encoded['input_ids']))}: each of {len(encoded):,} rows is cut before "
            "its end token, so the student would not learn to stop. Raise it."
        )


def _save(trainer: SFTTrainer, job: launch.Job) -> None:
    """Save the student with its adapter merged, wherever its weights lie."""
    if trainer.is_fsdp_enabled:
        trainer.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
    final, work = job.folder / "student", job.folder / "work/trainer"
    folder = work / "adapter" if job.config.adapter_rank else final
    trainer.save_model(str(folder))
    if not trainer.is_world_process_zero():
        return
    if job.config.adapter_rank:  # merged in float32: bfloat16 would round most of it away, 4 bits all of it
        base = loading.load_model(job.student, full_precision=True, device="cpu")
        _set_ends(base, job.tokenizer)
        PeftModel.from_pretrained(base, folder).merge_and_unload().save_pretrained(final)
    if not list(final.glob("*.safetensors")):  # the checkpoints go below
        raise UserError(
            f"student={job.student}: no process saved the whole weights. Let the first one gather them "
            "(DeepSpeed: zero3_save_16bit_model: true), and start the same command again."
        )
    job.tokenizer.save_pretrained(final)
    (final / "training_args.bin").unlink(missing_ok=True)  # a pickle
    shutil.rmtree(work, ignore_errors=True)


def main(folder: Path) -> None:
    """Train the job that `launch.train` wrote in `folder`, as one of its processes."""
    files.die_with_parent(os.getppid())
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))

    def report(*progress: int) -> None:
        if FIRST:
            files.write_json(folder / "progress.json", progress)

    try:
        losses = _train(launch.read(folder), report)
    except UserError as error:
        files.write_json(folder / "result.json", {"error": str(error)})
        sys.exit(1)
    if FIRST:
        files.write_json(folder / "result.json", {"losses": losses})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
