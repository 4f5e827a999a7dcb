"""Parameters, params files and plans: what is refused, and which value wins. No kernel is started."""

from importlib import metadata

import pytest
from nbformat.v4 import new_code_cell

from lib import files, paths
from lib.errors import UserError
from lib.models import catalog
from lib.run import main
from lib.runner import keys, params
from lib.runner.plan import plan
from lib.runner.study import load

TRAIN = 'learning_rate: float = 2e-5  # peak\nselection: str = "mfd"  # of hard rows\nrounds: int = 1  # of the curriculum'


def planned(project, text: str, **overrides):
    return plan(load(project.params(text), overrides), "demo")


def refusal(project, text: str, **overrides) -> str:
    with pytest.raises(UserError) as error:
        planned(project, text, **overrides)
    return str(error.value)


def cell(source: str) -> dict:
    return {"cells": [{"cell_type": "code", "source": source, "metadata": {"tags": ["parameters"]}}]}


def test_a_later_override_wins(project):
    project.notebook("train", TRAIN)
    params = "params: {learning_rate: 1e-5}"
    arm = "arms: {a: {learning_rate: 4e-5}}"
    entry = "stages: [train: {learning_rate: 3e-5}]"

    def rate(*lines, **overrides):
        return planned(project, "\n".join(lines), **overrides)[0].values["learning_rate"]

    assert rate("stages: [train]") == 2e-5
    assert rate("stages: [train]", params) == 1e-5
    assert rate("stages: [train]", params, arm) == 4e-5
    assert rate(entry, params, arm) == 3e-5  # what a stage alone is given holds in every arm
    assert rate("stages: [train]", params, learning_rate="5e-5") == 5e-5
    assert (
        rate("stages: [train, {repeat: 1, stages: [train: {learning_rate: 3e-5}]}]", learning_rate="5e-5")
        == 5e-5
    )


def test_an_override_of_what_an_arm_sets_must_name_the_arm(project):
    project.notebook("train", TRAIN)
    text = "stages: [train]\narms: {a: {selection: random}, b: {}}"
    assert "-p a.selection=longest" in refusal(project, text, selection="longest")
    stages = planned(project, text, **{"a.selection": "longest"})
    assert [s.values["selection"] for s in stages] == ["longest", "mfd"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("params: {learning_rat: 1}", "no notebook declares learning_rat (did you mean learning_rate?)"),
        ("seed: [1]", "did you mean seeds?"),
        ("params: {seed: 3}", "seed is set by the runner"),
        ("params: {oracle_key: abc}", "no notebook declares oracle_key"),
        ("params: {engine: ray}", "engine is no parameter. Set it in the file itself, beside `params`"),
        ("params: {rounds: 2.5}", "rounds must be int, not float"),
        ("params: {rounds: true}", "rounds must be int, not bool"),
        ("params: {selection: 5}", "selection must be str, not int"),
        ("params: {rounds: 1, rounds: 2}", "rounds stands twice"),
        ("arms: {all: {}}", "all is taken"),
        ("arms: [a, b]", "arms=['a', 'b']"),
        ("primary: [main_vs_other]", "compares other, which is no arm"),
        ("seeds: [a]", "seeds.0='a'"),
        ("seeds: [0]\nexploratory_seeds: [0, 7]", "exploratory_seeds has 7, seeds has not"),
        ("seeds: [0, 1]\nexploratory_seeds: [0]", "exploratory_seeds needs contrasts under `primary`"),
        ("extends: demo.yaml", "extends itself"),
        ("params: [", "demo.yaml"),
    ],
)
def test_a_wrong_params_file_is_refused(project, text, words):
    project.notebook("train", TRAIN)
    wrong = refusal(project, f"stages: [train]\n{text}")
    assert words in wrong and "demo.yaml" in wrong


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        ("trian", "did you mean train?"),
        ("train: {when: selection}", "it must be true or false, not 'mfd'"),
        ("train: {when: __import__('os')}", "__import__ in `when` or `repeat` has no value"),
        ("train: {when: round + 1}", "it must be true or false, not 1"),
        ("train: {when: round ==}", "when='round ==' is no condition"),
        ("train: {when: unknown > 1}", "unknown in `when` or `repeat` has no value"),
        ("{repeat: round, stages: [train]}", "repeat=round: the runner sets this name itself"),
        (
            "{repeat: selection, stages: [train]}",
            "repeat=selection: 'mfd' is no number of rounds from 0 to 1000",
        ),
    ],
)
def test_a_wrong_stage_is_refused(project, stages, words):
    project.notebook("train", TRAIN)
    assert words in refusal(project, f"stages: [{stages}]")


@pytest.mark.parametrize(
    ("stage", "override", "words"),
    [
        ("train", "selectoin", "did you mean selection?"),
        ("train: {selection: random}", "selection", "sets it stage by stage"),
    ],
)
def test_an_override_that_would_not_act_is_refused(project, stage, override, words):
    project.notebook("train", TRAIN)
    assert words in refusal(project, f"stages: [{stage}]", **{override: "mfd"})


@pytest.mark.parametrize("name", ["../demo", "a/b", "..", "interactive", ""])
def test_a_run_name_that_is_no_plain_word_is_refused(project, name):
    project.notebook("train", TRAIN)
    study = load(project.params("stages: [train]"))
    with pytest.raises(UserError):
        plan(study, name)


def test_a_list_on_the_command_line_is_read_as_yaml_and_a_text_is_taken_as_it_is():
    assert params.from_text("[1, 2]", "list[int]", "x") == [1, 2]
    assert params.from_text("5", "str", "x") == "5"
    with pytest.raises(UserError, match="must be list"):
        params.from_text("1", "list[int]", "x")


@pytest.mark.parametrize("line", ["x: float | None = None", "x: int = 2 * 3", "x = 3", 'api_key: str = ""'])
def test_a_parameter_without_a_plain_type_and_value_is_refused(line):
    with pytest.raises(UserError):
        params.declared(cell(f"before: int = 1  # fine\n{line}\nafter: int = 1"), "n.ipynb")


# --- plans


def test_stages_before_a_repeat_are_round_0_and_those_after_it_the_last_round(project):
    for name in ("data", "judge", "train", "gym", "report"):
        project.notebook(name, "")
    text = """
stages: [data, train, {repeat: rounds, stages: [judge: {when: "round == 1 or rejudge"}, train]}, gym, report: {once: true}]
arms: {warm_up: {rounds: 0}, full: {}}
params: {rounds: 2, rejudge: false}
"""
    stages = planned(project, text)
    assert [s.name for s in stages if s.arm == "warm_up"] == ["data@0", "train@0", "gym@0"]
    full = ["data@0", "train@0", "judge@1", "train@1", "train@2", "gym@2"]
    assert [s.name for s in stages if s.arm == "full"] == full
    assert [(s.name, s.arm) for s in stages if s.once] == [("report@0", "all")]
    again = [s.name for s in planned(project, text, rejudge="true") if s.arm == "full"]
    assert again.count("judge@2") == 1


def test_an_input_that_nothing_writes_before_is_refused(project):
    project.notebook("data", "")
    project.notebook("train", 'rows_from: str = "data/rows.txt"  # the corpus')
    assert [s.name for s in planned(project, "stages: [data, train]")] == ["data@0", "train@0"]
    assert "rows_from='data/rows.txt': there is no stage data before it. Add data to `stages`" in refusal(
        project, "stages: [train, data]"
    )
    assert "neither a file nor" in refusal(project, "stages: [data, train: {rows_from: nothing.txt}]")
    assert "{round}" in refusal(project, 'stages: [data, train: {rows_from: "data@{round*2}/rows.txt"}]')


BASE = """
stages: [data, train, {repeat: rounds, stages: [judge: {when: "round == 1 or rejudge"}, train]}, exam]
arms: {mfd: {}, random: {selection: random, judge_rows: 5}}
primary: [mfd_vs_random]
comparisons: [random_vs_mfd]
seeds: [0, 1]
exploratory_seeds: [1]
metric: gym.accuracy
params: {rounds: 2, rejudge: false, exam_rows: 9, judge_rows: 3, selection: longest}
"""


@pytest.fixture
def base(project):
    """A study with a parameter for each stage, which other files extend."""
    project.notebook("data", "")
    project.notebook("train", 'selection: str = "mfd"')
    project.notebook("judge", "judge_rows: int = 1")
    project.notebook("exam", "exam_rows: int = 1")
    project.params(BASE, "base")
    return project


@pytest.mark.parametrize(
    ("own", "left", "unused"),
    [
        ("", ["data@0", "train@0", "judge@1", "train@1", "train@2", "exam@2"], set()),
        (
            "stages: [data, {repeat: rounds, stages: [judge: {when: rejudge}, train]}]",
            ["data@0", "train@1", "train@2"],
            {"exam_rows"},
        ),
        ("stages: [data, train]", ["data@0", "train@0"], {"rounds", "rejudge", "judge_rows", "exam_rows"}),
    ],
)
def test_what_a_file_inherits_and_has_no_use_for_is_left_out_and_listed(base, own, left, unused):
    study = load(base.params(f"extends: base.yaml\n{own}"))
    stages = plan(study, "demo")
    assert [s.name for s in stages if (s.arm, s.seed) == ("random", 0)] == left
    assert set(study.unused) == unused
    trained = {s.arm: s.values["selection"] for s in stages if s.notebook == "train"}
    assert trained == {"mfd": "longest", "random": "random"}
    assert set(study.text["params"]).isdisjoint(unused)


def test_an_arm_is_merged_with_the_one_that_it_extends(base):
    arms = "{random: {judge_rows: 7}, longest: }"
    own = load(base.params(f"extends: base.yaml\narms: {arms}"))
    assert own.arms == {"mfd": {}, "random": {"selection": "random", "judge_rows": 7}, "longest": {}}
    assert load(base.params("extends: base.yaml\narms: {mfd: null}")).arms == {
        "random": own.arms["random"] | {"judge_rows": 5}
    }


def test_contrasts_and_seeds_that_a_file_inherits_are_those_of_its_own_arms_and_seeds(base):
    own = load(base.params("extends: base.yaml\narms: {mfd: null, other: {selection: ifd}}"))
    assert set(own.unused) == {"the arm mfd", "mfd_vs_random", "random_vs_mfd"}
    assert own.seeds == {"random": [0, 1], "other": [0, 1]}
    fewer = load(base.params("extends: base.yaml\nseeds: [0]"))
    assert fewer.seeds == {"mfd": [0], "random": [0]}


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ("params: {exam_row: 3}", "no notebook declares exam_row (did you mean exam_rows?)"),
        ("stages: [data]\nparams: {exam_rows: 3}", "no notebook declares exam_rows"),
        ("stages: [data]\narms: {a: {exam_rows: 3}}", "no notebook declares exam_rows"),
        ("stages: [data: {exam_rows: 3}]", "no notebook declares exam_rows"),
        ("arms: {a: {}, mfd: null}\ncomparisons: [a_vs_mfd]", "compares mfd, which is no arm"),
        ("seeds: [0]\nexploratory_seeds: [1]", "exploratory_seeds has 1"),
        ("arms: {mfd: null}\nparams: {selection: ifd}", "every arm sets selection. Set it there"),
    ],
)
def test_a_files_own_unknown_names_are_refused_all_the_same(base, own, words):
    assert words in refusal(base, f"extends: base.yaml\n{own}")


def test_a_plan_lists_once_what_is_left_out(base, capsys):
    assert main([str(base.params("extends: base.yaml\nstages: [data, train]")), "--plan"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("leaves it out: rounds, rejudge, exam_rows, judge_rows\n") == 1


def test_a_name_in_a_condition_that_nothing_sets_is_refused(base):
    stages = 'stages: [data, {repeat: rounds, stages: [judge: {when: "rejudge and round > 1"}]}]'
    assert "rounds in `when` or `repeat` has no value (arm main)" in refusal(base, stages)
    assert planned(base, stages, rejudge="true", rounds="1")
    assert planned(base, f"{stages}\narms: {{a: {{rounds: 1, rejudge: false}}}}")


@pytest.mark.parametrize(
    ("stages", "metric", "words"),
    [
        ("evaluation/ifeval", "ifeval.prompt_strict", None),
        ("evaluation/ifeval", "ifeval.instruction_loose", None),
        ("evaluation/held_out_loss", "held_out.bits_per_byte", None),
        ("exam", "exam.marks", None),  # a notebook of one's own: known after the run
        ("exam", "gym.accuracy", None),
        ("evaluation/ifeval", "ifeval.promt_strict", "(did you mean ifeval.prompt_strict?)"),
        ("evaluation/ifeval", "prompt_strict", "(did you mean ifeval.prompt_strict?)"),
        ("evaluation/ifeval", "exam.marks", "no stage writes it. Name one of ifeval.prompt_strict"),
        ("evaluation/ifeval", "mt_bench.score", "no stage writes it"),
        ("evaluation/ifeval", "5", "metric=5"),
    ],
)
def test_the_metric_is_one_that_the_stages_can_write(base, stages, metric, words):
    base.notebook(stages, "")
    text = f"stages: [{stages}]\nmetric: {metric}"
    if words:
        assert words in refusal(base, text)
    else:
        assert load(base.params(text)).text["metric"] == metric


def test_a_metric_that_a_file_inherits_without_its_stage_is_left_out(base):
    base.notebook("evaluation/ifeval", "")
    base.notebook("evaluation/gym", "")
    base.params("stages: [evaluation/gym, evaluation/ifeval]\nmetric: gym.accuracy", "two")
    study = load(base.params("extends: two.yaml\nstages: [evaluation/ifeval]"))
    assert "metric" not in study.text and study.unused == ("metric=gym.accuracy",)
    assert "no stage writes it" in refusal(
        base, "extends: two.yaml\nstages: [evaluation/ifeval]\nmetric: gym.accuracy"
    )


# --- keys


def key(notebook, values=None, **inputs):
    return keys.stage_key(params.read_notebook(notebook), values or {}, inputs)


def test_the_key_follows_code_and_imported_modules_but_not_comments_or_plots(project):
    path = project.notebook("train", "", "from lib import a, plots")
    project.module("a", "def f():\n    from lib import b")
    project.module("b", "X = 1")
    project.module("plots", "COLOUR = 1")
    before = key(path)
    project.module("b", "X = 1  # a reason")
    project.module("plots", "COLOUR = 2")
    assert key(path) == before
    project.module("b", "X = 2")
    assert key(path) != before
    project.module("b", "X = 1")
    assert key(path) == before
    assert key(project.notebook("train", "", "from lib import a, plots\nx = 1")) != before


def test_modules_of_a_package_are_found_through_relative_imports(project):
    package = project.root / "lib/gym"
    package.mkdir()
    for name, text in {"__init__": "", "draw": "from .world import X", "world": "X = 1", "other": ""}.items():
        (package / f"{name}.py").write_text(text)
    result = keys.modules(keys.code_cells({"cells": [new_code_cell("from lib.gym.draw import draw")]}))
    assert {p.name for p in result if p.parent == package} == {"__init__.py", "draw.py", "world.py"}


def test_seed_and_round_count_only_where_the_code_uses_them(project):
    unused, used = project.notebook("a", ""), project.notebook("b", "", "print(seed)")
    assert key(unused, {"seed": 0, "round": 1}) == key(unused, {"seed": 1, "round": 2})
    assert key(used, {"seed": 0, "round": 1}) == key(used, {"seed": 0, "round": 2})
    assert key(used, {"seed": 0}) != key(used, {"seed": 1})


@pytest.mark.parametrize(
    "code, upgraded, follows",
    [
        ("from peft import LoraConfig", "peft", True),
        ("from peft import LoraConfig", "bitsandbytes", True),  # which quantises below an adapter
        ("import transformers", "accelerate", True),  # which its Trainer runs on
        ("import transformers", "peft", False),
        ("import datasets", "datasets", True),
        ("import json", "torch", False),
    ],
)
def test_the_key_follows_the_versions_of_what_is_imported(project, monkeypatch, code, upgraded, follows):
    path, version = project.notebook("train", "", code), metadata.version
    before = key(path)
    monkeypatch.setattr(metadata, "version", lambda name: "new" if name == upgraded else version(name))
    assert (key(path) != before) == follows


@pytest.mark.parametrize(
    "value",
    [
        "$RECORDED/rows.json",
        "$RECORDED_DATA/rows.json",  # known without being set
        "$RECORDED_DATA/*.json",
        "data/*.json",
    ],
)
def test_the_key_follows_the_content_of_files_that_a_value_names(project, monkeypatch, value):
    path, rows = project.notebook("train", ""), project.root / "data/rows.json"
    rows.parent.mkdir()
    rows.write_text("[]")
    monkeypatch.setenv("RECORDED", str(rows.parent))
    monkeypatch.delenv("RECORDED_DATA", raising=False)
    monkeypatch.setattr(paths, "recorded_data", lambda: rows.parent)
    before = key(path, {"source": value})
    rows.write_text("[1]")
    assert key(path, {"source": value}) != before


def test_the_key_follows_the_content_behind_an_address_wherever_it_is_kept(project, site, monkeypatch):
    path, values = project.notebook("train", ""), {"source": f"{site.url}/rows.json"}
    (site.folder / "rows.json").write_text("[]")
    before = key(path, values)
    monkeypatch.setenv("OUTPUTS", str(project.root / "elsewhere"))
    assert key(path, values) == before
    paths.local(values["source"]).write_text("[1]")
    assert key(path, values) != before


@pytest.mark.parametrize(
    ("changed", "follows"),
    [
        ("prompts/steps.md", True),  # a parameter names it
        ("prompts/judge.md", True),  # the module names it
        ("prompts/rate_quality.md", True),  # an f-string in the module begins its name
        ("tasks/mine.yaml", True),
        ("prompts/other.md", False),
        ("models.yaml", False),
    ],
)
def test_the_key_follows_the_prompts_and_taxonomies_that_are_named(project, changed, follows):
    path = project.notebook("train", "", "from lib import a")
    project.module("a", 'used = ["judge", f"rate_{scale}", "params/models.yaml"]')
    values = {"output_prompt": "steps", "tasks": "params/tasks/mine.yaml"}
    for name in ("prompts", "tasks"):
        (project.root / "params" / name).mkdir()
    file = project.root / "params" / changed
    file.write_text("{}")
    before = key(path, values)
    file.write_text("{}  # twice")
    assert (key(path, values) != before) == follows


def test_the_key_follows_the_folder_of_a_served_student_but_not_where_its_server_is(project):
    asking, training = project.notebook("ask", ""), project.notebook("train", "")
    folder = project.root / "student"
    folder.mkdir()
    (folder / "model").write_text("one")

    def keys(student: str) -> tuple[str, str]:
        return key(asking, {"student": student}), key(training, {"student": student, "learning_rate": 1e-3})

    here, served = keys("./student"), keys("./student@http://localhost:8000/v1")
    assert served == keys("./student@http://localhost:8001/v1")
    assert served[0] != here[0] and served[1] == here[1]
    (folder / "model").write_text("another")
    changed = keys("./student@http://localhost:8000/v1")
    assert changed[0] != served[0] and changed[1] != served[1]


def test_the_key_follows_what_an_entry_of_models_yaml_sends_but_not_its_price(project, monkeypatch):
    path, models = project.notebook("judge", ""), project.root / "models.yaml"
    monkeypatch.setenv("MODELS", str(models))

    def with_entry(text: str) -> str:
        models.write_text(f"m: {{url: http://localhost:1/v1, {text}}}")
        catalog.listed.cache_clear()
        return key(path, {"oracle": "m", "judge": ""})

    before = with_entry("price: [1, 2]")
    assert with_entry("price: [3, 4], concurrency: 9") == before
    assert with_entry("price: [1, 2], extra: {reasoning_effort: high}") != before
    catalog.listed.cache_clear()


def test_the_key_follows_the_chat_template_that_an_entry_of_models_yaml_has_for_the_student(
    project, monkeypatch
):
    path, template = project.notebook("ask", ""), project.root / "a.jinja"
    monkeypatch.setenv("MODELS", str(project.params("a/base: {chat_template: a.jinja}", "models")))
    catalog.listed.cache_clear()
    keys = set()
    for text in ("one", "another"):
        template.write_text(text)
        keys |= {key(path, {"student": "a/base"}), key(path, {"student": "a/other"})}
    assert len(keys) == 3
    catalog.listed.cache_clear()


def test_the_key_follows_the_data_files_of_imported_rooms(project):
    path = project.notebook("train", "", "from lib.gym import draw")
    for name in ("gym/__init__", "gym/draw", "corpus/__init__"):
        project.module(name, "")
    keys_of = []
    for file, text in (("gym/words.txt", "a"), ("gym/words.txt", "b"), ("corpus/other.txt", "c")):
        (project.root / "lib" / file).write_text(text)
        keys_of.append(key(path))
    assert keys_of[0] != keys_of[1] == keys_of[2]


def test_of_an_input_its_stages_key_counts_or_else_its_content(project):
    path = project.notebook("train", "")
    rows = project.root / "input/rows.txt"
    rows.parent.mkdir()
    rows.write_text("1")
    by_content = key(path, rows_from=rows)
    files.write_json(rows.parent / "stage.json", {"key": "a", "files": {}})
    by_key = key(path, rows_from=rows)
    rows.write_text("2")
    assert key(path, rows_from=rows) == by_key != by_content
    files.write_json(rows.parent / "stage.json", {"key": "b", "files": {}})
    assert key(path, rows_from=rows) != by_key
    (rows.parent / "stage.json").unlink()
    assert key(path, rows_from=rows) not in (by_content, by_key)


# --- the notebooks of this project


def notebooks():
    return sorted((paths.ROOT / "notebooks").rglob("*.ipynb"))


def test_committed_notebooks_hold_no_outputs():
    for path in notebooks():
        for cell in params.read_notebook(path)["cells"]:
            assert not cell.get("outputs") and cell.get("execution_count") is None, (
                f"{path}: clear its outputs"
            )


def test_one_name_has_one_type_and_a_help_text_in_all_notebooks():
    kinds = {}
    for path in notebooks():
        content = params.read_notebook(path)
        for name, parameter in params.declared(content, path).items():
            assert kinds.setdefault(name, parameter.kind) == parameter.kind, f"{path}: {name}"


def test_a_reference_to_a_round_before_the_first_is_no_input_and_without_a_round_it_is_the_latest(project):
    project.notebook("train", 'student_from: str = "train@{round-1}/student"  # the round before')
    project.notebook("gym", 'student_from: str = "train/student"  # the latest')
    stages = planned(project, "stages: [train, {repeat: 2, stages: [train]}, gym]")
    assert stages[0].inputs == {"student_from": None}
    assert stages[1].inputs == {"student_from": (stages[0], "student")}
    assert stages[3].inputs == {"student_from": (stages[2], "student")}
