"""Rows as a student reads them: token ids, the labels that are in the loss, and how large that loss is."""

from collections.abc import Callable, Iterator

import torch
from datasets import Dataset, Features, List, Value
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
    needed = rows.select_columns(["id", "instruction", "input", "turns", "response"]).to_list()
    if empty := [row["id"] for row in needed if not row["response"]]:
        raise UserError(f"{len(empty)} rows have no response to train on, the first is {empty[0]}")
    encoded = [
        ((start + response)[:max_length], ([IGNORED] * len(start) + response)[:max_length])
        for start, response in _parts(tokenizer, needed)
    ]
    if full := [row["id"] for row, (_, labels) in zip(needed, encoded, strict=True) if labels[-1] == IGNORED]:
        raise UserError(
            f"{len(full)} prompts fill max_length={max_length}, the first is row {full[0]}: raise it"
        )
    columns = {name: [row[i] for row in encoded] for i, name in enumerate(ENCODED)}
    return Dataset.from_dict(columns, features=ENCODED)


def fitting(tokenizer, rows: Dataset, max_length: int) -> list[int]:
    """The places of the rows that `encode` cuts nothing of."""
    needed = rows.select_columns(["instruction", "input", "turns", "response"]).to_list()
    parts = enumerate(_parts(tokenizer, needed))
    return [i for i, (start, response) in parts if len(start) + len(response) <= max_length]


def encode_alone(tokenizer, rows: Dataset, max_length: int) -> Dataset:
    """Token ids and labels of the responses as `encode` has them, but with no prompt: only the marker of a beginning precedes them.

    Of a tokenizer without one the first token is not in the loss, as nothing predicts it.
    """
    needed = rows.select_columns(["instruction", "input", "turns", "response"]).to_list()
    start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    tokens = [ids[: max_length - len(start)] for _, ids in _parts(tokenizer, needed)]
    labels = [[IGNORED] + ids if start else [IGNORED] + ids[1:] for ids in tokens]
    columns = {"input_ids": [start + ids for ids in tokens], "labels": labels}
    return Dataset.from_dict(columns, features=ENCODED)


def _parts(tokenizer, rows: list[dict]) -> Iterator[tuple[list[int], list[int]]]:
    """The tokens of each prompt and those of its response, with the closing marker, as both stand in the whole text.

    A text by itself may begin with a token of its own (as LLaMA 2's do). Where one token reaches from the prompt into the response, which
    no student is ever asked to continue, the response's text is taken by itself all the same.
    """
    prompts, wholes = _rendered(tokenizer, rows)
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
