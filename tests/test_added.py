"""A benchmark, a selection, a corpus format and a model of one's own: each added in one place, outside lib.

`own.py` lies beside the notebooks, which import it; a run and its report need nothing else.
"""

import json
import sys

import pytest
from chat_server import ChatServer

from lib.run import run_study

BENCHMARK = """
from lib.evaluation import registry

LINES = registry.Metric("haiku.lines", "haiku, poems of three lines, %", 100)
registry.BENCHMARKS.append(registry.Benchmark("haiku", "haiku", (LINES,)))
"""
SELECTION = """
from lib.tapir import selection

def by_shortest(rows, **signals):
    return sorted(range(len(rows)), key=lambda i: len(rows[i]["response"]))[:2]

selection.SELECTIONS["shortest"] = by_shortest, ()
"""
FORMAT = """
from lib.corpus import formats

def riddle(fields):
    return {"instruction": fields.text("riddle"), "response": fields.text("solution")}

formats.FORMATS["riddles"] = riddle
"""


@pytest.fixture
def study(project, monkeypatch):
    """A project with an own.py, which this process imports, too: it draws the report."""

    def study(own: str, *cells: str, says: str = "", text: str = "stages: [haiku]") -> tuple[dict, str]:
        (project.root / "own.py").write_text(own)
        monkeypatch.syspath_prepend(project.root)
        monkeypatch.delitem(sys.modules, "own", raising=False)
        __import__("own")
        parameters = 'lines: float = 1.0\nselection: str = "mfd"'
        project.notebook("haiku", parameters, "import own", *cells, says=says)
        summary = run_study(project.params(text))
        return summary, project.read("demo/report.html")

    return study


def test_a_benchmark_is_an_entry_in_the_registry(study, monkeypatch):
    from lib.evaluation import registry

    monkeypatch.setattr(registry, "BENCHMARKS", [*registry.BENCHMARKS])
    cells = """
import pandas as pd
from lib.evaluation import shared
rows = pd.DataFrame({"id": list("abcd"), "stratum": "all", "weight": 1.0})
shared.write(stage, rows.assign(metric="haiku.lines", score=[lines, 0.0, 1.0, 1.0]))
"""
    arms = "arms: {plain: {lines: 0}, poet: {}}\ncomparisons: [poet_vs_plain]\nmetric: haiku.lines"
    summary, report = study(BENCHMARK, cells, text=f"stages: [haiku]\n{arms}")
    assert summary["comparisons"]["poet_vs_plain"]["haiku.lines"]["difference"] == 0.25
    assert "haiku, poems of three lines, %" in report and "75.0" in report and "+25.0" in report


def test_a_selection_is_an_entry_in_selections(study, monkeypatch):
    from lib.tapir import selection

    monkeypatch.setattr(selection, "SELECTIONS", {**selection.SELECTIONS})
    cells = """
from lib import records
from lib.tapir import selection as selections
rows = [{"instruction": f"Say {n}.", "response": "x" * n, "hard": n > 2} for n in (5, 3, 1, 4)]
chosen = selections.select(records.build(rows), selection)
says = f"Trained on {' and '.join(chosen['instruction'])}"
stage.write_metrics({"x.rows": len(chosen)})
stage.announce(says)
"""
    text = "stages: [haiku]\nparams: {selection: shortest}"
    summary, report = study(SELECTION, cells, says="The shortest rows.", text=text)
    assert summary["arms"]["main"]["metrics"]["x.rows"] == 2
    assert "Say 3. and Say 1." in report and "The shortest rows." in report


def test_a_corpus_format_is_an_entry_in_formats(study, project, monkeypatch):
    from lib.corpus import formats

    monkeypatch.setattr(formats, "FORMATS", {**formats.FORMATS})
    lines = [{"riddle": "What has hands but cannot clap?", "solution": "A clock."}]
    (project.root / "riddles.jsonl").write_text("\n".join(map(json.dumps, lines)))
    cells = """
from lib import corpus
rows = corpus.load("riddles.jsonl", format="riddles")
stage.announce(f"{rows['instruction'][0]} {rows['response'][0]}")
"""
    _, report = study(FORMAT, cells)
    assert "What has hands but cannot clap? A clock." in report


def test_a_model_is_an_entry_in_models_yaml(study, project, monkeypatch):
    monkeypatch.setenv("MODELS", str(project.root / "models.yaml"))
    cells = """
from lib import models
from lib.models.types import SamplingParams
backend = models.connect("poet", run=run, stage="haiku")
chats = [[{"role": "user", "content": "Write a haiku."}]]
[[reply]] = backend.generate(chats, SamplingParams(max_tokens=9), purpose="answer")
stage.write_metrics(backend.account())
stage.announce(reply.text)
"""
    with ChatServer(lambda body: "An old silent pond") as server:
        entry = f"poet: {{url: {server.url}, price: [1000, 1000], limit: max_completion_tokens}}"
        (project.root / "models.yaml").write_text(entry)
        summary, report = study("", cells)
    assert server.bodies[0]["model"] == "poet" and server.bodies[0]["max_completion_tokens"] == 9
    assert summary["oracle"]["usd"] > 0 and "An old silent pond" in report
