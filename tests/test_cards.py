"""Model and data cards: what they say of a run, whose scores they tell, and that no name can break them."""

import json
import socket
from html.parser import HTMLParser
from pathlib import Path

import pytest
from datasets import load_dataset
from huggingface_hub import DatasetCard, ModelCard
from nbconvert.filters import markdown2html

from lib import files, records
from lib.evaluation.registry import JUDGES
from lib.report import cards
from lib.runner import digests, folders, provenance

CORPUS, JUDGED, POOL, TRAINED = (
    f"tapir/{name}" for name in ("1_data_selection", "2_oracle_judging", "3_refinement", "4_training")
)
ROWS = [
    {
        "instruction": f"Say {i}",
        "response": str(i),
        "response_from": "corpus",
        "source": "gym",
        "licence": "MIT",
    }
    for i in range(3)
]
HARD = [
    ROWS[0] | {"response_from": "refined", "task": "Math", "hard": True},
    {
        "instruction": "Say 9",
        "response": "9",
        "response_from": "oracle",
        "source": "expanded:1",
        "licence": "MIT",
    }
    | {"task": "Code", "hard": True},
]
SELECTING = {"source": "gym", "corpus_noise": 0.1, "benchmarks": []}
REFINING = {"selection": "mfd", "threshold": 2.0, "expand": True, "refine": True, "corpus_responses": False}
REFINING |= {
    "tasks": "params/tasks/gym.yaml",
    "oracle": "exact",
    "judge_model": "",
    "benchmarks": ["/x/a.json"],
}
REFINING |= {"rows_from": f"{JUDGED}/rows.parquet", "corpus_from": f"{CORPUS}/rows.parquet"}
JUDGING = {"oracle": "exact", "judge_model": "", "rows_from": f"{CORPUS}/rows.parquet"}
JUDGING |= {"student_from": TRAINED + "@{round-1}/student"}
TRAINING = {"student": "lib/gym/student", "epochs": 1.0, "student_from": TRAINED + "@{round-1}/student"}
TRAINING |= {"pool_from": f"{POOL}/pool.parquet?", "corpus_from": f"{CORPUS}/rows.parquet"}
ASKING = {"student_from": f"{TRAINED}/student", "split": "test"}
SCORED = {"gym.accuracy": 0.5, "gym.accuracy_low": 0.4, "gym.accuracy_high": 0.6, "gym.cut": 0.25}


class Study:
    """A run's folder with stages that are as the runner leaves them, and their summary."""

    def __init__(self, folder: Path):
        self.folder, self.lines, self.about = folder, [], {}

    def stage(self, name: str, values: dict, metrics: dict, arm: str = "tapir", **rows: list[dict]) -> Path:
        """A complete stage with these files of rows; a notebook of training leaves a student, too."""
        folder = self.folder / arm / "s0" / name
        part = folder.with_name(f"{folder.name}.part")
        part.mkdir(parents=True)
        for file, content in rows.items():
            records.write(records.build(content), part / f"{file}.parquet")
        if "training" in name:
            (part / "student").mkdir()
            (part / "student/config.json").write_text(json.dumps({"name": name}))
        files.write_json(part / "metrics.json", metrics)
        provenance.complete(provenance.new_plan(name, "key", values, {}, "demo"), part, folder)
        self.line(name, arm, folder)
        return folder

    def line(self, name: str, arm: str, folder: Path) -> None:
        place = folder.relative_to(self.folder).as_posix()
        self.lines.append(
            {"name": name, "arm": arm, "seed": 0, "status": "done", "seconds": 1, "folder": place}
        )

    def cards(self) -> dict[str, Path]:
        """The cards, by the folder of the run that each lies in."""
        told = {"run": "demo", "status": "complete", "arms": {line["arm"]: {} for line in self.lines}}
        told |= {"command": "python -m lib.run params/demo.yaml", "stages": self.lines, **self.about}
        files.write_json(self.folder / "summary.json", told)
        written = cards.write(self.folder)
        return {path.parent.relative_to(self.folder).as_posix(): path for path in written}


@pytest.fixture
def study(tmp_path, monkeypatch):
    def refuse(*_):
        raise AssertionError("a card needs no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(provenance, "commit", lambda: "c0ffee+")
    return Study(tmp_path / "demo")


def tapir(study: Study, rows=ROWS, hard=HARD, selecting=(), refining=(), training=()) -> Study:
    """Two rounds and an evaluation of the last one's student."""
    study.stage(f"{CORPUS}@0", SELECTING | dict(selecting), {"corpus.kept": 3}, rows=rows, held_out=rows[:1])
    trained = TRAINING | dict(training)
    study.stage(f"{TRAINED}@0", trained, {"training.round_0.rows": 3}, rows=rows)
    study.stage(f"{JUDGED}@1", JUDGING, {"oracle.calls": 6, "judging.student_tokens": 70}, rows=rows)
    pool = {"pool": hard, "rest": rows[1:]}
    study.stage(f"{POOL}@1", REFINING | dict(refining), {"pool.rows": 2, "oracle.calls": 4}, **pool)
    for n in (1, 2):
        taught = {f"training.round_{n}.rows": 2, f"training.round_{n}.response_tokens": 12_345}
        study.stage(f"{TRAINED}@{n}", trained, taught, rows=[hard[n - 1], rows[2]])
    study.stage("evaluation/gym@2", ASKING, SCORED)
    return study


STUDENT = f"tapir/s0/{TRAINED}@2/student"


def test_a_student_claims_the_scores_of_its_own_evaluation_with_their_intervals(study):
    card = ModelCard.load(tapir(study).cards()[STUDENT])
    [score] = card.data.eval_results
    assert (score.metric_type, score.metric_value, score.dataset_split) == ("gym.accuracy", 0.5, "test")
    assert score.metric_name == "gym.accuracy, 95 % interval 0.4 to 0.6"
    assert "| `gym.accuracy` | 0.5 | 0.4 to 0.6 |" in card.text and "`gym.cut` 0.25" in card.text
    assert card.data.library_name == "transformers" and card.data.base_model is None  # the hub has none such


def test_an_earlier_round_was_not_evaluated_and_claims_no_score(study):
    found = tapir(study).cards()
    for n in (0, 1):
        card = ModelCard.load(found[f"tapir/s0/{TRAINED}@{n}/student"])
        assert card.data.eval_results is None and "gym.accuracy" not in card.text
        assert "This round was not evaluated: no score of the run is its own." in card.text


def test_rows_are_counted_over_the_rounds_and_what_led_to_a_student_is_paid_once(study):
    text = tapir(study).cards()[STUDENT].read_text()
    assert "7 rows in all, 4 of them unique." in text
    assert "| `corpus` | 5 | 71.4% |" in text and "| `Math` | 1 | 14.3% |" in text
    assert "| `hard` | 2 | 28.6% |" in text and "| not noted | 5 | 71.4% |" in text
    assert "| `expanded` | `MIT` | 1 | 14.3% |" in text and "| 2 | 2 | 12,345 |" in text
    assert "| stages | 6 |" in text and "| oracle calls | 10 |" in text
    assert (
        "at the commit `c0ffee+`, with changes of its own (+):\n\n    python -m lib.run params/demo.yaml\n"
        in text
    )
    assert "USD" not in text  # nothing recorded it


def test_a_stage_that_arms_share_has_one_card_which_names_them(study):
    tapir(study)
    shared = study.folder / "tapir/s0"
    for name in (f"{CORPUS}@0", f"{TRAINED}@0"):
        study.line(name, "warm_up", shared / name)
    study.stage("evaluation/gym@0", ASKING, SCORED | {"gym.accuracy": 0.45}, arm="warm_up")
    found = study.cards()
    assert not [place for place in found if place.startswith("warm_up")]
    text = found[f"tapir/s0/{TRAINED}@0/student"].read_text()
    assert "| arm and seed | `tapir`, 0; `warm_up`, 0 |" in text
    assert "| `gym.accuracy` | 0.45 | 0.4 to 0.6 |" in text  # that arm's student is this one


def test_scores_of_recorded_answers_are_no_students(study):
    study = tapir(study)
    study.stage("evaluation/mt_bench@2", ASKING | {"answers": "a.jsonl"}, {"mt_bench.score": 9.0})
    assert "mt_bench" not in study.cards()[STUDENT].read_text()


def test_a_judge_that_also_taught_is_named_and_what_was_taught_of_a_benchmark_is_told(study):
    tapir(
        study,
        selecting={"source": "tatsu-lab/alpaca", "benchmarks": ["b.json"]},
        refining={"oracle": "gpt-4"},
    )
    metrics = {f"alpaca_eval.win_rate{end}": n for end, n in (("", 9.0), ("_low", 8.0), ("_high", 10.0))}
    metrics |= {"alpaca_eval.touched": 12, "alpaca_eval.win_rate_untouched": 8.5}
    folder = study.stage("evaluation/alpaca_eval@2", ASKING | {"annotator": "alpaca_eval_gpt4"}, metrics)
    files.write_json(folder / JUDGES, {"judges": ["gpt-4"]})
    card = ModelCard.load(study.cards()[STUDENT])
    assert "### AlpacaEval 2\n" in card.text and "Judge: `gpt-4`." in card.text
    assert "**`gpt-4` also taught or chose the rows: it judged its own work.**" in card.text
    assert "Expanded rows with a prompt of `a.json` were dropped." in card.text
    assert "`alpaca_eval.touched`: 12 prompts" in card.text
    assert "`alpaca_eval.win_rate` without these prompts: 8.5." in card.text
    assert card.data.datasets == ["tatsu-lab/alpaca"]
    assert "A toy" not in card.text


def test_what_stands_in_for_a_benchmark_is_not_called_by_its_name(study):
    metrics = {f"ifeval.prompt_strict{end}": 0.5 for end in ("", "_low", "_high")}
    tapir(study).stage("evaluation/ifeval@2", ASKING | {"prompts": ""}, metrics)
    results = ModelCard.load(study.cards()[STUDENT]).data.eval_results
    assert [(it.dataset_type, it.dataset_config) for it in results] == [("gym", "gym"), ("gym", "ifeval")]
    assert results[1].dataset_name.endswith("in the form of IFEval: no figure of IFEval")


@pytest.mark.parametrize("place, rows", [(f"{CORPUS}@0", ROWS), (f"{POOL}@1", HARD)])
def test_a_folder_of_rows_is_loaded_as_a_data_set_of_these_alone(study, tmp_path, place, rows):
    folder = tapir(study).cards()[f"tapir/s0/{place}"].parent
    assert len(list(folder.glob("*.parquet"))) == 2
    loaded = load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert list(loaded) == ["train"] and loaded["train"]["instruction"][:] == [
        it["instruction"] for it in rows
    ]
    assert loaded["train"].features == records.FEATURES


@pytest.mark.parametrize(
    "licences, stated, shown",
    [
        (["MIT", "mit"], "mit", "All rows state one licence: `mit`."),
        (["MIT", "Apache-2.0"], "other", "| `gym` | `Apache-2.0` | 1 | 50.0% |"),
        (["MIT", ""], "other", "| `gym` | unknown | 1 | 50.0% |"),
        (["Ask Bob", "Ask Bob"], "other", "| `gym` | `Ask Bob` | 2 | 100.0% |"),
    ],
)
def test_a_licence_is_stated_where_all_rows_state_one_that_is_known(study, licences, stated, shown):
    rows = [row | {"licence": licence} for row, licence in zip(ROWS, licences, strict=False)]
    study.stage(f"{CORPUS}@0", SELECTING, {}, rows=rows)
    study.stage(f"{TRAINED}@0", TRAINING, {}, rows=rows)
    data, model = study.cards().values()
    assert DatasetCard.load(data).data.license == ModelCard.load(model).data.license == stated
    assert shown in data.read_text()


def test_a_model_that_wrote_responses_or_was_there_before_leaves_no_licence(study):
    tapir(study, refining={"oracle": "gpt-4"}, training={"student": "Qwen/Qwen2.5-1.5B"})
    found = study.cards()
    assert DatasetCard.load(found[f"tapir/s0/{POOL}@1"]).data.license == "other"
    card = ModelCard.load(found[f"tapir/s0/{TRAINED}@0/student"])
    assert (card.data.license, card.data.base_model) == ("other", "Qwen/Qwen2.5-1.5B")
    assert "What the student had read before is not known." in card.text


def test_a_student_from_a_folder_is_no_name_of_the_hub_and_its_place_is_not_told(study, tmp_path):
    (tmp_path / "mine").mkdir()
    card = ModelCard.load(tapir(study, training={"student": str(tmp_path / "mine")}).cards()[STUDENT])
    assert card.data.base_model is None
    assert "Made from: a local folder, `mine`." in card.text and str(tmp_path) not in card.text


def self_guide(study: Study) -> Study:
    names = ("1_input_generation", "2_output_generation", "3_training")
    written, labelled, taught = (f"self_guide/{name}@0" for name in names)
    study.stage(written, {"task": "gym:reverse", "student": "lib/gym/student"}, {})
    pairs = [
        row | {"response_from": "student", "licence": "", "source": "self_guide:reverse"} for row in ROWS
    ]
    values = {"student": "lib/gym/student", "target_from": written.removesuffix("@0")}
    study.stage(labelled, values, {"self_guide.pairs.kept": 3}, pairs=pairs)
    values |= {
        "pairs_from": "self_guide/2_output_generation/pairs.parquet",
        "output_prompt": "self_guide_output",
    }
    folder = study.stage(taught, values, {"self_guide.training.gold.rows": 2})
    (folder / "baselines/gold/student").mkdir(parents=True)
    (folder / "baselines/gold/student/config.json").write_text("{}")
    asked = {
        "student_from": "self_guide/3_training/student",
        "baselines_from": "self_guide/3_training/baselines?",
    }
    lines = {"ni.exact_match": 0.7, "ni.gold.exact_match": 0.9, "ni.few_shot.exact_match": 0.6}
    lines |= {"ni.gain_over.few_shot.exact_match": 0.1}
    metrics = {f"{name}{end}": value for name, value in lines.items() for end in ("", "_low", "_high")}
    study.stage("evaluation/natural_instructions@0", asked | values, metrics)
    return study


def test_what_a_student_taught_itself_and_its_controls_each_claim_their_own_line(study):
    found = {place: ModelCard.load(path) for place, path in self_guide(study).cards().items()}
    own, control = (
        found[f"tapir/s0/self_guide/3_training@0/{name}"] for name in ("student", "baselines/gold/student")
    )
    assert [it.metric_type for it in own.data.eval_results] == ["ni.exact_match"]
    assert "| `ni.gain_over.few_shot.exact_match` | 0.1 |" in own.text and "`ni.few_shot" not in own.text
    assert [it.metric_type for it in control.data.eval_results] == ["ni.gold.exact_match"]
    assert "2 rows, which were not kept." in control.text
    assert "Test instances of the task `gym:reverse`" in own.text and "2407.12874" in own.text
    pairs = found["tapir/s0/self_guide/2_output_generation@0"]
    assert pairs.data.configs[0]["data_files"] == [{"split": "train", "path": "pairs.parquet"}]
    assert "| `student` | 3 | 100.0% |" in pairs.text and pairs.data.license == "other"


HOSTILE = "a\n---\nlicense: mit\n---\n| x | \\| y | <script>alert(1)</script> ``` `b` {{ 7 * 191 }}"
HOSTILE += "\u202e\x1b[31m &lt;"


class Tags(HTMLParser):
    def __init__(self, page: str):
        super().__init__()
        self.seen: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)


def test_no_name_can_break_a_card(study):
    plain = {place: path.read_text() for place, path in tapir(Study(study.folder / "plain")).cards().items()}
    named = {name: HOSTILE for name in ("source", "licence")}
    strange = [[row | named for row in rows] for rows in (ROWS, HARD)]
    strange[1][0]["task"] = strange[1][0]["response_from"] = HOSTILE
    study.about = {"title": HOSTILE, "command": HOSTILE}
    metrics = {f"gym.{HOSTILE}{end}": 0.5 for end in ("", "_low", "_high")}
    tapir(
        study, *strange, refining={name: HOSTILE for name in ("selection", "tasks", "oracle", "judge_model")}
    )
    study.stage("evaluation/gym@1", ASKING | {"student_from": f"{TRAINED}@1/student"}, metrics)
    for place, path in study.cards().items():
        card = (ModelCard if "student" in place else DatasetCard).load(path)
        assert card.data.license == "other" and str(card) == path.read_text()
        assert set(card.data.to_dict()) - {"model-index"} == set(metadata(plain[place])) - {"model-index"}
        assert "1337" not in card.text and "\u202e" not in card.text and "\x1b" not in card.text
        tags = Tags(markdown2html(card.text)).seen
        assert "script" not in tags and tags.count("h2") == Tags(markdown2html(plain[place])).seen.count("h2")
        assert_tables_are_whole(card.text)


def metadata(text: str) -> dict:
    return DatasetCard(text).data.to_dict()


def assert_tables_are_whole(text: str) -> None:
    """Every line of a table has as many cells as its head."""
    width = 0
    for line in text.splitlines():
        cells = line.count("|") if line.startswith("|") else 0
        assert not cells or not width or cells == width, line
        width = cells


def test_cards_change_no_digest_and_damage_no_stage(study):
    tapir(study)
    places = [study.folder / line["folder"] for line in study.lines]
    before = [digests.digest(place) for place in [*places, study.folder / STUDENT]]
    assert study.cards()
    assert [digests.digest(place) for place in [*places, study.folder / STUDENT]] == before
    assert not any(map(folders.damage, places))
    assert not list(study.folder.rglob("*.tmp"))


def test_a_card_that_says_the_same_is_left_untouched(study):
    before = {path: path.stat().st_mtime_ns for path in tapir(study).cards().values()}
    assert {path: path.stat().st_mtime_ns for path in study.cards().values()} == before
    study.about = {"title": "Another question"}
    assert all(path.stat().st_mtime_ns > before[path] for path in study.cards().values())


def test_a_readme_that_a_stage_wrote_itself_stays_and_nothing_is_written_of_a_run_without_stages(study):
    assert study.folder.mkdir() or study.cards() == {}
    folder = study.stage(f"{CORPUS}@0", SELECTING, {}, rows=ROWS)
    record = folders.record(folder)
    (folder / "README.md").write_text("mine")
    files.write_json(folder / "stage.json", record | {"files": digests.listing(folder)})
    assert study.cards() == {} and (folder / "README.md").read_text() == "mine"


def test_a_run_that_failed_says_that_something_is_missing(study):
    study.about = {"status": "failed"}
    study.stage(f"{TRAINED}@0", TRAINING, {}, rows=ROWS)
    study.lines.append(
        {"name": "evaluation/gym@0", "arm": "tapir", "seed": 0, "status": "failed", "seconds": 1}
    )
    [path] = study.cards().values()
    assert "The run was `failed` when this was written" in path.read_text()
