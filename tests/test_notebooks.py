"""The notebooks as people meet them: readable, and run from the first to the last."""

import ast
import json
import shutil
from itertools import pairwise
from pathlib import Path

import executed
import nbformat
import pytest

from lib import records
from lib.report import arms, page, tables
from lib.run import run_study
from lib.runner import params
from lib.runner.keys import tags

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").rglob("*.ipynb"))
LONGEST_CELL = 12
MOST_PARAMETERS, MOST_IN_ALL = 20, 200  # a notebook's, and their sum
INTRODUCED = 0.9  # share of code cells, over all notebooks, with prose just above
TABLES = ("records.", "duplicates.drop", "contamination.drop", "the_oracle.", "judged(", "respond(", "label(")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT / "notebooks").with_suffix("").as_posix()


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def test_a_notebook_begins_with_a_title_and_a_question(notebook):
    first = notebook.cells[0]
    assert first.cell_type == "markdown" and first.source.startswith("# ") and "?**" in first.source


def test_cells_are_short():
    longest = {}
    for path in NOTEBOOKS:
        code = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
        sizes = [len(cell.source.splitlines()) for cell in code if "parameters" not in tags(cell)]
        assert len(sizes) == len(code) - 1, f"{path.name}: one cell holds the parameters"
        longest[name_of(path)] = max(sizes)
    assert {name: size for name, size in longest.items() if size > LONGEST_CELL} == {}


def test_parameters_are_few():
    counts = {
        name_of(path): len(params.declared(params.read_notebook(path), path.name)) for path in NOTEBOOKS
    }
    print(*(f"{count:3} {name}" for name, count in counts.items()), sum(counts.values()), sep="\n")
    assert {name: count for name, count in counts.items() if count > MOST_PARAMETERS} == {}
    assert sum(counts.values()) <= MOST_IN_ALL


def test_code_is_introduced_by_prose():
    """Over all notebooks; parameters, imports and the end count, too."""
    introduced = []
    for path in NOTEBOOKS:
        kinds = [cell.cell_type for cell in nbformat.read(path, as_version=4).cells]
        introduced += [a == "markdown" for a, b in pairwise(["code", *kinds]) if b == "code"]
    assert sum(introduced) >= INTRODUCED * len(introduced)


@pytest.mark.parametrize("name", ["0_start_here", *(name_of(p) for p in NOTEBOOKS if "tapir" in p.parts)])
def test_no_table_is_bound_again_in_a_later_cell(name):
    """Else a cell that runs again would find another table under the name."""
    tables: dict[str, int] = {}
    again = []
    for i, cell in enumerate(nbformat.read(ROOT / f"notebooks/{name}.ipynb", as_version=4).cells):
        if cell.cell_type != "code":
            continue
        for bound in names_of_tables(cell.source):
            again += [bound] if tables.setdefault(bound, i) != i else []
    assert again == [] and tables


def names_of_tables(source: str) -> set[str]:
    """List the names that a cell, outside its functions, binds to what a function of rows returns."""
    body = [node for node in ast.parse(source).body if not isinstance(node, ast.FunctionDef)]
    assigned = [node for part in body for node in ast.walk(part) if isinstance(node, ast.Assign)]
    calls = [node for node in assigned if any(word in ast.unparse(node.value) for word in TABLES)]
    names = (name for node in calls for target in node.targets for name in ast.walk(target))
    return {name.id for name in names if isinstance(name, ast.Name) and name.id != "_"}


@pytest.fixture(scope="module")
def micro(forked_kernels, tmp_path_factory):
    """The micro run: every notebook through papermill, really trained and judged."""
    outputs = tmp_path_factory.mktemp("outputs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OUTPUTS", str(outputs))
        return run_study(ROOT / "tests/params/micro.yaml"), outputs / "micro"


def test_a_plain_alpaca_file_goes_through_data_selection(forked_kernels, tmp_path, monkeypatch):
    monkeypatch.setenv("OUTPUTS", str(tmp_path / "outputs"))
    rows = [{"instruction": f"Name the number {i}.", "input": "", "output": str(i)} for i in range(3)]
    rows += [rows[0] | {"origin": "x"}, {"instruction": "Name a number.", "output": 4}]
    (tmp_path / "alpaca.json").write_text(json.dumps(rows))
    study = tmp_path / "plain.yaml"
    params = f"{{source: {tmp_path}/alpaca.json, bad_rows: skip}}"
    study.write_text(f"stages: [tapir/1_data_selection]\nparams: {params}")
    metrics = run_study(study)["arms"]["main"]["metrics"]
    assert (metrics["corpus.loaded"], metrics["corpus.exact_repeats"], metrics["corpus.kept"]) == (4, 1, 3)
    assert (metrics["corpus.bad_rows"], metrics["corpus.fields_in_meta"]) == (1, 1)
    [page] = (tmp_path / "outputs").rglob("1_data_selection@0/notebook.ipynb")
    assert "`output` must be a text (1). The first: `alpaca.json, row 5`" in page.read_text()


def test_every_notebook_runs_in_the_micro_run(micro):
    summary, _ = micro
    run = {stage["name"].split("@")[0] for stage in summary["stages"]}
    assert summary["status"] == "complete"
    assert run == {str(path.relative_to(ROOT / "notebooks").with_suffix("")) for path in NOTEBOOKS}


def test_the_summary_holds_what_others_read(micro):
    summary, folder = micro
    assert summary == json.loads((folder / "summary.json").read_text())
    for arm in ("warm_up", "balanced", "tapir"):
        metrics = summary["arms"][arm]["metrics"]
        assert (
            0 <= metrics["gym.accuracy_low"] <= metrics["gym.accuracy"] <= metrics["gym.accuracy_high"] <= 1
        )
    for contrast in ("tapir_vs_balanced", "tapir_vs_warm_up"):
        difference = summary["comparisons"][contrast]["gym.accuracy"]
        assert difference["low"] <= difference["difference"] <= difference["high"]


def test_arms_share_the_warm_up(micro):
    summary, _ = micro
    shared = [s["folder"] for s in summary["stages"] if s["name"] == "tapir/4_training@0"]
    assert len(shared) == 3 and len(set(shared)) == 1


def test_arms_that_train_on_other_rows_are_taught_as_many_response_tokens(micro):
    _, folder = micro
    trained = tables.stages(folder, "tapir/4_training", first_round=1).groupby("arm")
    rows = {
        arm: [records.read(folder / "rows.parquet")["id"][:] for folder in stages["folder"]]
        for arm, stages in trained
    }
    tokens = arms.budget(folder)["response tokens"]
    assert rows.keys() == set(tokens.index) == {"balanced", "tapir"}
    assert rows["balanced"] != rows["tapir"]  # else an arm would be compared with itself
    assert tokens.max() / tokens.min() - 1 <= arms.EQUAL


def test_the_budget_of_an_arm_is_what_its_stages_wrote_down(micro):
    summary, folder = micro
    budget, stages = arms.budget(folder), tables.stages(folder)
    own = stages[(stages["arm"] == "tapir") & (stages["round"] > 0)].drop_duplicates("folder")
    written = [json.loads((folder / "metrics.json").read_text()) for folder in own["folder"]]
    tokens = [metrics.get(f"training.round_{n}.response_tokens", 0) for metrics in written for n in (1, 2)]
    calls = [metrics.get("oracle.calls", 0) for metrics in written]
    assert budget.loc["tapir", "response tokens"] == sum(tokens) > 0
    assert (
        budget.loc["tapir", "oracle calls"]
        == sum(calls)
        == summary["arms"]["tapir"]["metrics"]["oracle.calls"]
    )
    assert list(arms.account(summary, budget).index) == ["warm_up", "balanced", "tapir"]


def test_the_report_names_every_arm_and_loads_nothing_from_the_network(micro):
    _, folder = micro
    page = (folder / "report.html").read_text()
    assert all(arm in page for arm in ("warm_up", "balanced", "tapir"))
    assert "<script" not in page.lower() and "http://" not in page.replace("http://www.w3.org", "")


@pytest.mark.parametrize(
    ("notebooks", "arms", "headline"),
    [
        (("evaluation/natural_instructions", "self_guide/"), ("tapir",), "target task"),
        (("tapir/", "evaluation/held_out_loss"), ("warm_up", "balanced", "tapir"), "held-out loss"),
        (("evaluation/",), ("warm_up", "balanced", "tapir"), "embedded world"),
        (("tapir/",), ("balanced", "tapir"), ""),
    ],
)
def test_a_part_of_a_run_has_a_report(micro, tmp_path, monkeypatch, notebooks, arms, headline):
    summary, folder = micro
    run = tmp_path / "outputs/part"
    shutil.copytree(folder, run)
    stages = [s for s in summary["stages"] if s["name"].startswith(notebooks) and s["arm"] in arms]
    each = {arm: {} for arm in arms}
    for s in stages:
        metrics = json.loads((run / s["folder"] / "metrics.json").read_text())
        each[s["arm"]] |= {name.split("_round_")[0]: v for name, v in metrics.items() if v is not None}
    metrics_of_arms = {arm: {"metrics": metrics, "seeds": {"0": {}}} for arm, metrics in each.items()}
    part = summary | {"run": "part", "stages": stages, "arms": metrics_of_arms, "comparisons": {}}
    (run / "summary.json").write_text(json.dumps(part))
    monkeypatch.setenv("OUTPUTS", str(run.parent))
    for name in ("report", "self_guide/4_report"):
        executed.outputs(ROOT / f"notebooks/{name}.ipynb", {"run": "part"})
    text = page.write(run).read_text()
    results = text.partition("<h2>Results</h2>")[2].partition("</section>")[0]
    assert headline in results and bool(results) == bool(headline)
