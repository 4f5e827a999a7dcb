"""Fine-tune an encoder, such as DeBERTa, with a new head to classify texts."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from datasets import Dataset
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    PrinterCallback,
    Trainer,
    TrainingArguments,
    set_seed,
)
from transformers.utils import logging

from lib.models import loading
from lib.models.types import Report
from lib.training import trainers

logging.disable_progress_bar()  # a stage has its own

CUT = {"truncation": True, "max_length": 512}  # as many tokens as BERT and DeBERTa have positions for
# Within the ranges in which DeBERTa-v3's authors search for a base model, from memory
SETTINGS = {
    "num_train_epochs": 5.0,  # 4,000 labels are 1,250 steps
    "learning_rate": 2e-5,
    "warmup_steps": 0.1,  # a share, below 1: a new head sends large gradients at first
    "weight_decay": 0.01,
    "per_device_train_batch_size": 16,
    "per_device_eval_batch_size": 16,
    "save_strategy": "no",
    "logging_strategy": "no",
    "report_to": "none",
}


def fit(
    name: str | Path,
    texts: list[str],
    labels: list[str],
    seed: int = 0,
    report: Report = lambda done, total: None,
    **settings,
) -> Callable[[list[str]], list[str]]:
    """Fine-tune the encoder of this hub name or folder; `report` gets (step, steps).

    `settings` are TrainingArguments beside SETTINGS. Returns a function from texts to their labels. Raises
    UserError when the encoder cannot be loaded or has no safetensors weights.
    """
    set_seed(seed)  # the head is drawn here
    names = sorted(set(labels))
    with loading.located("classifier", name) as source:
        tokenizer = AutoTokenizer.from_pretrained(source, **loading.OWN_CODE)
        if tokenizer.pad_token is None:
            raise ValueError("its tokenizer has no padding token, as an encoder's has")
        model = AutoModelForSequenceClassification.from_pretrained(
            source,
            dtype=torch.float32,  # which small steps need
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # a head for other labels is drawn anew
            num_labels=len(names),
            **loading.OWN_CODE,
        )
    rows = {**tokenizer(texts, **CUT), "labels": [names.index(label) for label in labels]}
    with TemporaryDirectory() as folder:
        trainer = Trainer(
            model=model,
            args=trainers.arguments(TrainingArguments, output_dir=folder, seed=seed, **SETTINGS | settings),
            train_dataset=Dataset.from_dict(rows),
            data_collator=DataCollatorWithPadding(tokenizer),
            callbacks=[trainers.Progress(report)],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()

    def predict(texts: list[str]) -> list[str]:
        encoded = Dataset.from_dict(tokenizer(texts, **CUT))
        order = np.argsort([len(ids) for ids in encoded["input_ids"]])  # like lengths pad little
        logits = trainer.predict(encoded.select(order)).predictions[np.argsort(order)]
        return [names[i] for i in logits.argmax(axis=1)]

    return predict
