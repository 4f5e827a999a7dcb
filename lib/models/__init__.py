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


def choose(
    student: str | Path,
    engine: str = "local",
    url: str = "",
    chat_template: str = "",
    concurrency: int = 64,
    actors: int = 0,
):
    """Return the backend of a student: in this process, behind the server at `url`, or on a Ray cluster.

    Raises UserError as `load` does, and for settings that the engine does not take.
    """
    from lib.models import loading
    from lib.models.settings import check_engine

    check_engine(engine, url, chat_template, concurrency, actors)
    if engine == "server":
        from lib.models.server import ServerBackend

        return ServerBackend(url, loading.locate("student", student), concurrency)
    if engine == "ray":
        from lib.models.cluster import RayBackend  # Ray need not be installed

        return RayBackend(student, chat_template, actors)
    return load(student, chat_template)


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
