"""What the rounds will draw, compared with what the pool can hold: known once the rows are judged."""

from collections.abc import Iterable
from pathlib import Path

from datasets import Dataset

from lib.models import loading, prices
from lib.tapir import curriculum, tasks

SAMPLE = 500  # responses that lengths are taken from


def without_response(lost: int, rows: int, oracle) -> str:
    """Say how many rows have no whole response of the oracle, why, and what to do; empty for none."""
    if not lost:
        return ""
    cut = min(oracle.cut, lost)
    why = f"{cut:,} of them were cut at oracle_max_tokens={oracle.max_tokens}: raise it" if cut else ""
    other = "" if cut == lost else "the same command asks again for those that got no reply"
    ways = "; ".join(filter(None, [why, other]))
    return f"{lost:,} of {rows:,} rows have no whole response of the oracle and are not judged; {ways}."


def lacking(
    hard: Dataset,
    rest: Dataset,
    taxonomy: dict[str, tasks.Task],
    refinement: dict,
    trainings: list[dict],
    place: str | Path | None,
) -> list[tuple[str, bool]]:
    """Return what later rounds will lack if these rows are expanded: see `shortages`.

    `refinement` and `trainings` are the parameters of the stages; `place` is the student's folder or hub name.
    """
    if not trainings:
        return []
    tokenizer = loading.load_tokenizer(place, trainings[0]["chat_template"]) if place else None
    most = most_pool_rows(hard["task"], taxonomy, refinement["pool_rows"], refinement["expand"])
    column = "corpus_response" if refinement["corpus_responses"] else "oracle_response"
    pool = most, response_tokens(hard, column, tokenizer)
    return shortages(trainings, pool, (len(rest), response_tokens(rest, "response", tokenizer)))


def shortages(
    trainings: Iterable[dict], pool: tuple[int, float], rest: tuple[int, float]
) -> list[tuple[str, bool]]:
    """Return a sentence for each round that will lack hard rows, and whether that is certain.

    `trainings` are the parameters of later training stages. `pool` and `rest` are (rows, response tokens a row); the pool's
    rows are the most that it can hold. A round that is counted in tokens is estimated.
    """
    lacking = []
    for training in trainings:
        needed = hard_rows(training, rest[0], pool[1], rest[1]) if training["round"] else 0
        if needed > pool[0]:
            certain = not training["round_tokens"]
            size = "round_rows" if certain else "round_tokens"
            lacking += [
                (
                    f"Round {training['round']} draws {'' if certain else 'about '}{needed:,} hard rows, and the pool can hold "
                    f"{pool[0]:,}. Lower alpha, alpha_step, {size} or threshold, or judge more rows (judged_rows).",
                    certain,
                )
            ]
    return lacking


def hard_rows(training: dict, rest_rows: int, pool_tokens: float, rest_tokens: float) -> int:
    """Return how many hard rows a round draws, from its training's parameters and the response tokens of a row."""
    share = curriculum.share_of_hard(training["round"], training["alpha"], training["alpha_step"])
    if training["round_tokens"]:
        size = training["round_tokens"] / max(share * pool_tokens + (1 - share) * rest_tokens, 1.0)
    else:
        size = training["round_rows"] or rest_rows
    return round(size * share)


def most_pool_rows(
    labels: Iterable[str | None], taxonomy: dict[str, tasks.Task], size: int, expand: bool
) -> int:
    """Return how many rows a pool can hold: expansion fills only tasks that have a selected row."""
    labels = list(labels)
    if not expand:
        return len(labels)
    return sum(wanted for label, wanted in tasks.quotas(taxonomy, size).items() if label in set(labels))


def response_tokens(rows: Dataset, column: str, tokenizer=None) -> float:
    """Return the mean response tokens of a row, from a sample; by characters where there is no tokenizer."""
    texts = [text for text in rows.select(range(min(SAMPLE, len(rows))))[column] if text]
    if not texts:
        return 0.0
    if tokenizer is None:
        return sum(map(len, texts)) / prices.CHARACTERS_A_TOKEN / len(texts)
    return sum(map(len, tokenizer(texts, add_special_tokens=False)["input_ids"])) / len(texts)
