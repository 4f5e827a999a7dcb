"""The params files that come with the suite fit its notebooks, and the taxonomies and templates they name can be read."""

import pytest
from transformers import AutoTokenizer

from lib import models, paths
from lib.errors import UserError
from lib.models import catalog
from lib.runner import params, preflight
from lib.runner.plan import plan
from lib.runner.study import load
from lib.tapir import tasks
from lib.training.config import TrainingConfig

EMBEDDED = paths.ROOT / "lib/gym/student"
TEMPLATE = "params/prompts/chat_llama2.jinja"
FILES = sorted((paths.ROOT / "params").glob("*.yaml"))
STUDIES = [file for file in FILES if file.name != "models.yaml"]


@pytest.mark.parametrize("file", STUDIES, ids=lambda file: file.stem)
def test_a_study_is_planned_whole(file, tmp_path):
    over = {"released.student_from": str(tmp_path)} if file.stem == "tapir_released" else {}
    planned = plan(load(file, over), file.stem)
    named = {value for stage in planned for name, value in stage.values.items() if name == "tasks"}
    assert planned and all((paths.ROOT / name).is_file() for name in named if name)


def test_no_default_names_a_model_that_is_no_longer_offered(tmp_path):
    retired = {model.name for model in catalog.listed().values() if model.is_retired}
    named = [
        (path.stem, parameter.default)
        for path in (paths.ROOT / "notebooks").rglob("*.ipynb")
        for parameter in params.declared(params.read_notebook(path), path).values()
    ]
    for file in STUDIES:
        over = {"released.student_from": str(tmp_path)} if file.stem == "tapir_released" else {}
        named += [
            (file.stem, value) for stage in plan(load(file, over), "x") for value in stage.values.values()
        ]
    assert "gpt-4" in retired and [(where, value) for where, value in named if value in list(retired)] == []


def test_the_recipe_for_a_small_gpu_has_no_value_of_the_embedded_world():
    planned = plan(load(paths.ROOT / "params/small.yaml"), "x")
    assert {stage.arm for stage in planned} == {"warm_up", "random", "tapir", "all"}
    assert "evaluation/gym" not in {stage.notebook for stage in planned}
    values = [(name, str(value)) for stage in planned for name, value in stage.values.items()]
    assert [pair for pair in values if "gym" in pair[1] or pair[1] == "exact"] == []
    assert ("prompts", "google/IFEval") in values and ("adapter_rank", "16") in values
    budgets = {stage.values["round_tokens"] for stage in planned if "round_tokens" in stage.values}
    assert budgets == {100_000}


@pytest.mark.parametrize("name", ["tapir", "tapir_qwen", "tapir_released"])
def test_a_study_of_real_students_asks_them_nothing_of_the_embedded_world(name, tmp_path):
    over = {"released.student_from": str(tmp_path)} if name == "tapir_released" else {}
    notebooks = {stage.notebook for stage in plan(load(paths.ROOT / f"params/{name}.yaml", over), name)}
    assert "evaluation/gym" not in notebooks and "report" in notebooks
    assert {"evaluation/alpaca_eval", "evaluation/mt_bench", "evaluation/ifeval"} <= notebooks


@pytest.mark.parametrize(
    "stages",
    [
        "[tapir/1_data_selection, evaluation/ifeval: {student_from: FOLDER}, report: {once: true}]",
        "[tapir/1_data_selection, tapir/4_training: {alpha: 0, alpha_step: 0}]",
        "[tapir/1_data_selection, {repeat: 1, stages: [tapir/2_oracle_judging: {student_from: FOLDER}]}]",
    ],
)
def test_a_file_that_extends_the_papers_study_may_leave_any_of_its_stages_out(stages, tmp_path):
    own = tmp_path / "mine.yaml"
    own.write_text(
        f"extends: {paths.ROOT}/params/tapir.yaml\nstages: {stages.replace('FOLDER', str(tmp_path))}"
    )
    study = load(own)
    assert plan(study, "mine") and "annotator" in study.unused


def test_the_papers_rounds_rise_in_difficulty_and_find_rows_enough():
    rounds = [
        s for s in plan(load(paths.ROOT / "params/tapir.yaml"), "x") if s.notebook == "tapir/4_training"
    ]
    assert [stage.round for stage in rounds] == [0, 1, 2, 3]
    last = rounds[-1].values
    hardest = last["alpha"] + 2 * last["alpha_step"]
    refinement = next(
        s for s in plan(load(paths.ROOT / "params/tapir.yaml"), "x") if s.notebook == "tapir/3_refinement"
    )
    assert hardest <= 1 and hardest * last["round_rows"] <= refinement.values["pool_rows"]


@pytest.mark.parametrize("name", ["cpu", "gpu_24gb", "gpu_80gb", "h200", "fsdp"])
def test_a_hardware_profile_fits_any_batch(name):
    for batch_size in (1, 12, 32):
        config = TrainingConfig.from_parameters({"hardware": name, "batch_size": batch_size})
        assert config.batch_size == batch_size and config.packing == (name != "cpu")


def test_a_profile_of_ones_own_sets_single_fields_and_no_others(tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text("save_steps: 3")
    assert TrainingConfig.from_parameters({"hardware": str(file)}) == TrainingConfig(save_steps=3)
    for text in ("epochs: 3", "packing: 1", "cpu"):
        file.write_text(text)
        with pytest.raises(UserError, match=r"own.yaml: it holds .* It may set device_rows \(int\)"):
            TrainingConfig.from_parameters({"hardware": str(file)})


@pytest.mark.parametrize(
    "file", sorted((paths.ROOT / "params/tasks").glob("*.yaml")), ids=lambda file: file.stem
)
def test_every_style_of_a_taxonomy_has_its_prompt(file):
    styles = {task.refine for task in tasks.load_taxonomy(file).values()} - {"none"}
    assert styles or file.stem == "operations"  # where a response is one word
    assert all((paths.ROOT / f"params/prompts/refine_{style}.md").is_file() for style in styles)


def conversation(template):
    """A conversation as a template writes it: the markers of its ends, the prompt, the whole with one more response, and its first turn alone."""
    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED)
    tokenizer.chat_template = (paths.ROOT / template).read_text()
    turns_of_roles = [("system", "Be kind."), ("user", "Hi"), ("assistant", "Hello"), ("user", "Bye")]
    turns = [{"role": role, "content": content} for role, content in turns_of_roles]
    prompt = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    whole = tokenizer.apply_chat_template(
        [*turns, {"role": "assistant", "content": "So long"}], tokenize=False
    )
    alone = tokenizer.apply_chat_template(turns[1:2], tokenize=False, add_generation_prompt=True)
    return tokenizer.bos_token, tokenizer.eos_token, prompt, whole, alone


def test_llama_2_is_asked_in_its_own_format():
    b, e, prompt, whole, _ = conversation(TEMPLATE)
    assert prompt == f"{b}[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nHi [/INST] Hello {e}{b}[INST] Bye [/INST]"
    assert whole == f"{prompt} So long {e}"


def test_vicuna_is_asked_in_its_own_format():
    b, e, prompt, whole, alone = conversation("params/prompts/chat_vicuna.jinja")
    assert prompt == f"{b}Be kind. USER: Hi ASSISTANT: Hello{e}USER: Bye ASSISTANT:"
    assert whole == f"{prompt} So long{e}"
    assert alone.startswith(f"{b}A chat between a curious user") and alone.endswith(
        "questions. USER: Hi ASSISTANT:"
    )


@pytest.fixture
def entry(tmp_path, monkeypatch):
    """Give the embedded student an entry with this template in models.yaml."""

    def write(template: str) -> None:
        (tmp_path / "models.yaml").write_text(f"lib/gym/student: {{chat_template: {template}}}")
        catalog.listed.cache_clear()

    monkeypatch.setenv("MODELS", str(tmp_path / "models.yaml"))
    yield write
    catalog.listed.cache_clear()


def test_a_student_is_loaded_with_the_template_of_its_entry_or_the_one_that_is_named(entry):
    entry("params/prompts/chat_vicuna.jinja")
    assert "USER" in models.load(EMBEDDED).tokenizer.chat_template
    assert "[INST]" in models.load(EMBEDDED, chat_template=TEMPLATE).tokenizer.chat_template
    with pytest.raises(UserError, match="the chat template nowhere.jinja cannot be read"):
        models.load(EMBEDDED, chat_template="nowhere.jinja")
    entry("nowhere.jinja")
    with pytest.raises(UserError, match="the chat template nowhere.jinja cannot be read"):
        preflight.check("tapir/4_training", {"student": "lib/gym/student"})


def test_the_templates_that_the_suites_models_yaml_names_are_there():
    named = [model.chat_template for model in catalog.listed().values() if model.chat_template]
    assert named and all((paths.ROOT / name).is_file() for name in named)
