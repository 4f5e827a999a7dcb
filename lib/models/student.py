"""The student: loading it, and its responses, made here or by a server, in batches that a restart continues."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from datasets import Dataset
from transformers import AutoConfig, AutoTokenizer

from lib import records
from lib.models import chat_template as templates
from lib.models import loaded, weights
from lib.models.batches import NO_ROOM, Batches, How, Reply, ended
from lib.models.loading import Served, Spread, Student, load, load_tokenizer
from lib.models.settings import check_engine, check_sampling

PADDED, CONTINUOUS, SERVED = 64, 1024, 256  # prompts in a batch, by who answers


Asked = Student | Served | Spread


def choose(
    student: str | Path,
    engine: str = "local",
    url: str = "",
    chat_template: str = "",
    concurrency: int = 64,
    actors: int = 0,
) -> Asked:
    """The student to ask: loaded here, answered for by the server at `url`, or loaded on the nodes of a Ray cluster.

    Raises UserError as `load` does, and for what does not go with the engine.
    """
    check_engine(engine, url, chat_template, concurrency, actors)
    if engine == "server":
        return Served(url.rstrip("/"), weights.place("student", student), concurrency)
    if engine == "ray":
        return _spread(student, chat_template, actors)
    return load(student, chat_template=chat_template)


def _spread(student: str | Path, chat_template: str, actors: int) -> Spread:
    with weights.loading("student", student) as place:
        folder, file = weights.source(place)
        context = _context(AutoConfig.from_pretrained(folder, **file, **weights.OWN_CODE))
    return Spread(place, load_tokenizer(student, chat_template), context, actors)


def answer(
    student: Asked,
    prompts: list[list[dict]],
    samples: int = 1,
    temperature: float = 0.0,
    max_new_tokens: int = 256,
    top_k: int = 0,
    batch_size: int | None = None,
    seed: int = 0,
    folder: Path | None = None,
    report: Callable[[int, int], None] | None = None,
    names: Sequence[str] = (),
) -> list[list[Reply]]:
    """`samples` replies to each prompt, in the order of the prompts; temperature 0 is greedy, top_k 0 draws from all tokens.

    Batches, by default of a size that suits who answers, are a fixed function of the prompts and every batch has a seed
    of its own, so that a restart which finds batches of an earlier start in `folder` ends with the same replies.
    Raises UserError before anything is generated where the chat template cannot write a prompt; `names` are
    the ids of the prompts' rows.
    """
    check_sampling(samples, temperature)
    ask, texts, suits = _way(student, prompts, names)
    how = How(samples, temperature, max_new_tokens, top_k)
    batches = Batches(texts, batch_size or suits, seed, how, folder, report)
    ask(batches.missing, how, batches.keep)
    return batches.replies


def _way(
    student: Asked, prompts: list[list[dict]], names: Sequence[str] = ()
) -> tuple[Callable, list[str], int]:
    """Who answers, the prompts as they are asked there, and how many of them make a batch."""
    if isinstance(student, Spread):
        from lib.models import cluster

        suits = CONTINUOUS if cluster.gpus() else PADDED  # as each node would have them
        return partial(cluster.answer, student), _rendered(student, prompts, names), suits
    if isinstance(student, Served):
        from lib.models import served

        return partial(served.answer, student), _rendered(student, prompts, names), SERVED
    suits = CONTINUOUS if loaded.on_gpu(student.model) else PADDED
    return partial(loaded.answer, student.model, student.tokenizer), _rendered(student, prompts, names), suits


def answer_fitting(
    student: Asked,
    prompts: list[list[dict]],
    samples: int = 1,
    max_new_tokens: int = 256,
    **how,
) -> list[list[Reply]]:
    """As `answer`, but a prompt that leaves no room for so many new tokens in the student's context is not asked: its replies are empty
    and say so. Of a student behind a URL the context is not known."""
    fits = _fit(student, prompts, max_new_tokens)
    inside = [prompt for prompt, room in zip(prompts, fits, strict=True) if room]
    made = iter(answer(student, inside, samples, max_new_tokens=max_new_tokens, **how))
    return [next(made) if room else [Reply("", NO_ROOM, 0)] * samples for room in fits]


def _fit(student: Asked, prompts: list[list[dict]], max_new_tokens: int) -> list[bool]:
    if isinstance(student, Served) or not prompts:
        return [True] * len(prompts)
    context = student.context if isinstance(student, Spread) else _context(student.model.config)
    ids = student.tokenizer(_rendered(student, prompts), add_special_tokens=False)["input_ids"]
    return [not context or len(row) + max_new_tokens <= context for row in ids]


def _context(config) -> int | None:
    """Tokens of prompt and response together; None where the model does not say."""
    return getattr(config.get_text_config(), "max_position_embeddings", None)


def rendered(student: Asked, prompt: list[dict]) -> str:
    """Return a prompt as it is sent: the chat template's text, or the messages for a server."""
    [text] = _rendered(student, [prompt])
    return text


def adaptation(student: Asked, prompts: list[list[dict]]) -> str:
    """Say how many prompts the student's chat template takes in another form only, "" for none."""
    tokenizer = _tokenizer(student)
    return templates.adaptation(tokenizer, prompts) if tokenizer else ""


def _rendered(student: Asked, prompts: list[list[dict]], names: Sequence[str] = ()) -> list[str]:
    tokenizer = _tokenizer(student)
    if not isinstance(student, Served):
        return templates.prompts(tokenizer, prompts, names)
    from lib.models import served

    return list(map(served.text, templates.accepted(tokenizer, prompts, names) if tokenizer else prompts))


def _tokenizer(student: Asked):
    """Return the tokenizer; of a served student that of its folder, None where that has no template."""
    if not isinstance(student, Served):
        return student.tokenizer
    if not (Path(student.name) / "tokenizer_config.json").exists():
        return None
    with weights.loading("student", student.name) as place:
        tokenizer = AutoTokenizer.from_pretrained(place, **weights.OWN_CODE)
    return tokenizer if tokenizer.chat_template else None


def respond(rows: Dataset, student: Asked, samples: int = 1, **how) -> tuple[Dataset, dict[str, int]]:
    """Add student_response to the rows that lack one, and with several samples all of them to `meta.samples`.

    `how` goes to `answer`. Returns the rows and {"responses", "cut", "unanswered", "tokens"} of what was
    generated; `unanswered` hold thoughts alone.
    """
    told = enumerate(records.iter_rows(rows, "id", "student_response", *records.PROMPT_COLUMNS))
    missing = {i: row for i, row in told if row["student_response"] is None}
    asked, names = list(map(records.messages, missing.values())), [row["id"] for row in missing.values()]
    made = dict(zip(missing, answer(student, asked, samples, names=names, **how), strict=True))
    texts, metas = rows["student_response"][:], rows["meta"][:]
    for i, replies in made.items():
        texts[i] = replies[0].text
        if samples > 1:
            metas[i] = json.dumps(json.loads(metas[i] or "{}") | {"samples": [r.text for r in replies]})
    flat = [reply for replies in made.values() for reply in replies]
    counts = {"responses": len(flat), **ended(flat)._asdict()}
    return records.update(rows, student_response=texts, meta=metas), counts | {
        "tokens": sum(r.tokens for r in flat)
    }
