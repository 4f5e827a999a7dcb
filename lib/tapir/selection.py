"""Which rows count as worth teaching: MFD, or a baseline in its place. One small function each."""

from collections.abc import Iterable
from pathlib import Path
from random import Random

from datasets import Dataset

from lib import records
from lib.corpus import duplicates
from lib.corpus.novelty import NoveltyFilter
from lib.errors import UserError

NAMES = ("mfd", "random", "longest", "ifd", "score", "lion", "deita", "all")
GAP = 1.0  # Lion's: from which on a row is hard
GOOD = 4.5  # AlpaGasus's: the rating, of 5, from which on a row is kept
# the scales that a selection asks the judge for
RATED = {"score": ("accuracy",), "deita": ("complexity", "quality")}


def by_mfd(rows: Dataset) -> list[int]:
    """TAPIR, section 3.1: the rows whose MFD reaches the threshold."""
    _varies(rows["mfd"][:], "mfd", "MFD")
    return [i for i, hard in enumerate(rows["hard"][:]) if hard]


def by_chance(rows: Dataset, seed: int) -> list[int]:
    """As many rows as MFD finds hard, drawn at random: the same pool size without its choice."""
    return Random(f"chance {seed}").sample(range(len(rows)), _size(rows))


def longest(rows: Dataset) -> list[int]:
    """As many rows as MFD finds hard, those with the longest responses (Zhao et al., ICML 2024, arXiv 2402.04833)."""
    lengths = [len(text) for text in rows["response"][:]]
    _varies(lengths, "longest", "the length of a response")
    return _largest(lengths, _size(rows))


def by_gap(rows: Dataset, seed: int) -> list[int]:
    """Lion (Jiang et al., EMNLP 2023, arXiv 2305.12870): rows with a gap of 1 or more, and as many others, by chance where there
    are more of the one or the other."""
    judged = [(i, value) for i, value in enumerate(rows["mfd"][:]) if value is not None]
    hard = [i for i, value in judged if value >= GAP]
    easy = [i for i, value in judged if value < GAP]
    if not hard or not easy:
        raise UserError(
            f"selection lion is not applicable here: {len(hard):,} rows are hard, {len(easy):,} easy"
        )
    rng, size = Random(f"lion {seed}"), min(len(hard), len(easy))
    return rng.sample(hard, size) + rng.sample(easy, size)


def by_score(ratings: dict[str, list]) -> list[int]:
    """AlpaGasus (Chen et al., ICLR 2024, arXiv 2307.08701): the rows whose response is rated 4.5 of 5 or better."""
    _varies(ratings["accuracy"], "score", "the rating")
    return [i for i, value in enumerate(ratings["accuracy"]) if value is not None and value >= GOOD]


def by_evolution(rows: Dataset, ratings: dict[str, list]) -> list[int]:
    """Deita (Liu et al., ICLR 2024, arXiv 2312.15685): as many rows as MFD finds hard, by falling complexity x quality, but none
    that is too like one before it.

    The judge rates, where Deita has a scorer trained on such ratings; likeness is that of `known`, where Deita compares embeddings.
    """
    values = [
        None if None in pair else pair[0] * pair[1]
        for pair in zip(ratings["complexity"], ratings["quality"], strict=True)
    ]
    _varies(values, "deita", "complexity x quality")
    order = _largest([-1.0 if value is None else value for value in values], len(values))
    return _different(rows, (i for i in order if values[i] is not None), _size(rows))


def _different(rows: Dataset, order: Iterable[int], size: int) -> list[int]:
    """The first `size` rows of an order without those too like an earlier one; rows of the embedded world all differ by payload."""
    columns = list(records.iter_rows(rows, "source", *records.PROMPT_COLUMNS))
    chosen, known = [], NoveltyFilter()
    for i in order:
        embedded = columns[i].pop("source") == "gym"
        text = duplicates.full_text(**columns[i])
        if embedded or not known.rejection_reason(text):
            chosen.append(i)
            known.add(text)
        if len(chosen) == size:
            break
    return chosen


def by_ifd(rows: Dataset, place: Path | None, max_length: int) -> list[int]:
    """Cherry LLM (Li et al., NAACL 2024, arXiv 2308.12032): as many rows as MFD finds hard, those with the highest IFD.

    `place` is the student's folder. A row with an IFD above 1, whose instruction makes its response less likely, is left out.
    """
    if place is None:
        raise UserError("selection ifd needs a student: name it with student_from")
    from lib.models import student

    scores = [-1.0 if score > 1 else score for score in ifd(rows, student.load(place), max_length)]
    _varies(scores, "ifd", "IFD")
    return [i for i in _largest(scores, _size(rows)) if scores[i] >= 0]


def ifd(rows: Dataset, student, max_length: int) -> list[float]:
    """Instruction-following difficulty of each row: the mean loss of its response given the instruction, over that of the same
    tokens alone; infinite where none of them has a loss alone."""
    from lib.training import encoding

    sides = encoding.with_and_without(student.tokenizer, rows, max_length)
    means = [
        [
            loss / max(n, 1)
            for loss, n in zip(
                encoding.response_losses(student, side), encoding.response_tokens(side), strict=True
            )
        ]
        for side in sides
    ]
    return [one / other if other else float("inf") for one, other in zip(*means, strict=True)]


def rate(rows: Dataset, selection: str, oracle, max_unread: float = 0.05) -> dict[str, list[float | None]]:
    """What a selection asks the judge about each row and its response: {scale: ratings}, empty for most selections.

    Raises UserError when more than the share `max_unread` of them could not be read, and before anything is asked when nothing is hard.
    """
    _check_hard(rows)
    ratings = {scale: oracle.rate(rows, scale) for scale in RATED.get(selection, ())}
    for scale, values in ratings.items():
        if (unread := sum(value is None for value in values) / len(values)) > max_unread:
            raise UserError(
                f"{unread:.1%} of the ratings of {scale} could not be read, more than max_unread ({max_unread:.1%}): see "
                f"params/prompts/rate_{scale}.md"
            )
    return ratings


def select(
    rows: Dataset,
    selection: str,
    seed: int,
    student: Path | None = None,
    max_length: int = 1024,
    ratings: dict[str, list] | None = None,
) -> Dataset:
    """The selected rows, in their order, by the name of a selection (see NAMES); their `response` is the one that would be taught.

    `student` is the folder of the one that "ifd" asks, `ratings` what `rate` gave. Raises UserError when the name is unknown, when
    nothing is hard, and when the signal has one value alone: it cannot choose.
    """
    selections = {
        "mfd": lambda: by_mfd(rows),
        "random": lambda: by_chance(rows, seed),
        "longest": lambda: longest(rows),
        "ifd": lambda: by_ifd(rows, student, max_length),
        "score": lambda: by_score(ratings),
        "lion": lambda: by_gap(rows, seed),
        "deita": lambda: by_evolution(rows, ratings),
        "all": lambda: range(len(rows)),
    }
    check_name(selection)
    _check_hard(rows)
    return records.take_rows(rows, list(selections[selection]()))


def check_name(selection: str) -> None:
    """Raises UserError for a selection that there is not."""
    if selection not in NAMES:
        raise UserError(f"selection {selection!r} is unknown: choose one of {', '.join(NAMES)}")


def _check_hard(rows: Dataset) -> None:
    if not any(rows["hard"]):
        raise UserError("no row reaches the threshold: lower threshold")


def _size(rows: Dataset) -> int:
    return sum(hard is True for hard in rows["hard"][:])


def _largest(values: list[float], size: int) -> list[int]:
    return sorted(range(len(values)), key=lambda i: (-values[i], i))[:size]


def _varies(values, name: str, what: str) -> None:
    if len({value for value in values if value is not None}) < 2:
        raise UserError(
            f"selection {name} is not applicable here: {what} has fewer than two values on these rows"
        )
