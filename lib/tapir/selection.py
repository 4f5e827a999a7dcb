"""Choose the rows worth training on: by MFD, or by a baseline in its place.

A selection is a function of the rows and of the signals that it names, and returns positions; SELECTIONS
lists them.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random

from datasets import Dataset, concatenate_datasets

from lib import models, records
from lib.corpus import duplicates
from lib.corpus.novelty import NoveltyFilter
from lib.errors import UserError
from lib.tapir import judge

Ratings = dict[str, list[float | None]]  # by scale (`judge.SCALES`), one per row
GAP = 1.0  # Lion's: MFD from which on a row is hard
GOOD = 4.5  # AlpaGasus's: the rating, of 5, from which on a row is kept
ON_CORPUS_RESPONSES = ("longest", "ifd", "score", "deita", "grape")  # others on the oracle's
CANDIDATES = {"grape": ("corpus_response", "oracle_response")}  # where a selection also chooses the response
WITHOUT_JUDGE = ("grape",)  # rows need no verdict, so that a run needs no oracle


def by_mfd(rows: Dataset, **signals) -> list[int]:
    """Take the rows whose MFD reaches the threshold (TAPIR, section 3.1)."""
    hard = rows["hard"][:]
    return [i for i in _ranked(rows["mfd"][:], "MFD") if hard[i]]


def by_chance(rows: Dataset, seed: int, **signals) -> list[int]:
    """Sample as many rows as MFD finds hard: the random baseline."""
    return Random(f"chance {seed}").sample(range(len(rows)), _count_hard(rows))


def by_length(rows: Dataset, **signals) -> list[int]:
    """Take the longest responses (arXiv 2402.04833), as many as MFD finds hard."""
    return _ranked(map(len, rows["response"][:]), "the length of a response")[: _count_hard(rows)]


def by_ifd(rows: Dataset, student: Path | None = None, max_length: int = 1024, **signals) -> list[int]:
    """Take the highest IFD (Cherry LLM, arXiv 2308.12032), as many as MFD finds hard.

    A row with an IFD above 1, whose instruction makes its response less likely, is left out.
    """
    scores = ifd(rows, _load(student, "ifd"), max_length)
    return _ranked([None if score > 1 else score for score in scores], "IFD")[: _count_hard(rows)]


def ifd(rows: Dataset, student, max_length: int) -> list[float]:
    """Divide the mean loss of a response given its instruction by its loss alone.

    Infinite where none of the tokens has a loss alone.
    """
    from lib.training import encoding

    sides = encoding.with_and_without(student.tokenizer, rows, max_length)  # the same tokens in both losses
    losses = [encoding.response_losses(student, side) for side in sides]
    return [given / alone if alone else float("inf") for given, alone in zip(*losses, strict=True)]


def by_fit(
    rows: Dataset,
    student: Path | None = None,
    max_length: int = 1024,
    pool_rows: int | None = None,
    **signals,
) -> list[int]:
    """Take each row's likeliest response, the likeliest first (GRAPE, arXiv 2502.04194).

    A row stands in `rows` once per candidate response. Likelihood is the mean log-probability of a response's
    tokens given its instruction, for this student. As many rows are taken as MFD finds hard; `pool_rows`, or
    all, where they are not judged.

    The paper normalises by length, too, and keeps one response of every instruction. It has responses of many
    models and asks a base model. Here the candidates are the corpus's response and the oracle's if there is
    one, and the student is the one after the warm-up. To rank rows as well is ours: selections are compared
    at an equal number of rows, and a row with one candidate has nothing else to be chosen by.
    """
    losses = mean_losses(rows, _load(student, "grape"), max_length)
    ids, likeliest = rows["id"][:], {}  # the position of each row's response, by its id
    for i in _ranked([-loss for loss in losses], "the likelihood of a response"):
        likeliest.setdefault(ids[i], i)
    return list(likeliest.values())[: _count_hard(rows) if _is_judged(rows) else pool_rows]


def mean_losses(rows: Dataset, student, max_length: int) -> list[float]:
    """Return the mean loss of each response given its instruction, in nats per token, end token included."""
    from lib.training import encoding

    encoded = encoding.encode(student.tokenizer, rows, max_length)
    losses, sizes = encoding.response_losses(student, encoded), encoding.response_tokens(encoded)
    return [loss / size for loss, size in zip(losses, sizes, strict=True)]


def by_rating(rows: Dataset, ratings: Ratings, **signals) -> list[int]:
    """Take responses rated 4.5 of 5 or better (AlpaGasus, arXiv 2307.08701)."""
    accuracy = ratings["accuracy"]
    return [i for i in _ranked(accuracy, "the rating") if accuracy[i] >= GOOD]


def by_gap(rows: Dataset, seed: int, **signals) -> list[int]:
    """Take as many rows with a gap of 1 or more as others (Lion, arXiv 2305.12870).

    Drawn by chance from the side that has more.
    """
    judged = [(i, mfd) for i, mfd in enumerate(rows["mfd"][:]) if mfd is not None]
    hard, easy = [i for i, mfd in judged if mfd >= GAP], [i for i, mfd in judged if mfd < GAP]
    if not hard or not easy:
        raise UserError(
            f"selection=lion: it needs hard and easy rows, and has {len(hard):,} and {len(easy):,}. "
            "Choose another selection."
        )
    rng, size = Random(f"lion {seed}"), min(len(hard), len(easy))
    return rng.sample(hard, size) + rng.sample(easy, size)


def by_evolution(rows: Dataset, ratings: Ratings, **signals) -> list[int]:
    """Take the highest complexity x quality (Deita, arXiv 2312.15685), as many as MFD.

    A row too like one before it is left out, unless it is of the embedded world: these all differ by payload.
    The judge rates, where Deita trained a scorer on such ratings. `NoveltyFilter` compares texts, where Deita
    compares embeddings.
    """
    pairs = zip(ratings["complexity"], ratings["quality"], strict=True)
    ranked = _ranked([None if None in pair else pair[0] * pair[1] for pair in pairs], "complexity x quality")
    prompts, sources = list(records.iter_rows(rows, *records.PROMPT_COLUMNS)), rows["source"][:]
    size, earlier, chosen = _count_hard(rows), NoveltyFilter(), []
    for i in ranked:
        text = duplicates.full_text(**prompts[i])
        if len(chosen) < size and (sources[i] == "gym" or not earlier.rejection_reason(text)):
            chosen.append(i)
            earlier.add(text)
    return chosen


SELECTIONS: dict[str, tuple[Callable[..., Iterable[int]], tuple[str, ...]]] = {
    # name: (function, scales of the ratings that it takes)
    "mfd": (by_mfd, ()),
    "random": (by_chance, ()),
    "longest": (by_length, ()),
    "ifd": (by_ifd, ()),
    "score": (by_rating, ("accuracy",)),
    "lion": (by_gap, ()),
    "deita": (by_evolution, ("complexity", "quality")),
    "grape": (by_fit, ()),
    "all": (lambda rows, **signals: range(len(rows)), ()),
}


def find(selection: str) -> tuple[Callable[..., Iterable[int]], tuple[str, ...]]:
    """Return a selection's entry in SELECTIONS. Raises UserError where it has none."""
    if selection not in SELECTIONS:
        raise UserError(f"selection={selection}: it is unknown. Choose one of {', '.join(SELECTIONS)}.")
    return SELECTIONS[selection]


def response_column(selection: str) -> str:
    """Return the column that a selection looks at and trains on: the corpus's responses, or the oracle's."""
    return "corpus_response" if selection in ON_CORPUS_RESPONSES else "oracle_response"


def rate(rows: Dataset, selection: str, oracle, unfit_judge: str = "refuse") -> Ratings:
    """Ask the judge for the ratings that a selection takes.

    Raises UserError before anything is asked where no row is hard and, unless `unfit_judge` is warn, where
    more than judge.MAX_UNREAD of the ratings could not be read.
    """
    _check_hard(rows, selection)
    _, scales = find(selection)
    ratings = {scale: oracle.rate(rows, scale) for scale in scales}
    for scale, values in ratings.items():
        unread = values.count(None) / len(values)
        if unread > judge.MAX_UNREAD and unfit_judge != "warn":
            raise UserError(
                f"{unread:.1%} of the ratings of {scale} could not be read, more than "
                f"{judge.MAX_UNREAD:.0%}. Read params/prompts/rate_{scale}.md and some replies to it, or ask "
                "another judge; unfit_judge=warn goes on without them."
            )
    return ratings


def select(rows: Dataset, selection: str, seed: int = 0, **signals) -> Dataset:
    """Return the selected rows in their order; `response` is what would be trained on.

    `signals`: for "ifd" and "grape" `student`, a folder, and `max_length`; for "grape" also `pool_rows`; for
    those that take ratings `ratings`, as `rate` returns them. Raises UserError where no row is hard (for
    "grape": of judged ones), and where the signal has a single value.
    """
    choose, _ = find(selection)
    _check_hard(rows, selection)
    if selection in CANDIDATES:
        rows = _by_candidate(rows, CANDIDATES[selection])
    return records.take_rows(rows, sorted(choose(rows, seed=seed, **signals)))


def _by_candidate(rows: Dataset, columns: tuple[str, ...]) -> Dataset:
    """Copy each row once per column that has a response, with that as its `response`."""
    copies = []
    for column in columns:
        author = column.removesuffix("_response")
        copies.append(records.update(rows, response=rows[column], response_from=[author] * len(rows)))
    side_by_side = concatenate_datasets(copies)
    order = sorted(range(len(side_by_side)), key=lambda i: i % len(rows))
    texts = side_by_side["response"][:]
    return records.take_rows(side_by_side, [i for i in order if texts[i]])


def _check_hard(rows: Dataset, selection: str) -> None:
    """Raise UserError where no row is hard; a selection WITHOUT_JUDGE may have rows that are not judged."""
    if selection not in WITHOUT_JUDGE or _is_judged(rows):
        _count_hard(rows)


def _is_judged(rows: Dataset) -> bool:
    return any(value is not None for value in rows["mfd"][:])


def _count_hard(rows: Dataset) -> int:
    """Count the rows that MFD finds hard. Raises UserError where there are none."""
    ids = zip(rows["id"][:], rows["hard"][:], strict=True)
    count = len({row_id for row_id, hard in ids if hard})
    if not count:
        raise UserError("threshold: no row has so high an MFD. Lower it.")
    return count


def _load(student: Path | None, selection: str):
    if student is None:
        raise UserError(
            f"selection={selection}: it needs a student. Name the one that is judged with student."
        )
    return models.load(student)


def _ranked(values: Iterable[float | None], signal: str) -> list[int]:
    """Return positions by falling value, equal ones as they stand, None left out."""
    values = list(values)
    if len(set(values) - {None}) < 2:
        raise UserError(f"selection: {signal} does not differ between these rows. Choose another selection.")
    return sorted((i for i, value in enumerate(values) if value is not None), key=lambda i: -values[i])
