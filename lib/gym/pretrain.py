"""Make the embedded student, once: `python -m lib.gym.pretrain --out lib/gym/student`.

A Llama of 1.3 M parameters over bytes, trained on packed documents of short exercises with loss on all
tokens. Everything is counted in steps; nothing is downloaded.
"""

import argparse
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from random import Random

import torch
from reasoning_gym.data import read_data_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    get_linear_schedule_with_warmup,
)

from lib.gym import draw, operations

CONTEXT = 1024  # bytes
PRINTABLE = "".join(map(chr, range(33, 127)))
SPECIAL = ["<|pad|>", "<|bos|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<|' + message['role'] + '|>' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<|end|>' }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte (256 of them) and six markers; any text can be written and read back."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bytewise = Tokenizer(models.BPE(vocab={char: i for i, char in enumerate(alphabet)}, merges=[]))
    bytewise.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bytewise.decoder = decoders.ByteLevel()
    bytewise.add_special_tokens(SPECIAL)
    return PreTrainedTokenizerFast(
        tokenizer_object=bytewise,
        pad_token="<|pad|>",
        bos_token="<|bos|>",
        eos_token="<|end|>",
        additional_special_tokens=SPECIAL[2:5],
        chat_template=CHAT_TEMPLATE,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def fresh_model(vocabulary: int, bos: int, eos: int, pad: int) -> LlamaForCausalLM:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=128,
            intermediate_size=352,
            num_hidden_layers=6,
            num_attention_heads=4,
            max_position_embeddings=CONTEXT,
            initializer_range=0.05,  # 0.02 learns these tasks far later
            tie_word_embeddings=False,
            bos_token_id=bos,
            eos_token_id=eos,
            pad_token_id=pad,
        )
    )


def chat(messages: list[dict], reply: str) -> str:
    """A conversation as the chat template writes it."""
    turns = messages + [{"role": "assistant", "content": reply}]
    return "<|bos|>" + "".join(f"<|{turn['role']}|>{turn['content']}<|end|>" for turn in turns)


def operation_episode(rng: Random) -> str:
    """Operations from their name (in half of the episodes), from up to 6 demonstrations, or from both."""
    names = operations.chain(rng, rng.choices([1, 2, 3], weights=[15, 60, 25])[0])
    named = rng.random() < 0.5
    count = rng.choice([0, 0, 0, 1, 2, 3, 4]) if named else rng.randint(2, 6)
    *demos, (text, made) = operations.pairs(names, rng, count + 1)
    layout = operations.as_turns if rng.random() < 0.6 else operations.as_text
    return chat(layout(demos, text, operations.describe(names) if named else ""), made)


def exchange(rng: Random) -> str:
    """An operation on a word, then another one on what came out, and perhaps a third."""
    names = operations.chain(rng, rng.choice([2, 2, 3]))
    ((text, _),) = operations.pairs(names, rng, 1)
    turns = [{"role": "user", "content": f"{operations.describe(names[:1])} {text}"}]
    for done, name in enumerate(names[1:], 1):
        turns += [
            {"role": "assistant", "content": operations.apply(names[:done], text)},
            {"role": "user", "content": f"Now {operations.describe((name,)).lower()}"},
        ]
    return chat(turns, operations.apply(names, text))


def basic_skill(rng: Random) -> str:
    """A family's exercise in shorthand, not in any of the wordings a student is later asked in."""
    family, level = rng.choice(draw.cells())
    instance = next(draw.draw(family, level, rng))
    steps = f"{instance.steps}\n" if instance.steps and rng.random() < 0.5 else ""
    slots = " | ".join(f"{name}={value}" for name, value in sorted(instance.slots.items()))
    return f"<|bos|>{family} | {slots}\n{steps}= {instance.answer}\n"


@cache
def story() -> str:
    """Jules Verne's "In the Year 2889", which reasoning-gym carries (public domain)."""
    return " ".join(read_data_file("in_the_year_2889.txt").split())


def passage(rng: Random, shortest: int, longest: int) -> str:
    text, length = story(), rng.randint(shortest, longest)
    start = rng.randrange(len(text) - length)
    return text[start : start + length].strip()


def echo(rng: Random, longest: int) -> str:
    """A text to repeat, short ones more often: characters, words or prose, so that it can't be guessed.

    Characters that all differ teach copying first: one byte back is enough to know where one is.
    """
    length, kind = round(8 * (longest / 8) ** rng.random()), rng.random()
    if kind < 0.3:
        text = "".join(rng.sample(PRINTABLE, min(length, len(PRINTABLE))))
    elif kind < 0.5:
        text = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz    ", k=length)).strip()
    else:
        words = passage(rng, length, length + 20).split()
        if kind < 0.9:
            rng.shuffle(words)
        text = " ".join(words)[:length].strip()
    return chat([{"role": "user", "content": f"Repeat: {text}"}], text)


def new_input(rng: Random) -> str:
    """Inputs that belong together, and one more of the kind."""
    family, level = rng.choice(draw.cells())
    kinds = [lambda: operations.word(rng), lambda: next(draw.draw(family, level, rng)).slots["x"]]
    kind, heading = rng.choice(kinds), "Give one more input."
    shown = "".join(f"Input: {kind()}\n" for _ in range(rng.randint(2, 6)))
    return chat([{"role": "user", "content": f"{shown}{heading}"}], kind())


def documents(rng: Random, length: int) -> Iterator[str]:
    """Documents without end; `length` is the context they are packed into."""
    longest = min(500, length // 2 - 20)
    kinds = [
        (58, lambda: operation_episode(rng)),
        (10, lambda: exchange(rng)),
        (11, lambda: basic_skill(rng)),
        (15 if length < CONTEXT else 9, lambda: echo(rng, longest)),
        (3, lambda: f"<|bos|>{passage(rng, 20, longest)}"),
        (3, lambda: new_input(rng)),
    ]
    weights, makers = zip(*kinds, strict=True)
    while True:
        yield rng.choices(makers, weights)[0]()


def batch(tokenizer, step: int, seed: int, rows: int, length: int) -> torch.Tensor:
    """Packed token ids [rows, length] of a step: a function of seed and step alone."""
    rng = Random(f"{seed} {step}")
    ids: list[int] = []
    for text in documents(rng, length):
        ids += tokenizer(text, add_special_tokens=False)["input_ids"]
        if len(ids) >= rows * length:
            return torch.tensor(ids[: rows * length]).view(rows, length)


def optimizers(model: LlamaForCausalLM) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for embeddings, norms and the head."""
    inside = [p for name, p in model.named_parameters() if "layers" in name and p.ndim == 2]
    around = [p for name, p in model.named_parameters() if "layers" not in name or p.ndim != 2]
    return [
        torch.optim.Muon(inside, lr=4e-3, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(around, lr=2e-3, betas=(0.9, 0.98), weight_decay=0.01, fused=True),
    ]


def pretrain(out: Path, steps: int, seed: int = 0, tokens: int = 4096, fast: bool = False) -> None:
    """Train from scratch: the first 80 % of the steps on short contexts, the rest on the whole one."""
    torch.manual_seed(seed)
    tokenizer = byte_tokenizer()
    ids = [tokenizer.convert_tokens_to_ids(token) for token in ("<|bos|>", "<|end|>", "<|pad|>")]
    model = fresh_model(len(tokenizer), *ids)
    updates = optimizers(model)
    updates += [get_linear_schedule_with_warmup(optimizer, 300, steps) for optimizer in updates]
    compiled = torch.compile(model) if fast else model  # pays on the short contexts alone
    started, running = time.time(), 0.0
    for step in range(steps):
        length = CONTEXT // 4 if step < 0.8 * steps else CONTEXT
        x = batch(tokenizer, step, seed, tokens // length, length)
        forward = compiled if length < CONTEXT else model
        with torch.autocast("cpu", torch.bfloat16, enabled=fast):
            loss = forward(input_ids=x, labels=x, use_cache=False).loss
        model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for update in updates:
            update.step()
        running = loss.item() if not step else 0.98 * running + 0.02 * loss.item()
        if step % 100 == 99:
            print(
                f"step {step + 1} of {steps}, loss {running:.3f}, {time.time() - started:.0f} s", flush=True
            )
        if step % 1000 == 999 or step + 1 == steps:
            model.save_pretrained(out)
            tokenizer.save_pretrained(out)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--steps", type=int, default=14_000)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument(
        "--fast", action="store_true", help="bfloat16 (needs AMX), torch.compile (needs gcc)"
    )
    given = arguments.parse_args()
    pretrain(given.out, given.steps, given.seed, fast=given.fast)
