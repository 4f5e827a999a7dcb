"""Write hub cards: a README.md in every student that a run trained, and beside every pool of rows.

A card only says what the records hold; anything else is called unknown.
"""

from pathlib import Path

import pandas as pd
from huggingface_hub import CardData, DatasetCard, DatasetCardData, EvalResult, ModelCard, ModelCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from lib import files, paths, show
from lib.evaluation import registry
from lib.report import facts, tables
from lib.runner import folders
from lib.runner.digests import CARD
from lib.training.settings import JUDGES, RECORDED

POOLS = {  # notebook: its file of rows that others may want
    "tapir/1_data_selection": "rows.parquet",
    "tapir/3_refinement": "pool.parquet",
    "self_guide/2_output_generation": "pairs.parquet",
}
COLUMNS = ["id", "response_from", "source", "licence", "task", "hard"]
COUNTED = (["response_from"], ["task"], ["hard"], ["source", "licence"])
MAX_LINES = 20  # of a table of counts


def write(run: Path) -> list[Path]:
    """Write the cards of a run and return their paths; a README.md that a stage wrote itself stays."""
    summary = files.read_json(run / "summary.json") or {}
    users: dict[Path, list[dict]] = {}  # the arms and seeds of each stage
    for line in summary.get("stages", ()):
        if line["arm"] in summary["arms"] and "folder" in line and folders.record(run / line["folder"]):
            users.setdefault(run / line["folder"], []).append(line)
    cards = {}
    for folder in users:
        content = _content(folder, users[folder], summary)
        for student in (folder / "student", *sorted(folder.glob("baselines/*/student"))):
            if student.is_dir():
                evaluations = [it for stage in users if (it := _evaluation(stage, student))]
                cards[student / CARD] = _student_card(student, content, evaluations)
        pool = folder / POOLS.get(_notebook(folder), "")
        if pool.is_file():
            cards[folder / CARD] = _pool_card(pool, content)
    own = {folder / name for folder in users for name in folders.record(folder)["files"]}
    written = {path: card for path, card in cards.items() if path not in own}
    for path, card in written.items():
        with files.whole(path) as partial:
            partial.write_text(str(card), encoding="utf-8")
    return list(written)


def _content(folder: Path, users: list[dict], summary: dict) -> dict:
    """Gather what both kinds of cards say: the records behind a stage, its base student and its cost."""
    made_from = ancestry(folder)
    method, _, arxiv = facts.PAPERS.get(_notebook(folder).partition("/")[0], ("unknown", "", ""))
    values = {_notebook(it): folders.record(it)["parameters"] for it in made_from}
    refining, judging = values.get("tapir/3_refinement", {}), values.get("tapir/2_oracle_judging", {})
    asked, source = refining or judging, values.get("tapir/1_data_selection", {}).get("source", "")
    benchmarks = [name for it in values.values() for name in it.get("benchmarks") or ()]
    task = values.get("self_guide/1_input_generation", {}).get("task", "")
    name = f"{summary['run']}-{users[0]['arm']}-s{users[0]['seed']}-{folder.name.replace('@', '-')}"
    return {
        "name": name,
        "method": method,
        "arxiv": arxiv,
        "users": users,
        "summary": summary,
        "record": folders.record(folder),
        "refinement": refining,
        "benchmarks": list(dict.fromkeys(benchmarks)),
        "source": source,
        "task": task,
        "oracle": asked.get("oracle", ""),
        "judge": asked.get("judge_model") or asked.get("oracle", ""),
        "embedded": source == "gym" or task.startswith("gym:"),
        "base": _base(made_from),
        "made_from": made_from,
        "cost": _cost(made_from),
    }


def _student_card(student: Path, content: dict, evaluations: list[dict]) -> ModelCard:
    control = student.parent.name if "baselines" in student.parts else ""
    stage = tables.stage_of(student)
    chain = [it for it in content["made_from"] if _notebook(it) == _notebook(stage)]
    pairs = folders.record(stage)["inputs"].get("pairs_from")
    trained = [Path(pairs)] if pairs else [it / "rows.parquet" for it in chain]
    content = content | {
        "name": content["name"] + (f"-{control}" if control else ""),
        "control": control,
        "rows": None if control else _count([path for path in trained if path.is_file()]),
        "rounds": [_trained(it) for it in chain] if content["method"] == "TAPIR" else [],
        "evaluations": evaluations,
    }
    results = [result for it in evaluations for result in _results(it)]
    corpus, (kind, base) = content["source"].partition(":")[0], content["base"]
    data = ModelCardData(
        model_name=content["name"] if results else None,  # huggingface_hub takes it with results only
        eval_results=results or None,
        base_model=base if kind == "hub" else None,
        datasets=[corpus] if corpus != "gym" and _is_hub_name(corpus) else None,
        library_name="transformers",
        pipeline_tag="text-generation",
        license="other",
        tags=[content["method"].lower()],
    )
    return _render(ModelCard, "model.md.j2", data, content)


def _pool_card(pool: Path, content: dict) -> DatasetCard:
    """Name the one file that is the data set: `load_dataset` reads no other in its folder."""
    data = DatasetCardData(
        pretty_name=content["name"],
        configs=[{"config_name": "default", "data_files": [{"split": "train", "path": pool.name}]}],
        license="other",
        task_categories=["text-generation"],
        tags=[content["method"].lower()],
    )
    return _render(DatasetCard, "data.md.j2", data, content | {"file": pool.name, "rows": _count([pool])})


def ancestry(folder: Path) -> list[Path]:
    """List the stages that a stage was made from, by the inputs in their records, itself last."""
    found: list[Path] = []
    for path in filter(None, folders.record(folder)["inputs"].values()):
        if stage := tables.stage_of(Path(path)):
            found += [it for it in ancestry(stage) if it not in found]
    return [*found, folder]


def _base(made_from: list[Path]) -> tuple[str, str]:
    """Return the kind and name of the student that the first of these stages began with."""
    for record in map(folders.record, made_from):
        path = record["inputs"].get("student_from")
        name = path or record["parameters"].get("student")
        if name == facts.STUDENT:
            return "embedded", name
        if name and not (path and tables.stage_of(Path(path))):
            return ("hub", name) if _is_hub_name(name) else ("folder", Path(name).name)
    return "unknown", ""


def _is_hub_name(name: str) -> bool:
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return bool(name) and not paths.local(name).exists()


def _evaluation(folder: Path, student: Path) -> dict | None:
    """Return what an evaluation says of this student; None if it asked another one, or recorded answers."""
    record, line = folders.record(folder), _line_of(folder, student)
    if line is None or any(map(record["parameters"].get, RECORDED)):
        return None
    benchmark, ends = registry.benchmark(_notebook(folder)), ("", "_low", "_high")
    name, is_stand_in = benchmark.name if benchmark else _notebook(folder), tables.stands_in(record)
    metrics = {k: v for k, v in tables.metrics(folder).items() if v is not None and _line(k) == line}
    scored = [name for name in metrics if all(name + end in metrics for end in ends)]
    return {
        "name": f"stand-in for {name}, asked of the embedded world" if is_stand_in else name,
        "type": "gym" if is_stand_in else folder.name.partition("@")[0],
        "split": record["parameters"].get("split"),
        "scores": {name: [metrics[name + end] for end in ends] for name in scored},
        "judges": (files.read_json(folder / JUDGES) or {}).get("judges", []),
    }


def _line_of(evaluation: Path, student: Path) -> str | None:
    """Return under which name an evaluation's metrics hold a student (see `_line`); None if it was not asked."""
    inputs = folders.record(evaluation)["inputs"] if _notebook(evaluation).startswith("evaluation/") else {}
    baselines = Path(inputs.get("baselines_from") or "/")
    asked = {inputs.get("student_from"): "", inputs.get("tapir_from"): "tapir"}
    is_control = student.parent.parent == baselines
    return student.parent.name if is_control else asked.get(str(student))


def _line(metric: str) -> str:
    """Return which student a metric is of: "gold" for "ni.gold.exact_match", "" for the main one."""
    parts = metric.split(".")
    return parts[1] if parts[0] == "ni" and len(parts) == 3 else ""


def _results(evaluation: dict) -> list[EvalResult]:
    return [
        EvalResult(
            task_type="text-generation",
            dataset_type=evaluation["type"],
            dataset_name=evaluation["name"],
            dataset_split=evaluation["split"],
            metric_type=_plain(metric),
            metric_value=value,
            metric_name=f"{_plain(metric)}, 95 % interval {low:.4g} to {high:.4g}",
        )
        for metric, (value, low, high) in evaluation["scores"].items()
        if not metric.startswith("ni.gain_over.")  # a difference from another student is no score
    ]


def _count(paths_of_rows: list[Path]) -> dict | None:
    """Count rows by kind, a row of two rounds twice, but once in `unique`; None without a file."""
    if not paths_of_rows:
        return None
    table = pd.concat([pd.read_parquet(path, columns=COLUMNS) for path in paths_of_rows])
    table["source"] = table["source"].str.replace("(?s)^expanded:.*", "expanded", regex=True)
    table = table.astype("string").fillna("")
    tables_of = {", ".join(columns): table[columns].value_counts() for columns in COUNTED}
    return {"n": len(table), "unique": table["id"].nunique(), "tables": tables_of}


def _trained(stage: Path) -> list[object]:
    """Return a training's round, rows, response tokens and steps."""
    number, metrics = stage.name.rpartition("@")[2], tables.metrics(stage)
    return [number, *(metrics.get(f"training.round_{number}.{it}", "unknown") for it in tables.TRAINED)]


def _cost(stages: list[Path]) -> dict[str, float | None]:
    """Sum seconds, calls and money over all stages that led here; money is None where a price is unknown."""
    seconds = sum(folders.record(it)["seconds"] for it in stages)
    calls, usd = (
        pd.Series([tables.metrics(it).get(f"oracle.{n}", 0) for it in stages]) for n in ("calls", "usd")
    )
    return {"seconds": seconds, "calls": int(calls.sum()), "usd": None if usd.isna().any() else usd.sum()}


def _notebook(folder: Path) -> str:
    return folders.record(folder)["name"].partition("@")[0]


# --- Markdown: texts of data come in as code, in which nothing is markup


def _plain(text: object) -> str:
    return " ".join(show.plain(text).split())[:80]


def _code(text: object) -> str:
    """Show a text as code; a bar would end a table's cell."""
    return show.code(text).replace("|", "\u00a6") if str(text).strip() else "unknown"


def _render(kind: type, template: str, data: CardData, content: dict):
    beside = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=beside, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"code": _code, "local": facts.without_folder, "plain": show.plain}
    return kind(environment.get_template(template).render(content, metadata=data.to_yaml()))
