"""Which rows count as worth teaching: MFD, or a baseline in its place. One small function each."""

from random import Random

from datasets import Dataset

from lib.errors import UserError


def by_mfd(rows: Dataset) -> Dataset:
    """TAPIR, section 3.1: the rows whose MFD reaches the threshold. Raises UserError where MFD has one value alone."""
    if len({value for value in rows["mfd"] if value is not None}) < 2:
        raise UserError("MFD has fewer than two values on these rows: it cannot select here")
    return rows.select([i for i, hard in enumerate(rows["hard"]) if hard])


def by_chance(rows: Dataset, seed: int) -> Dataset:
    """As many rows as MFD finds hard, drawn at random: the same pool size without its choice."""
    size = sum(hard is True for hard in rows["hard"])
    return rows.select(sorted(Random(f"chance {seed}").sample(range(len(rows)), size)))


def select(rows: Dataset, selection: str, seed: int) -> Dataset:
    """The selected rows by the name of a selection: "mfd" or "random".

    Raises UserError when the name is unknown or when nothing is hard.
    """
    known = {"mfd": lambda: by_mfd(rows), "random": lambda: by_chance(rows, seed)}
    if selection not in known:
        raise UserError(f"selection {selection!r} is unknown: choose one of {', '.join(known)}")
    if not any(rows["hard"]):
        raise UserError("no row reaches the threshold: lower threshold")
    return known[selection]()
