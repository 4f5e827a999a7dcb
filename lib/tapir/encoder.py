"""An encoder that learns to name texts, such as DeBERTa: fine-tuned with a head of its own for the labels it is told."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from datasets import Dataset
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Pipeline,
    PrinterCallback,
    Trainer,
    TrainingArguments,
    pipeline,
    set_seed,
)
from transformers.utils import logging

from lib.models import weights
from lib.training import sft

logging.disable_progress_bar()  # a stage has one display of its own

LENGTH = 512  # tokens of a text that are read: as many as BERT, DeBERTa and their kin have positions for
# Within the ranges in which DeBERTa-v3's authors search for a base model, from memory
EPOCHS = 5.0  # 4,000 labels are 1,250 steps
LEARNING_RATE = 2e-5
BATCH_SIZE = 16
WARMUP = 0.1  # share of the steps in which the rate rises: a new head sends large gradients at first
WEIGHT_DECAY = 0.01


def fit(
    name: str | Path,
    texts: list[str],
    labels: list[str],
    seed: int = 0,
    report: Callable[[int, int], None] = lambda done, total: None,
    epochs: float = EPOCHS,
    learning_rate: float = LEARNING_RATE,
) -> Callable[[list[str]], list[tuple[str, float]]]:
    """Fine-tune the encoder with this hub name or folder on texts and their labels; `report` is told its steps.

    Returns what names other texts: the likeliest label of each, and its probability. Raises UserError when the encoder cannot be
    loaded or has no safetensors weights.
    """
    set_seed(seed)  # the head is drawn here
    model, tokenizer = _load(name, sorted(set(labels)))
    with TemporaryDirectory() as folder:
        trainer = Trainer(
            model=model,
            args=_arguments(folder, seed, epochs, learning_rate),
            train_dataset=_encode(texts, labels, model, tokenizer),
            data_collator=DataCollatorWithPadding(tokenizer),
            callbacks=[sft.Progress(report)],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return partial(_name, pipeline("text-classification", model=model.eval(), tokenizer=tokenizer))


def _name(ask: Pipeline, texts: list[str]) -> list[tuple[str, float]]:
    order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))  # a batch of like lengths pads little
    said = ask([texts[i] for i in order], batch_size=BATCH_SIZE, truncation=True, max_length=LENGTH)
    found = dict(zip(order, said, strict=True))
    return [(found[i]["label"], found[i]["score"]) for i in range(len(texts))]


def _load(name: str | Path, labels: list[str]) -> tuple:
    """In float32, which small steps need; a head that the encoder brings for other labels is drawn anew."""
    names = {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}
    with weights.loading("classifier", name) as place:
        tokenizer = AutoTokenizer.from_pretrained(place, **weights.OWN_CODE)
        if tokenizer.pad_token is None:
            raise ValueError("its tokenizer has no padding token, as an encoder's has")
        model = AutoModelForSequenceClassification.from_pretrained(
            place,
            dtype=torch.float32,
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            **weights.OWN_CODE,
            **names,
        )
    return model, tokenizer


def _encode(texts: list[str], labels: list[str], model, tokenizer) -> Dataset:
    tokens = tokenizer(texts, truncation=True, max_length=LENGTH)
    return Dataset.from_dict({**tokens, "labels": [model.config.label2id[label] for label in labels]})


def _arguments(folder: str, seed: int, epochs: float, learning_rate: float) -> TrainingArguments:
    return sft.arguments(
        TrainingArguments,
        output_dir=folder,
        num_train_epochs=epochs,
        learning_rate=learning_rate,
        warmup_steps=WARMUP,  # below 1 it is a share
        weight_decay=WEIGHT_DECAY,
        per_device_train_batch_size=BATCH_SIZE,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        seed=seed,
    )
