"""Estimate what a study asks its oracle before it runs: python -m tools.cost params/small.yaml -p oracle=NAME

No model is asked and no key is needed. The estimate is that of the stages, with the lengths of the rows. A
pool counts as if every row of it were new, because only the run finds out how many rows are hard. New rows
that are dropped are generated again and come on top. Judges of benchmarks are named, not counted: what they
read, only the run generates.
"""

import argparse
import sys
import tempfile
from collections import Counter
from functools import cache
from pathlib import Path

from datasets import Dataset

from lib import corpus, records
from lib.errors import UserError, for_user
from lib.evaluation import recordings, registry
from lib.gym import world
from lib.models import catalog
from lib.models.ledger import Ledger
from lib.models.server import ServerBackend
from lib.oracle import LLMOracle, estimate
from lib.run import read_overrides
from lib.runner import preflight
from lib.runner.plan import Planned, plan
from lib.runner.study import load
from lib.tapir import selection, tasks

JUDGING, REFINING, COMPARING = "tapir/2_oracle_judging", "tapir/3_refinement", "evaluation/judge"
COUNTED = (JUDGING, REFINING, COMPARING)
MODELS = ("oracle", "judge", "benchmark_judge")  # parameters that name models
ASKED = ("oracle", "judge", "judge_scores", "tasks")  # parameters that an estimate depends on


def main(words: list[str] | None = None) -> int:
    """Print the estimate of a params file; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.cost", description=__doc__.partition(" before")[0])
    parser.add_argument("params", type=Path, help="a YAML file, such as params/small.yaml")
    parser.add_argument("-p", dest="overrides", action="append", default=[], metavar="[arm.]name=value")
    given = parser.parse_args(words)
    try:
        study = load(given.params, read_overrides(given.overrides))
        print(describe(plan(study, given.params.stem)))
    except (UserError, OSError) as error:
        print(for_user(error), file=sys.stderr)
        return 1
    return 0


def describe(planned: list[Planned]) -> str:
    """Return the estimate of all stages that ask an oracle or a judge, as markdown.

    Raises UserError for settings that these stages would refuse, before anything is read.
    """
    asked = sorted({(name, stage.notebook) for stage in planned for name in _models(stage)})
    models = {name: catalog.find(name) for name, _ in asked}
    counted = distinct([stage for stage in planned if stage.notebook in COUNTED and _models(stage)])
    same_models: dict[tuple, list[Planned]] = {}
    for stage in counted:
        preflight.check_settings(stage.notebook, stage.values)
        same_models.setdefault(tuple(stage.values.get(name, "") for name in ASKED), []).append(stage)
    texts = [_estimated(stages) for stages in same_models.values()]
    texts += [f"Not counted: {name}, which {book} asks." for name, book in asked if book not in COUNTED]
    texts += [
        f"{model.name}: it is no longer offered since {model.retires}. A run refuses it."
        for model in models.values()
        if model.is_retired
    ]
    return "\n\n".join(filter(None, texts)) or "No stage asks an oracle that costs anything."


def _models(stage: Planned) -> list[str]:
    """Name the models that a stage asks, students aside."""
    if registry.is_own(stage.notebook):
        named = [stage.values.get(name) for name in MODELS]
    else:
        named = [stage.values[name] for name in preflight.asked_models(stage.notebook, stage.values)]
    return [name for name in named if name not in (None, "", "exact")]


def distinct(stages: list[Planned]) -> list[Planned]:
    """Leave out stages that others share: the same notebook, parameters and inputs in another arm or seed."""
    return list({_identity(stage): stage for stage in reversed(stages)}.values())[::-1]


def _identity(stage: Planned) -> str:
    values = {name: value for name, value in stage.values.items() if name != "run"}
    return repr((stage.notebook, values, [_identity(source) for source in stage.sources]))


def judged_rows(stage: Planned) -> Dataset:
    """Load the rows that a stage, or the one before it, judges: of the corpus, or recorded pairs."""
    if stage.notebook == COMPARING:
        pairs, _ = recordings.load(stage.values["pairs"])
        return pairs.select(recordings.draw(pairs, stage.values["rows"], stage.values["longest"]))
    source, _ = stage.inputs["rows_from"]
    if source.notebook == JUDGING:
        return judged_rows(source)
    values = source.values
    if values["source"] == "gym":
        rows = world.corpus(values["corpus_rows"], values["seed"])
    else:
        rows = _loaded(values["source"], values["format"], values["bad_rows"])
    return rows.select(range(min(stage.values.get("judged_rows") or len(rows), len(rows))))


@cache  # several stages are about one corpus
def _loaded(source: str, format: str, bad_rows: str) -> Dataset:
    return corpus.load(source, format, bad_rows)


def calls(stage: Planned) -> Counter:
    """Count the calls of a stage by purpose."""
    values, rows = stage.values, judged_rows(stage)
    if stage.notebook == COMPARING:
        return Counter(judge=2 * len(rows))
    if stage.notebook == JUDGING:
        return Counter(estimate.judging_calls(rows, values["labelled_rows"]))
    taxonomy = tasks.load_taxonomy(values["tasks"])
    size = values["pool_rows"] if values["expand"] else len(rows)
    quotas = tasks.quotas(taxonomy, size)
    of_task = {label: 1 if values["expand"] else count for label, count in quotas.items() if count}
    labels = [label for label, count in of_task.items() for _ in range(count)]
    selected = records.build({"instruction": str(i), "task": label} for i, label in enumerate(labels))
    ahead = tasks.calls_ahead(selected, taxonomy, size, values["expand"], values["refine"])
    return Counter(ahead) + Counter(rate=len(rows) * len(selection.find(values["selection"])[1]))


def _estimated(stages: list[Planned]) -> str:
    """Estimate stages that ask the same models; the rows of the first one have the lengths of all."""
    values, counts = stages[0].values, sum(map(calls, stages), Counter())
    names = _models(stages[0])
    labels = tuple(tasks.load_taxonomy(values["tasks"])) if "tasks" in values else ()
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / "empty.sqlite")
        backends = [ServerBackend(catalog.find(name), ledger) for name in names]
        oracle = LLMOracle(backends[0], backends[-1], labels, judge_scores=values["judge_scores"])
        text = oracle.estimate(judged_rows(stages[0]), **counts)
        ledger.close()
    return text


if __name__ == "__main__":
    sys.exit(main())
