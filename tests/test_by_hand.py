"""Notebooks by hand, cell by cell: a params file gives the values, and no record claims what did not run."""

import ast
import json
import subprocess
import sys

import nbformat
import papermill
import pytest

from lib import files, paths, records
from lib.errors import UserError
from lib.run import main, run_study
from lib.runner import by_hand, display, folders, keys, params
from lib.stage import open_stage

FILE = """
stages: [data, train: {rate: 0.1, round_rows: 50}, {repeat: 2, stages: [train]}, {score: {beam: 4}}]
arms: {mfd: {}, random: {selection: random}}
params: {rate: 0.2, source: data/rows.txt}
"""
TRAIN = (
    'rate: float = 0.3  # of learning\nround_rows: int = 0  # of a round\nselection: str = "mfd"  # of rows\n'
)
FROM_FILE = 'params_file: str = ""  # a study\n'


@pytest.fixture
def study(project):
    """Three notebooks that take a params file, and the file."""
    project.notebook("data", FROM_FILE + 'source: str = "none"  # a file\n', "")
    project.notebook("train", FROM_FILE + TRAIN, "")
    project.notebook("score", FROM_FILE + "beam: int = 1  # of the search\nrate: float = 0.3  # unused\n", "")
    project.params(FILE)
    return project


def opened(notebook: str, **values) -> dict:
    """Open a notebook whose globals are these values; return the globals then."""
    values = {"params_file": "params/demo.yaml"} | values
    open_stage(notebook, values)
    return values


# params_file


@pytest.mark.parametrize(
    ("values", "rate", "selection", "rows"),
    [
        ({"round": 0}, 0.1, "mfd", 50),  # the entry of the warm-up
        ({"round": 1}, 0.2, "mfd", 0),
        ({"round": 7}, 0.2, "mfd", 0),  # the file has two rounds: the last entry holds
        ({"round": 1, "run": "interactive/random"}, 0.2, "random", 0),
        ({"round": 1, "run": "interactive/random", "rate": 0.7}, 0.7, "random", 0),
        ({"round": 0, "selection": "longest"}, 0.1, "longest", 50),
    ],
)
def test_what_is_set_by_hand_wins_over_the_file_and_the_file_over_defaults(
    study, values, rate, selection, rows
):
    now = opened("train", **values)
    assert (now["rate"], now["selection"], now["round_rows"]) == (rate, selection, rows)


def test_an_evaluation_takes_its_entry_in_whatever_round_it_is_opened(study):
    assert [opened("score", round=number)["beam"] for number in (0, 1, 2)] == [4, 4, 4]


def test_the_later_stages_of_the_file_are_known_as_in_a_run(study):
    stage = open_stage("data", {"params_file": "params/demo.yaml", "run": "interactive/random"})
    assert [(later["round"], later["selection"]) for later in stage.later("train")] == [
        (number, "random") for number in (0, 1, 2)
    ]
    later_rounds = open_stage("train", {"params_file": "params/demo.yaml", "round": 1}).later("train")
    assert [later["rate"] for later in later_rounds] == [0.2]
    assert open_stage("train", {}).later("score") == []


def test_what_cannot_work_in_a_later_stage_of_the_file_is_said_at_once(project, capsys):
    project.notebook("data", FROM_FILE, "")
    project.notebook("tapir/3_refinement", FROM_FILE + 'selection: str = "mfd"  # of rows\n', "")
    project.params("stages: [data, tapir/3_refinement]\nparams: {selection: mdf}")
    opened("data")
    assert (
        "A later stage cannot work. tapir/3_refinement: selection=mdf: it is unknown"
        in capsys.readouterr().out
    )


def test_a_notebook_that_the_file_has_no_stage_of_takes_its_params(study):
    study.notebook("other", FROM_FILE + TRAIN, "")
    values = opened("other", run="interactive/random")
    assert (values["rate"], values["selection"]) == (0.2, "random")


def test_the_header_says_which_values_are_from_the_file_and_which_by_hand(study, capsys):
    opened("train", round=0, run="interactive/random", rate=0.7)
    header = capsys.readouterr().out
    assert "| rate | `0.7`, by hand |" in header and "| run | `interactive/random`, by hand |" in header
    assert "| selection | `random`, from params/demo.yaml |" in header
    assert "| seed | `0` |" in header


def test_the_cell_that_opens_can_be_run_again_with_or_without_the_parameters_cell(study):
    values = opened("train", round=1)
    study.params(FILE.replace("rate: 0.2", "rate: 0.4"))
    open_stage("train", values)  # the globals hold what the file said before
    assert values["rate"] == 0.4
    values["rate"] = 0.9
    open_stage("train", values)
    assert values["rate"] == 0.9
    values["rate"] = 0.3  # the parameters cell is run again
    open_stage("train", values)
    assert values["rate"] == 0.4
    values["params_file"] = ""
    open_stage("train", values)
    assert values["rate"] == 0.3


def test_an_edited_default_counts_as_by_hand_though_it_was_saved(study):
    commit(study)
    path = study.root / "notebooks/train.ipynb"
    path.write_text(path.read_text().replace("rate: float = 0.3", "rate: float = 0.8"))
    assert opened("train", round=1, rate=0.8)["rate"] == 0.8


def test_a_relative_path_means_what_it_means_in_a_run(study, monkeypatch):
    (study.root / "data").mkdir()
    (study.root / "data/rows.txt").write_text("first")
    monkeypatch.chdir(study.root / "notebooks")  # as in JupyterLab
    key = by_hand.prepare("data", {"params_file": "params/demo.yaml"}).plan["key"]
    (study.root / "data/rows.txt").write_text("second")
    assert by_hand.prepare("data", {"params_file": "params/demo.yaml"}).plan["key"] != key


def test_a_run_without_its_arm_is_refused(study):
    with pytest.raises(UserError, match='run=demo: it lacks the arm. Set run = "demo/main"'):
        opened("train", run="demo")


def test_an_arm_that_the_file_lacks_is_named(study, capsys):
    opened("train")
    assert "The arm main is none of params/demo.yaml (mfd, random)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "params_file=params/demo.yaml: there is no such file"),
        ("stages: [train]\nparams: {rat: 1}", "no notebook declares rat (did you mean rate?)"),
        ("stages: [train]\nparams: {rate: high}", "rate must be float"),
        ("stages: [train]\nparams: {params_file: x.yaml}", "params_file is for notebooks opened by hand"),
    ],
)
def test_a_file_that_is_not_there_or_does_not_fit_is_refused(study, text, words):
    path = study.root / "params/demo.yaml"
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(UserError) as error:
        opened("train")
    assert words in str(error.value)


def test_a_run_reads_its_own_file_alone(study, capsys):
    study.params("stages: [train]\nparams: {rate: 0.5}")
    assert main(["params/demo.yaml", "-p", "params_file=x.yaml", "--plan"]) == 1
    assert "params_file is for notebooks opened by hand" in capsys.readouterr().err
    path = study.root / "notebooks/train.ipynb"
    path.write_text(path.read_text().replace('params_file: str = \\"\\"', 'params_file: str = \\"x.yaml\\"'))
    assert run_study(study.root / "params/demo.yaml")["status"] == "complete"
    record = json.loads(study.read("demo/main/s0/train@0/stage.json"))
    assert record["parameters"]["params_file"] == "" and record["parameters"]["rate"] == 0.5


def test_where_a_value_comes_from_is_in_no_key(study):
    by_file = by_hand.prepare("train", {"params_file": "params/demo.yaml", "round": 1}).plan
    typed = by_hand.prepare("train", {"rate": 0.2, "round": 1}).plan
    assert by_file["key"] == typed["key"] and by_file["parameters"] != typed["parameters"]


# no stale state: cells in a session of IPython, which knows them by their ids as in JupyterLab


class Session:
    """A session of IPython; `shown` is what its cells showed."""

    def __init__(self, shell, shown: list[str]):
        self.shell, self.shown = shell, shown

    def run(self, path, *cells: int, **edits: str) -> str:
        """Run cells of a notebook by their numbers, all without; `edits` replace texts, unsaved.

        Return the error that ended the last of them.
        """
        content = [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
        for cell in [content[i] for i in cells] if cells else content:
            source = cell.source
            for name, value in edits.items():
                source = source.replace(name, value)
            error = self.type(source, cell.id)
        return error

    def type(self, source: str, cell_id: str | None = None) -> str:
        self.shown.clear()
        result = self.shell.run_cell(source, store_history=True, cell_id=cell_id)
        return str(result.error_in_exec or result.error_before_exec or "")

    @property
    def text(self) -> str:
        """What the last cell showed."""
        return "\n".join(self.shown)


@pytest.fixture
def session(tmp_path, monkeypatch):
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])  # which the shell replaces
    shell = InteractiveShell.instance(config=Config({"HistoryManager": {"hist_file": ":memory:"}}))
    shown: list[str] = []
    monkeypatch.setattr(display, "show", lambda text, **options: shown.append(text))
    yield Session(shell, shown)
    shell.reset()
    InteractiveShell.clear_instance()


OPEN, METHOD, CLOSE = 1, 2, 3  # cells of a small notebook below its parameters
WRITE = '_ = (stage.folder / "rate.txt").write_text(f"{rate}")'
AGAIN = "run the cell that opens it again, and those below"


def record(project, name: str) -> dict:
    return files.read_json(project.root / "outputs/interactive/main/s0" / name / "stage.json")


def test_a_changed_parameter_is_named_at_each_cell_and_not_recorded(project, session):  # a to c
    path = project.notebook("train", "rate: float = 0.3  # of learning", WRITE)
    session.run(path, 0, OPEN, METHOD)
    for cell in (0, METHOD):
        session.run(path, cell, **{"0.3": "0.5"})
        assert session.text == f"rate was 0.3 when this stage was opened and is now 0.5: {AGAIN}"
    assert (
        f"train@0 is not recorded: rate was 0.3 when this stage was opened and is now 0.5: {AGAIN}"
        in session.run(path, CLOSE)
    )
    assert record(project, "train@0") is None
    assert (
        session.run(path, OPEN, METHOD, CLOSE) == ""
        and record(project, "train@0")["parameters"]["rate"] == 0.5
    )


def test_a_list_that_is_changed_in_place_is_noticed_and_one_that_is_put_back_is_the_opened_one(
    project, session
):
    path = project.notebook("train", "names: list[str] = []  # of files", "")
    session.run(path, 0, OPEN)
    session.type('names.append("x")')
    assert "names was [] when this stage was opened and is now ['x']" in session.text
    session.type("names = []")
    assert session.text == "" and session.run(path, METHOD, CLOSE) == ""
    session.type('names.append("x")')
    assert session.text == ""  # nothing is open


def test_training_that_was_finished_is_not_skipped_with_other_epochs(project, session):  # h
    train = 'done = stage.folder / "losses.json"\nif not done.exists():\n    _ = done.write_text(f"{epochs}")'
    path = project.notebook("train", "epochs: int = 1  # passes", train)
    session.run(path, 0, OPEN, METHOD)
    session.run(path, 0, **{"int = 1": "int = 2"})
    assert session.run(path, OPEN, METHOD, CLOSE) == ""
    assert project.read("interactive/main/s0/train@0/losses.json") == "2"


def test_code_that_was_not_saved_is_not_recorded(project, session):  # i
    path = project.notebook("train", "rate: float = 0.3  # of learning", WRITE)
    session.run(path, 0, OPEN, METHOD)
    edit = {"{rate}": "{rate + 1}"}
    session.run(path, METHOD, **edit)
    assert (
        "differs from notebooks/train.ipynb as it was saved then: save the notebook, run the cell that opens"
        in session.text
    )
    assert "is not recorded: the cell" in session.run(path, CLOSE)
    session.run(path, METHOD)  # as it was saved
    assert session.text == "" and session.run(path, CLOSE) == ""
    path.write_text(path.read_text().replace("{rate}", "{rate + 1}"))
    assert session.run(path) == "" and project.read("interactive/main/s0/train@0/rate.txt") == "1.3"


def test_comments_magics_and_cells_of_the_readers_own_are_no_change_of_code(project, session):
    path = project.notebook("train", "rate: float = 0.3  # of learning", WRITE)
    session.run(path, 0, OPEN)
    session.run(path, METHOD, **{"_ =": "%who\n# why\n_ ="})
    session.type("look = stage.folder", "a-new-cell")
    assert session.text == "" and session.run(path, CLOSE) == ""


def test_a_parameter_that_was_not_saved_is_named(project, session):  # j
    path = project.notebook("train", "rate: float = 0.3  # of learning", "")
    session.run(path, 0, **{"rate": "beam: int = 2  # of the search\nrate"})
    error = session.run(path, OPEN)
    assert error.startswith("beam: the parameters cell declares it, but the notebook on disk does not")
    assert session.run(path, 0, OPEN) == ""


def test_an_input_whose_own_inputs_were_made_again_is_out_of_date(project, session):  # k
    project.notebook("data", "", '_ = (stage.folder / "rows").write_text("a")')
    trains = (
        'before_from: str = "train@{round-1}/student?"  # the round before\nrate: float = 0.3  # of learning'
    )
    train = project.notebook("train", trains, '_ = (stage.folder / "student").write_text(f"{rate}")')
    score = project.notebook("score", 'student_from: str = "train/student"  # the latest', "")
    first, second = ({"round: int = 0": f"round: int = {number}"} for number in (1, 2))
    for edits in (first, second, first):  # the same again changes nothing
        session.run(train, 0, **edits)
        assert session.run(train, 1, 2, 3) == ""
    session.run(score, 0, **second)
    session.run(score, OPEN)
    assert "out of date" not in session.text
    session.run(train, 0, **first | {"0.3": "0.5"})
    session.run(train, 1, 2, 3)
    session.run(score, 0, **second)
    assert session.run(score, OPEN) == ""
    assert "`train@2` is out of date: `train@1` was run again since. Run it again." in session.text


def test_a_finished_stage_that_is_opened_unchanged_says_so(project, session):  # l
    path = project.notebook("train", "rate: float = 0.3  # of learning", WRITE)
    session.run(path)
    session.run(path, OPEN)
    assert "**Unchanged since " in session.text and "Go on with the next notebook" in session.text
    session.run(path, 0, **{"0.3": "0.5"})
    session.run(path, OPEN)
    assert "Unchanged" not in session.text


def test_a_days_work_leaves_one_result_and_what_is_left_open_can_be_removed(project, session):  # m
    path = project.notebook("train", "rate: float = 0.3  # of learning", WRITE)
    for rate in ("0.3", "0.4", "0.5"):
        session.run(path, 0, **{"0.3": rate})
        session.run(path, OPEN, METHOD, CLOSE)
    session.run(path, 0, OPEN)
    session.run(path, 0, **{"0.3": "0.6"})
    session.run(path, OPEN)
    assert len(list((project.root / "outputs/interactive/main/s0").glob("train@0"))) == 1
    [left] = folders.unused()  # the other part is open
    assert left.name.endswith(".part")


def commit(project) -> None:
    for words in (["init", "-q"], ["add", "notebooks"], ["commit", "-qm", "notebooks"]):
        identity = ["-c", "user.name=n", "-c", "user.email=e"]
        subprocess.run(["git", *identity, *words], cwd=project.root, check=True)


def test_a_run_names_the_defaults_that_were_edited(project, capsys):  # n
    path = project.notebook("train", TRAIN, "")
    commit(project)
    project.params("stages: [train]\nparams: {round_rows: 5}")
    assert main(["params/demo.yaml", "--plan"]) == 0 and "not committed" not in capsys.readouterr().out
    path.write_text(path.read_text().replace("0.3", "0.9").replace("int = 0  # of a round", "int = 1  # x"))
    assert main(["params/demo.yaml", "--plan"]) == 0
    assert "defaults that are not committed: train rate=0.9 (0.3)\n" in capsys.readouterr().out


def test_a_module_that_changed_after_it_was_imported_is_named(project, session):  # o
    project.module("corpus/recipe", "SALT = 1\n")
    path = project.notebook("train", "", "import lib.corpus.recipe")
    sys.modules["lib.corpus.recipe"] = object()
    try:
        assert session.run(path) == ""
        project.module("corpus/recipe", "# a comment\nSALT = 1\n")
        assert session.run(path, OPEN) == ""
        project.module("corpus/recipe", "SALT = 2\n")
        assert "lib/corpus/recipe.py: it changed after this kernel imported it. Restart" in session.run(
            path, OPEN
        )
        session.type("%load_ext autoreload")
        assert session.run(path, OPEN) == ""
    finally:
        del sys.modules["lib.corpus.recipe"]


def test_a_closed_stage_says_all_that_has_to_be_run(project, session):  # q
    path = project.notebook("train", "rate: float = 0.3  # of learning", WRITE)
    session.run(path)
    for cell in (METHOD, CLOSE):
        assert session.run(path, cell) == f"train@0 is closed. To change it, {AGAIN}."


def test_a_stage_that_another_notebook_or_a_failed_opening_ended_is_closed(project, session):
    path = project.notebook("train", 'rows_from: str = "data/rows?"  # none yet', "")
    project.notebook("data", "", "")
    session.run(path, 0, OPEN)
    session.type('rows_from = "data/rows"')
    assert "Run notebooks/data.ipynb first" in session.run(path, OPEN)
    assert "train@0 is closed" in session.run(path, CLOSE)


# the suite's own notebooks

NOTEBOOKS = sorted((paths.ROOT / "notebooks").rglob("*.ipynb"))
ORDER = [f"tapir/{name}" for name in ("1_data_selection", "2_oracle_judging", "3_refinement", "4_training")]
ORDER += ["evaluation/gym"]
SMALL = {"corpus_rows": 200, "judged_rows": 40, "pool_rows": 20, "round_tokens": 1000}
SMALL |= {"max_new_tokens": 48, "per_cell": 1}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_cell_gives_a_parameter_another_value(path):
    """It would be refused by `close`, and be recorded wrongly in a run."""
    notebook = params.read_notebook(path)
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    trees = [keys.parse("".join(cell["source"])) for cell in code if "parameters" not in keys.tags(cell)]
    lines = [line for tree in trees for line in tree.body if not isinstance(line, ast.FunctionDef)]
    nodes = [node for line in lines for node in ast.walk(line)]
    inner = {id(n) for node in nodes if isinstance(node, ast.comprehension) for n in ast.walk(node.target)}
    bound = {
        n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store) and id(n) not in inner
    }
    assert not bound & params.declared(notebook, path).keys()


def small(notebook: str) -> str:
    """Set the sizes that a notebook declares."""
    path = folders.notebook_path(notebook)
    declared = params.declared(params.read_notebook(path), path)
    return "\n".join(f"{name} = {value}" for name, value in SMALL.items() if name in declared)


@pytest.mark.slow
def test_any_cell_can_be_run_again(session, monkeypatch, tmp_path):  # d to g, p
    monkeypatch.setenv("OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.delenv("STAGE", raising=False)
    for notebook in ORDER:
        path, results = folders.notebook_path(notebook), []
        cells = [cell for cell in params.read_notebook(path)["cells"] if cell["cell_type"] == "code"]
        for times in (1, 2):
            session.shell.reset()
            session.run(path, 0)
            session.type(small(notebook))
            for number, cell in enumerate(cells[1:], 1):
                is_between = number > 2 and "stage.close" not in "".join(
                    cell["source"]
                )  # opening and closing
                for _ in range(times if is_between else 1):
                    assert session.run(path, number) == "", (notebook, number)
            [folder] = (tmp_path / "outputs/interactive/main/s0").glob(f"{notebook}@*")
            metrics = files.read_json(folder / "metrics.json")
            results.append({name: value for name, value in metrics.items() if name != "oracle.calls"})
            if notebook == "tapir/2_oracle_judging":  # p
                example, row = session.shell.user_ns["example"], records.read(folder / "rows.parquet")[0]
                for name in ("id", "student_response", "oracle_response", "verdicts"):
                    assert example[name] == row[name], name
        assert results[0] == results[1], notebook


@pytest.mark.slow
def test_the_notebooks_run_in_their_order_with_the_defaults(tmp_path, monkeypatch):
    monkeypatch.setenv("OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.setenv("PYTHONPATH", str(paths.ROOT))
    monkeypatch.delenv("STAGE", raising=False)
    rounds = "{repeat: 1, stages: [tapir/2_oracle_judging, tapir/3_refinement, tapir/4_training]}"
    study = f"stages: [tapir/1_data_selection, {rounds}, evaluation/gym]\nparams: {json.dumps(SMALL)}"
    (tmp_path / "small.yaml").write_text(study)  # sizes alone
    for notebook, own in [*((name, {}) for name in ORDER), ("evaluation/gym", {"round": 0})]:
        path = folders.notebook_path(notebook)
        values = {"params_file": str(tmp_path / "small.yaml")} | own
        papermill.execute_notebook(
            path, tmp_path / "out.ipynb", values, kernel_name="python3", progress_bar=False, cwd=path.parent
        )
    top = tmp_path / "outputs/interactive/main/s0"
    before, after = (folders.record(top / f"evaluation/gym@{number}") for number in (0, 1))
    assert before["inputs"]["student_from"] is None
    assert before["parameters"]["student"] == "lib/gym/warm_student"
    assert after["inputs"]["student_from"] == str(top / "tapir/4_training@1/student")
    scores = [folders.metrics(top / f"evaluation/gym@{number}")["gym.accuracy"] for number in (0, 1)]
    assert all(0 <= score <= 1 for score in scores)
    rows = records.read(top / "tapir/2_oracle_judging@1/rows.parquet")
    assert sum(text is not None for text in rows["student_response"]) == SMALL["judged_rows"]


def test_a_student_lies_at_hand_that_the_rounds_start_from():
    student = paths.ROOT / "lib/gym/warm_student"
    assert sum(path.stat().st_size for path in student.iterdir()) < 3e6
    for notebook in (*ORDER[1:], *(f"evaluation/{name}" for name in ("alpaca_eval", "mt_bench", "ifeval"))):
        path = folders.notebook_path(notebook)
        declared = params.declared(params.read_notebook(path), path)
        assert declared["round"].default == 1, notebook
        assert "student" not in declared or declared["student"].default == "lib/gym/warm_student", notebook
