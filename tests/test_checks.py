"""Settings that can't be are refused before anything runs or is spent, by name."""

import pytest

from lib import checks, paths
from lib.errors import UserError
from lib.run import run_study
from lib.runner.plan import plan
from lib.runner.study import load

DEMO = paths.ROOT / "params/demo.yaml"
LLM = {"oracle": "a-model"}
WRONG = [
    ({"alpha_step": 0.8}, "alpha=0.3 and alpha_step=0.8 give a share of 1.1 in round 2"),
    ({"alpha_step": -0.5}, "give a share of -0.2 in round 2"),
    ({"balanced.selection": "mdf"}, "selection 'mdf' is unknown: choose one of mfd, random"),
    ({"labelled_rows": -1}, "labelled_rows is -1"),
    ({"classifier": "a/b"}, "classifier=a/b would never be used: with labelled_rows=0"),
    ({"classifier": "./nowhere", "labelled_rows": 9}, "the classifier folder ./nowhere does not exist"),
    ({"confident": 1.5}, "confident 1.5: .* a probability"),
    ({"samples": 0}, "samples is 0: it must be 1 or more"),
    ({"temperature": 0}, "samples=4 at temperature 0 would all be the same"),
    ({"student_url": "localhost:8000"}, "student_url: 'localhost:8000' is no endpoint"),
    (
        {"student_url": "http://a/v1", "chat_template": "params/prompts/chat_llama2.jinja"},
        "chat_template is params/prompts/chat_llama2.jinja, but the server at student_url",
    ),
    ({"reference": "student"}, "reference is 'student': it must be oracle or corpus"),
    ({"corpus_responses": "true"}, "corpus_responses has nothing to refine"),
    ({"pool_rows": 0}, "pool_rows is 0"),
    ({"learning_rate": 0}, "learning_rate is 0.0: it must be above 0"),
    ({"device_rows": 5}, r"device_rows is 5: it must divide batch_size \(16\)"),
    ({"launch": "nonsense x"}, "launch is 'nonsense x', but there is no program nonsense"),
    ({"chat_template": "nowhere.jinja"}, "the chat template nowhere.jinja cannot be read"),
    ({"student": "./nowhere"}, "the student folder ./nowhere does not exist"),
    ({"max_unread": 5}, "max_unread is 5: it is a share"),
    ({"max_length": 0}, "max_length is 0: it must be 2 or above"),
    ({"round_tokens": -5}, "round_tokens is -5: it must be 0 or above"),
    ({"tasks": "params/demo.yaml"}, "is no taxonomy"),
    (LLM | {"budget_usd": 5}, "budget_usd=5, but the price of a-model is unknown"),
    ({"oracle": "gpt-4o", "judge_model": "b-model", "budget_usd": 5}, "the price of b-model is unknown"),
]


@pytest.mark.parametrize("over, said", WRONG)
def test_a_wrong_setting_is_named(over, said):
    over = over | ({} if "alpha_step" in over else {"alpha_step": "0.2"})
    study = load(DEMO)
    free = {name: value for name, value in over.items() if name != "alpha_step"}
    arms = {f"{arm}.alpha_step": over["alpha_step"] for arm in ("balanced", "tapir", "warm_up")}
    with pytest.raises(UserError, match=said):
        for stage in plan(study, "x", free | arms):
            checks.check(stage.notebook, stage.values)


def test_the_demo_and_a_budget_of_known_price_pass():
    for over in ({}, {"oracle": "gpt-4o", "budget_usd": 5}):
        for stage in plan(load(DEMO), "x", over):
            checks.check(stage.notebook, stage.values)


def test_a_run_is_refused_before_its_first_stage(tmp_path, monkeypatch):
    monkeypatch.setenv("OUTPUTS", str(tmp_path))
    with pytest.raises(
        UserError, match=r"cannot start: tapir/4_training@2 \(tapir\): alpha=0.9 and alpha_step=0.2"
    ):
        run_study(DEMO, {"tapir.alpha": "0.9"})
    assert not list(tmp_path.rglob("*.part")) and not list(tmp_path.rglob("*.parquet"))
