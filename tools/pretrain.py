"""Pre-train a student: `python -m tools.pretrain FOLDER`, about an hour on two cores with AMX and gcc.

Config, tokenizer and chat template are those of lib/gym/student: a Llama of 1.3 M parameters over bytes.
It is trained on packed documents of short exercises with loss on all tokens.
"""

import sys
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from random import Random

import torch
from reasoning_gym.data import read_data_file
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, get_linear_schedule_with_warmup

from lib.gym import families, operations, split_of

STUDENT = "lib/gym/student"
STEPS, BATCH = 14_000, 4096  # a step's tokens, of one byte each
SHORT, LONG = 256, 1024  # tokens of a context, in the first 80 % of the steps and in the others
PRINTABLE = "".join(map(chr, range(33, 127)))


def chat(messages: list[dict], reply: str) -> str:
    """Write a conversation as the chat template does."""
    turns = messages + [{"role": "assistant", "content": reply}]
    return "<|bos|>" + "".join(f"<|{turn['role']}|>{turn['content']}<|end|>" for turn in turns)


def chain(rng: Random, length: int) -> tuple[str, ...]:
    """Draw operations that leave part of a word and hold no held-out pair."""
    while True:
        names = tuple(rng.choices(list(operations.OPERATIONS), k=length))
        pairs = [" ".join(pair) for pair in pairwise(names)]
        is_trained = all(split_of("operations", pair) == "train" for pair in pairs)
        if is_trained and operations.apply(names, "bcdfg"):
            return names


def operation_episode(rng: Random) -> str:
    """Ask for operations by name, by up to 6 demonstrations, or by both; in turns or in one message."""
    names = chain(rng, rng.choices([1, 2, 3], weights=[15, 60, 25])[0])
    is_named = rng.random() < 0.5
    count = rng.choice([0, 0, 0, 1, 2, 3, 4]) if is_named else rng.randint(2, 6)
    *demos, (text, output) = operations.pairs(names, rng, count + 1)
    instruction = operations.describe(names) if is_named else ""
    if rng.random() < 0.6:
        turns = [{"role": "system", "content": instruction}] if instruction else []
        for pair in demos:
            roles = zip(("user", "assistant"), pair, strict=True)
            turns += [{"role": role, "content": content} for role, content in roles]
        return chat([*turns, {"role": "user", "content": text}], output)
    lines = [instruction] if instruction else []
    lines += [f"Input: {demo}\nOutput: {result}" for demo, result in demos]
    return chat([{"role": "user", "content": "\n".join([*lines, f"Input: {text}\nOutput:"])}], output)


def exchange(rng: Random) -> str:
    """Ask for an operation on a word, then for one or two more on its output."""
    first, *others = chain(rng, rng.choice([2, 2, 3]))
    [(text, output)] = operations.pairs((first, *others), rng, 1)
    turns = [{"role": "user", "content": f"{operations.describe((first,))} {text}"}]
    result = operations.apply((first,), text)
    for name in others:
        turns.append({"role": "assistant", "content": result})
        turns.append({"role": "user", "content": f"Now {operations.describe((name,)).lower()}"})
        result = operations.apply((name,), result)
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
    length = rng.randint(shortest, longest)
    start = rng.randrange(len(story()) - length)
    return story()[start : start + length].strip()


def echo(rng: Random, longest: int) -> str:
    """Ask to repeat 8 to `longest` characters that cannot be guessed, more often few.

    Characters that all differ teach copying first: one earlier byte is enough to find the place.
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
    """Show inputs of one kind, words or a family's, and ask for another one."""
    cell, is_word = rng.choice(families.cells()), rng.choice([True, False])
    draws = iter(
        lambda: operations.word(rng) if is_word else next(families.draw(*cell, rng)).slots["x"], None
    )
    shown = "".join(f"Input: {next(draws)}\n" for _ in range(rng.randint(2, 6)))
    return chat([{"role": "user", "content": f"{shown}Give one more input."}], next(draws))


def documents(rng: Random, length: int) -> Iterator[str]:
    """Draw documents without end, to be packed into contexts of `length` tokens."""
    longest = min(500, length // 2 - 20)
    weights = {
        operation_episode: 58,
        exchange: 10,
        basic_skill: 11,
        lambda rng: echo(rng, longest): 15 if length == SHORT else 9,
        lambda rng: f"<|bos|>{passage(rng, 20, longest)}": 3,
        new_input: 3,
    }
    while True:
        yield rng.choices(list(weights), weights.values())[0](rng)


def batch(tokenizer, seed: str, length: int) -> torch.Tensor:
    """Pack documents into token ids [BATCH / length, length]."""
    ids: list[int] = []
    for text in documents(Random(seed), length):
        ids += tokenizer(text, add_special_tokens=False)["input_ids"]
        if len(ids) >= BATCH:
            return torch.tensor(ids[:BATCH]).view(-1, length)


def pretrain(out: str) -> None:
    """Train with Muon for the matrices inside the layers, and AdamW for all other weights."""
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(STUDENT)
    model = LlamaForCausalLM(LlamaConfig.from_pretrained(STUDENT))
    inside = [p for name, p in model.named_parameters() if "layers" in name and p.ndim == 2]
    outside = [p for name, p in model.named_parameters() if "layers" not in name or p.ndim != 2]
    updates = [
        torch.optim.Muon(inside, lr=4e-3, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(outside, lr=2e-3, betas=(0.9, 0.98), weight_decay=0.01, fused=True),
    ]
    updates += [get_linear_schedule_with_warmup(optimizer, 300, STEPS) for optimizer in updates]
    compiled = torch.compile(model)  # pays on short contexts only
    for step in range(STEPS):
        is_short = step < 0.8 * STEPS
        x = batch(tokenizer, f"0 {step}", SHORT if is_short else LONG)
        with torch.autocast("cpu", torch.bfloat16):
            loss = (compiled if is_short else model)(input_ids=x, labels=x, use_cache=False).loss
        model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for update in updates:
            update.step()
        if step % 100 == 99:
            print(f"step {step + 1} of {STEPS}, loss {loss.item():.3f}", flush=True)
        if step % 1000 == 999:
            model.save_pretrained(out)
            tokenizer.save_pretrained(out)


if __name__ == "__main__":
    pretrain(sys.argv[1])
