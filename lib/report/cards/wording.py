"""The facts of a card in words: sentences and lines of tables, in which texts of data are harmless."""

import os
from collections import Counter
from collections.abc import Iterator

from lib.evaluation import registry
from lib.report import tables
from lib.report.cards import lineage
from lib.report.cards.lineage import Evaluation, Step
from lib.report.cards.mix import Mix
from lib.report.cards.texts import code, counts, figure

PAPERS = {"TAPIR": "2405.13448", "SELF-GUIDE": "2407.12874"}  # on arXiv
BENCHMARKS = {it.notebook.partition("/")[2]: it.name for it in registry.BENCHMARKS} | {
    "gym": "Held-out instances of the embedded world",
    "held_out_loss": "Rows that were set aside",
}
TAUGHT = ("epochs", "learning_rate", "warmup", "batch_size", "max_length", "alpha", "alpha_step")
TAUGHT += ("adapter_rank", "quantised", "neftune", "packing", "chat_template")
ASKED = ("split", "per_cell", "test_rows", "annotator", "evaluation_temperature", "max_new_tokens")
ANSWERED = {
    "server": "A server answered for the student.",
    "ray": "The nodes of a Ray cluster answered for the student.",
}
SPENT = {"oracle calls": "oracle.calls", "answered by the ledger": "oracle.cached"}
SPENT |= {"USD, of stages whose prices are known": "oracle.usd"}
SPENT |= {"tokens of student responses that were judged": "judging.student_tokens"}
TOUCHED, UNTOUCHED = ".touched", "_untouched"  # ends of metrics: prompts that were taught, the score without


def head(told: dict) -> Iterator[tuple[str, str]]:
    """What the card is about."""
    found, refinement, method = told["found"], told["refinement"], told["method"]
    paper = PAPERS.get(method)
    yield "method", f"[{method}](https://arxiv.org/abs/{paper}), arXiv {paper}" if paper else "unknown"
    yield "run", ", ".join(code(found[name]) for name in ("run", "title") if found.get(name))
    yield "arm and seed", "; ".join(f"{code(it.arm)}, {it.seed}" for it in told["sharing"])
    if told["corpus"]:
        wrong = f"the embedded world's, a share of {figure(told['corpus_noise'])} of its responses wrong"
        yield "corpus", wrong if told["corpus"] == "gym" else code(place(told["corpus"]))
    if told["task"]:
        yield "task", code(place(told["task"]))
    if refinement:
        yield "selection", _selection(refinement)
    yield "oracle", "none: the student is its own teacher" if method == "SELF-GUIDE" else _who(told, "oracle")
    if told["judge"]:
        yield "judge of the training", _who(told, "judge")


def place(text: str) -> str:
    """A path from the project on; of another one the name, as where it lies is nobody's business."""
    return os.path.basename(text) if text.startswith(("/", "~", "$", "..")) else text


def _who(told: dict, role: str) -> str:
    if told[role] != "exact":
        return code(told[role]) if told[role] else "none was asked"
    if told["embedded"]:
        return f"the embedded {role}, a program that knows the right answers"
    return "none was asked: what the corpus brought was taken"


def _selection(values: dict) -> str:
    parts = [code(values["selection"])]
    parts += [f"threshold {values['threshold']:g}"] if values["selection"] == "mfd" else []
    mix = f"expanded to the mix of {code(place(values['tasks']))}"
    parts += [mix if values["expand"] else "not expanded"]
    parts += ["responses refined" if values["refine"] else "responses not refined"]
    return ", ".join(parts + ["those of the corpus"] * values["corpus_responses"])


def student(kind: str, name: str) -> str:
    """A student that another one was made from."""
    return {
        "embedded": f"{code(name)}, the embedded student: a toy that comes with the project",
        "hub": f"[{name}](https://huggingface.co/{name}), its revision was not recorded",
        "folder": f"a local folder, {code(name)}",
        "stage": f"the student of {code(name)} in this run",
    }.get(kind, "unknown")


def settings(step: Step, names: tuple[str, ...] = TAUGHT) -> str:
    """Those of these parameters that a step has, and that are set to something."""
    values = {name: step.values[name] for name in names if name in step.values}
    told = {name: value for name, value in values.items() if value != "" and value is not False}
    return ", ".join(f"{name} {code(place(str(value)))}" for name, value in told.items())


def rounds(chain: list[Step]) -> Iterator[list[str]]:
    """A line a round: number, rows, response tokens, steps, % of rows and of tokens from the pool."""
    for step in chain:
        of = {name.rpartition(f"round_{step.round}.")[2]: value for name, value in step.metrics.items()}
        shares = [of.get(f"pool_share_of_{name}") for name in ("rows", "tokens")]
        taught = [figure(of.get(name)) for name in ("rows", "response_tokens", "steps")]
        yield [str(step.round), *taught, *(figure(share and 100 * share) for share in shares)]


def kinds(rows: Mix) -> str:
    """Who wrote the responses and, where that is known of a row, its task and whether it is hard."""
    named = {True: "hard", False: "not hard", None: None}
    hard = Counter({named[value]: n for value, n in rows.hard.items()})
    tables = [counts(["response from"], rows.responses, "no response")]
    tables += [counts(["task"], rows.tasks, "not noted")] if set(rows.tasks) - {None} else []
    tables += [counts(["for the student"], hard, "not noted")] if set(hard) - {None} else []
    return "\n\n".join(tables)


def account(step: Step) -> Iterator[list[str]]:
    """What a stage counted of its rows."""
    mine = ("corpus.", "pool.", "self_guide.")
    return ([code(name), figure(value)] for name, value in step.metrics.items() if name.startswith(mine))


# --- evaluation


def asked(step: Step) -> str:
    """What an evaluation asked."""
    short = step.notebook.partition("/")[2]
    if short == "natural_instructions":
        tasks = [it.values["task"] for it in lineage.ancestry(step) if it.values.get("task")]
        return f"Test instances of the task {code(place(tasks[0]))}" if tasks else "Test instances of a task"
    name = BENCHMARKS.get(short, code(short))
    return (
        f"{BENCHMARKS['gym']} in the form of {name}: no figure of {name}"
        if tables.stands_in(step.record)
        else name
    )


def scores(of: Evaluation) -> Iterator[list[str]]:
    for name, (value, low, high) in of.scores.items():
        yield [code(name), figure(value), f"{figure(low)} to {figure(high)}"]


def conditions(of: Evaluation) -> str:
    """By whom and how it was scored, and what else was counted."""
    judges = ", ".join("the embedded one" if name == "exact" else code(name) for name in of.judges)
    parts = [f"Judge: {judges}." if judges else "No judge is recorded."]
    parts += [f"Settings: {settings(of.step, ASKED)}."] if settings(of.step, ASKED) else []
    parts += [ANSWERED[engine]] if (engine := of.step.values.get("engine")) in ANSWERED else []
    others = [f"{code(n)} {figure(v)}" for n, v in of.counts.items() if not n.endswith((TOUCHED, UNTOUCHED))]
    return " ".join(parts + ([f"Without an interval: {', '.join(others)}."] if others else []))


def same_judges(told: dict) -> str:
    """Who judged an evaluation and taught or chose the rows, too; empty for nobody."""
    judges = {name for of in told["evaluations"] for name in of.judges} - {"exact"}
    return ", ".join(map(code, sorted(judges & {told["oracle"], told["judge"]})))


# --- what was checked, and spent


def contamination(told: dict) -> Iterator[str]:
    """What is known of benchmarks among the rows."""
    metrics = told["corpus_metrics"]
    named = {name: n for name, n in metrics.items() if name.startswith("touched.")}
    for name, n in named.items():
        yield f"{code(name.removeprefix('touched.'))}: the corpus as loaded held {figure(n)} of its prompts."
    if named:
        yield f"{figure(metrics.get('corpus.overlap_with_benchmarks'))} rows held a prompt, and were dropped."
    elif told["corpus"] == "gym":
        yield "Instances to evaluate are held out by a hash of what they are about: the corpus has none."
    else:
        yield "No benchmark was named to check the rows against."
    if checked := told["refinement"] and told["refinement"]["expand"] and told["refinement"]["benchmarks"]:
        yield f"Expanded rows with a prompt of {', '.join(code(place(it)) for it in checked)} were dropped."
    for of in told["evaluations"]:
        yield from _touched(of)
    if told["base"] and told["base"][0] != "embedded":
        yield "What the student had read before is not known."


def _touched(of: Evaluation) -> Iterator[str]:
    """How many prompts of a benchmark were taught and, if any, what the score is without them."""
    for name, n in of.counts.items():
        if name.endswith(TOUCHED):
            yield f"{code(name)}: {figure(n)} prompts are in rows that the student may have been taught."
        if name.endswith(UNTOUCHED) and any(of.counts[k] for k in of.counts if k.endswith(TOUCHED)):
            yield f"{code(name.removesuffix(UNTOUCHED))} without these prompts: {figure(n)}."


def cost(told: dict) -> Iterator[list[str]]:
    """What all stages behind it took, a shared one once."""
    each = {it.folder: it for it in told["made_from"]}.values()
    yield ["stages", str(len(each))]
    yield ["seconds", figure(round(sum(it.record["seconds"] for it in each)))]
    for name, metric in SPENT.items():
        noted = [it.metrics[metric] for it in each if it.metrics.get(metric) is not None]
        if noted:
            yield [name, figure(sum(noted))]
