"""Rows as a student reads them: token ids, the labels that are in the loss, and how large that loss is."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import pyarrow as pa
import torch
from datasets import Dataset, DatasetInfo, Features, List, Value
from datasets.fingerprint import generate_random_fingerprint
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from lib import records
from lib.errors import UserError
from lib.models import chat_template
from lib.models.student import Student

IGNORED = -100  # label of a token without loss
ENCODED = Features({"input_ids": List(Value("int32")), "labels": List(Value("int32"))})


def encode(tokenizer, rows: Dataset, max_length: int) -> Dataset:
    """Token ids and labels of each row: its prompt, then its response with its end token.

    Prompt tokens are labelled -100; what exceeds `max_length` is cut at the end. Raises UserError when a row has no
    response, or no room for one behind its prompt.
    """
    if empty := [row["id"] for row in records.iter_rows(rows, "id", "response") if not row["response"]]:
        raise UserError(f"{len(empty)} rows have no response to train on, the first is {empty[0]}")
    encoded = _encoded(
        ((start + response)[:max_length], ([IGNORED] * len(start) + response)[:max_length])
        for start, response in _parts(tokenizer, rows)
    )
    said = zip(records.iter_rows(rows, "id"), records.iter_rows(encoded, "labels"), strict=True)
    if full := [row["id"] for row, one in said if one["labels"][-1] == IGNORED]:
        raise UserError(
            f"{len(full)} prompts fill max_length={max_length}, the first is row {full[0]}: raise it"
        )
    return encoded


def fitting(tokenizer, rows: Dataset, max_length: int) -> list[int]:
    """The places of the rows that `encode` cuts nothing of."""
    parts = enumerate(_parts(tokenizer, rows))
    return [i for i, (start, response) in parts if len(start) + len(response) <= max_length]


def with_and_without(tokenizer, rows: Dataset, max_length: int) -> tuple[Dataset, Dataset]:
    """Encode each response with its prompt and without, the same tokens of it in both losses.

    With it as `encode` does; without it, only the marker of a beginning precedes. Of a tokenizer that has none
    the first token is in neither loss, as nothing predicts it alone.
    """
    start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    given, alone = [], []
    for row in records.iter_rows(encode(tokenizer, rows, max_length), *ENCODED):
        size = sum(label != IGNORED for label in row["labels"])
        prompt, response = row["input_ids"][:-size], row["input_ids"][-size:]
        labels = response if start else [IGNORED, *response[1:]]
        given.append((prompt + response, [IGNORED] * len(prompt) + labels))
        alone.append((start + response, [IGNORED] * len(start) + labels))
    return _encoded(given), _encoded(alone)


def _encoded(pairs: Iterable[tuple[list[int], list[int]]]) -> Dataset:
    """Token ids and labels as a table: as Python lists a million rows would take ten times the memory."""
    schema, parts = ENCODED.arrow_schema, []
    for some in records.batched(pairs, 1000):
        columns = {name: [pair[i] for pair in some] for i, name in enumerate(ENCODED)}
        parts.append(pa.table(columns, schema))
    table = pa.concat_tables([schema.empty_table(), *parts])
    return Dataset(table, DatasetInfo(features=ENCODED), fingerprint=generate_random_fingerprint())


def _parts(tokenizer, rows: Dataset) -> Iterator[tuple[list[int], list[int]]]:
    """Yield the tokens of each prompt and of its response with the end token, as both stand in the whole text.

    A text by itself may begin with a token of its own (as LLaMA 2's do). Where one token reaches from the prompt into the response, which
    no student is ever asked to continue, the response's text is taken by itself all the same.
    """
    ending = chat_template.end(tokenizer)
    eos = [] if ending.text else [ending.id]
    for some in records.batched(records.iter_rows(rows, "id", *records.PROMPT_COLUMNS, "response"), 1000):
        prompts, responses = zip(*_texts(tokenizer, some), strict=True)
        wholes = [prompt + response for prompt, response in zip(prompts, responses, strict=True)]
        for response, start, whole in zip(
            responses, _tokens(tokenizer, prompts), _tokens(tokenizer, wholes), strict=True
        ):
            apart = whole[: len(start)] != start
            yield start, (_tokens(tokenizer, [response])[0] if apart else whole[len(start) :]) + eos


def _texts(tokenizer, rows: list[dict]) -> Iterator[tuple[str, str]]:
    conversations = list(map(records.messages, rows))
    responses, ids = ([row[name] for row in rows] for name in ("response", "id"))
    return chat_template.parts(tokenizer, conversations, responses, ids)


def _tokens(tokenizer, texts: Sequence[str]) -> list[list[int]]:
    return tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []


def response_tokens(encoded: Dataset) -> list[int]:
    """Tokens in the loss, row by row: the response and its end token."""
    return [sum(label != IGNORED for label in row["labels"]) for row in records.iter_rows(encoded, "labels")]


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
