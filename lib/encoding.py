"""Rows as a student reads them: token ids, the labels that are in the loss, and how large that loss is."""

from collections.abc import Callable, Iterable, Iterator

import pyarrow as pa
import torch
from datasets import Dataset, DatasetInfo, Features, List, Value
from datasets.fingerprint import generate_random_fingerprint
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from lib import records
from lib.errors import UserError
from lib.student import Student

IGNORED = -100  # label of a token without loss
ENCODED = Features({"input_ids": List(Value("int32")), "labels": List(Value("int32"))})


def encode(tokenizer, rows: Dataset, max_length: int) -> Dataset:
    """Token ids and labels of each row: its prompt, then its response with the closing marker.

    Prompt tokens are labelled -100; what exceeds `max_length` is cut at the end. Raises UserError when a row has no
    response, or no room for one behind its prompt.
    """
    if empty := [row["id"] for row in records.walk(rows, "id", "response") if not row["response"]]:
        raise UserError(f"{len(empty)} rows have no response to train on, the first is {empty[0]}")
    encoded = _encoded(
        ((start + response)[:max_length], ([IGNORED] * len(start) + response)[:max_length])
        for start, response in _parts(tokenizer, rows)
    )
    said = zip(records.walk(rows, "id"), records.walk(encoded, "labels"), strict=True)
    if full := [row["id"] for row, one in said if one["labels"][-1] == IGNORED]:
        raise UserError(
            f"{len(full)} prompts fill max_length={max_length}, the first is row {full[0]}: raise it"
        )
    return encoded


def fitting(tokenizer, rows: Dataset, max_length: int) -> list[int]:
    """The places of the rows that `encode` cuts nothing of."""
    parts = enumerate(_parts(tokenizer, rows))
    return [i for i, (start, response) in parts if len(start) + len(response) <= max_length]


def encode_alone(tokenizer, rows: Dataset, max_length: int) -> Dataset:
    """Token ids and labels of the responses as `encode` has them, but with no prompt: only the marker of a beginning precedes them.

    Of a tokenizer without one the first token is not in the loss, as nothing predicts it.
    """
    start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    tokens = (ids[: max_length - len(start)] for _, ids in _parts(tokenizer, rows))
    return _encoded((start + ids, [IGNORED] + (ids if start else ids[1:])) for ids in tokens)


def _encoded(pairs: Iterable[tuple[list[int], list[int]]]) -> Dataset:
    """Token ids and labels as a table: as Python lists a million rows would take ten times the memory."""
    schema, parts = ENCODED.arrow_schema, []
    for some in records.batched(pairs, 1000):
        columns = {name: [pair[i] for pair in some] for i, name in enumerate(ENCODED)}
        parts.append(pa.table(columns, schema))
    table = pa.concat_tables([schema.empty_table(), *parts])
    return Dataset(table, DatasetInfo(features=ENCODED), fingerprint=generate_random_fingerprint())


def _parts(tokenizer, rows: Dataset) -> Iterator[tuple[list[int], list[int]]]:
    """The tokens of each prompt and those of its response, with the closing marker, as both stand in the whole text.

    A text by itself may begin with a token of its own (as LLaMA 2's do). Where one token reaches from the prompt into the response, which
    no student is ever asked to continue, the response's text is taken by itself all the same.
    """
    for some in records.batched(records.walk(rows, *records.SAID, "response"), 1000):
        prompts, wholes = _rendered(tokenizer, some)
        for prompt, text, start, whole in zip(
            prompts, wholes, _tokens(tokenizer, prompts), _tokens(tokenizer, wholes), strict=True
        ):
            apart = whole[: len(start)] != start
            yield start, _tokens(tokenizer, [text[len(prompt) :]])[0] if apart else whole[len(start) :]


def _rendered(tokenizer, rows: list[dict]) -> tuple[list[str], list[str]]:
    """Prompts, and the whole texts with their responses, as the chat template writes them."""
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
    return prompts, wholes


def _tokens(tokenizer, texts: list[str]) -> list[list[int]]:
    return tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []


def response_tokens(encoded: Dataset) -> list[int]:
    """Tokens in the loss, row by row: the response and its closing marker."""
    return [sum(label != IGNORED for label in row["labels"]) for row in records.walk(encoded, "labels")]


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
