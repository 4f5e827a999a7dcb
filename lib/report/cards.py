"""Write hub cards: a README.md in the student of every training stage, and beside every pool of rows.

A card only says what the records hold; anything else is called unknown.
"""

from functools import cache
from pathlib import Path

import pandas as pd
from huggingface_hub import (
    CardData,
    DatasetCard,
    DatasetCardData,
    EvalResult,
    ModelCard,
    ModelCardData,
    RepoCard,
)
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from lib import files, paths, show
from lib.evaluation import registry
from lib.evaluation.registry import JUDGES, RECORDED
from lib.gym import EMBEDDED
from lib.report import facts, page, scores, tables
from lib.runner import folders
from lib.runner.digests import CARD

POOLS = {  # notebook: its file of rows that others may want
    "tapir/1_data_selection": "rows.parquet",
    "tapir/3_refinement": "pool.parquet",
    "self_guide/2_output_generation": "pairs.parquet",
}
COLUMNS = ["id", "response_from", "source", "licence", "task", "hard"]
COUNTED = (["response_from"], ["task"], ["hard"], ["source", "licence"])


def write(run: Path) -> list[Path]:
    """Write the cards of a run and return their paths; a README.md that a stage wrote itself stays."""
    summary = files.read_json(run / "summary.json") or {}
    users: dict[Path, list[str]] = {}  # the arms and seeds of each stage
    for line in summary.get("stages", ()):
        if line["arm"] in summary["arms"] and "folder" in line and folders.record(run / line["folder"]):
            users.setdefault(run / line["folder"], []).append(f"{line['arm']}, {line['seed']}")
    evaluations: dict[Path, list[dict]] = {}  # by the student that was asked
    for folder in users:
        if evaluation := _evaluation(folder):
            evaluations.setdefault(_student(folder), []).append(evaluation)
    written = []
    for folder in users:
        name = f"{summary['run']}-{users[folder][0].replace(', ', '-s')}-{folder.name.replace('@', '-')}"
        content = {"name": name, "summary": summary, "users": users[folder]} | _content(folder)
        content["evaluations"] = evaluations.get((folder / "student").resolve(), [])
        for path, card in _cards(folder, content).items():
            if path.relative_to(folder).as_posix() not in folders.record(folder)["files"]:
                page.save(path, str(card))
                written.append(path)
    return written


def _cards(folder: Path, content: dict) -> dict[Path, RepoCard]:
    cards, pool = {}, folder / POOLS.get(_notebook(folder), "")
    if pool.is_file():
        rows = {"file": pool.name, "rows": _count([pool])}
        cards[folder / CARD] = _render(DatasetCard, "data.md.j2", _pool_data(pool, content), content | rows)
    if (folder / "student").is_dir():
        chain = [stage for stage in ancestry(folder) if _notebook(stage) == _notebook(folder)]
        pairs = folders.record(folder)["inputs"].get("pairs_from")
        trained = [Path(pairs)] if pairs else [stage / "rows.parquet" for stage in chain]
        rows = {"rows": _count([path for path in trained if path.is_file()])}
        data = _student_data(content)
        cards[folder / "student" / CARD] = _render(ModelCard, "model.md.j2", data, content | rows)
    return cards


def _content(folder: Path) -> dict:
    """Gather what both kinds of cards say: the records behind a stage, and its base student."""
    made_from = ancestry(folder)
    method, _, arxiv = facts.PAPERS.get(_notebook(folder).partition("/")[0], ("unknown", "", ""))
    values = {_notebook(stage): folders.record(stage)["parameters"] for stage in made_from}
    refinement = values.get("tapir/3_refinement", {})
    source = values.get("tapir/1_data_selection", {}).get("source", "")
    task = values.get("self_guide/1_input_generation", {}).get("task", "")
    asking = refinement or values.get("tapir/2_oracle_judging", {})
    return {
        "method": method,
        "arxiv": arxiv,
        "record": folders.record(folder),
        "refinement": refinement,
        "benchmarks": sorted({name for each in values.values() for name in each.get("benchmarks") or ()}),
        "source": source,
        "task": task,
        "oracle": asking.get("oracle", ""),
        "judge": asking.get("judge_model") or asking.get("oracle", ""),
        "embedded": source == "gym" or task.startswith(EMBEDDED),
        "base": _base(made_from),
    }


def _student_data(content: dict) -> ModelCardData:
    results = [result for evaluation in content["evaluations"] for result in _results(evaluation)]
    corpus, (kind, base) = content["source"].partition(":")[0], content["base"]
    return ModelCardData(
        model_name=content["name"] if results else None,  # huggingface_hub takes it with results only
        eval_results=results or None,
        base_model=base if kind == "hub" else None,
        datasets=[corpus] if corpus != "gym" and _is_hub_name(corpus) else None,
        library_name="transformers",
        pipeline_tag="text-generation",
        license="other",
        tags=[content["method"].lower()],
    )


def _pool_data(pool: Path, content: dict) -> DatasetCardData:
    """Name the one file that is the data set: `load_dataset` reads no other in its folder."""
    return DatasetCardData(
        pretty_name=content["name"],
        configs=[{"config_name": "default", "data_files": [{"split": "train", "path": pool.name}]}],
        license="other",
        task_categories=["text-generation"],
        tags=[content["method"].lower()],
    )


def ancestry(folder: Path, seen: dict[Path, None] | None = None) -> list[Path]:
    """List the stages that a stage was made from, by the inputs in their records, itself last."""
    seen = {} if seen is None else seen
    for path in filter(None, folders.record(folder)["inputs"].values()):
        if (stage := tables.stage_of(Path(path))) and stage not in seen:
            ancestry(stage, seen)
    seen[folder] = None
    return list(seen)


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


def _student(folder: Path) -> Path | None:
    """Return the folder of the student that a stage took, where its files are: a run only links to them."""
    path = folders.record(folder)["inputs"].get("student_from")
    return Path(path).resolve() if path else None


def _evaluation(folder: Path) -> dict | None:
    """Return what an evaluation says of a trained student; None if it asked no such, or recorded answers."""
    record, notebook = folders.record(folder), _notebook(folder)
    is_recorded = any(map(record["parameters"].get, RECORDED))
    if not _student(folder) or is_recorded or "evaluation/" not in notebook:
        return None
    benchmark, is_stand_in = registry.benchmark(notebook), tables.stands_in(record)
    name = benchmark.name if benchmark else notebook
    arm = {"metrics": folders.metrics(folder)}
    each = {name: scores.score(arm, name) for name in arm["metrics"] if not _is_of_another(name)}
    return {
        "name": f"stand-in for {name}, asked of the embedded world" if is_stand_in else name,
        "type": "gym" if is_stand_in else folder.name.partition("@")[0],
        "split": record["parameters"].get("split"),
        "scores": {name: values for name, values in each.items() if len(values) == 3},
        "judges": (files.read_json(folder / JUDGES) or {}).get("judges", []),
    }


def _is_of_another(metric: str) -> bool:
    """Say whether a metric is of a baseline, such as "ni.gold.exact_match", or a difference from one."""
    return metric.startswith("ni.") and metric.count(".") > 1


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


def _notebook(folder: Path) -> str:
    return tables.notebook_of(folders.record(folder))


# --- Markdown: texts of data come in as code, in which nothing is markup


def _plain(text: object) -> str:
    return " ".join(show.plain(text).split())[:80]


def _code(text: object) -> str:
    """Show a text as code; a bar would end a table's cell."""
    return show.code(text).replace("|", "\u00a6") if str(text).strip() else "unknown"


def _render(kind: type[RepoCard], template: str, data: CardData, content: dict) -> RepoCard:
    return kind(_environment().get_template(template).render(content, metadata=data.to_yaml()))


@cache
def _environment() -> Environment:
    beside = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=beside, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"code": _code, "local": facts.without_folder, "plain": show.plain}
    return environment
