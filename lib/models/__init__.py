"""Models: load one or connect to one; every backend completes chats in the same way."""

import json
from pathlib import Path

from lib.models.types import SamplingParams, ended


def load(student: str | Path, chat_template: str = ""):
    """Load a student into this process, from a folder, a GGUF file or the hub; returns its LocalBackend.

    `chat_template` is a template file for a student that brings none, or in place of its own. Raises
    UserError where the student cannot be loaded, has no safetensors weights or no chat template.
    """
    from lib.models import loading
    from lib.models.local import LocalBackend  # torch takes seconds that a server's student can do without

    return LocalBackend(loading.load_model(student), loading.load_tokenizer(student, chat_template))


def connect(
    model: str,
    ledger: str | Path = "",
    run: str = "",
    concurrency: int | None = None,
    stage: str = "",
    budget_usd: float | None = None,
):
    """Connect to a model of params/models.yaml, or name@url; returns its Endpoint, whose calls are kept.

    `ledger` is the file that keeps them, by default that of the run; `budget_usd` is the run's. Raises
    UserError for a model that is not listed or no longer offered, for a missing key, and for a budget
    without a price.
    """
    from lib.models import catalog
    from lib.models import ledger as ledgers
    from lib.models.chat import Endpoint

    alone = ledgers.is_alone()
    entry = catalog.find_offered(model, budget_usd, alone)
    file = ledgers.opened(Path(ledger) if ledger else ledgers.default_path(), alone)
    return Endpoint(entry, file, run, stage, concurrency, budget_usd, ledger_only=alone)


def choose(student: str | Path, engine: str = "local", chat_template: str = "", actors: int = 0):
    """Return the backend of a student: in this process, behind the server of name@url, or on a Ray cluster.

    Raises UserError as `load` does, and for settings that the engine does not take.
    """
    from lib.models import catalog, loading
    from lib.models.settings import check_engine

    check_engine(str(student), engine, chat_template, actors)
    name, url = catalog.split(student)
    if url:
        from lib.models.server import ServerBackend

        return ServerBackend(f"{loading.locate('student', name)}@{url}")
    if engine == "ray":
        from lib.models.cluster import RayBackend  # Ray need not be installed

        return RayBackend(student, chat_template, actors)
    return load(student, chat_template)


def at_server_of(student: str | Path | None, named: str) -> str | Path | None:
    """Return `student` at the server that `named` (name@url) names, if it names any."""
    from lib.models import catalog

    url = catalog.split(named)[1]
    return f"{student}@{url}" if url and student and not catalog.split(student)[1] else student


def respond(rows, backend, params: SamplingParams, **options) -> tuple:
    """Add student_response to the rows that lack one; with several samples all of them to `meta.samples`.

    `options` go to `generate`. Returns the rows and {"responses", "cut", "unanswered", "tokens"} of what was
    generated; `unanswered` hold thoughts alone.
    """
    from lib import records  # datasets takes a second, which a ledger can do without

    walked = enumerate(records.iter_rows(rows, "id", "student_response", *records.PROMPT_COLUMNS))
    missing = {i: row for i, row in walked if row["student_response"] is None}
    prompts, ids = list(map(records.messages, missing.values())), [row["id"] for row in missing.values()]
    completions = backend.generate(prompts, params, names=ids, **options)
    texts, metas = rows["student_response"][:], rows["meta"][:]
    for i, samples in zip(missing, completions, strict=True):
        texts[i] = samples[0].text
        if params.n > 1:
            metas[i] = json.dumps(json.loads(metas[i] or "{}") | {"samples": [each.text for each in samples]})
    flat = [each for samples in completions for each in samples]
    counts = {"responses": len(flat), **ended(flat)._asdict()}
    counts["tokens"] = sum(each.completion_tokens for each in flat)
    return records.update(rows, student_response=texts, meta=metas), counts
