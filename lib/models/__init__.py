"""Models: load one or connect to one; every backend completes chats in the same way."""

import json
import os
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from lib import paths
from lib.errors import UserError
from lib.models.types import SamplingParams, ended


def load(student: str | Path, chat_template: str = ""):
    """Load a student into this process, from a folder, a GGUF file or the hub; returns its LocalBackend.

    `chat_template` is a template file in place of the one that its entry in params/models.yaml names, or
    that it brings. Raises UserError where the student cannot be loaded, has no safetensors weights or no chat
    template.
    """
    from lib.models import loading
    from lib.models.local import LocalBackend  # torch takes seconds that a server's student can do without

    return LocalBackend(loading.load_model(student), loading.load_tokenizer(student, chat_template))


def ledger_path() -> Path:
    """Return the ledger of this run: $LEDGER, which `python -m lib.run --ledger` sets, else in outputs."""
    return paths.ROOT / paths.expand(os.environ.get("LEDGER") or "outputs/ledger.sqlite")


def ledger_only() -> bool:
    """Whether the ledger alone answers: $LEDGER_ONLY, which `python -m lib.run --ledger-only` sets."""
    return os.environ.get("LEDGER_ONLY", "") not in ("", "0")


@cache  # a process holds each ledger open once
def _opened(path: Path, read_only: bool):
    from lib.models.ledger import Ledger

    return Ledger(path, read_only)


def connect(
    model: str,
    ledger: str | Path = "",
    run: str = "",
    concurrency: int | None = None,
    stage: str = "",
    budget_usd: float | None = None,
):
    """Connect to a model of params/models.yaml, or name@url; returns a ServerBackend, whose calls are kept.

    `ledger` is the file that keeps them, by default that of the run; `budget_usd` is the run's. Raises
    UserError for a model that is not listed or no longer offered, for a missing key, and for a budget
    without a price.
    """
    from lib.models import catalog
    from lib.models.server import ServerBackend

    entry = catalog.find_offered(model, budget_usd, ledger_only())
    file = _opened(Path(ledger or ledger_path()), ledger_only())
    return ServerBackend(entry, file, run, stage, concurrency, budget_usd, ledger_only=file.read_only)


def engine(named: str = "local") -> str:
    """Return the engine of this run: $ENGINE, which `python -m lib.run --engine` sets, else the one `named`.

    Raises UserError as `actors` does.
    """
    chosen = os.environ.get("ENGINE") or named
    actors(chosen)
    return chosen


def actors(engine: str) -> int | None:
    """Return the number of actors of an engine: ray, or ray:4; 0 for as many as suit, None for local.

    Raises UserError for another engine, and for Ray where it is not installed.
    """
    if engine == "local":
        return None
    number = re.fullmatch(r"ray(?::([1-9]\d*))?", engine)
    if not number:
        raise UserError(f"engine={engine}: it is unknown. Set local, ray, or ray:4 for four actors.")
    if not find_spec("ray"):
        raise UserError(f"engine={engine}: Ray is not installed. Run pip install -e '.[scale]'.")
    return int(number[1] or 0)


def choose(student: str | Path, engine: str = "local"):
    """Return the backend of a student: behind the server of name@url, in this process, or on a Ray cluster.

    `engine` is local, ray or ray:4, with four actors. Raises UserError as `load` and `actors` do.
    """
    from lib.models import catalog, loading

    name, url = catalog.split(student)
    if url:
        from lib.models.server import ServerBackend

        return ServerBackend(catalog.find(f"{loading.locate('student', name)}@{url}"), tries=3)
    if (number := actors(engine)) is not None:
        from lib.models.cluster import RayBackend  # Ray need not be installed

        return RayBackend(student, number)
    return load(student)


def ask(student: str | Path, chats: list[list[dict]]) -> list[str]:
    """Load a student for a short greedy response to each chat, and leave nothing on the device."""
    import gc

    import torch

    if not chats:
        return []
    replies = load(student).generate(chats, SamplingParams(max_tokens=80))
    gc.collect()
    torch.cuda.empty_cache()
    return [reply.text for (reply,) in replies]


def at_server_of(student: str | Path | None, named: str) -> str | Path | None:
    """Return `student` at the server that `named` (name@url) names, if it names any."""
    from lib.models import catalog

    url = catalog.split(named)[1]
    return f"{student}@{url}" if url and student and not catalog.split(student)[1] else student


def respond(rows, backend, params: SamplingParams, only: int | None = None, **options) -> tuple:
    """Add student_response to the rows that lack one; with several samples all of them to `meta.samples`.

    `only` is the position of one row to return, with the response that it has among all. `options` go to
    `generate`. Returns the rows and {"responses", "cut", "unanswered", "tokens"} of what was generated;
    `unanswered` hold thoughts alone.
    """
    from lib import records  # datasets takes a second, which a ledger can do without

    walked = enumerate(records.iter_rows(rows, "id", "student_response", *records.PROMPT_COLUMNS))
    missing = {i: row for i, row in walked if row["student_response"] is None}
    prompts, ids = list(map(records.messages, missing.values())), [row["id"] for row in missing.values()]
    positions = list(missing)
    if only is not None:
        options["only"] = [number for number, i in enumerate(positions) if i == only]
        rows, positions = rows.select([only]), [0] * len(options["only"])
    completions = backend.generate(prompts, params, names=ids, **options)
    texts, metas = rows["student_response"][:], rows["meta"][:]
    for i, samples in zip(positions, completions, strict=True):
        texts[i] = samples[0].text
        if params.n > 1:
            metas[i] = json.dumps(json.loads(metas[i] or "{}") | {"samples": [each.text for each in samples]})
    flat = [each for samples in completions for each in samples]
    counts = {"responses": len(flat), **ended(flat)._asdict()}
    counts["tokens"] = sum(each.completion_tokens for each in flat)
    return records.update(rows, student_response=texts, meta=metas), counts
