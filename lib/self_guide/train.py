"""Train the student on each set of rows: its own pairs, and the baselines."""

import hashlib
from dataclasses import asdict
from functools import partial

import pandas as pd
from datasets import Dataset

from lib import files, records
from lib.errors import UserError
from lib.training import encoding, sft
from lib.training.config import TrainingConfig


def fitting(sets: dict[str, Dataset], tokenizer, max_length: int) -> tuple[dict[str, Dataset], pd.DataFrame]:
    """Leave out rows of more than `max_length` tokens, and sets without rows; count both.

    Raises UserError where no row of "self_guide" is left.
    """
    positions = {name: encoding.fitting(tokenizer, rows, max_length) for name, rows in sets.items()}
    if not positions["self_guide"]:
        total = len(sets["self_guide"])
        raise UserError(f"max_length={max_length}: none of {total:,} pairs fits. Raise it, or lower shots.")
    counts = {name: (len(fits), len(sets[name]) - len(fits)) for name, fits in positions.items()}
    table = pd.DataFrame.from_dict(counts, orient="index", columns=["trained on", "too long"])
    return {name: records.take_rows(sets[name], fits) for name, fits in positions.items() if fits}, table


def train_each(
    stage, student: str, tokenizer, encoded: dict[str, Dataset], config: TrainingConfig, seed: int
) -> dict[str, list[dict]]:
    """Train the student on each set, and return the losses by name; baselines go to `baselines`/<name>.

    A set that an earlier start trained on is skipped; other tokens, settings or another seed train again.
    """
    losses = {}
    (stage.folder / "baselines").mkdir(exist_ok=True)  # later stages list the folder
    for name, rows in encoded.items():
        folder = stage.folder if name == "self_guide" else stage.folder / "baselines" / name
        folder.mkdir(exist_ok=True)
        tokens = hashlib.sha256(records.AS_JSON(rows[:]).encode()).hexdigest()
        key = {"student": student, "config": asdict(config), "seed": seed, "tokens": tokens}
        record = stage.work / f"trained-{name}.json"
        if files.read_json(record) != key:
            report = partial(stage.report_progress, label=f"steps, {name}")
            entries = sft.train(student, tokenizer, rows, folder, config, seed=seed, report=report)
            files.write_json(folder / "losses.json", entries)
            files.write_json(record, key)  # last: student and losses are whole
        losses[name] = files.read_json(folder / "losses.json")
    return losses


def curve(entries: list[dict]) -> tuple[list[int], list[float]]:
    """Split the losses of a training into steps and values."""
    return [entry["step"] for entry in entries], [entry["loss"] for entry in entries]


def summary(encoded: dict[str, Dataset], losses: dict[str, list[dict]]) -> pd.DataFrame:
    """Tabulate the rows of each set, and the first and last loss on them."""
    lines = {name: (len(encoded[name]), each[0]["loss"], each[-1]["loss"]) for name, each in losses.items()}
    return pd.DataFrame.from_dict(lines, orient="index", columns=["rows", "first loss", "last loss"])
