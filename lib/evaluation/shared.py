"""What the evaluation notebooks share: how a student was asked, what it may have been taught of a benchmark, scores written one way."""

import json
from collections.abc import Iterable

import pandas as pd
from datasets import Dataset, concatenate_datasets

from lib import files, records, show
from lib.corpus import contamination
from lib.evaluation import statistics
from lib.models.batches import Ended, ended
from lib.training.settings import JUDGES

TAUGHT = ("corpus_from", "pool_from")  # inputs with rows that a student may have been taught

# Asking


def student(place: object, told: dict):
    """Who is to be asked, from a notebook's parameters."""
    from lib.models import student as students

    how = (told[name] for name in ("engine", "student_url", "chat_template", "concurrency", "actors"))
    return students.choose(place, *how)


def responses(prompts: list[str], student, **how) -> tuple[list[str], Ended]:
    """A student's responses to prompts of one turn, and how they ended; `how` goes to `student.answer`."""
    from lib.models import student as students

    asked = [records.messages({"turns": [], "instruction": text, "input": ""}) for text in prompts]
    replies = [reply for (reply,) in students.answer(student, asked, **how)]
    return [reply.text for reply in replies], ended(replies)


def asked(place: object, told: dict, total: int, cut: int, unanswered: int = 0) -> str:
    """Who was asked and how, in a sentence, from a notebook's parameters.

    Of `total` responses `cut` met the token limit, and `unanswered` hold thoughts alone.
    """
    template = f"`{told['chat_template']}`" if told["chat_template"] else "its own"
    template = "the server's" if told["student_url"] else template
    temperature = told.get("evaluation_temperature")
    decoding = "greedy decoding" if temperature == 0 else f"temperature {temperature}"
    decoding = "the temperatures of the categories" if temperature is None else decoding
    return (
        f"`{place}`: {decoding}, chat template {template}, no system prompt but what that brings, {told['max_new_tokens']} tokens "
        f"at most; {cut:,} of {total:,} responses were cut there"
        + (f", and **{unanswered:,} hold thoughts without an answer**." if unanswered else ".")
    )


# Verdicts


def tally(scores: pd.Series, replies: pd.Series, ended: pd.Series) -> dict[str, int]:
    """How many verdicts were read, unread, cut (unread, and `ended` at the token limit) and missing (no reply), and their total: what
    `judge.describe` and `judge.check` take. A verdict with a score was read."""
    read, said = scores.notna(), replies.notna()
    cut = ~read & said & ended
    counts = {"read": read, "unread": ~read & said & ~cut, "cut": cut, "missing": ~read & ~said}
    return {name: int(which.sum()) for name, which in counts.items()} | {"total": len(scores)}


def counts(benchmark: str, tally: dict[str, int], no_response: int) -> dict[str, int]:
    """The tally as metrics: n verdicts read, those that were not by cause, and prompts that have no response to judge."""
    told = {"n": tally["read"], "no_response": no_response}
    told |= {name: tally[name] for name in ("unread", "cut", "missing")}
    return {f"{benchmark}.{name}": value for name, value in told.items()}


def write_judges(stage, names: Iterable[str]) -> str:
    """Note who judged, for the report; returns the names as they can be shown."""
    found = sorted({name for name in names if name})
    files.write_json(stage.folder / JUDGES, {"judges": found})
    return ", ".join(map(show.code, found))


# What was taught


def overlap(
    stage, scores: pd.DataFrame, asked: list[dict], text: str, name: str, headline: str
) -> tuple[str, dict[str, float]]:
    """How much of a benchmark the student may have been taught, and its score without that: a sentence, and metrics.

    `text` and `name` are the fields of a prompt's text (or its turns) and of what the scores call it, `headline` is the metric.
    """
    unknown = "What it had read in its pre-training is not known."
    rows = _taught(stage)
    if rows is None:
        return (
            f"What the student was taught is not known here: nothing was checked for overlap. {unknown}",
            {},
        )
    touched = _touched_instances(rows, asked) if "about" in asked[0] else _touched(rows, asked, text)
    names = {str(asked[i][name]) for i in touched}
    clean = statistics.means(scores[~scores.get("group", scores["id"]).isin(names)]).get(headline)
    said = f"{len(touched):,} of {len(asked):,} prompts are touched by the {len(rows):,} rows that the student may have been taught"
    said += f"; `{headline}` without them: {clean:.4g}" if touched and clean is not None else ""
    return f"{said}. {unknown}", {
        f"{headline.partition('.')[0]}.touched": len(touched),
        f"{headline}_untouched": clean,
    }


def _taught(stage) -> Dataset | None:
    """Rows that the student may have been taught, expanded and refined ones included; None where the stage is given none."""
    found = [records.read(place) for name in TAUGHT if (place := stage.input(name))]
    return concatenate_datasets(found) if found else None


def _touched(rows: Dataset, asked: list[dict], text: str) -> list[int]:
    """The places of the prompts that any of the rows holds."""
    return contamination.touched(contamination.find(rows, {"": [row[text] for row in asked]}))


def _touched_instances(rows: Dataset, asked: list[dict]) -> list[int]:
    """The same in the embedded world, whose templates make all texts alike: what a row is about decides."""
    known = {(it.get("family"), it.get("payload")) for it in map(json.loads, filter(None, rows["meta"]))}
    each = ([row["about"]] if isinstance(row["about"], dict) else row["about"] for row in asked)
    return [i for i, of in enumerate(each) if any((it["family"], it["payload"]) in known for it in of)]


# Writing


def write(stage, scores: pd.DataFrame) -> pd.DataFrame:
    """Write scores.parquet, and every metric of it with its bootstrap interval; returns them, a line each: score, low, high."""
    scores.to_parquet(stage.folder / "scores.parquet")
    means, bounds = statistics.means(scores), statistics.bootstrap_interval(scores)
    table = pd.DataFrame(
        {name: (mean, *bounds[name]) for name, mean in means.items()}, ["score", "low", "high"]
    ).T
    for end in ("score", "low", "high"):
        stage.write_metrics(
            {name if end == "score" else f"{name}_{end}": it for name, it in table[end].items()}
        )
    return table
