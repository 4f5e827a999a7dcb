"""The report of any run shows what was evaluated, leaves out the rest, and goes by the run's metric."""

import json
from pathlib import Path

import executed
import nbformat
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from lib import files, paths, records
from lib.evaluation import registry, statistics
from lib.report import compare, page, render, scores
from lib.runner import folders, keys, summary
from lib.runner.plan import Planned

REPORTS = ("report", "self_guide/4_report")
HALF = [i % 2 for i in range(30)]
MOST = [int(i % 5 > 0) for i in range(30)]
NOTHING = [float("nan")] * 30
RATED = [i % 9 + 1 for i in range(30)]
METRICS = {each.notebook: each.headlines[0].name for each in registry.BENCHMARKS}
GYM, ALPACA, MT, IFEVAL, NI, HELD_OUT, _ = METRICS


def stage(run: Path, arm: str, name: str, values: dict, metrics: dict, marks: list | None = None) -> tuple:
    """Write a finished stage, with scores by row where there are marks; return it as the runner has it."""
    notebook, _, number = name.partition("@")
    final = folders.stage_folder(run.name, arm, 0, notebook, int(number))
    part = final.with_name(f"{final.name}.part")
    part.mkdir(parents=True)
    if marks is not None:
        rows = pd.DataFrame({"id": [str(i) for i in range(len(marks))], "stratum": "all", "weight": 1.0})
        rows = rows.assign(metric=METRICS[notebook], score=[float(mark) for mark in marks])
        rows.to_parquet(part / "scores.parquet")
        metric, (mean, low, high) = METRICS[notebook], statistics.intervals(rows).iloc[0]
        if mean == mean:
            metrics |= {metric: mean, f"{metric}_low": low, f"{metric}_high": high}
    if notebook == GYM:
        answers = {"instruction": "Say", "answer": "a", "response": "b", "family": "spell", "level": 1}
        answers |= {"kind": "trained"}
        rows[["id"]].assign(**answers).to_parquet(part / "replies.parquet")
    if notebook == "tapir/2_oracle_judging":
        rows = [{"instruction": f"Say {i}", "mfd": float(i), "task": "Math" if i else None} for i in range(5)]
        records.write(records.build(rows), part / "rows.parquet")
    if notebook == "tapir/4_training":
        records.write(records.build([{"instruction": "Say", "response": "a"}]), part / "rows.parquet")
        files.write_json(part / "losses.json", [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}])
        counted = ("response_tokens", "rows", "steps")
        metrics |= {f"training.round_{number}.{part}": 10 for part in counted}
    files.write_json(part / "metrics.json", metrics)
    nbformat.write(new_notebook(cells=[new_markdown_cell(f"# {name}")]), part / "notebook.ipynb")
    folders.complete(keys.new_plan(name, "key", values, {}, f"{run.name}/{arm}"), part, final)
    done = {"folder": final, "status": "done", "seconds": 1.0}
    return Planned(notebook, arm, 0, int(number), values, **done), final


def finished(run: Path, arms: dict[str, dict], **about: object) -> Path:
    """Write a run: arms of {stage: marks, or metrics}; arms named a and b are compared."""
    done = []
    for arm, stages in arms.items():
        for name, content in stages.items():
            marks = content if isinstance(content, list) else None
            done.append(stage(run, arm, name, {}, {} if marks else dict(content), marks))
    contrasts = ["a_vs_b"] if {"a", "b"} <= set(arms) else []
    together = summary.comparisons(contrasts, [], done, run / "comparisons.json")
    about |= summary.content(run.name, "complete", [planned for planned, _ in done], done, together)
    files.write_json(run / "summary.json", about | {"command": "python -m lib.run x.yaml"})
    return run


def shown(run: Path) -> tuple[str, dict[str, list[str]]]:
    """Return the text of a run's report, and what the sections of the report's notebook show."""
    values = {"run": run.name}
    sections = [executed.outputs(paths.ROOT / f"notebooks/{name}.ipynb", values) for name in REPORTS]
    return BeautifulSoup(page.write(run).read_text(), "html.parser").get_text(" "), sections[0]


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("OUTPUTS", str(tmp_path))
    monkeypatch.setattr(keys, "commit", lambda: "c0ffee")
    return tmp_path / "demo"


TRAINING, JUDGING = "tapir/4_training@1", "tapir/2_oracle_judging@1"
LOSS = {"held_out.bits_per_byte_round_1": 1.5}
SCORE, CONTRASTS = "## The score by arm", "## Where the difference comes from"
DIFFER, ROWS = "## Where the two arms differ", "## Rows on which they differ"
MFD, BUDGET = "## How hard was it, round by round?", "## Budget"
LOSSES, SETS = "## Training loss", "## The embedded world's other sets"
COMPARED = {SCORE, CONTRASTS, DIFFER, ROWS}


@pytest.mark.parametrize(
    ("arms", "sections", "benchmark"),
    [
        ({"a": {f"{IFEVAL}@0": HALF}}, {SCORE}, IFEVAL),
        ({"a": {f"{ALPACA}@0": HALF}}, {SCORE}, ALPACA),
        ({"a": {f"{MT}@0": RATED}}, {SCORE}, MT),
        ({"a": {f"{NI}@0": HALF}}, {SCORE}, NI),
        ({"a": {f"{GYM}@0": HALF}}, {SCORE, SETS}, GYM),
        ({"a": {f"{HELD_OUT}@1": LOSS}}, {SCORE}, HELD_OUT),
        ({"a": {TRAINING: {}}}, {LOSSES, BUDGET}, None),
        ({"a": {JUDGING: {}}}, {MFD}, None),
        ({"a": {"0_start_here@0": {}}}, set(), None),
        ({"a": {f"{IFEVAL}@0": MOST}, "b": {f"{IFEVAL}@0": HALF}}, COMPARED, IFEVAL),
        ({"a": {f"{MT}@0": RATED}, "b": {f"{MT}@0": RATED[::-1]}}, COMPARED, MT),
        ({arm: {f"{HELD_OUT}@1": LOSS} for arm in "ab"}, {SCORE, CONTRASTS}, HELD_OUT),
        ({arm: {f"{MT}@0": NOTHING} for arm in "ab"}, set(), None),  # nothing could be read
        ({"a": {f"{IFEVAL}@0": MOST, f"{MT}@0": HALF}, "b": {f"{IFEVAL}@0": HALF}}, COMPARED, IFEVAL),
        # an arm that failed before it was evaluated
        ({"b": {TRAINING: {}}, "c": {TRAINING: {}, f"{IFEVAL}@1": HALF}}, {SCORE, LOSSES, BUDGET}, IFEVAL),
    ],
    ids=lambda value: " ".join(sorted(value)) if isinstance(value, set) else "",
)
def test_a_report_shows_what_a_run_has_and_leaves_out_the_rest(run, arms, sections, benchmark):
    text, parts = shown(finished(run, arms))
    assert {heading for heading in parts if heading.startswith("## ")} == sections
    if benchmark:
        assert scores.label(METRICS[benchmark], json.loads((run / "summary.json").read_text())) in text
    for word in ("nan", "None", "Traceback"):
        assert word not in text.split("How to repeat it")[0].split()


def test_a_run_is_summed_up_by_the_metric_that_its_study_names(run):
    arms = {"a": {f"{GYM}@0": HALF, f"{IFEVAL}@0": MOST}, "b": {f"{GYM}@0": HALF, f"{IFEVAL}@0": HALF}}
    text, parts = shown(finished(run, arms, metric="ifeval.prompt_strict"))
    assert "a vs b: +30.0 [" in text and "(IFEval, prompts followed)" in text
    assert "IFEval, prompts followed, %, by arm" in parts[SCORE][0]
    assert "a: value 80.0, low" in parts[SCORE][0]
    assert "15 rows" not in text  # of the other benchmark


def test_a_metric_that_no_arm_has_is_said_and_another_one_taken(run):
    text, parts = shown(finished(run, {"a": {f"{IFEVAL}@0": MOST}}, metric="exam.marks"))
    assert "metric=exam.marks: no arm of the run has this score." in text and SCORE in parts


def test_runs_of_different_benchmarks_stand_side_by_side(run):
    finished(run, {"a": {f"{IFEVAL}@0": MOST}})
    other = finished(run.with_name("other"), {"a": {f"{IFEVAL}@0": HALF, f"{MT}@0": NOTHING}})
    third = finished(run.with_name("third"), {"b": {TRAINING: {}}})
    text = BeautifulSoup(compare.write([run, other, third]).read_text(), "html.parser").get_text(" ")
    assert "other: a − demo: a" in text and "-30.0 [" in text and "third: b" not in text.split("Compared")[1]


def test_an_optional_section_is_drawn_only_where_its_code_shows_something():
    output = [new_output("stream", text="42")]
    optional = {"metadata": {"tags": ["optional"]}}
    cells = [
        new_markdown_cell("# Title"),
        new_code_cell("1"),
        new_markdown_cell("## Empty", **optional),
        new_code_cell("2"),
        new_markdown_cell("what follows from it"),
        new_markdown_cell("## Full", **optional),
        new_code_cell("3", outputs=output),
        new_markdown_cell("## Always"),
        new_code_cell("4"),
    ]
    text = BeautifulSoup(render.body(new_notebook(cells=cells)), "html.parser").get_text(" ")
    assert [word in text for word in ("Title", "Full", "42", "Always")] == [True] * 4
    assert "Empty" not in text and "what follows" not in text
