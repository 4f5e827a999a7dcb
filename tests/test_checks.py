"""Settings that can't be are refused before anything runs or is spent, by name."""

import contextlib
import re
import sys

import pytest

from lib import models, paths
from lib.errors import UserError
from lib.run import run_study
from lib.runner import checks, params, preflight
from lib.runner.plan import plan
from lib.runner.study import load


@pytest.fixture(autouse=True)
def a_key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "of mine")


DEMO = paths.ROOT / "params/demo.yaml"
LLM = {"oracle": "a-model"}
WRONG = [
    ({"alpha_step": 0.8}, "alpha=0.3 and alpha_step=0.8 give a share of 1.1 in round 2"),
    ({"alpha_step": -0.5}, "give a share of -0.2 in round 2"),
    ({"balanced.selection": "mdf"}, "selection=mdf: it is unknown. Choose one of mfd, random"),
    ({"labelled_rows": -1}, "labelled_rows=-1"),
    ({"classifier": "a/b"}, "classifier=a/b: it needs labels"),
    ({"classifier": "./nowhere", "labelled_rows": 9}, "the classifier folder ./nowhere does not exist"),
    ({"samples": 0}, "samples is 0: it must be 1 or more"),
    ({"temperature": 0}, "samples=4 at temperature 0 would all be the same"),
    ({"engine": "vllm"}, "engine is 'vllm': it must be one of local, server, ray"),
    ({"engine": "server"}, "engine=server asks a server, and none is named: set student_url"),
    (
        {"student_url": "http://a/v1"},
        "student_url is http://a/v1, but engine=local asks no server: set engine=server",
    ),
    ({"engine": "ray", "student_url": "http://a/v1"}, "but engine=ray asks no server"),
    ({"actors": -1}, "actors is -1: it must be 0"),
    ({"engine": "server", "student_url": "localhost:8000"}, "student_url: 'localhost:8000' is no endpoint"),
    (
        {
            "engine": "server",
            "student_url": "http://a/v1",
            "chat_template": "params/prompts/chat_llama2.jinja",
        },
        "chat_template is params/prompts/chat_llama2.jinja, but the server at student_url",
    ),
    ({"reference": "student"}, "reference is 'student': it must be oracle or corpus"),
    ({"corpus_responses": "true"}, "corpus_responses has nothing to refine"),
    ({"pool_rows": 0}, "pool_rows is 0"),
    ({"learning_rate": 0}, "learning_rate=0.0: it must be above 0"),
    ({"device_rows": 5}, "device_rows=5: it must divide batch_size=16"),
    ({"launch": "nonsense x"}, "launch=nonsense x: there is no program nonsense"),
    ({"launch": 'accelerate "x'}, "no command .No closing quotation."),
    ({"launch": " "}, "launch= : no command"),
    ({"chat_template": "nowhere.jinja"}, "the chat template nowhere.jinja cannot be read"),
    ({"student": "./nowhere"}, "the student folder ./nowhere does not exist"),
    ({"max_unread": 5}, "max_unread is 5: it is a share"),
    ({"max_length": 0}, "max_length is 0: it must be 2 or above"),
    ({"round_tokens": -5}, "round_tokens is -5: it must be 0 or above"),
    ({"tasks": "params/demo.yaml"}, "is no taxonomy"),
    ({"judge_scores": "guess"}, "judge_scores is 'guess': it must be text or expected"),
    ({"unfit_judge": "ignore"}, "unfit_judge is 'ignore': it must be refuse or warn"),
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
            preflight.check(stage.notebook, stage.values)


EVALUATIONS = [
    ("alpaca_eval", {"annotator": "exact", "model_outputs": "a.json"}, "model_outputs=.*annotator=exact"),
    ("alpaca_eval", {"annotator": "exact"}, "reference_from is empty"),
    ("alpaca_eval", {"annotator": "gpt5"}, "annotator='gpt5': it must be exact"),
    ("alpaca_eval", {"annotations": "a.json"}, "annotations=.* model_outputs"),
    ("alpaca_eval", {"evaluation_judge": "a-model"}, "budget_usd=20, but the price of a-model is unknown"),
    ("alpaca_eval", {"lc_resamples": 5}, "lc_resamples=5: it must be 20 or above"),
    ("alpaca_eval", {"student": "./nowhere"}, "the student folder ./nowhere does not exist"),
    ("alpaca_eval", {"annotator": "exact", "evaluation_url": "http://a/v1"}, "evaluation_url=.*exact"),
    ("alpaca_eval", {"reference_outputs": "nowhere.json"}, "reference_outputs: nowhere.json does not exist"),
    ("alpaca_eval", {"lc_features": "nowhere.csv"}, "lc_features=nowhere.csv"),
    ("mt_bench", {"questions": ""}, "reference_answers=.* questions"),
    ("mt_bench", {"answers": "nowhere.jsonl"}, "answers: nowhere.jsonl does not exist"),
    ("mt_bench", {"judge_prompts": ""}, "judge_prompts is empty"),
    ("mt_bench", {"max_unread": 1.5}, "max_unread is 1.5: it is a share"),
    ("mt_bench", {"chat_template": "nowhere.jinja"}, "the chat template nowhere.jinja cannot be read"),
    ("ifeval", {"prompts": "", "responses": "a.jsonl"}, "responses=a.jsonl: it needs prompts"),
    ("ifeval", {"evaluation_temperature": -1}, "evaluation_temperature=-1: it must be 0 or above"),
]


@pytest.fixture
def benchmark_values(tmp_path):
    """The values of a benchmark's stage by its params file, whose recorded files need not be there."""
    (tmp_path / "a.jsonl").write_text("{}")
    files = dict.fromkeys(("questions", "reference_answers", "judge_prompts"), str(tmp_path / "a.jsonl"))

    def values(benchmark: str, over: dict) -> dict:
        (stage,) = plan(load(paths.ROOT / f"params/{benchmark}.yaml"), "x", {})
        return stage.values | (files if benchmark == "mt_bench" else {}) | over

    return values


@pytest.mark.parametrize("benchmark, over, said", EVALUATIONS)
def test_a_wrong_setting_of_a_benchmark_is_named(benchmark_values, benchmark, over, said):
    with pytest.raises(UserError, match=said):
        preflight.check(f"evaluation/{benchmark}", benchmark_values(benchmark, over))


@pytest.mark.parametrize("benchmark", ["alpaca_eval", "mt_bench", "ifeval"])
def test_a_benchmark_as_its_params_file_has_it_passes(benchmark_values, benchmark):
    preflight.check(f"evaluation/{benchmark}", benchmark_values(benchmark, {}))


def test_the_demo_and_a_budget_of_known_price_pass():
    for over in ({}, {"oracle": "gpt-4o", "budget_usd": 5}):
        for stage in plan(load(DEMO), "x", over):
            preflight.check(stage.notebook, stage.values)


def test_a_run_is_refused_before_its_first_stage(tmp_path, monkeypatch):
    monkeypatch.setenv("OUTPUTS", str(tmp_path))
    with pytest.raises(
        UserError, match=r"cannot start: tapir/4_training@2 \(tapir\): alpha=0.9 and alpha_step=0.2"
    ):
        run_study(DEMO, {"tapir.alpha": "0.9"})
    assert not list(tmp_path.rglob("*.part")) and not list(tmp_path.rglob("*.parquet"))


WRONG_AT_THE_START = [
    ({"family": "spelling"}, "family is 'spelling': the families are spell_backward, "),
    ({"pool_rows": 0}, "pool_rows is 0: it must be 1 or more"),
    ({"temperature": 0}, "samples=4 at temperature 0 would all be the same"),
    ({"oracle_error": 2}, "oracle_error is 2: it is a share"),
    ({"batch_size": 0}, "batch_size=0: it must be above 0"),
]


@pytest.mark.parametrize("over, said", WRONG_AT_THE_START)
def test_a_wrong_setting_of_the_first_notebook_is_named(over, said):
    place = paths.ROOT / "notebooks/0_start_here.ipynb"
    values = {name: it.default for name, it in params.declared(params.read_notebook(place), place).items()}
    preflight.check("0_start_here", values)
    with pytest.raises(UserError, match=said):
        preflight.check("0_start_here", values | over)


SELF_GUIDE = paths.ROOT / "params/self_guide_demo.yaml"
WRONG_OF_SELF_GUIDE = [
    ({"a_before-dashes-mirror.task": ""}, "name one task"),
    ({"instruction": "Do it."}, "name one task"),
    ({"labels": "[a, b]"}, "labels is of an instruction, and of no use here"),
    ({"split": "valid"}, "split=valid"),
    ({"kind": "regression"}, "kind is 'regression'"),
    ({"gold": "./nowhere.json"}, "gold is of an instruction, and of no use here"),
    ({"demos": "[{input: a, output: b}]"}, "demos is of an instruction"),
    ({"shots": -1}, "shots is -1: it must be 0 or above"),
    ({"round_prompts": 0}, "round_prompts is 0: it must be 1 or more"),
    ({"filters": "[empty, lenght]"}, "filters has lenght: there are empty, length, noise, duplicate"),
    ({"input_prompt": "nowhere"}, "there is no params/prompts/nowhere.md"),
    ({"output_temperature": 0}, "samples=10 at temperature 0 would all be the same"),
    ({"least_share": 30}, "least_share is 30: it is a share"),
    ({"baselines": "[golden]"}, "baselines has golden"),
    ({"skipped": "[few_shot]"}, "skipped has few_shot"),
    ({"student": "./nowhere"}, "the student folder ./nowhere does not exist"),
]


@pytest.mark.parametrize(("overrides", "message"), WRONG_OF_SELF_GUIDE)
def test_what_can_t_be_is_refused_before_a_student_teaches_itself(overrides, message):
    with pytest.raises(UserError, match=message):
        for stage in plan(load(SELF_GUIDE), "x", overrides):
            preflight.check(stage.notebook, stage.values)


@pytest.mark.parametrize("study", ["tapir", "alpaca_eval", "mt_bench"])
def test_a_key_that_is_lacking_is_said_before_anything_is_taught(study, monkeypatch, recorded):
    monkeypatch.delenv("OPENAI_API_KEY")
    planned = plan(load(paths.ROOT / f"params/{study}.yaml"), study, {})
    with pytest.raises(UserError, match="no key: set OPENAI_API_KEY, or name a server of your own with"):
        for stage in planned:
            preflight.check(stage.notebook, stage.values)


@pytest.mark.parametrize(
    "urls, fails",
    [
        ({"oracle_url": "http://localhost:8000/v1"}, False),
        ({"oracle_url": "https://api.openai.com/v1"}, True),
        ({"oracle_url": "http://localhost:8000/v1", "judge_url": "https://api.openai.com/v1"}, True),
        ({"oracle_url": "localhost:8000"}, True),
    ],
)
def test_only_who_asks_openai_needs_its_key(urls, fails, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    stages = plan(load(paths.ROOT / "params/tapir.yaml"), "x", {"budget_usd": 0.0, **urls})
    values = next(stage.values for stage in stages if stage.notebook == "tapir/2_oracle_judging")
    with pytest.raises(UserError, match="no key|no endpoint") if fails else contextlib.nullcontext():
        preflight.check("tapir/2_oracle_judging", values)


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """The files that our params files name, empty."""
    for file in (paths.ROOT / "params").glob("*.yaml"):
        for name in re.findall(r"\$RECORDED_DATA/([^\s,}]+)", file.read_text()):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
    monkeypatch.setenv("RECORDED_DATA", str(tmp_path))


def test_a_file_that_the_corpus_is_checked_against_must_be_there():
    values = {"source": "gym", "benchmarks": ["nowhere.jsonl"]}
    with pytest.raises(UserError, match="benchmarks: nowhere.jsonl"):
        preflight.check("tapir/1_data_selection", values)


@pytest.mark.parametrize(("name", "value"), [("bad_rows", "drop"), ("format", "alpacca")])
def test_a_way_of_loading_that_there_is_not_is_refused(name, value):
    values = {"source": "someone/sums", "benchmarks": [], "format": "auto", "bad_rows": "refuse"}
    with pytest.raises(UserError, match=f"{name}='{value}'"):
        preflight.check("tapir/1_data_selection", values | {name: value})


def test_without_ray_one_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"engine=ray: Ray is not installed. Run pip install -e '.\[scale\]'"):
        models.choose("lib/gym/student", "ray")


def test_a_ledger_that_is_only_read_must_be_there_before_anything_is_taught(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        checks.ledger({"ledger": str(tmp_path / "typo.sqlite"), "ledger_only": True})
    checks.ledger({"ledger": str(tmp_path / "new.sqlite"), "ledger_only": False})
