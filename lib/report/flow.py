"""Show the flow of rows through a run: a box per stage, with a sentence from its metrics."""

from pathlib import Path

from lib.evaluation import registry
from lib.report import scores, tables
from lib.runner import folders

EVALUATION = "Evaluation"
STAGES = {  # notebook: its title, and a phrase for each metric that it may have; "#" is the round
    "tapir/1_data_selection": ("Data selection", {"corpus.loaded": "{:,} rows", "corpus.kept": "{:,} kept"}),
    "tapir/2_oracle_judging": (
        "Oracle judging",
        {"judging.rows": "{:,} rows", "oracle.calls": "{:,} oracle calls"},
    ),
    "tapir/3_refinement": (
        "Refinement",
        {"pool.selected": "{:,} rows selected", "pool.rows": "{:,} in the pool"},
    ),
    "tapir/4_training": ("Training", {"#.rows": "{:,} rows", "#.response_tokens": "{:,} response tokens"}),
    "self_guide/1_input_generation": ("Input generation", {"self_guide.inputs.kept": "{:,} inputs kept"}),
    "self_guide/2_output_generation": ("Output generation", {"self_guide.pairs.kept": "{:,} pairs kept"}),
    "self_guide/3_training": ("Training", {"self_guide.training.self_guide.rows": "{:,} own pairs"}),
}


def flow(run: Path, arms: list[str]) -> tuple[list[dict], dict[str, list[dict]]]:
    """Return the first stages, which all these arms share, and those of each arm alone; of the first seed."""
    table = tables.stages(run)
    first = table[table["seed"] == table["seed"].min()]
    paths = {arm: list(first["folder"][first["arm"] == arm]) for arm in arms}
    shared = 0
    for stages in zip(*paths.values(), strict=False):
        if len(set(stages)) > 1:
            break
        shared += 1
    trunk = boxes(next(iter(paths.values()))[:shared], run)
    return trunk, {arm: boxes(stages[shared:], run) for arm, stages in paths.items()}


def anchor(folder: Path, run: Path) -> str:
    """Return the anchor of a stage on the page."""
    return folder.relative_to(run).as_posix().replace("/", "-").replace("@", "-")


def boxes(stages: list[Path], run: Path) -> list[dict]:
    """Return the boxes of stages in their order; evaluations in a row share one."""
    drawn: list[dict] = []
    for folder in stages:
        box = box_of(folder) | {"anchor": anchor(folder, run)}
        if folders.record(folder)["name"].startswith("evaluation/"):
            line = ", ".join(box["texts"] or [box["title"]])
            before = drawn.pop()["texts"] if drawn and drawn[-1]["title"] == EVALUATION else []
            box |= {"title": EVALUATION, "texts": [*before, line]}
        drawn.append(box)
    return drawn


def box_of(folder: Path) -> dict:
    """Return the title of a stage, and its texts; a metric that it lacks is left out."""
    record, metrics = folders.record(folder), folders.metrics(folder)
    notebook, _, number = record["name"].partition("@")
    title, phrases = STAGES.get(notebook, (notebook, {}))
    named = {name.replace("#", f"training.round_{number}"): text for name, text in phrases.items()}
    texts = [text.format(metrics[name]) for name, text in named.items() if metrics.get(name) is not None]
    if benchmark := registry.benchmark(notebook):
        arm = {"metrics": {name.removesuffix(f"_round_{number}"): n for name, n in metrics.items()}}
        each = {metric.name: scores.score(arm, metric.name) for metric in benchmark.headlines}
        summary = {"stand_ins": [benchmark.prefix] if tables.stands_in(record) else []}
        texts = [f"{scores.label(n, summary)}: {scores.show(n, v)}" for n, v in each.items() if v]
    title += {"0": " (warm-up)"}.get(number, f", round {number}") if notebook == "tapir/4_training" else ""
    return {"title": title, "texts": texts}
