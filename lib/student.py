"""The student: loading it, and its responses in length-sorted batches that a restart continues."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from lib import decoding, paths, records, weights
from lib.errors import UserError
from lib.settings import check_sampling

logging.disable_progress_bar()  # a stage has one display of its own


class Student(NamedTuple):
    """A causal language model and its tokenizer, ready to be asked."""

    model: torch.nn.Module
    tokenizer: object


class Reply(NamedTuple):
    """One response; `finish` is "length" when the token limit cut it, else "stop"."""

    text: str
    finish: str
    tokens: int


def load(student: str | Path, full_precision: bool = False, chat_template: str = "") -> Student:
    """Load a student from a folder or by its hub name: in float32 on a CPU, on a GPU in bfloat16.

    `full_precision` keeps float32 on a GPU too: weights that are trained need it (small steps round away). `chat_template`
    is a template file for a student that brings none, or in place of its own.
    Raises UserError when it cannot be loaded, the folder has no safetensors weights or the tokenizer no chat template.
    """
    on_gpu = torch.cuda.is_available()
    dtype = torch.bfloat16 if on_gpu and not full_precision else torch.float32
    with weights.loading("student", student) as place:
        tokenizer = AutoTokenizer.from_pretrained(place, padding_side="left")
        model = AutoModelForCausalLM.from_pretrained(place, dtype=dtype, use_safetensors=True)
    if chat_template:
        tokenizer.chat_template = _template(chat_template)
    if not tokenizer.chat_template:
        raise UserError(
            f"the student {student} has no chat template, as base models often don't: name one with chat_template "
            "(such as params/prompts/chat_llama2.jinja)"
        )
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return Student(model.to("cuda" if on_gpu else "cpu").eval(), tokenizer)


def _template(place: str) -> str:
    try:
        return paths.local(place).read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"the chat template {place} cannot be read: {error.strerror}") from None


def answer(
    student: Student,
    prompts: list[list[dict]],
    samples: int = 1,
    temperature: float = 0.0,
    max_new_tokens: int = 256,
    batch_size: int = 64,
    seed: int = 0,
    folder: Path | None = None,
    report: Callable[[int, int], None] | None = None,
) -> list[list[Reply]]:
    """`samples` replies to each prompt, in the order of the prompts; temperature 0 is greedy.

    Batches are a fixed function of the prompts and every batch has a seed of its own, so that a restart
    which finds batches of an earlier start in `folder` ends with the same replies.
    """
    check_sampling(samples, temperature)
    texts = [
        student.tokenizer.apply_chat_template(p, tokenize=False, add_generation_prompt=True) for p in prompts
    ]
    replies: list[list[Reply]] = [[] for _ in prompts]
    done = 0
    for number, batch in enumerate(_batches(texts, batch_size)):
        asked = [texts[i] for i in batch]
        store = _store(folder, number, asked, samples, temperature, max_new_tokens, seed) if folder else None
        if store and store.exists():
            made = [[Reply(*reply) for reply in row] for row in json.loads(store.read_text())]
        else:
            torch.manual_seed(seed * 1_000_003 + number)
            made = _generate(student, asked, samples, temperature, max_new_tokens)
            if store:
                _write(store, json.dumps(made))
        for i, row in zip(batch, made, strict=True):
            replies[i] = row
        done += len(batch)
        if report:
            report(done, len(prompts))
    return replies


def respond(rows: Dataset, student: Student, samples: int = 1, **how) -> tuple[Dataset, dict[str, int]]:
    """Add student_response to the rows that lack one, and with several samples all of them to `meta.samples`.

    `how` goes to `answer`. Returns the rows and {"responses", "cut", "tokens"} of what was generated.
    """
    missing = [i for i, text in enumerate(rows["student_response"]) if text is None]
    asked = [records.messages(rows[i]) for i in missing]
    made = dict(zip(missing, answer(student, asked, samples, **how), strict=True))
    texts, metas = rows["student_response"][:], rows["meta"][:]
    for i, replies in made.items():
        texts[i] = replies[0].text
        if samples > 1:
            metas[i] = json.dumps(json.loads(metas[i] or "{}") | {"samples": [r.text for r in replies]})
    flat = [reply for replies in made.values() for reply in replies]
    counts = {"responses": len(flat), "cut": sum(r.finish == "length" for r in flat)}
    return records.update(rows, student_response=texts, meta=metas), counts | {
        "tokens": sum(r.tokens for r in flat)
    }


def _batches(texts: list[str], size: int) -> Iterator[list[int]]:
    """Positions of the texts by falling length, so that a batch wastes little on padding."""
    order = sorted(range(len(texts)), key=lambda i: (-len(texts[i]), i))
    for start in range(0, len(order), size):
        yield order[start : start + size]


def _generate(
    student: Student, texts: list[str], samples: int, temperature: float, limit: int
) -> list[list[Reply]]:
    model, tokenizer = student
    inputs = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False).to(model.device)
    named = torch.tensor(model.generation_config.eos_token_id or []).flatten().tolist()
    ends = {*named, tokenizer.eos_token_id}
    closing = torch.tensor(sorted(ends), device=model.device)
    made = decoding.decode(
        model, inputs["input_ids"], inputs["attention_mask"], closing, limit, samples, temperature
    )
    flat = [_reply(ids, ends, tokenizer) for ids in made]
    return [flat[i : i + samples] for i in range(0, len(flat), samples)]


def _reply(ids: list[int], ends: set[int], tokenizer) -> Reply:
    text = tokenizer.decode(ids, skip_special_tokens=True)
    return Reply(text, "stop" if ids[-1] in ends else "length", len(ids))


def _store(folder: Path, *what) -> Path:
    """Where a batch's replies lie: named by all that decides them, but the student whose folder it is."""
    return folder / f"replies-{hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]}.json"


def _write(path: Path, text: str) -> None:
    partial = path.with_suffix(".tmp")
    partial.write_text(text)
    partial.replace(path)
