"""Rows as token ids and labels, and the loss of a student on them."""

import math
from collections.abc import Iterable, Iterator

import pyarrow as pa
import torch
from datasets import Dataset, DatasetInfo, Features, List, Value
from datasets.fingerprint import generate_random_fingerprint
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from lib import records
from lib.errors import UserError
from lib.models import chat_template
from lib.models.local import LocalBackend
from lib.models.types import Report

IGNORED = -100  # label of a token without loss
MOST_LOGITS = 2**28  # of a batch whose losses are measured: 3 GB with their float32 copies
ENCODED = Features({"input_ids": List(Value("int32")), "labels": List(Value("int32"))})


def encode(tokenizer, rows: Dataset, max_length: int) -> Dataset:
    """Encode each row as its prompt, then its response with the end token.

    Prompt tokens are labelled -100; tokens beyond `max_length` are cut. Raises UserError when a row has no
    response, or no room for one behind its prompt.
    """
    empty = [row["id"] for row in records.iter_rows(rows, "id", "response") if not row["response"]]
    if empty:
        raise UserError(f"row={empty[0]}: {len(empty):,} rows have no response to train on. Leave them out.")
    encoded = _table(
        ((prompt + response)[:max_length], ([IGNORED] * len(prompt) + response)[:max_length])
        for prompt, response in _tokenized(tokenizer, rows)
    )
    pairs = zip(records.iter_rows(rows, "id"), records.iter_rows(encoded, "labels"), strict=True)
    full = [row["id"] for row, columns in pairs if columns["labels"][-1] == IGNORED]
    if full:
        raise UserError(
            f"max_length={max_length}: {len(full):,} prompts leave no room for a response, the first of row "
            f"{full[0]}. Raise it."
        )
    return encoded


def fitting(tokenizer, rows: Dataset, max_length: int) -> list[int]:
    """Return the indices of the rows that `encode` does not cut."""
    tokenized = enumerate(_tokenized(tokenizer, rows))
    return [i for i, (prompt, response) in tokenized if len(prompt) + len(response) <= max_length]


def with_and_without(tokenizer, rows: Dataset, max_length: int) -> tuple[Dataset, Dataset]:
    """Encode each response with its prompt and without, the same tokens of it in both losses.

    Without its prompt it stands behind the beginning-of-sequence token. Where a tokenizer has none, the first
    token is in neither loss, as nothing predicts it.
    """
    start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    conditioned, alone = [], []
    for row in records.iter_rows(encode(tokenizer, rows, max_length), *ENCODED):
        size = sum(label != IGNORED for label in row["labels"])
        prompt, response = row["input_ids"][:-size], row["input_ids"][-size:]
        labels = response if start else [IGNORED, *response[1:]]
        conditioned.append((prompt + response, [IGNORED] * len(prompt) + labels))
        alone.append((start + response, [IGNORED] * len(start) + labels))
    return _table(conditioned), _table(alone)


def _table(pairs: Iterable[tuple[list[int], list[int]]]) -> Dataset:
    """Collect (input_ids, labels) in Arrow: a million rows as Python lists take ten times the memory."""
    schema, tables = ENCODED.arrow_schema, []
    for part in records.batched(pairs, 1000):
        columns = dict(zip(ENCODED, map(list, zip(*part, strict=True)), strict=True))
        tables.append(pa.table(columns, schema))
    table = pa.concat_tables([schema.empty_table(), *tables])
    return Dataset(table, DatasetInfo(features=ENCODED), fingerprint=generate_random_fingerprint())


def _tokenized(tokenizer, rows: Dataset) -> Iterator[tuple[list[int], list[int]]]:
    """Yield the tokens of each prompt, and of its response and end token behind it.

    A response alone may begin with an additional token, as with LLaMA 2. It is tokenized alone only where a
    token would reach from the prompt into the response, which no student is asked to continue.
    """
    ending = chat_template.end(tokenizer)
    eos = [] if ending.text else [ending.id]
    for part in records.batched(records.iter_rows(rows, "id", *records.PROMPT_COLUMNS, "response"), 1000):
        responses, ids = ([row[name] for row in part] for name in ("response", "id"))
        texts = list(chat_template.parts(tokenizer, list(map(records.messages, part)), responses, ids))
        prompts = _tokens(tokenizer, [prompt for prompt, _ in texts])
        wholes = _tokens(tokenizer, [prompt + response for prompt, response in texts])
        for prompt, whole, (_, response) in zip(prompts, wholes, texts, strict=True):
            reaches_over = whole[: len(prompt)] != prompt
            tokens = _tokens(tokenizer, [response])[0] if reaches_over else whole[len(prompt) :]
            yield prompt, tokens + eos


def _tokens(tokenizer, texts: list[str]) -> list[list[int]]:
    return tokenizer(texts, add_special_tokens=False)["input_ids"]


def response_tokens(encoded: Dataset) -> list[int]:
    """Count the tokens in the loss of each row: the response and its end token."""
    return [sum(label != IGNORED for label in row["labels"]) for row in records.iter_rows(encoded, "labels")]


@torch.inference_mode()
def response_losses(
    student: LocalBackend,
    encoded: Dataset,
    batch_size: int = 32,
    report: Report = lambda done, total: None,
) -> list[float]:
    """Return the summed loss of each row's response, in nats.

    A batch has `batch_size` rows, or fewer where its logits would be more than MOST_LOGITS.
    """
    lengths = list(map(len, encoded["input_ids"]))
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    losses, device, done = [0.0] * len(order), student.model.device, 0
    for batch in _batches(order, batch_size, lengths, len(student.tokenizer)):
        part = encoded[batch]
        ids, labels = (
            pad_sequence(list(map(torch.tensor, part[name])), True, fill).to(device)
            for name, fill in (("input_ids", 0), ("labels", IGNORED))
        )
        logits = student.model(input_ids=ids).logits[:, :-1].float().transpose(1, 2)
        by_token = cross_entropy(logits, labels[:, 1:], reduction="none", ignore_index=IGNORED)
        for i, loss in zip(batch, by_token.sum(dim=1).tolist(), strict=True):
            losses[i] = loss
        done += len(batch)
        report(done, len(order))
    return losses


def _batches(order: list[int], size: int, lengths: list[int], vocabulary: int) -> Iterator[list[int]]:
    for batch in records.batched(order, size):
        fitting = MOST_LOGITS // (lengths[batch[-1]] * vocabulary)  # the last one is the longest
        yield from records.batched(batch, max(1, fitting))


def bits_per_byte(student: LocalBackend, rows: Dataset, max_length: int, report: Report) -> tuple[float, int]:
    """Return the loss of the responses in bits per byte of text, and the number of rows that count.

    Rows of `max_length` tokens or more do not count; UserError where none counts, and as `encode` raises.
    """
    encoded = encode(student.tokenizer, rows, max_length)
    whole = [i for i, ids in enumerate(encoded["input_ids"]) if len(ids) < max_length]
    if not whole:
        raise UserError(f"max_length={max_length}: each of {len(rows):,} rows is as long. Raise it.")
    nats = sum(response_losses(student, encoded.select(whole), report=report))
    size = sum(len(text.encode()) for text in rows.select(whole)["response"])
    return nats / size / math.log(2), len(whole)
