"""Compare what later rounds will draw with what the pool can hold."""

from collections.abc import Sequence
from pathlib import Path

from datasets import Dataset

from lib.models import catalog, loading
from lib.tapir import curriculum, selection, tasks

SAMPLE = 500  # responses that lengths are taken from


def lacking(
    hard: Dataset,
    rest: Dataset,
    taxonomy: dict[str, tasks.Task],
    refinement: dict,
    trainings: list[dict],
    student: str | Path | None,
) -> list[tuple[str, bool]]:
    """Return (sentence, whether it is certain) for each round that lacks hard rows.

    `refinement` and `trainings` are the parameters of later stages; `student` is a folder or hub name. A
    round that is counted in tokens is estimated.
    """
    if not trainings:
        return []
    tokenizer = loading.load_tokenizer(student) if student else None
    pool = most_pool_rows(hard["task"], taxonomy, refinement["pool_rows"], refinement["expand"])
    column = selection.response_column(refinement["selection"])
    tokens = response_tokens(hard, column, tokenizer), response_tokens(rest, "response", tokenizer)
    shortages = []
    for training in trainings:
        needed, certain = hard_rows(training, len(rest), *tokens), not training["round_tokens"]
        if needed > pool:
            about, size = ("", "round_rows") if certain else ("about ", "round_tokens")
            sentence = (
                f"Round {training['round']} draws {about}{needed:,} hard rows, and the pool can hold "
                f"{pool:,}. Lower alpha, alpha_step, {size} or threshold, or judge more rows (judged_rows)."
            )
            shortages.append((sentence, certain))
    return shortages


def hard_rows(training: dict, rest_rows: int, pool_tokens: float, rest_tokens: float) -> int:
    """Return how many hard rows a round draws; tokens are those of a response."""
    if not training["round"]:
        return 0
    share = curriculum.share_of_hard(training["round"], training["alpha"], training["alpha_step"])
    size = training["round_rows"] or rest_rows
    if training["round_tokens"]:
        size = training["round_tokens"] / max(share * pool_tokens + (1 - share) * rest_tokens, 1.0)
    return round(size * share)


def most_pool_rows(
    labels: Sequence[str | None], taxonomy: dict[str, tasks.Task], size: int, expand: bool
) -> int:
    """Return the most rows of a pool: expansion fills only tasks with a selected row."""
    if not expand:
        return len(labels)
    return sum(tasks.quotas(taxonomy, size)[label] for label in set(labels) & set(taxonomy))


def response_tokens(rows: Dataset, column: str, tokenizer=None) -> float:
    """Return the mean tokens of a sample's responses; by characters without tokenizer."""
    texts = [text for text in rows.select(range(min(SAMPLE, len(rows))))[column] if text]
    if tokenizer is None:
        total = sum(map(len, texts)) / catalog.CHARACTERS_A_TOKEN
    else:
        total = sum(len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts)
    return total / max(len(texts), 1)
