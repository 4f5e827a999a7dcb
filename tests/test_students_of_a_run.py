"""The student of a stage: trained by an earlier one, or the one that is named; what later stages will take."""

import pytest

from lib import files, models, paths
from lib.errors import UserError
from lib.run import run_study
from lib.runner.plan import plan
from lib.runner.study import load
from lib.stage import open_stage

STUDENT_FROM = 'student: str = "base"  # who starts\nstudent_from: str = "train@{round-1}/student?"  # the round before\n'
TRAIN = """(stage.folder / "student").write_text(f"{stage.student()} {round}")
stage.write_metrics({"later": len(stage.later("train")), "rate": sum(p["rate"] for p in stage.later("train"))})"""
STAGES = "stages: [{train: {when: warm_up}}, {repeat: 2, stages: [train]}]\nparams: {warm_up: %s, rate: 3}"


@pytest.fixture
def train(project):
    project.notebook("train", STUDENT_FROM + "rate: int = 1  # of learning\n", TRAIN)
    return project


def student_of(project, round: int) -> str:
    return project.read(f"demo/main/s0/train@{round}/student")


def stored(project, round: int):
    return (project.root / f"outputs/demo/main/s0/train@{round}/student").resolve()


def test_without_a_warm_up_the_first_round_starts_from_the_student_that_is_named(train):
    planned = plan(load(train.params(STAGES % "false")), "demo")
    assert [stage.round for stage in planned] == [1, 2]
    run_study(train.root / "params/demo.yaml")
    assert student_of(train, 1) == "base 1"
    assert student_of(train, 2) == f"{stored(train, 1)} 2"


def test_with_a_warm_up_the_first_round_goes_on_from_it_and_each_knows_the_parameters_of_the_later_ones(
    train,
):
    run_study(train.params(STAGES % "true"))
    assert student_of(train, 0) == "base 0"
    assert student_of(train, 1) == f"{stored(train, 0)} 1"
    folder = train.root / "outputs/demo/main/s0"
    metrics = [files.read_json(folder / f"train@{n}/metrics.json") for n in (0, 1, 2)]
    assert [(each["later"], each["rate"]) for each in metrics] == [(2, 6), (1, 3), (0, 0)]
    assert "later" not in files.read_json(folder / "train@0/stage.json")


def test_a_stage_knows_the_student_of_the_stage_that_wrote_its_rows(train):
    cell = """(stage.folder / "seen").write_text(f"{stage.student_of('rows_from')} {stage.record_of('rows_from')['parameters']['rate']}")"""
    train.notebook("look", 'rows_from: str = "train/student"  # of the last round', cell)
    study = train.params("stages: [train, {repeat: 1, stages: [train]}, look]\nparams: {rate: 3}")
    run_study(study)
    assert train.read("demo/main/s0/look@1/seen") == f"{stored(train, 0)} 3"


def test_a_hub_name_in_student_from_is_the_student_that_is_named(train):
    text = "stages: [{repeat: 1, stages: [train]}]\nparams: {student_from: org/name}"
    [stage] = plan(load(train.params(text)), "demo")
    assert (stage.values["student"], stage.values["student_from"]) == ("org/name", "")


def test_a_later_round_by_hand_does_not_start_from_the_untrained_student(train, monkeypatch):
    values = {"round": 2, "student": "base", "student_from": "train@{round-1}/student?", "rate": 1}
    stage = open_stage("train", values)
    with pytest.raises(UserError, match="no student of round 1. Run"):
        stage.student()


def test_a_student_gives_a_few_greedy_responses():
    chats = [[{"role": "user", "content": "What is 1 + 2?"}]] * 2
    first, second = models.ask(paths.ROOT / "lib/gym/student", chats)
    assert first == second and models.ask("nowhere", []) == []
