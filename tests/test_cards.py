"""Model and data cards: what they say of a run, whose scores they show, and that no name can break them."""

from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from datasets import load_dataset
from huggingface_hub import DatasetCard, ModelCard
from nbconvert.filters import markdown2html

from lib import files, records
from lib.report import cards
from lib.runner import folders, keys

CORPUS, JUDGED, POOL, TRAINED = (
    f"tapir/{name}" for name in ("1_data_selection", "2_oracle_judging", "3_refinement", "4_training")
)
GYM = {"response_from": "corpus", "source": "gym", "licence": "MIT"}
ROWS = [{"instruction": f"Say {i}", "response": str(i)} | GYM for i in range(3)]
HARD = [ROWS[0] | {"response_from": "refined", "task": "Math", "hard": True}]
HARD += [{"instruction": "Say 9", "response": "9", "response_from": "oracle", "source": "expanded:1"}]
HARD[1] |= {"licence": "MIT", "task": "Code", "hard": True}
SELECTING = {"source": "gym", "corpus_noise": 0.1, "benchmarks": []}
REFINING = {"selection": "mfd", "tasks": "params/tasks/gym.yaml", "oracle": "exact", "judge": ""}
REFINING |= {"benchmarks": ["/x/a.json"]}
JUDGING = {"oracle": "exact", "judge": ""}
TRAINING = {"student": "lib/gym/student", "epochs": 1.0}
ASKING = {"split": "test"}
SCORED = {"gym.accuracy": 0.5, "gym.accuracy_low": 0.4, "gym.accuracy_high": 0.6, "gym.cut": 0.25}


class Study:
    """A run's folder with stages as the runner leaves them, and their summary."""

    def __init__(self, folder: Path):
        self.folder, self.lines, self.about = folder, [], {}

    def stage(self, name: str, values: dict, metrics: dict, inputs: dict, **rows: list[dict]) -> Path:
        """Write a complete stage with these files of rows, to which the run links; training leaves a student."""
        folder, stored = self.folder / "tapir/s0" / name, self.folder / "store" / name
        part = stored.with_name(f"{stored.name}.part")
        part.mkdir(parents=True)
        for file, content in rows.items():
            records.write(records.build(content), part / f"{file}.parquet")
        if "training" in name:
            (part / "student").mkdir()
        files.write_json(part / "metrics.json", metrics)
        files.write_json(part / "progress.json", {"closed": True, "says": f"**{len(rows)}** files of rows."})
        (part / "notebook.ipynb").touch()
        inputs = {parameter: Path(path).resolve() for parameter, path in inputs.items()}
        folders.complete(keys.new_plan(name, "key", values, inputs, "demo/tapir"), part, stored)
        folders.link(folder, stored)
        line = {"name": name, "arm": "tapir", "seed": 0, "folder": folder.relative_to(self.folder).as_posix()}
        self.lines.append(line)
        return folder

    def cards(self) -> dict[str, Path]:
        """Write the cards and return them by the folder that each lies in."""
        summary = {"run": "demo", "status": "complete", "arms": {line["arm"]: {} for line in self.lines}}
        summary |= {"command": "python -m lib.run params/demo.yaml", "stages": self.lines, **self.about}
        files.write_json(self.folder / "summary.json", summary)
        written = cards.write(self.folder)
        return {path.parent.relative_to(self.folder / "tapir/s0").as_posix(): path for path in written}


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.setattr(keys, "commit", lambda: "c0ffee+")
    return Study(tmp_path / "demo")


def tapir(study: Study, rows=ROWS, hard=HARD, selecting=(), refining=(), training=()) -> Study:
    """Write two rounds and an evaluation of the last one's student."""
    corpus = study.stage(f"{CORPUS}@0", SELECTING | dict(selecting), {}, {}, rows=rows, held_out=rows[:1])
    trained, source = TRAINING | dict(training), {"corpus_from": corpus / "rows.parquet"}
    last = study.stage(f"{TRAINED}@0", trained, {"training.round_0.rows": 3}, source, rows=rows)
    inputs = {"student_from": last / "student"} | source
    judged = study.stage(f"{JUDGED}@1", JUDGING, {"oracle.calls": 6}, inputs)
    inputs, metrics = {"rows_from": judged / "rows.parquet"}, {"oracle.calls": 4}
    pool = study.stage(f"{POOL}@1", REFINING | dict(refining), metrics, inputs, pool=hard, rest=rows[1:])
    for n in (1, 2):
        inputs = {"student_from": last / "student", "pool_from": pool / "pool.parquet"} | source
        metrics = {f"training.round_{n}.rows": 2, f"training.round_{n}.response_tokens": 12_345}
        last = study.stage(f"{TRAINED}@{n}", trained, metrics, inputs, rows=[hard[n - 1], rows[2]])
    study.stage("evaluation/gym@2", ASKING, SCORED, {"student_from": last / "student"})
    return study


STUDENT = f"{TRAINED}@2/student"


def test_a_student_claims_the_scores_of_its_own_evaluation_with_their_intervals(study):
    written = tapir(study).cards()
    card = ModelCard.load(written[STUDENT])
    [score] = card.data.eval_results
    assert (score.metric_type, score.metric_value, score.dataset_split) == ("gym.accuracy", 0.5, "test")
    assert score.metric_args == {"low": 0.4, "high": 0.6, "judges": []}
    assert "| `gym.accuracy` | 0.5 | 0.4 to 0.6 |" in card.text
    assert card.data.library_name == "transformers" and card.data.base_model is None  # the hub has none such
    earlier = ModelCard.load(written[f"{TRAINED}@1/student"])
    assert earlier.data.eval_results is None and "No evaluation of this student" in earlier.text


def test_a_card_counts_the_rows_over_the_rounds_and_lists_the_stages_with_what_each_said(study):
    text = tapir(study).cards()[STUDENT].read_text()
    assert "7 rows in all, 4 of them unique." in text
    assert "| `corpus` | 5 |" in text and "| `Math` | 1 |" in text and "| `expanded` | `MIT` | 1 |" in text
    *_, repeat = text.partition("at the commit `c0ffee+`, with changes of its own (+):\n\n")
    assert repeat.startswith("    python -m lib.run params/demo.yaml\n")
    for stage, result in (("Data selection", 2), ("Training, round 0", 1), ("Refinement, round 1", 2)):
        assert f"| `{stage.removesuffix(', round 0')}` | {result} files of rows. |" in text


def test_a_stage_that_arms_share_has_one_card_which_names_them(study):
    tapir(study)
    study.lines += [line | {"arm": "warm_up"} for line in study.lines[:2]]
    written = study.cards()
    assert "| arm and seed | `tapir, 0; warm_up, 0` |" in written[f"{TRAINED}@0/student"].read_text()


def test_scores_of_recorded_answers_are_no_students(study):
    inputs = {"student_from": tapir(study).folder / "tapir/s0" / STUDENT}
    study.stage("evaluation/mt_bench@2", ASKING | {"answers": "a.jsonl"}, {"mt_bench.score": 9.0}, inputs)
    assert "MT-Bench" not in study.cards()[STUDENT].read_text()


@pytest.mark.parametrize("stage, rows", [(f"{CORPUS}@0", ROWS), (f"{POOL}@1", HARD)])
def test_a_folder_of_rows_is_loaded_as_a_data_set_of_these_alone(study, tmp_path, stage, rows):
    folder = tapir(study).cards()[stage].parent
    assert len(list(folder.glob("*.parquet"))) == 2
    loaded = load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert list(loaded) == ["train"] and loaded["train"].features == records.FEATURES
    assert loaded["train"]["instruction"][:] == [row["instruction"] for row in rows]


def test_the_base_model_is_named_if_it_is_of_the_hub_and_a_local_folder_by_its_name_alone(study, tmp_path):
    (tmp_path / "student").mkdir()
    card = ModelCard.load(tapir(study, training={"student": "Qwen/Qwen2.5-1.5B"}).cards()[STUDENT])
    assert card.data.base_model == "Qwen/Qwen2.5-1.5B"
    assert "What the student was trained on before is not known." in card.text
    local = tapir(Study(study.folder.with_name("local")), training={"student": str(tmp_path / "student")})
    card = ModelCard.load(local.cards()[STUDENT])
    assert card.data.base_model is None
    assert "made from `student`." in card.text and str(tmp_path) not in card.text


def self_guide(study: Study) -> Study:
    values = {"task": "gym:reverse", "student": "lib/gym/student"}
    target = study.stage("self_guide/1_input_generation@0", values, {}, {})
    pairs = [row | {"response_from": "student", "source": "self_guide:reverse"} for row in ROWS]
    inputs = {"target_from": target}
    folder = study.stage("self_guide/2_output_generation@0", values, {}, inputs, pairs=pairs)
    folder = study.stage("self_guide/3_training@0", values, {}, {"pairs_from": folder / "pairs.parquet"})
    lines = {"ni.exact_match": 0.7, "ni.gold.exact_match": 0.9, "ni.few_shot.exact_match": 0.6}
    lines |= {"ni.gain_over.few_shot.exact_match": 0.1}
    metrics = {f"{name}{end}": value for name, value in lines.items() for end in ("", "_low", "_high")}
    inputs = {"student_from": folder / "student"}
    study.stage("evaluation/natural_instructions@0", values, metrics, inputs)
    return study


def test_a_student_that_trained_itself_claims_the_scores_of_no_baseline(study):
    written = {folder: ModelCard.load(path) for folder, path in self_guide(study).cards().items()}
    own, pairs = written["self_guide/3_training@0/student"], written["self_guide/2_output_generation@0"]
    assert [result.metric_type for result in own.data.eval_results] == ["ni.exact_match"]
    assert "ni.few_shot" not in own.text and "| `student` | 3 |" in own.text
    assert pairs.data.configs[0]["data_files"] == [{"split": "train", "path": "pairs.parquet"}]


HOSTILE = "a\n---\nlicense: mit\n---\n| x | \\| y | <script>alert(1)</script> ``` `b` {{ 7 * 191 }}"
HOSTILE += "\u202e\x1b[31m &lt;"


def tags(page: str) -> list[str]:
    return [tag.name for tag in BeautifulSoup(markdown2html(page), "html.parser").find_all(True)]


def test_no_name_can_break_a_card(study):
    plain = {stage: path.read_text() for stage, path in tapir(Study(study.folder / "plain")).cards().items()}
    strange = [[row | {"source": HOSTILE, "licence": HOSTILE} for row in rows] for rows in (ROWS, HARD)]
    strange[1][0]["task"] = strange[1][0]["response_from"] = HOSTILE
    study.about = {"title": HOSTILE, "command": HOSTILE}
    tapir(study, *strange, refining={name: HOSTILE for name in ("selection", "oracle", "judge")})
    metrics = {f"{HOSTILE}{end}": 0.5 for end in ("", "_low", "_high")}
    student = study.folder / "tapir/s0" / TRAINED
    study.stage("evaluation/own@1", ASKING, metrics, {"student_from": f"{student}@1/student"})
    for stage, path in study.cards().items():
        card = (ModelCard if "student" in stage else DatasetCard).load(path)
        assert card.data.license == "other" and str(card) == path.read_text()
        fields = set(DatasetCard(plain[stage]).data.to_dict())
        assert set(card.data.to_dict()) - {"model-index"} == fields - {"model-index"}
        assert "1337" not in card.text and "\u202e" not in card.text and "\x1b" not in card.text
        assert "script" not in tags(card.text)
        assert tags(card.text).count("h2") == tags(plain[stage]).count("h2")
        assert_tables_are_whole(card.text)


def assert_tables_are_whole(text: str) -> None:
    """Check that every line of a table has as many cells as its head."""
    width = 0
    for line in text.splitlines():
        cells = line.count("|") if line.startswith("|") else 0
        assert not cells or not width or cells == width, line
        width = cells


def test_cards_change_no_digest_and_damage_no_stage(study):
    stages = [study.folder / line["folder"] for line in tapir(study).lines]
    before = list(map(folders.digest, stages))
    assert study.cards()
    assert list(map(folders.digest, stages)) == before
    assert not any(map(folders.damage, stages))


def test_a_readme_that_a_stage_wrote_itself_stays(study):
    folder = study.stage(f"{CORPUS}@0", SELECTING, {}, {}, rows=ROWS)
    record = folders.record(folder)
    (folder / "README.md").write_text("own")
    files.write_json(folder / "stage.json", record | {"files": folders.listing(folder)})
    assert study.cards() == {} and (folder / "README.md").read_text() == "own"


def test_a_run_that_failed_says_that_something_is_missing(study):
    study.about = {"status": "failed"}
    study.stage(f"{TRAINED}@0", TRAINING, {}, {}, rows=ROWS)
    [path] = study.cards().values()
    assert "The run was `failed` when this was written" in path.read_text()
