"""Fine-tune an encoder, such as DeBERTa, with a new head to classify texts."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from datasets import Dataset
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    PrinterCallback,
    Trainer,
    TrainingArguments,
    pipeline,
    set_seed,
)
from transformers.utils import logging

from lib.models import loading
from lib.training import trainers

logging.disable_progress_bar()  # a stage has its own

CUT = {"truncation": True, "max_length": 512}  # as many tokens as BERT and DeBERTa have positions for
BATCH_SIZE = 16
# Within the ranges in which DeBERTa-v3's authors search for a base model, from memory
SETTINGS = {
    "num_train_epochs": 5.0,  # 4,000 labels are 1,250 steps
    "learning_rate": 2e-5,
    "warmup_steps": 0.1,  # a share, below 1: a new head sends large gradients at first
    "weight_decay": 0.01,
    "per_device_train_batch_size": BATCH_SIZE,
}


def fit(
    name: str | Path,
    texts: list[str],
    labels: list[str],
    seed: int = 0,
    report: Callable[[int, int], None] = lambda done, total: None,
    **settings,
) -> Callable[[list[str]], list[tuple[str, float]]]:
    """Fine-tune the encoder of this hub name or folder; `report` gets (step, steps).

    `settings` are TrainingArguments beside SETTINGS. Returns a function of texts: the likeliest label of
    each, and its probability. Raises UserError when the encoder cannot be loaded or has no safetensors
    weights.
    """
    set_seed(seed)  # the head is drawn here
    model, tokenizer = _load(name, sorted(set(labels)))
    rows = {**tokenizer(texts, **CUT), "labels": [model.config.label2id[label] for label in labels]}
    silent = {"save_strategy": "no", "logging_strategy": "no", "report_to": "none"}
    with TemporaryDirectory() as folder:
        trainer = Trainer(
            model=model,
            args=trainers.arguments(
                TrainingArguments, output_dir=folder, seed=seed, **silent, **SETTINGS | settings
            ),
            train_dataset=Dataset.from_dict(rows),
            data_collator=DataCollatorWithPadding(tokenizer),
            callbacks=[trainers.Progress(report)],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    classify = pipeline("text-classification", model=model.eval(), tokenizer=tokenizer, **CUT)

    def predict(texts: list[str]) -> list[tuple[str, float]]:
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))  # like lengths pad little
        predicted = classify([texts[i] for i in order], batch_size=BATCH_SIZE)
        by_position = dict(zip(order, predicted, strict=True))
        return [(by_position[i]["label"], by_position[i]["score"]) for i in range(len(texts))]

    return predict


def _load(name: str | Path, labels: list[str]) -> tuple:
    """Load in float32, which small steps need; a head for other labels is drawn anew."""
    with loading.located("classifier", name) as source:
        tokenizer = AutoTokenizer.from_pretrained(source, **loading.OWN_CODE)
        if tokenizer.pad_token is None:
            raise ValueError("its tokenizer has no padding token, as an encoder's has")
        model = AutoModelForSequenceClassification.from_pretrained(
            source,
            dtype=torch.float32,
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            id2label=dict(enumerate(labels)),
            label2id={label: i for i, label in enumerate(labels)},
            **loading.OWN_CODE,
        )
    return model, tokenizer
