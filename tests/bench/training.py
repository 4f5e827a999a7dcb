"""How fast a student is taught, beside a bare PyTorch loop on the same batches and beside TRL, as it comes and without the recomputing of
activations that it comes with: `PYTHONPATH=tests python -m bench training`."""

import statistics
import time
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import torch
import trl
from bench.lines import compared
from datasets import Dataset
from reasoning_gym.data import read_data_file
from transformers import get_cosine_schedule_with_warmup

from lib import models, records
from lib.models import loading
from lib.training import data, encoding, sft
from lib.training.config import TrainingConfig

STUDENT, ROWS, TURNS = "lib/gym/student", 640, 3
BARE, DEFAULTS = 0.85, 1.5  # times as fast, at least
SETTINGS = TrainingConfig(epochs=1, learning_rate=1e-4, warmup=0.1, batch_size=16)


def material(n: int) -> Dataset:
    """Rows from 40 to 900 bytes, short ones more often than long ones, as real ones are."""
    rng, words = Random(0), read_data_file("in_the_year_2889.txt").split()
    sizes = [int(5 * 25 ** rng.random()) for _ in range(n)]
    return records.build(
        {
            "instruction": " ".join(rng.sample(words, size // 2)),
            "response": " ".join(rng.sample(words, size // 3 + 1)),
        }
        for size in sizes
    )


def suite(encoded: Dataset, folder: Path) -> None:
    sft.train(STUDENT, loading.load_tokenizer(STUDENT), encoded, folder, SETTINGS)


def bare(encoded: Dataset, folder: Path) -> None:
    """What every tutorial writes, on the suite's own batches."""
    model, rows = loading.load_model(STUDENT).train(), list(encoded)
    order = list(
        data.LengthGroupedSampler([len(row["input_ids"]) for row in rows], SETTINGS.batch_size, seed=0)
    )
    batches = [order[i : i + SETTINGS.batch_size] for i in range(0, len(order), SETTINGS.batch_size)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=SETTINGS.learning_rate, fused=True)
    schedule = get_cosine_schedule_with_warmup(optimizer, len(batches) // 10, len(batches))
    for batch in batches:
        columns = {
            name: torch.nn.utils.rnn.pad_sequence([torch.tensor(rows[i][name]) for i in batch], True, fill)
            for name, fill in (("input_ids", 0), ("labels", encoding.IGNORED))
        }
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones(len(rows[i]["input_ids"])) for i in batch], True)
        model(**columns, attention_mask=mask).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    model.eval().save_pretrained(folder / "student")


def defaults(encoded: Dataset, folder: Path, **arguments) -> None:
    """TRL as it comes: but for what makes it train the same rows as often, here."""
    same = {"num_train_epochs": 1, "per_device_train_batch_size": SETTINGS.batch_size, "max_length": None}
    here = {
        "use_cpu": not torch.cuda.is_available(),
        "bf16": False,
        "report_to": "none",
        "disable_tqdm": True,
    }
    arguments = trl.SFTConfig(output_dir=str(folder), save_strategy="no", **same, **here, **arguments)
    backend = models.load(STUDENT)
    trainer = trl.SFTTrainer(
        model=backend.model, processing_class=backend.tokenizer, args=arguments, train_dataset=encoded
    )
    trainer.train()
    trainer.save_model(str(folder / "student"))


def holding(encoded: Dataset, folder: Path) -> None:
    """TRL with activations held, as the suite and the bare loop hold them."""
    defaults(encoded, folder, gradient_checkpointing=False)


def timed(work, encoded: Dataset) -> float:
    with TemporaryDirectory() as folder:
        started = time.perf_counter()
        work(encoded, Path(folder))
        return time.perf_counter() - started


def measure(n: int = ROWS) -> list[dict]:
    encoded = encoding.encode(loading.load_tokenizer(STUDENT), material(n), 1024)
    tokens, taken = sum(map(len, encoded["input_ids"])), {suite: [], bare: [], defaults: [], holding: []}
    for _ in range(TURNS):  # in turns: a machine's mood falls on all
        for work, seconds in taken.items():
            seconds.append(timed(work, encoded))
    rates = [tokens / statistics.median(seconds) for seconds in taken.values()]
    peers = (
        (f"a bare loop, torch {torch.__version__}", BARE),
        (f"TRL {trl.__version__} as it comes (it recomputes activations)", DEFAULTS),
        ("TRL with gradient_checkpointing=False", None),
    )
    pairs = zip(rates[1:], peers, strict=True)
    return [compared("training", "tokens/s", rates[0], rate, name, least) for rate, (name, least) in pairs]
