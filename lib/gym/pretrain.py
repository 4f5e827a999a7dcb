"""Pre-train a student: `python -m lib.gym.pretrain --out FOLDER --fast`.

Config, tokenizer and chat template are those of lib/gym/student: a Llama of 1.3 M parameters over bytes.
It is trained on packed documents of short exercises with loss on all tokens.
"""

import argparse
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from random import Random

import torch
from reasoning_gym.data import read_data_file
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, get_linear_schedule_with_warmup

from lib.gym import families, operations, split_of

STUDENT = Path(__file__).with_name("student")
CONTEXT = 1024  # tokens, of one byte each
BATCH = 4096  # tokens of a step
PRINTABLE = "".join(map(chr, range(33, 127)))


def chat(messages: list[dict], reply: str) -> str:
    """Write a conversation as the chat template does."""
    turns = messages + [{"role": "assistant", "content": reply}]
    return "<|bos|>" + "".join(f"<|{turn['role']}|>{turn['content']}<|end|>" for turn in turns)


def chain(rng: Random, length: int) -> tuple[str, ...]:
    """Draw operations that leave part of a word and hold no held-out pair."""
    while True:
        names = tuple(rng.choices(list(operations.OPERATIONS), k=length))
        neighbours = [" ".join(pair) for pair in pairwise(names)]
        trained = all(split_of("operations", pair) == "train" for pair in neighbours)
        if trained and operations.apply(names, "bcdfg"):
            return names


def operation_episode(rng: Random) -> str:
    """Ask for operations by name, by up to 6 demonstrations, or by both."""
    names = chain(rng, rng.choices([1, 2, 3], weights=[15, 60, 25])[0])
    named = rng.random() < 0.5
    count = rng.choice([0, 0, 0, 1, 2, 3, 4]) if named else rng.randint(2, 6)
    *demos, (text, output) = operations.pairs(names, rng, count + 1)
    layout = operations.as_turns if rng.random() < 0.6 else operations.as_text
    return chat(layout(demos, text, operations.describe(names) if named else ""), output)


def exchange(rng: Random) -> str:
    """Ask for an operation on a word, then for one or two more on its output."""
    names = chain(rng, rng.choice([2, 2, 3]))
    [(text, output)] = operations.pairs(names, rng, 1)
    turns = [{"role": "user", "content": f"{operations.describe(names[:1])} {text}"}]
    for n, name in enumerate(names[1:], 1):
        so_far, request = operations.apply(names[:n], text), operations.describe((name,)).lower()
        turns.append({"role": "assistant", "content": so_far})
        turns.append({"role": "user", "content": f"Now {request}"})
    return chat(turns, output)


def basic_skill(rng: Random) -> str:
    """Write a family's exercise in shorthand, in none of the phrasings of the corpus."""
    instance = next(families.draw(*rng.choice(families.cells()), rng))
    steps = f"{instance.steps}\n" if instance.steps and rng.random() < 0.5 else ""
    slots = " | ".join(f"{name}={value}" for name, value in sorted(instance.slots.items()))
    return f"<|bos|>{instance.family} | {slots}\n{steps}= {instance.answer}\n"


@cache
def story() -> str:
    """Read Jules Verne's "In the Year 2889" (public domain) from reasoning-gym."""
    return " ".join(read_data_file("in_the_year_2889.txt").split())


def passage(rng: Random, shortest: int, longest: int) -> str:
    text, length = story(), rng.randint(shortest, longest)
    start = rng.randrange(len(text) - length)
    return text[start : start + length].strip()


def echo(rng: Random, longest: int) -> str:
    """Ask to repeat a text that cannot be guessed.

    It has 8 to `longest` characters, more often few. Characters that all differ teach copying first: one
    earlier byte is enough to find the place.
    """
    length, kind = round(8 * (longest / 8) ** rng.random()), rng.random()
    if kind < 0.3:
        text = "".join(rng.sample(PRINTABLE, min(length, len(PRINTABLE))))
    elif kind < 0.5:
        text = "".join(rng.choices(operations.LETTERS + "    ", k=length)).strip()
    else:
        words = passage(rng, length, length + 20).split()
        if kind < 0.9:
            rng.shuffle(words)
        text = " ".join(words)[:length].strip()
    return chat([{"role": "user", "content": f"Repeat: {text}"}], text)


def new_input(rng: Random) -> str:
    """Show inputs of one kind and ask for another one."""
    cell = rng.choice(families.cells())
    kinds = [lambda: operations.word(rng), lambda: next(families.draw(*cell, rng)).slots["x"]]
    kind = rng.choice(kinds)
    shown = "".join(f"Input: {kind()}\n" for _ in range(rng.randint(2, 6)))
    return chat([{"role": "user", "content": f"{shown}Give one more input."}], kind())


def documents(rng: Random, length: int) -> Iterator[str]:
    """Draw documents without end, to be packed into contexts of `length` tokens."""
    longest = min(500, length // 2 - 20)
    kinds = [
        (58, lambda: operation_episode(rng)),
        (10, lambda: exchange(rng)),
        (11, lambda: basic_skill(rng)),
        (15 if length < CONTEXT else 9, lambda: echo(rng, longest)),
        (3, lambda: f"<|bos|>{passage(rng, 20, longest)}"),
        (3, lambda: new_input(rng)),
    ]
    weights, writers = zip(*kinds, strict=True)
    while True:
        yield rng.choices(writers, weights)[0]()


def batch(tokenizer, seed: str, length: int) -> torch.Tensor:
    """Pack documents into token ids [BATCH / length, length]."""
    ids: list[int] = []
    for text in documents(Random(seed), length):
        ids += tokenizer(text, add_special_tokens=False)["input_ids"]
        if len(ids) >= BATCH:
            return torch.tensor(ids[:BATCH]).view(-1, length)


def optimizers(model: LlamaForCausalLM) -> list[torch.optim.Optimizer]:
    """Use Muon for the matrices inside the layers, AdamW for all other weights."""
    inside = [p for name, p in model.named_parameters() if "layers" in name and p.ndim == 2]
    outside = [p for name, p in model.named_parameters() if "layers" not in name or p.ndim != 2]
    return [
        torch.optim.Muon(inside, lr=4e-3, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(outside, lr=2e-3, betas=(0.9, 0.98), weight_decay=0.01, fused=True),
    ]


def pretrain(out: Path, steps: int, seed: int, fast: bool) -> None:
    """Train 80 % of the steps on a quarter of the context, the rest on all of it."""
    torch.manual_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(STUDENT)
    model = LlamaForCausalLM(LlamaConfig.from_pretrained(STUDENT))
    updates = optimizers(model)
    updates += [get_linear_schedule_with_warmup(optimizer, 300, steps) for optimizer in updates]
    compiled = torch.compile(model) if fast else model  # pays on short contexts only
    for step in range(steps):
        is_short = step < 0.8 * steps
        x = batch(tokenizer, f"{seed} {step}", CONTEXT // 4 if is_short else CONTEXT)
        with torch.autocast("cpu", torch.bfloat16, enabled=fast):
            loss = (compiled if is_short else model)(input_ids=x, labels=x, use_cache=False).loss
        model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for update in updates:
            update.step()
        if step % 100 == 99:
            print(f"step {step + 1} of {steps}, loss {loss.item():.3f}", flush=True)
        if step % 1000 == 999 or step + 1 == steps:
            model.save_pretrained(out)
            tokenizer.save_pretrained(out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=14_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fast", action="store_true", help="bfloat16 (needs AMX), torch.compile (needs gcc)")
    pretrain(**vars(parser.parse_args()))
