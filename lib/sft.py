"""Supervised fine-tuning through TRL: loss on the last response alone, counted in response tokens."""

import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import torch
from datasets import Dataset, Features, List, Value
from peft import LoraConfig
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Sampler
from transformers import PrinterCallback, TrainerCallback, set_seed
from trl import SFTConfig, SFTTrainer

from lib import records
from lib.errors import UserError
from lib.settings import Settings
from lib.student import Student

IGNORED = -100  # label of a token without loss
ENCODED = Features({"input_ids": List(Value("int32")), "labels": List(Value("int32"))})


def encode(tokenizer, rows: Dataset, max_length: int) -> Dataset:
    """Token ids and labels of each row: its prompt, then its response with the closing marker.

    Prompt tokens are labelled -100; what exceeds `max_length` is cut at the end. Raises UserError when a row has no
    response, or no room for one behind its prompt.
    """
    needed = rows.select_columns(["id", "instruction", "input", "turns", "response"]).to_list()
    if empty := [row["id"] for row in needed if not row["response"]]:
        raise UserError(f"{len(empty)} rows have no response to train on, the first is {empty[0]}")
    prompts, responses = _rendered(tokenizer, needed)
    encoded = [
        ((start + response)[:max_length], ([IGNORED] * len(start) + response)[:max_length])
        for start, response in zip(_tokens(tokenizer, prompts), _tokens(tokenizer, responses), strict=True)
    ]
    if full := [row["id"] for row, (_, labels) in zip(needed, encoded, strict=True) if labels[-1] == IGNORED]:
        raise UserError(
            f"{len(full)} prompts fill max_length={max_length}, the first is row {full[0]}: raise it"
        )
    columns = {name: [row[i] for row in encoded] for i, name in enumerate(ENCODED)}
    return Dataset.from_dict(columns, features=ENCODED)


def encode_alone(tokenizer, rows: Dataset, max_length: int) -> Dataset:
    """Token ids and labels of the responses as `encode` has them, but with no prompt: only the marker of a beginning precedes them.

    Of a tokenizer without one the first token is not in the loss, as nothing predicts it.
    """
    _, texts = _rendered(
        tokenizer, rows.select_columns(["instruction", "input", "turns", "response"]).to_list()
    )
    start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    tokens = [ids[: max_length - len(start)] for ids in _tokens(tokenizer, texts)]
    labels = [[IGNORED] + ids if start else [IGNORED] + ids[1:] for ids in tokens]
    columns = {"input_ids": [start + ids for ids in tokens], "labels": labels}
    return Dataset.from_dict(columns, features=ENCODED)


def _rendered(tokenizer, rows: list[dict]) -> tuple[list[str], list[str]]:
    """Prompts and responses as the chat template writes them, the response with its closing marker."""
    asked = [records.messages(row) for row in rows]
    told = [
        [*turns, {"role": "assistant", "content": row["response"]}]
        for turns, row in zip(asked, rows, strict=True)
    ]
    prompts = [
        tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True) for turns in asked
    ]
    wholes = [tokenizer.apply_chat_template(turns, tokenize=False) for turns in told]
    if not all(whole.startswith(prompt) for whole, prompt in zip(wholes, prompts, strict=True)):
        raise UserError("the chat template renders a prompt differently once a response follows it")
    return prompts, [whole[len(prompt) :] for whole, prompt in zip(wholes, prompts, strict=True)]


def _tokens(tokenizer, texts: list[str]) -> list[list[int]]:
    return tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []


def response_tokens(encoded: Dataset) -> list[int]:
    """Tokens in the loss, row by row: the response and its closing marker."""
    return [sum(label != IGNORED for label in labels) for labels in encoded["labels"]]


@torch.inference_mode()
def response_losses(
    student: Student,
    encoded: Dataset,
    batch_size: int = 32,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> list[float]:
    """The summed loss of each row's response, in nats, in row order."""
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i]["input_ids"]))
    losses = [0.0] * len(encoded)
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        ids, labels = (
            pad_sequence([torch.tensor(encoded[i][name]) for i in batch], True, fill)
            for name, fill in (("input_ids", 0), ("labels", IGNORED))
        )
        logits = student.model(input_ids=ids.to(student.model.device)).logits[:, :-1].float()
        flat = cross_entropy(
            logits.transpose(1, 2), labels[:, 1:].to(logits.device), reduction="none", ignore_index=IGNORED
        )
        for i, loss in zip(batch, flat.sum(dim=1).tolist(), strict=True):
            losses[i] = loss
        report(min(start + batch_size, len(order)), len(order))
    return losses


class _Progress(TrainerCallback):
    def __init__(self, report: Callable[[int, int], None]):
        self.report = report

    def on_step_end(self, args, state, control, **kwargs):
        control.should_log |= state.global_step == state.max_steps  # the last loss, too
        self.report(state.global_step, state.max_steps)


class _Batches(Sampler[int]):
    """Row numbers of one pass: batches of rows of like length, in random order.

    The library's own grouping runs from long to short again and again, which the loss then follows.
    """

    def __init__(self, lengths: list[int], batch_size: int, seed: int, pool: int = 50):
        self.lengths, self.batch_size, self.pool, self.rng = lengths, batch_size, pool, Random(seed)

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        order = self.rng.sample(range(len(self.lengths)), len(self.lengths))
        size, whole = self.batch_size, len(order) // self.batch_size * self.batch_size
        sorted_ = [
            i
            for start in range(0, whole, size * self.pool)
            for i in sorted(order[start : min(start + size * self.pool, whole)], key=self.lengths.__getitem__)
        ]
        batches = [sorted_[start : start + size] for start in range(0, whole, size)]
        self.rng.shuffle(batches)
        return iter([i for batch in batches for i in batch] + order[whole:])  # a smaller batch comes last


class _Trainer(SFTTrainer):
    def _get_train_sampler(self, dataset: Dataset | None = None) -> Sampler[int]:
        rows = self.train_dataset if dataset is None else dataset
        step = self._train_batch_size * self.args.gradient_accumulation_steps
        return _Batches(list(map(len, rows["input_ids"])), step, self.args.seed)


def train(
    student: Student,
    encoded: Dataset,
    folder: Path,
    settings: Settings,
    seed: int = 0,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> list[dict]:
    """Fine-tune on encoded rows with a fresh optimizer and schedule; save the student as safetensors in `folder`/student.

    Returns the losses as [{"step", "loss"}], the last step among them; raises UserError when the loss is no number.
    """
    set_seed(seed)
    adapter = LoraConfig(
        r=settings.adapter_rank,
        lora_alpha=2 * settings.adapter_rank,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    trainer = _Trainer(
        model=student.model.train(),
        processing_class=student.tokenizer,
        train_dataset=encoded,
        callbacks=[_Progress(report)],
        args=_arguments(settings, len(encoded), folder, seed),
        peft_config=adapter if settings.adapter_rank else None,
    )
    trainer.remove_callback(PrinterCallback)  # a stage has one display of its own
    trainer.train()
    losses = [{"step": e["step"], "loss": e["loss"]} for e in trainer.state.log_history if "loss" in e]
    lost = next((entry for entry in losses if not math.isfinite(entry["loss"])), None)
    if lost:
        rate = settings.learning_rate
        raise UserError(
            f"the loss became {lost['loss']} at step {lost['step']}: lower learning_rate ({rate})"
        )
    # merged in float32: in bfloat16 most of what the adapter learned would round away
    taught = trainer.model.float().merge_and_unload() if settings.adapter_rank else student.model
    taught.eval().save_pretrained(folder / "student")
    student.tokenizer.save_pretrained(folder / "student")
    shutil.rmtree(folder / "trainer", ignore_errors=True)
    return losses


def _arguments(settings: Settings, rows: int, folder: Path, seed: int) -> SFTConfig:
    steps = math.ceil(rows / settings.batch_size) * settings.epochs
    on_device = settings.device_rows or settings.batch_size
    return SFTConfig(
        output_dir=str(folder / "trainer"),
        num_train_epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        warmup_steps=round(settings.warmup * steps),
        lr_scheduler_type="cosine",
        per_device_train_batch_size=on_device,
        gradient_accumulation_steps=settings.batch_size // on_device,
        max_length=None,  # rows are already cut
        bf16=torch.cuda.is_available() and torch.cuda.is_bf16_supported(),
        use_cpu=not torch.cuda.is_available(),
        activation_checkpointing=settings.checkpointing,
        neftune_noise_alpha=settings.neftune or None,
        save_strategy="no",
        logging_steps=max(1, int(steps / 40)),
        logging_nan_inf_filter=False,  # it would log a diverged loss as 0
        disable_tqdm=True,
        dataloader_pin_memory=False,
        report_to="none",
        seed=seed,
    )
