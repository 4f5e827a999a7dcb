"""Cards: a README.md in every student that a run taught and beside every pool of rows, as the hub reads them.

Nothing in a card is made up: what a run did not record is said to be unknown, or left out.
"""

from functools import cache
from pathlib import Path

from huggingface_hub import CardData, DatasetCard, ModelCard, RepoCard
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from lib import files
from lib.report.cards import facts, lineage, metadata, texts, wording
from lib.report.cards.lineage import Step
from lib.runner.digests import CARD

POOLS = {  # the rows of a notebook that are worth sharing
    "tapir/1_data_selection": "rows.parquet",
    "tapir/3_refinement": "pool.parquet",
    "self_guide/2_output_generation": "pairs.parquet",
}


def write(run: Path) -> list[Path]:
    """Write the cards of a run; returns their paths. A file that says the same already is left untouched."""
    found = files.read_json(run / "summary.json") or {}
    steps = lineage.steps(run, found)
    evaluated = lineage.evaluations(steps)
    sharing: dict[Path, list[Step]] = {}
    for step in steps:
        sharing.setdefault(step.folder, []).append(step)
    cards = {}
    for folder, those in sharing.items():
        cards |= _students(folder, those, evaluated, found) | _pool(folder, those, found)
    theirs = {step.folder / name for step in steps for name in step.record.get("files", ())}
    # a README.md that a stage itself wrote is part of its result
    return [_save(card, place, run) for place, card in cards.items() if place not in theirs]


def _students(folder: Path, sharing: list[Step], evaluated: dict, found: dict) -> dict:
    cards = {}
    for place in (folder / "student", *sorted(folder.glob("baselines/*/student"))):
        if place.is_dir():
            told = facts.of_student(place, sharing, evaluated.get(place, []), found)
            cards[place / CARD] = _rendered(ModelCard, "model.md.j2", metadata.of_student(told), told)
    return cards


def _pool(folder: Path, sharing: list[Step], found: dict) -> dict:
    path = folder / POOLS.get(sharing[0].notebook, "")
    if not path.is_file():
        return {}
    told = facts.of_rows(path, sharing, found)
    return {folder / CARD: _rendered(DatasetCard, "data.md.j2", metadata.of_rows(told), told)}


def _rendered(kind: type[RepoCard], template: str, data: CardData, told: dict) -> RepoCard:
    return kind(_templates().get_template(template).render(told, told=told, metadata=data.to_yaml()))


@cache
def _templates() -> Environment:
    """Markdown: texts of data come in through lib.report.cards.texts alone, which makes them harmless."""
    beside = FileSystemLoader(Path(__file__).parent)
    made = Environment(loader=beside, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.filters |= {name: getattr(texts, name) for name in ("code", "figure", "verbatim")}
    made.globals |= {"table": texts.table, "counts": texts.counts, "wording": wording}
    return made


def _save(card: RepoCard, path: Path, run: Path) -> Path:
    """Write at once or not at all; what a kill leaves lies where no stage reads it."""
    content = str(card).encode("utf-8")
    if not path.is_file() or path.read_bytes() != content:
        with files.whole(path) as partial:
            partial.write_bytes(content)
    return path
