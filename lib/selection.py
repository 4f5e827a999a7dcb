"""Which rows count as worth teaching: MFD, or a baseline in its place. One small function each."""

from pathlib import Path
from random import Random

from datasets import Dataset

from lib import records
from lib.errors import UserError

NAMES = ("mfd", "random", "longest", "ifd", "lion", "all")
GAP = 1.0  # Lion's: from which on a row is hard


def by_mfd(rows: Dataset) -> list[int]:
    """TAPIR, section 3.1: the rows whose MFD reaches the threshold."""
    _varies(rows["mfd"], "mfd", "MFD")
    return [i for i, hard in enumerate(rows["hard"]) if hard]


def by_chance(rows: Dataset, seed: int) -> list[int]:
    """As many rows as MFD finds hard, drawn at random: the same pool size without its choice."""
    return Random(f"chance {seed}").sample(range(len(rows)), _size(rows))


def longest(rows: Dataset) -> list[int]:
    """As many rows as MFD finds hard, those with the longest responses (Zhao et al., ICML 2024, arXiv 2402.04833)."""
    lengths = [len(text) for text in _own_responses(rows)]
    _varies(lengths, "longest", "the length of a response")
    return _largest(lengths, _size(rows))


def by_gap(rows: Dataset, seed: int) -> list[int]:
    """Lion (Jiang et al., EMNLP 2023, arXiv 2305.12870): rows with a gap of 1 or more, and as many others by chance."""
    judged = [(i, value) for i, value in enumerate(rows["mfd"]) if value is not None]
    hard = [i for i, value in judged if value >= GAP]
    easy = [i for i, value in judged if value < GAP]
    if not hard or not easy:
        raise UserError(
            f"selection lion is not applicable here: {len(hard):,} rows are hard, {len(easy):,} easy"
        )
    return hard + Random(f"lion {seed}").sample(easy, min(len(hard), len(easy)))


def by_ifd(rows: Dataset, place: Path | None, max_length: int) -> list[int]:
    """Cherry LLM (Li et al., NAACL 2024, arXiv 2308.12032): as many rows as MFD finds hard, those with the highest IFD.

    `place` is the student's folder. A row with an IFD above 1, whose instruction makes its response less likely, is left out.
    """
    if place is None:
        raise UserError("selection ifd needs a student: name it with student_from")
    from lib import student

    scores = [-1.0 if score > 1 else score for score in ifd(rows, student.load(place), max_length)]
    _varies(scores, "ifd", "IFD")
    return [i for i in _largest(scores, _size(rows)) if scores[i] >= 0]


def ifd(rows: Dataset, student, max_length: int) -> list[float]:
    """Instruction-following difficulty of each row: the mean loss of its response given the instruction, over that of the same
    tokens alone; infinite where none of them has a loss alone."""
    from lib import sft  # torch takes seconds to import, and no other selection needs it

    told = records.update(rows, response=_own_responses(rows))
    given = sft.encode(student.tokenizer, told, max_length)
    alone = sft.encode_alone(student.tokenizer, told, max_length)
    means = [
        [
            loss / max(n, 1)
            for loss, n in zip(sft.response_losses(student, side), sft.response_tokens(side), strict=True)
        ]
        for side in (given, alone)
    ]
    return [one / other if other else float("inf") for one, other in zip(*means, strict=True)]


def select(
    rows: Dataset, selection: str, seed: int, student: Path | None = None, max_length: int = 1024
) -> Dataset:
    """The selected rows, in their order, by the name of a selection: "mfd", "random", "longest", "ifd", "lion" or "all".

    `student` is the folder of the one that "ifd" asks. Raises UserError when the name is unknown, when nothing is hard, and when
    the signal has one value alone: it cannot choose.
    """
    known = {
        "mfd": lambda: by_mfd(rows),
        "random": lambda: by_chance(rows, seed),
        "longest": lambda: longest(rows),
        "ifd": lambda: by_ifd(rows, student, max_length),
        "lion": lambda: by_gap(rows, seed),
        "all": lambda: range(len(rows)),
    }
    check_name(selection)
    if not any(rows["hard"]):
        raise UserError("no row reaches the threshold: lower threshold")
    return rows.select(sorted(known[selection]()))


def check_name(selection: str) -> None:
    """Raises UserError for a selection that there is not."""
    if selection not in NAMES:
        raise UserError(f"selection {selection!r} is unknown: choose one of {', '.join(NAMES)}")


def _size(rows: Dataset) -> int:
    return sum(hard is True for hard in rows["hard"])


def _own_responses(rows: Dataset) -> list[str]:
    """The corpus's response of each row, else the oracle's."""
    return [
        corpus or oracle or ""
        for corpus, oracle in zip(rows["corpus_response"], rows["oracle_response"], strict=True)
    ]


def _largest(values: list[float], size: int) -> list[int]:
    return sorted(range(len(values)), key=lambda i: (-values[i], i))[:size]


def _varies(values, name: str, what: str) -> None:
    if len({value for value in values if value is not None}) < 2:
        raise UserError(
            f"selection {name} is not applicable here: {what} has fewer than two values on these rows"
        )
