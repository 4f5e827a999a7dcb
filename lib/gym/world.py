"""What a student of the embedded world meets: a corpus as uneven and terse as Alpaca, and the evaluation sets."""

from collections.abc import Callable, Iterator
from random import Random

import pandas as pd
from datasets import Dataset

from lib import records
from lib.errors import UserError
from lib.gym import draw, operations, splits
from lib.gym.families import FAMILIES, Exercise
from lib.gym.formats import obeys

CORPUS_MIX = {  # share of each family: much of what is easy, little of what is not
    "spell_backward": 0.20,
    "word_sequence_reversal": 0.20,
    "needle_haystack": 0.16,
    "word_sorting": 0.10,
    "number_filtering": 0.09,
    "letter_counting": 0.07,
    "format_constraints": 0.06,
    "number_sorting": 0.06,
    "chain_sum": 0.04,
    "leg_counting": 0.02,
}
EASY_SHARE = 0.6  # of a family's rows, at level 1; the rest at level 2
ANSWER = "Answer: "  # a response ends in one such line


def corpus_shares(chains: tuple[str, ...] = ()) -> dict[tuple[str, int], float]:
    """The share of each (family, level) cell in the corpus, or of each chain of operations in one of these alone."""
    if chains:
        return {(chain, 1): 1 / len(chains) for chain in chains}
    levels = {1: EASY_SHARE, 2: 1 - EASY_SHARE}
    return {(name, level): share * levels[level] for name, share in CORPUS_MIX.items() for level in levels}


def row(instance: Exercise, instruction: str, response: str | None, kind: str = "") -> dict:
    text = {"instruction": instruction, "response": response, "corpus_response": response}
    about = {"source": "gym", "licence": "Apache-2.0", "meta": draw.meta(instance, kind)}
    return text | about | {"response_from": "corpus" if response else None}


def corpus(
    n: int, seed: int, noise: float = 0.1, leave_out: tuple[str, ...] = (), chains: tuple[str, ...] = ()
) -> Dataset:
    """About `n` rows with terse corpus responses, a share `noise` of them wrong, in random order; with `chains` they are about these chains of
    operations, else about the families."""
    if unknown := set(leave_out) - set(CORPUS_MIX):
        raise UserError(
            f"leave_out names {', '.join(sorted(unknown))}: the families are {', '.join(CORPUS_MIX)}"
        )
    for chain in chains:
        operations.check_chain(chain)
    rng, seen, rows = Random(f"corpus {seed}"), set(), []
    for (family, level), share in corpus_shares(chains).items():
        if family in leave_out:
            continue
        instances = draw.distinct(family, level, rng, "train", round(n * share), seen)
        for instance in instances:
            shown = (
                wrong_answer(family, level, instance.answer, rng) if rng.random() < noise else instance.answer
            )
            rows.append(row(instance, draw.phrase(instance, rng), terse(family, shown)))
    rng.shuffle(rows)
    return records.build(rows)


def wrong_answer(family: str, level: int, answer: str, rng: Random) -> str:
    """The answer of another instance of the cell: of the right kind, and surely not `answer`."""
    return next(other.answer for other in draw.draw(family, level, rng) if other.answer != answer)


def taught_set(split: str, per_cell: int) -> Dataset:
    """Held-out instances of `split` of every taught family and level: the "trained" rows of `evaluation_set`."""
    splits.check(split)
    return records.build(
        _asked("trained", draw.cells(), per_cell, split, Random(f"evaluation {split}"), set())
    )


def evaluation_set(split: str, per_cell: int) -> Dataset:
    """Held-out instances of `split` ("dev" or "test"), the same for every student.

    `meta.kind` says which set a row belongs to: "trained" cells, "unseen_level", "unseen_family",
    "unseen_phrasing", and "forgetting" (what pre-training taught: named operations on a word).
    """
    splits.check(split)
    rng, seen = Random(f"evaluation {split}"), set()
    trained, outside = draw.cells(), draw.cells(trained=False)
    levels = [cell for cell in outside if FAMILIES[cell[0]].trained]
    families = [cell for cell in outside if not FAMILIES[cell[0]].trained]
    half = max(1, per_cell // 2)
    rows = _asked("trained", trained, per_cell, split, rng, seen)
    rows += _asked("unseen_level", levels, half, split, rng, seen)
    rows += _asked("unseen_family", families, per_cell, split, rng, seen)
    rows += _asked("unseen_phrasing", trained, half, split, rng, seen, draw.held_out_phrasings)
    return records.build(rows + [_operation(split, rng) for _ in range(4 * per_cell)])


def _asked(
    kind: str,
    cells: list[tuple[str, int]],
    n: int,
    split: str,
    rng: Random,
    seen: set[str],
    wordings: Callable[[str], list[str]] = draw.trained_phrasings,
) -> list[dict]:
    instances = [one for family, level in cells for one in draw.distinct(family, level, rng, split, n, seen)]
    return [row(one, draw.phrase(one, rng, wordings), None, kind) for one in instances]


def _operation(split: str, rng: Random) -> dict:
    """A taught composition on a word that belongs to the split, asked as pre-training does: named by the system."""
    names = rng.choice(operations.compositions())
    text, made = next(
        pair for pair in _endless(names, rng) if splits.split_of(" ".join(names), pair[0]) == split
    )
    instance = Exercise("operations", 1, f"{' '.join(names)} {text}", {}, made, "")
    *system, _ = operations.as_turns([], text, operations.describe(names))
    return row(instance, text, None, "forgetting") | {"turns": system}


def _endless(names: tuple[str, str], rng: Random) -> Iterator[tuple[str, str]]:
    while True:
        yield from operations.pairs(names, rng, 1)


def operates(family: str) -> bool:
    """Whether rows of a family are words to be changed, whose response is the new word alone."""
    return family == "operations" or operations.is_chain(family)


def terse(family: str, answer: str) -> str:
    """The shortest response that gives an answer."""
    return answer if operates(family) else ANSWER + answer


def extract(response: str) -> str | None:
    """The answer of a response: what follows "Answer:" in its last such line; None where there is none."""
    lines = [line for line in response.splitlines() if line.strip().lower().startswith("answer:")]
    return lines[-1].strip()[len("answer:") :].strip() if lines else None


def _normal(text: str, family: str) -> str:
    text = " ".join(text.split()).removesuffix(".")
    if operates(family):  # here the letter case is the task
        return text
    text = ", ".join(part.strip() for part in text.casefold().split(","))
    return (
        text.rstrip("0").rstrip(".") if "." in text and text.replace(".", "").lstrip("-").isdigit() else text
    )


def credit(about: dict, response: str) -> float:
    """1.0 where the response's answer is right, else 0.0; `about` is a row's meta.

    Right is what equals the instance's answer after normalising, or what meets its format constraints.
    """
    found = extract(response)
    if found is None and operates(about["family"]):
        found = response
    if found is None:
        return 0.0
    if about["family"] == "format_constraints":
        return float(obeys(about["payload"], found))
    return float(_normal(found, about["family"]) == _normal(about["answer"], about["family"]))


def score_table(replies: pd.DataFrame) -> pd.DataFrame:
    """Credits in the long form that lib.evaluation.statistics reads; `replies` has kind, family, level, id and credit.

    "gym.accuracy" weighs every taught cell alike, "gym.corpus_mix" as the corpus does; the other kinds
    ("gym.unseen_level", …) weigh their cells alike.
    """
    cells = list(zip(replies["family"], replies["level"], strict=True))
    long = pd.DataFrame({"id": replies["id"], "score": replies["credit"]})
    long["stratum"] = [f"{family} {level}" for family, level in cells]
    names = replies["kind"].map(lambda kind: "gym.accuracy" if kind == "trained" else f"gym.{kind}")
    trained = (replies["kind"] == "trained").to_numpy()
    mixed = long[trained].assign(
        metric="gym.corpus_mix", weight=[corpus_shares()[c] for c, t in zip(cells, trained, strict=True) if t]
    )
    return pd.concat([long.assign(metric=names, weight=1.0), mixed], ignore_index=True)
