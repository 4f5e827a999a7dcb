"""Settings that cannot work are refused by name before anything runs or is spent."""

import contextlib
import re

import pytest
from project import fetch_nothing

from lib import paths
from lib.errors import UserError
from lib.run import run_study
from lib.runner import params, preflight
from lib.runner.plan import plan
from lib.runner.study import load

DEMO = paths.ROOT / "params/demo.yaml"


@pytest.fixture(autouse=True)
def a_key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-any")


def check(study: str, overrides: dict) -> None:
    for stage in plan(load(paths.ROOT / f"params/{study}.yaml", overrides), "x"):
        preflight.check(stage.notebook, stage.values)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"tapir.alpha_step": "0.8"}, "alpha=0.3 and alpha_step=0.8 give a share of 1.1 in round 2"),
        ({"balanced.selection": "mdf"}, "selection=mdf: it is unknown. Choose one of mfd, random"),
        ({"labelled_rows": -1}, "labelled_rows=-1"),
        ({"classifier": "a/b"}, "classifier=a/b: it needs labelled_rows"),
        ({"classifier": "./nowhere", "labelled_rows": 9}, "classifier folder ./nowhere"),
        ({"unfit_judge": "stop"}, "unfit_judge=stop: it is unknown. Choose of refuse, warn"),
        ({"student": "m@localhost:8000"}, "the student folder m@localhost:8000 does not exist"),
        ({"student": "m@http://a:b/v1"}, "'http://a:b/v1' is no endpoint"),
        ({"reference": "student"}, "reference=student: it is unknown. Choose of oracle, corpus"),
        ({"balanced.selection": "longest"}, "selection=longest: it trains on the corpus's responses"),
        ({"balanced.selection": "grape"}, "selection=grape: it trains on the corpus's responses"),
        ({"pool_rows": 0}, "pool_rows=0: it is too low. Set it to 1 or above"),
        ({"learning_rate": 0}, "learning_rate=0"),
        ({"hardware": "gpu"}, "hardware=gpu: there is no such profile. Name cpu, fsdp"),
        ({"hardware": "params/demo.yaml"}, "hardware=params/demo.yaml: it holds"),
        ({"student": "./nowhere"}, "student folder ./nowhere"),
        ({"max_length": 0}, "max_length=0"),
        ({"tasks": "params/demo.yaml"}, "is no taxonomy"),
        ({"benchmarks": "[nowhere.jsonl]"}, "benchmarks: nowhere.jsonl"),
        ({"bad_rows": "drop"}, "bad_rows='drop'"),
        ({"format": "alpacca"}, "format='alpacca'"),
        ({"oracle": "gpt-4.2"}, "oracle: gpt-4.2: it is not in params/models.yaml"),
        ({"oracle": "gpt-4"}, "oracle: gpt-4: it is no longer offered since 2026-10-23"),
        ({"oracle": "gpt-4o", "judge": "b-model"}, "judge: b-model: it is not in params/models.yaml"),
        ({"judge": "gpt-4o"}, "judge=gpt-4o: the embedded oracle judges its own responses"),
    ],
)
def test_a_wrong_setting_is_named(overrides, words):
    with pytest.raises(UserError, match=re.escape(words)):
        check("demo", overrides)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"instruction": "Do it."}, "name one task"),
        ({"labels": "[a, b]"}, "it only applies with instruction"),
        ({"demos": "[{input: a, output: b}]"}, "it only applies with instruction"),
        ({"split": "valid"}, "split=valid"),
        ({"shots": -1}, "shots=-1"),
        ({"input_prompt": "nowhere"}, "there is no params/prompts/nowhere.md"),
        ({"output_temperature": 0}, "samples=10: at temperature 0"),
        ({"baselines": "[golden]"}, "baselines=golden"),
        ({"skipped": "[few_shot]"}, "skipped=few_shot"),
    ],
)
def test_a_wrong_setting_of_self_guide_is_named(overrides, words):
    with pytest.raises(UserError, match=re.escape(words)):
        check("self_guide_demo", overrides)


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """The files that our params files name, empty, and another one."""
    monkeypatch.setenv("OUTPUTS", str(tmp_path / "outputs"))
    fetch_nothing()
    (tmp_path / "outputs/a.json").touch()
    monkeypatch.setenv("RECORDED_DATA", str(tmp_path))


@pytest.mark.parametrize(
    ("benchmark", "overrides", "words"),
    [
        ("alpaca_eval", {"annotator": "exact", "model_outputs": "$OUTPUTS/a.json"}, "model_outputs"),
        (
            "alpaca_eval",
            {"annotator": "exact", "benchmark_judge": "exact", "reference_from": ""},
            "reference_from is empty",
        ),
        ("alpaca_eval", {"annotator": "exact"}, "benchmark_judge=gpt-4.1: the embedded world"),
        ("alpaca_eval", {"annotator": "gpt5"}, "annotator='gpt5'"),
        ("alpaca_eval", {"annotations": "$OUTPUTS/a.json"}, "it needs model_outputs"),
        ("alpaca_eval", {"benchmark_judge": "a-model"}, "benchmark_judge: a-model: it is not in params"),
        ("alpaca_eval", {"lc_features": "nowhere.csv"}, "nowhere.csv"),
        ("mt_bench", {"questions": ""}, "the embedded world does not use it"),
        ("mt_bench", {"benchmark_judge": "exact"}, "benchmark_judge=exact: it judges the embedded world"),
        ("mt_bench", {"answers": "nowhere.jsonl"}, "answers: nowhere.jsonl does not exist"),
        ("mt_bench", {"reference_answers": ""}, "reference_answers is empty"),
        ("mt_bench", {"judge_prompts": ""}, "judge_prompts is empty"),
        ("mt_bench", {"unfit_judge": "stop"}, "unfit_judge=stop"),
        ("ifeval", {"prompts": "", "responses": "$OUTPUTS/a.json"}, "responses="),
    ],
)
def test_a_wrong_setting_of_a_benchmark_is_named(recorded, benchmark, overrides, words):
    with pytest.raises(UserError, match=re.escape(words)):
        check(benchmark, overrides)


def test_every_notebook_with_its_defaults_and_our_studies_pass(recorded):
    for path in sorted((paths.ROOT / "notebooks").rglob("*.ipynb")):
        name = path.relative_to(paths.ROOT / "notebooks").with_suffix("").as_posix()
        declared = params.declared(params.read_notebook(path), path)
        preflight.check(name, {each.name: each.default for each in declared.values()})
    for study in ("demo", "self_guide_demo", "alpaca_eval", "mt_bench", "ifeval", "tapir"):
        check(study, {})
    check("demo", {"oracle": "gpt-4o", "budget_usd": 5})


def test_a_run_is_refused_before_its_first_stage(tmp_path, monkeypatch):
    monkeypatch.setenv("OUTPUTS", str(tmp_path))
    with pytest.raises(UserError, match=r"cannot start: tapir/4_training@2 \(tapir\): alpha=0.9"):
        run_study(DEMO, {"tapir.alpha": "0.9"})
    assert not list(tmp_path.rglob("*.part")) and not list(tmp_path.rglob("*.parquet"))


@pytest.mark.parametrize("study", ["tapir", "alpaca_eval", "mt_bench"])
def test_a_missing_key_is_reported_before_anything_is_trained(study, monkeypatch, recorded):
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(UserError, match="there is no key. Set OPENAI_API_KEY, or name a server of your own"):
        check(study, {})


OWN = "m@http://localhost:8000/v1"


@pytest.mark.parametrize(
    ("models", "fails"),
    [({"oracle": OWN}, False), ({"oracle": "gpt-4.1"}, True), ({"oracle": OWN, "judge": "gpt-4.1"}, True)],
)
def test_only_a_model_with_a_key_needs_it(models, fails, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(UserError, match="there is no key") if fails else contextlib.nullcontext():
        check("demo", models)


def test_a_ledger_that_is_only_read_must_be_there(tmp_path, monkeypatch):
    monkeypatch.setenv("LEDGER", str(tmp_path / "none.sqlite"))
    check("demo", {"oracle": OWN})
    monkeypatch.setenv("LEDGER_ONLY", "1")
    with pytest.raises(UserError, match="there is no such file"):
        check("demo", {"oracle": OWN})
