"""Write hub cards: a README.md in the student of every training stage, and beside every pool of rows.

A card only says what the records hold; anything else is called unknown.
"""

from pathlib import Path

import pandas as pd
from huggingface_hub import DatasetCardData, EvalResult, ModelCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from lib import files, paths, show
from lib.evaluation import registry
from lib.evaluation.registry import JUDGES, RECORDED
from lib.models import catalog
from lib.report import facts, page, scores, tables
from lib.runner import folders
from lib.runner import summary as summaries

POOLS = {  # notebook: its file of rows that others may want
    "tapir/1_data_selection": "rows.parquet",
    "tapir/3_refinement": "pool.parquet",
    "self_guide/2_output_generation": "pairs.parquet",
}
TASK = "text-generation"  # the hub's name for it
COLUMNS = ["id", "response_from", "source", "licence", "task", "hard"]
ABOUT = {"corpus": "source", "task": "task", "oracle": "oracle", "judge of the training": "judge"}
COUNTED = (["response_from"], ["task"], ["hard"], ["source", "licence"])


def write(run: Path) -> list[Path]:
    """Write the cards of a run and return their paths; a README.md that a stage wrote itself stays."""
    summary, table = tables.summary(run), tables.stages(run)
    stages = dict(list(table[table["arm"] != "all"].groupby("folder", sort=False)))
    results: dict[Path, list[EvalResult]] = {}  # by the student that was evaluated
    for folder in stages:
        student = folders.record(folder)["inputs"].get("student_from")
        results.setdefault(Path(student or "").resolve(), []).extend(_results(folder))
    written = []
    for folder, users in stages.items():
        first = users.iloc[0]
        content = {
            "name": f"{summary['run']}-{first['arm']}-s{first['seed']}-{folder.name.replace('@', '-')}",
            "summary": summary,
            "users": [f"{user.arm}, {user.seed}" for user in users.itertuples()],
            "results": results.get((folder / "student").resolve(), []),
        }
        for path, card in _cards(folder, content | _origin(folder)).items():
            if path.relative_to(folder).as_posix() not in folders.record(folder)["files"]:
                page.save(path, card)
                written.append(path)
    return written


def _origin(folder: Path) -> dict:
    """Gather what both kinds of cards say: the records behind a stage, and its base student."""
    made_from = {stage: folders.record(stage) for stage in summaries.ancestry(folder)}
    settings = [record["parameters"] for record in made_from.values()]
    method, _, arxiv = facts.PAPERS.get(made_from[folder]["name"].partition("/")[0], ("unknown", "", ""))
    base = _base(made_from)
    return {
        "method": method,
        "arxiv": arxiv,
        "record": made_from[folder],
        "made_from": made_from,
        "about": {label: facts.values(made_from, name) for label, name in ABOUT.items()},
        "benchmarks": sorted({name for each in settings for name in each.get("benchmarks") or ()}),
        "base": base,
        "embedded": facts.is_embedded(made_from),
        "is_hub": _is_hub_name(base),
    }


def _cards(folder: Path, content: dict) -> dict[Path, str]:
    """Return the cards of a stage by their paths: of its pool of rows, and of its student."""
    record, name, results = content["record"], content["name"], content["results"]
    notebook, cards = tables.notebook_of(record), {}
    both = {"license": "other", "tags": [content["method"].lower()]}
    pool = folder / POOLS.get(notebook, "")
    if pool.is_file():
        # the one file that is the data set: `load_dataset` reads no other in its folder
        configs = [{"config_name": "default", "data_files": [{"split": "train", "path": pool.name}]}]
        about = DatasetCardData(pretty_name=name, configs=configs, task_categories=[TASK], **both)
        rows = {"file": pool.name, "rows": _count([pool])}
        cards[folder / folders.CARD] = _render("data.md.j2", about, content | rows)
    if (folder / "student").is_dir():
        rounds = [at for at, before in content["made_from"].items() if tables.notebook_of(before) == notebook]
        pairs = record["inputs"].get("pairs_from")
        trained = [Path(pairs)] if pairs else [at / "rows.parquet" for at in rounds]
        corpora = [source.partition(":")[0] for source in content["about"]["corpus"]]
        about = ModelCardData(
            model_name=name if results else None,  # huggingface_hub takes it with results only
            eval_results=results or None,
            base_model=content["base"] if content["is_hub"] else None,
            datasets=[corpus for corpus in corpora if corpus != "gym" and _is_hub_name(corpus)] or None,
            library_name="transformers",
            pipeline_tag=TASK,
            **both,
        )
        rows = {"rows": _count([path for path in trained if path.is_file()])}
        cards[folder / "student" / folders.CARD] = _render("model.md.j2", about, content | rows)
    return cards


def _base(made_from: facts.Records) -> str:
    """Return the student that the first of these stages began with; empty if none is recorded."""
    for record in made_from.values():
        path = record["inputs"].get("student_from")
        name = path or record["parameters"].get("student")
        if name and not (path and folders.stage_of(Path(path))):
            return catalog.split(name)[0]
    return ""


def _is_hub_name(name: str) -> bool:
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return bool(name) and not paths.local(name).exists()


def _results(folder: Path) -> list[EvalResult]:
    """Return an evaluation's scores with their intervals; empty if it scored recorded answers."""
    record, arm = folders.record(folder), {"metrics": folders.metrics(folder)}
    if not record["name"].startswith("evaluation/") or any(map(record["parameters"].get, RECORDED)):
        return []
    benchmark, judges = registry.benchmark(tables.notebook_of(record)), files.read_json(folder / JUDGES) or {}
    metrics = {name: scores.score(arm, name) for name in (benchmark.metrics if benchmark else arm["metrics"])}
    return [
        EvalResult(
            task_type=TASK,
            dataset_type="gym" if tables.stands_in(record) else folder.name.partition("@")[0],
            dataset_name=tables.title(record),
            dataset_split=record["parameters"].get("split"),
            metric_type=" ".join(show.plain(name).split())[:80],
            metric_value=values[0],
            metric_args={"low": values[1], "high": values[2], "judges": judges.get("judges", [])},
        )
        for name, values in metrics.items()
        if len(values) == 3
    ]


def _count(paths_of_rows: list[Path]) -> dict | None:
    """Count rows by kind, a row of two rounds twice, but once in `unique`; None without a file."""
    if not paths_of_rows:
        return None
    table = pd.concat([pd.read_parquet(path, columns=COLUMNS) for path in paths_of_rows])
    table["source"] = table["source"].str.replace("(?s)^expanded:.*", "expanded", regex=True)
    table = table.astype("string").fillna("")
    counts = {", ".join(columns): table[columns].value_counts() for columns in COUNTED}
    return {"n": len(table), "unique": table["id"].nunique(), "tables": counts}


def _code(text: object) -> str:
    """Show a text as code, in which nothing is markup; a bar would end a table's cell."""
    return show.code(text).replace("|", "\u00a6") if str(text).strip() else "unknown"


def _render(template: str, data: ModelCardData | DatasetCardData, content: dict) -> str:
    beside = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=beside, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"code": _code, "local": facts.without_folder, "plain": show.plain}
    environment.globals |= {"title": tables.title, "sentence": tables.sentence, "named": facts.named}
    environment.globals["STUDENTS"] = (facts.STUDENT, facts.WARM)
    return environment.get_template(template).render(content, metadata=data.to_yaml())
