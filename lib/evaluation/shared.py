"""Share recorded files, responses, counts, overlap and scores between benchmarks."""

import json
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd
from datasets import concatenate_datasets

from lib import files, models, records, show
from lib.corpus import contamination, sources
from lib.errors import UserError
from lib.evaluation import statistics
from lib.evaluation.registry import JUDGES
from lib.models import catalog
from lib.models.backend import Backend
from lib.models.server import ServerBackend
from lib.models.types import Completion, Ended, SamplingParams, ended
from lib.oracle import estimate

REMEDIES = {"missing": "Start the same command again: calls failed"}  # of a benchmark's judge
KINDS = {str: "a text", int: "a whole number", list: "a list"}
TRAINING_ROWS = ("corpus_from", "pool_from")  # inputs of a training stage: the rows it may have trained on


def load_records(source: str, parameter: str, unique_key: str = "", /, **fields: type) -> list[dict]:
    """Load all records of a file or hub data set, with these fields of these types.

    `parameter` names the source in errors. Raises UserError for a record that lacks a field or repeats the
    `unique_key`, one of the fields, of another.
    """
    loaded = []
    for _, where, record in sources.read(source):
        values = record if isinstance(record, dict) else {}
        for field, kind in fields.items():
            if type(value := values.get(field)) is not kind:
                problem = f"`{field}` must be {KINDS[kind]}, not {value!r:.60}"
                raise UserError(f"{parameter}: {where}: {problem}. Correct the file.")
        loaded.append(values)
    keys = Counter(record[unique_key] for record in loaded) if unique_key else Counter()
    for key, count in keys.most_common(1):
        if count > 1:
            raise UserError(f"{parameter}={source}: `{unique_key}` {key!r:.80} repeats. Remove repeats.")
    return loaded


def check_known(keys: Iterable, evaluated: Iterable, where: str) -> None:
    """Refuse a file with records of another evaluation set: raises UserError."""
    if unknown := set(keys) - set(evaluated):
        example = f"{min(unknown)!r:.80}"
        raise UserError(
            f"{where}: {len(unknown):,} of its prompts are outside the evaluation set, such as {example}. "
            "Name files of one evaluation set."
        )


def write_lines(path: Path, rows: list[dict]) -> None:
    """Write rows as JSON lines; no file where there are none."""
    if rows:
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def student(student: object, stage) -> Backend:
    """Choose the student to ask by a stage's parameters, and by the engine of its run."""
    return models.choose(models.at_server_of(student, stage.parameters["student"]), stage.engine)


def message(prompt: str) -> list[dict]:
    """Return a prompt of one turn as messages."""
    return [{"role": "user", "content": prompt}]


def ask_one(student: Backend, messages: list[dict], params: SamplingParams, **options) -> dict[str, str]:
    """Ask a student one prompt, to be shown: {"prompt_as_sent", "response"}; `options` go to `generate`."""
    [[reply]] = student.generate([messages], params, **options)
    return {"prompt_as_sent": student.render([messages])[0], "response": reply.text}


def responses(
    prompts: list[str], student: Backend, params: SamplingParams, **options
) -> tuple[dict[str, str], Ended]:
    """Generate a student's responses to prompts of one turn; `options` go to `generate`.

    Returns them by prompt, and how many were cut or hold thoughts alone.
    """
    replies = [reply for (reply,) in student.generate(list(map(message, prompts)), params, **options)]
    return dict(zip(prompts, (reply.text for reply in replies), strict=True)), ended(replies)


def describe_sampling(
    student: object, parameters: dict, total: int, cut: int, unanswered: int = 0, temperature: object = 0
) -> str:
    """Describe how a student was asked, and how many of `total` responses it cut or left unanswered."""
    file = catalog.chat_template(str(student))
    template = f"`{file}`" if file else "its own"
    template = "the server's" if catalog.split(parameters["student"])[1] else template
    sentence = (
        f"`{student}`: temperature {temperature}, chat template {template}, at most "
        f"{parameters['max_new_tokens']} tokens; {cut:,} of {total:,} responses were cut there"
    )
    return sentence + (f", and **{unanswered:,} hold thoughts without an answer**." if unanswered else ".")


def expected_calls(endpoint: ServerBackend, purpose: str, prompts: list[list[dict]], completion: int) -> str:
    """Describe the calls, tokens and money that a judge will take, as markdown.

    `completion` is the number of tokens that a reply will have, about.
    """
    tokens = sum(map(catalog.tokens, prompts)) / max(len(prompts), 1)
    return estimate.describe([estimate.ahead(endpoint, purpose, len(prompts), tokens, completion)], endpoint)


def tally(scores: pd.Series, replies: pd.Series, at_limit: pd.Series) -> dict[str, int]:
    """Count verdicts: read, unread, cut, missing, total.

    A cut one is unread and `at_limit`, a missing one has no reply. `judge.describe` and `judge.check` take
    the counts.
    """
    read, replied = scores.notna(), replies.notna()
    cut = ~read & replied & at_limit
    counts = {"read": read, "unread": ~read & replied & ~cut, "cut": cut, "missing": ~read & ~replied}
    return {name: int(verdicts.sum()) for name, verdicts in counts.items()} | {"total": len(scores)}


def counts(benchmark: str, tally: dict[str, int], no_response: int) -> dict[str, int]:
    """Name a tally as metrics, with the number of prompts without a response to judge."""
    metrics = {"n": tally["read"], "no_response": no_response}
    metrics |= {name: tally[name] for name in ("unread", "cut", "missing")}
    return {f"{benchmark}.{name}": value for name, value in metrics.items()}


def first_to_ask(verdicts: pd.DataFrame, judge: ServerBackend) -> pd.DataFrame:
    """Take one line to ask about before the others; none where a read-only ledger has to count its gaps."""
    return verdicts.head(0 if judge.ledger_only else 1)


def ask(
    judge: ServerBackend,
    purpose: str,
    prompts: list[list[dict]],
    params: SamplingParams,
    unread: Callable[[list[Completion]], list[bool]],
    report: Callable[[int], None] | None = None,
) -> list[Completion]:
    """Ask a judge, once more where `unread` says that a reply states no verdict.

    The first reply stays where the second call fails.
    """

    def generate(chats: list[list[dict]], attempt: int) -> list[Completion]:
        options = {"purpose": purpose, "attempts": [attempt] * len(chats)}
        count = report and (lambda done, total: report(done))
        return [reply for (reply,) in judge.generate(chats, params, count, **options)]

    replies = generate(prompts, 1)
    again = [i for i, is_unread in enumerate(unread(replies)) if is_unread and not replies[i].failed]
    for i, reply in zip(again, generate([prompts[i] for i in again], 2), strict=True):
        replies[i] = replies[i] if reply.failed else reply
    return replies


def write_judges(stage, judges: Iterable[str]) -> str:
    """Note who judged, for the report; returns the names as they can be shown."""
    names = sorted(set(filter(None, judges)))
    files.write_json(stage.folder / JUDGES, {"judges": names})
    return ", ".join(map(show.code, names))


def overlap(
    stage, scores: pd.DataFrame, prompts: list[dict], text: str, name: str, headline: str
) -> tuple[str, dict[str, float]]:
    """Find prompts that the student may have been trained on: a sentence, and metrics.

    `text` is the field of a prompt's text (or turns), `name` the one that scores use, `headline` the metric,
    which is also computed without these prompts.
    """
    if "about" in prompts[0]:
        return "The embedded world holds out these instances by a hash: no training row is about them.", {}
    unknown = "What it had read in its pre-training is not known."
    inputs = stage.record_of("student_from")["inputs"]
    paths = [inputs[name] for name in TRAINING_ROWS if inputs.get(name) and Path(inputs[name]).is_file()]
    if not paths:
        return f"The student's training rows are not known here: no overlap was checked. {unknown}", {}
    rows = concatenate_datasets(list(map(records.read, paths)))
    touched = contamination.touched(contamination.find(rows, {"": [prompt[text] for prompt in prompts]}))
    names = {str(prompts[i][name]) for i in touched}
    clean = statistics.means(scores[~scores.get("group", scores["id"]).isin(names)]).get(headline)
    sentence = f"{len(touched):,} of {len(prompts):,} prompts are touched by the {len(rows):,} training rows"
    if touched and clean is not None:
        sentence += f"; `{headline}` without them: {clean:.4g}"
    metrics = {f"{headline.partition('.')[0]}.touched": len(touched), f"{headline}_untouched": clean}
    return f"{sentence}. {unknown}", metrics


def write(stage, scores: pd.DataFrame) -> pd.DataFrame:
    """Write scores.parquet and its metrics; returns a table of score, low, high."""
    scores.to_parquet(stage.folder / "scores.parquet")
    table = statistics.intervals(scores)
    for column, suffix in (("score", ""), ("low", "_low"), ("high", "_high")):
        stage.write_metrics({f"{name}{suffix}": value for name, value in table[column].items()})
    return table
