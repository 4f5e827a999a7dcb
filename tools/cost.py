"""Estimate what a study asks its oracle before it runs: python -m tools.cost params/small.yaml -p oracle=NAME

Nobody is asked and no key is needed. The estimate is that of the stages, with the lengths of the corpus's
rows. A pool counts as if every row of it were new, because only the run finds out how many rows are hard. New
rows that are dropped are generated again and come on top.
"""

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

from datasets import Dataset

from lib import corpus, records
from lib.errors import UserError, for_user
from lib.models import catalog
from lib.models.ledger import Ledger
from lib.models.server import ServerBackend
from lib.oracle import LLMOracle, estimate
from lib.runner.plan import Planned, plan
from lib.runner.study import load
from lib.tapir import selection, tasks

JUDGING, REFINING = "tapir/2_oracle_judging", "tapir/3_refinement"
ASKED = ("oracle", "judge", "judge_scores", "tasks")  # parameters that an estimate depends on


def main(words: list[str] | None = None) -> int:
    """Print the estimate of a params file; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.cost", description=__doc__.partition(" before")[0])
    parser.add_argument("params", type=Path, help="a YAML file, such as params/small.yaml")
    parser.add_argument("-p", dest="overrides", action="append", default=[], metavar="[arm.]name=value")
    given = parser.parse_args(words)
    try:
        overrides = dict(text.split("=", 1) for text in given.overrides)
        print(describe(plan(load(given.params, overrides), given.params.stem)))
    except (UserError, ValueError) as error:
        print(for_user(error), file=sys.stderr)
        return 1
    return 0


def describe(planned: list[Planned]) -> str:
    """Return the estimate of all stages that ask an oracle, as markdown."""
    stages = distinct([stage for stage in planned if stage.notebook in (JUDGING, REFINING)])
    counts_of: dict[tuple, Counter] = {}
    for stage in stages:
        if stage.values["oracle"] != "exact":
            names = tuple(stage.values[name] for name in ASKED)
            counts_of.setdefault(names, Counter()).update(calls(stage))
    if not counts_of:
        return "No stage asks an oracle that costs anything."
    rows = judged_rows(stages[0])
    judges = {stage.values["benchmark_judge"] for stage in planned if stage.values.get("benchmark_judge")}
    texts = [_estimated(names, rows, count) for names, count in counts_of.items()]
    texts += [f"Not counted: {judge}, which judges benchmarks." for judge in sorted(judges - {"exact"})]
    return "\n\n".join(texts)


def distinct(stages: list[Planned]) -> list[Planned]:
    """Leave out stages that others share: the same notebook, parameters and inputs in another arm or seed."""
    return list({_identity(stage): stage for stage in reversed(stages)}.values())[::-1]


def _identity(stage: Planned) -> str:
    values = {name: value for name, value in stage.values.items() if name != "run"}
    return repr((stage.notebook, values, [_identity(source) for source in stage.sources]))


def judged_rows(stage: Planned) -> Dataset:
    """Load the rows that a stage, or the one before it, judges: the first of the corpus."""
    source, _ = stage.inputs["rows_from"]
    if source.notebook == JUDGING:
        return judged_rows(source)
    values = source.values
    rows = corpus.load(values["source"], values["format"], values["bad_rows"])
    return rows.select(range(min(stage.values.get("judged_rows") or len(rows), len(rows))))


def calls(stage: Planned) -> Counter:
    """Count the calls of a stage by purpose."""
    values, rows = stage.values, judged_rows(stage)
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


def _estimated(names: tuple, rows: Dataset, counts: Counter) -> str:
    oracle, judge, judge_scores, taxonomy = names
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / "empty.sqlite")
        first, second = (ServerBackend(catalog.find(name), ledger) for name in (oracle, judge or oracle))
        labels = tuple(tasks.load_taxonomy(taxonomy))
        the_oracle = LLMOracle(first, second if judge else None, labels, judge_scores=judge_scores)
        text = the_oracle.estimate(rows, **counts)
        ledger.close()
    return text


if __name__ == "__main__":
    sys.exit(main())
