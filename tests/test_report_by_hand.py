"""What was done by hand has a report as a run has: each evaluated round is an arm."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
from bs4 import BeautifulSoup
from project import RESERVED as DECLARED
from test_pages import command_line

from lib.report import page, tables
from lib.runner import summary
from lib.stage import open_stage

ROOT = Path(__file__).parents[1]
RESERVED = {"run": "interactive/main", "seed": 0}
TRAIN, EXAM, OWN = "train", "evaluation/exam", "evaluation/own"
STUDENT = 'student_from: str = "train/student?"  # of the latest round\nstudent: str = "base"  # else\n'
ROWS = 40


@pytest.fixture
def notebooks(project):
    """A project that trains a student and asks it; an exam of one's own has no rounds."""
    project.notebook(TRAIN, "rate: int = 1  # of learning\n", "1")
    project.notebook(EXAM, STUDENT, "1")
    project.notebook(OWN, "", "1", reserved=DECLARED.partition("round:")[0])
    return project


def train(round: int, arm: str = "main") -> None:
    stage = open_stage(TRAIN, RESERVED | {"run": f"interactive/{arm}", "round": round, "rate": 1})
    (stage.folder / "student").write_text(f"{arm} {round}")
    stage.close()


def ask(right: int, notebook: str = EXAM, arm: str = "main", metric: str = "gym.accuracy", **values) -> None:
    """Evaluate a student that answers the first `right` of all rows."""
    values = (
        RESERVED
        | {"run": f"interactive/{arm}", "student": "base", "student_from": f"{TRAIN}/student?"}
        | values
    )
    stage = open_stage(notebook, values)
    scores = pd.DataFrame({"score": [float(i < right) for i in range(ROWS)]})
    scores = scores.assign(id=scores.index.astype(str), metric=metric, stratum="", weight=1.0)
    scores.to_parquet(stage.folder / "scores.parquet")
    mean = scores["score"].mean()
    stage.write_metrics({metric: mean, f"{metric}_low": mean, f"{metric}_high": mean})
    stage.close(f"{right} are right.")


def stages_of(arms: dict) -> dict[str, list[str]]:
    lines = arms["stages"]
    return {arm: [line["name"] for line in lines if line["arm"] == arm] for arm in arms["arms"]}


def test_each_evaluated_round_by_hand_is_an_arm_with_the_stages_behind_it(notebooks):
    ask(10, round=0)
    train(1)
    ask(20, round=1)
    written = summary.by_hand()
    assert stages_of(written) == {"before": [f"{EXAM}@0"], "round_1": [f"{TRAIN}@1", f"{EXAM}@1"]}
    assert list(written["comparisons"]) == ["round_1_vs_before"]
    assert written["comparisons"]["round_1_vs_before"]["gym.accuracy"]["difference"] == 0.25
    assert [arm["metrics"]["gym.accuracy"] for arm in written["arms"].values()] == [0.25, 0.5]


def test_a_round_that_is_not_evaluated_yet_is_an_arm_without_a_score(notebooks):
    ask(10, round=0)
    train(1)
    written = summary.by_hand()
    assert stages_of(written) == {"before": [f"{EXAM}@0"], "round_1": [f"{TRAIN}@1"]}
    assert "gym.accuracy" not in written["arms"]["round_1"]["metrics"]


def test_arms_by_hand_have_their_names_and_rounds_only_where_there_are_several(notebooks):
    for arm, rounds in {"narrow": [1], "wide": [1, 2]}.items():
        for number in rounds:
            train(number, arm)
            ask(10 * number, arm=arm, round=number)
    written = summary.by_hand()
    assert list(written["arms"]) == ["narrow", "wide_round_1", "wide_round_2"]
    assert list(written["comparisons"]) == ["wide_round_2_vs_narrow", "wide_round_1_vs_narrow"]


def test_an_evaluation_without_rounds_is_of_the_last_one(notebooks):
    ask(10, round=0)
    ask(20, round=1)
    ask(30, OWN, metric="exam.marks")
    names = stages_of(summary.by_hand())
    assert names == {"before": [f"{EXAM}@0"], "round_1": [f"{OWN}@0", f"{EXAM}@1"]}


def test_a_single_evaluation_by_hand_is_the_arm_as_it_is_named(notebooks):
    train(1)
    ask(20, round=1)
    written = summary.by_hand()
    assert stages_of(written) == {"main": [f"{TRAIN}@1", f"{EXAM}@1"]} and written["comparisons"] == {}


def test_the_report_by_hand_holds_the_analysis_and_the_parameters_of_each_stage(notebooks):
    shutil.copy(ROOT / "notebooks/report.ipynb", notebooks.root / "notebooks/report.ipynb")
    ask(10, round=0)
    train(1)
    ask(20, round=1)
    assert command_line("interactive") == (0, "outputs/interactive/report.html\n", "")
    run = notebooks.root / "outputs/interactive"
    shown = BeautifulSoup((run / "report.html").read_text(), "html.parser")
    text = shown.get_text(" ")
    assert "round 1 vs before: +25.0 [" in text and "20 are right." in text
    headings = [heading.get_text() for heading in shown.find_all("h3")]
    assert {"The score by arm", "Where the two arms differ", "Conclusion"} < set(headings)
    assert "How hard was it, round by round?" not in headings
    assert "No stage of this run judged rows" not in text
    assert "This stage ran by hand" in text and "rate" in text
    assert tables.stages(run)["name"].tolist().count("report@0") == 1
    page.write(run)  # once more, from the same stages
    ask(30, round=1)
    assert summary.by_hand()["comparisons"]["round_1_vs_before"]["gym.accuracy"]["difference"] == 0.5


def test_nothing_done_by_hand_is_one_clear_line(notebooks):
    code, out, err = command_line("interactive")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert 'no stage of this run is finished. Run notebooks first, or set run = "demo"' in err
