"""A real student, oracle and judge: SmolLM2-135M, behind llama.cpp's server where it is asked by URL."""

import itertools
import json
import re
from pathlib import Path

import llama_server
import papermill
import pytest
from chat_server import ChatServer
from scripted import Script, unlike
from tiny import answer

from lib import models, paths
from lib.errors import UserError
from lib.evaluation import alpaca
from lib.models.loading import unpack
from lib.report import __main__ as report
from lib.run import run_study
from lib.runner import folders

pytestmark = pytest.mark.slow  # a model of 135 M parameters on a CPU

PARAMS, DATA = paths.ROOT / "params", paths.recorded_data()
ROWS = [
    ("Name three primary colors.", "", "Red, yellow and blue."),
    ("Rewrite the sentence in the past tense.", "She walks to school.", "She walked to school."),
    ("What is the capital of Italy?", "", "The capital of Italy is Rome."),
    ("Give one reason to drink water.", "", "Water keeps the body hydrated."),
    ("Translate the word to French.", "cat", "chat"),
    ("Write a short sentence about the moon.", "", "The moon lights the quiet night."),
    ("Classify the animal as a bird or a mammal.", "eagle", "Bird"),
    ("What is 15 minus 6?", "", "15 minus 6 is 9."),
    ("Suggest a title for a story about a lost dog.", "", "The Long Way Home"),
    ("List two uses of a brick.", "", "A brick can build a wall or hold a door open."),
    ("Correct the spelling mistake.", "I recieved a letter.", "I received a letter."),
    ("Explain why the sky is blue.", "", "Air scatters blue light more than red light."),
]
WORDS = "length_constraints:number_words"
PROMPTS = [  # as IFEval has them
    ("Name three rivers. Use no commas.", "punctuation:no_comma", {}),
    ("Describe the sea in one sentence, all in lowercase.", "change_case:english_lowercase", {}),
    ("Name a color. Answer in 3 words or more.", WORDS, {"relation": "at least", "num_words": 3}),
    ("Praise tea. Wrap your entire response with double quotation marks.", "startend:quotation", {}),
    ("Greet me. Include the word 'friend'.", "keywords:existence", {"keywords": ["friend"]}),
]
UNREAD = r"\d% of the verdicts could not be read"


def lines(path: Path, rows: list[dict]) -> str:
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


@pytest.fixture(scope="module")
def gguf(tmp_path_factory):
    return llama_server.smollm2(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def student(gguf, tmp_path_factory):
    """The student as `make smollm2` makes it."""
    folder = tmp_path_factory.mktemp("models") / "smollm2"
    unpack(gguf, folder)
    return str(folder)


@pytest.fixture(scope="module")
def url(gguf):
    with llama_server.serve(gguf) as url:
        yield url


@pytest.fixture
def prompts(tmp_path):
    named = zip(range(len(PROMPTS)), *zip(*PROMPTS, strict=True), strict=True)
    rows = [
        {"key": key, "prompt": prompt, "instruction_id_list": [name], "kwargs": [kwargs]}
        for key, prompt, name, kwargs in named
    ]
    return lines(tmp_path / "prompts.jsonl", rows)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a params file; return its summary, None where too few of the verdicts could be read."""
    monkeypatch.setenv("OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.setenv("LEDGER", str(tmp_path / "ledger.sqlite"))

    def run(name: str, **values) -> dict | None:
        values = {key.replace("__", "."): str(value) for key, value in values.items()}
        try:
            return run_study(PARAMS / f"{name}.yaml", values)
        except UserError as error:
            assert re.search(UNREAD, str(error)), str(error)
            return None

    return run


def test_the_student_that_make_smollm2_makes_answers_and_stops_by_itself(student):
    questions_asked = ["What is the capital of France?", "Name the largest planet in our solar system."]
    prompts = [[{"role": "user", "content": text}] for text in questions_asked]
    replies = [reply for (reply,) in answer(models.load(student), prompts, max_new_tokens=40)]
    assert "Paris" in replies[0].text and "planet" in replies[1].text
    assert not any(reply.truncated for reply in replies)


FEW = {"judged_rows": 6, "labelled_rows": 0, "pool_rows": 6, "round_tokens": 40, "max_new_tokens": 24}
FEW |= {"threshold": -9.0}  # student and oracle are the same model: every row counts as hard


def few_rows(folder: Path) -> str:
    rows = [dict(zip(("instruction", "input", "output"), row, strict=True)) for row in ROWS]
    return lines(folder / "rows.jsonl", rows)


@pytest.fixture
def study(run, student, url, prompts, tmp_path):
    """Run params/smollm2.yaml on a dozen rows, with the student's own weights as oracle."""
    few = FEW | {"oracle_max_tokens": 40, "random__rounds": 1, "tapir__rounds": 1}
    few |= {"source": few_rows(tmp_path), "prompts": prompts, "student": student, "oracle": f"smollm2@{url}"}
    return lambda **values: run("smollm2", **few | values)


def verdict(text: str) -> str:
    """Prefer the longer response, as a judge that can write verdicts would on these rows."""
    first, second = (part.split("\n\n")[0] for part in text.split("[Response of assistant ")[1:])
    return f"8 {4 + len(second) % 3}" if len(first) > len(second) else f"{4 + len(first) % 3} 8"


def test_the_whole_study_ends_or_names_the_share_of_unread_verdicts_and_ends_with_a_judge_that_can(
    study, tmp_path
):
    outputs = tmp_path / "outputs/smollm2"
    alone = study()  # SmolLM2 mostly answers the instruction instead of judging
    checked = json.loads((outputs / "random/s0/evaluation/ifeval@1/metrics.json").read_text())
    assert alone is None or alone["status"] == "complete"
    assert checked["ifeval.n"] == len(PROMPTS)
    with ChatServer(Script(judge=verdict)) as judge:  # two of six responses are cut: no verdicts on them
        summary = study(judge=f"judge@{judge.url}", judge_scores="text", unfit_judge="warn")
    assert summary["status"] == "complete" and (outputs / "report.html").is_file()
    assert all("ifeval.prompt_strict" in arm["metrics"] for arm in summary["arms"].values())
    assert set(summary["comparisons"]) == {"tapir_vs_random", "tapir_vs_untrained", "random_vs_untrained"}
    assert summary["arms"]["tapir"]["metrics"]["training.round_1.pool_share_of_rows"] > 0


def test_the_recipe_for_a_small_gpu_runs_on_a_cpu_and_its_report_needs_no_embedded_world(
    run, student, prompts, tmp_path, forked_kernels
):
    """params/small.yaml on a dozen rows: the adapter as in the file, a server with written replies as oracle."""
    text = (PARAMS / "small.yaml").read_text().replace("extends: ", f"extends: {PARAMS}/")
    (tmp_path / "small.yaml").write_text(text.replace("max_new_tokens: 1280", "max_new_tokens: 24"))
    number = itertools.count()
    oracle = Script(
        answer="One short sentence, and a second one.",
        classify="Math",
        expand=lambda text: f"<instruction>Add {unlike(next(number))}.</instruction>",
        refine="First one step, then the next one, and so to the end.",
        judge=verdict,
    )
    few = FEW | {"source": few_rows(tmp_path), "prompts": prompts, "student": student, "hardware": "cpu"}
    few |= {"pool_rows": 12, "judged_rows": 4, "round_rows": 4, "round_tokens": 24, "held_out_share": 0.3}
    few |= {"epochs": 1, "unfit_judge": "warn", "random__rounds": 1, "tapir__rounds": 1}
    with ChatServer(oracle) as server:
        summary = run(tmp_path / "small", oracle=f"scripted@{server.url}", **few)
    assert summary["status"] == "complete" and set(summary["arms"]) == {"warm_up", "random", "tapir"}
    for arm in summary["arms"].values():
        assert arm["metrics"]["ifeval.n"] == len(PROMPTS) and arm["metrics"]["held_out.rows"] > 0
    assert summary["arms"]["tapir"]["metrics"]["pool.rows"] > 0
    trained = tmp_path / "outputs/small/tapir/s0/tapir/4_training@1"
    assert folders.record(trained)["parameters"]["adapter_rank"] == 16
    page = (tmp_path / "outputs/small/report.html").read_text()
    assert "IFEval" in page and "held-out loss" in page and "evaluation-gym" not in page  # a section of it


def test_the_notebooks_run_in_their_order_by_hand(student, gguf, prompts, tmp_path, monkeypatch):
    """1 to 4, IFEval before and after, and the report, with a small file that extends params/smollm2.yaml."""
    for name, value in {"OUTPUTS": "outputs", "LEDGER": "ledger.sqlite"}.items():
        monkeypatch.setenv(name, str(tmp_path / value))
    monkeypatch.setenv("PYTHONPATH", str(paths.ROOT))
    monkeypatch.delenv("STAGE", raising=False)
    order = [
        f"tapir/{name}" for name in ("1_data_selection", "2_oracle_judging", "3_refinement", "4_training")
    ]
    order = [(name, {}) for name in order]
    order += [("evaluation/ifeval", {"round": 0, "max_new_tokens": 24})]
    order += [("evaluation/ifeval", {"max_new_tokens": 24}), ("report", {})]
    with llama_server.serve(gguf, parallel=2, most=200) as url, ChatServer(Script(judge=verdict)) as judge:
        few = FEW | {"source": few_rows(tmp_path), "prompts": prompts, "student": student}
        few |= {"oracle": f"smollm2@{url}", "judge": f"judge@{judge.url}", "judge_scores": "text"}
        few |= {"unfit_judge": "warn"}  # the server cuts a response of the oracle: there is no verdict on it
        file = tmp_path / "mine.yaml"
        file.write_text(json.dumps({"extends": str(PARAMS / "smollm2.yaml"), "params": few | {"rounds": 1}}))
        for notebook, own in order:
            path = folders.notebook_path(notebook)
            papermill.execute_notebook(
                path,
                tmp_path / "executed.ipynb",
                {"params_file": str(file)} | own,
                kernel_name="python3",
                progress_bar=False,
                cwd=path.parent,
            )
    top = tmp_path / "outputs/interactive/main/s0"
    record = folders.record(top / "tapir/4_training@1")
    assert record["parameters"]["student"] == student and record["parameters"]["learning_rate"] == 5e-5
    before, after = (folders.record(top / f"evaluation/ifeval@{number}") for number in (0, 1))
    assert before["inputs"]["student_from"] is None
    assert after["inputs"]["student_from"] == str(top / "tapir/4_training@1/student")
    assert folders.metrics(top / "evaluation/ifeval@1")["ifeval.n"] == len(PROMPTS)
    assert report.main(["interactive"]) == 0
    page = (tmp_path / "outputs/interactive/report.html").read_text()
    assert "before" in page and "round_1" in page


def test_a_served_student_gives_replies_that_ifeval_checks(run, student, url, prompts, tmp_path):
    summary = run("ifeval", student=f"{student}@{url}", prompts=prompts, max_new_tokens=48)
    assert summary["arms"]["main"]["metrics"]["ifeval.n"] == len(PROMPTS)
    responses = tmp_path / "outputs/ifeval/main/s0/evaluation/ifeval@0/responses.jsonl"
    replies = [json.loads(line)["response"] for line in responses.read_text().splitlines()]
    assert len(set(replies)) == len(PROMPTS) and all(replies)


@pytest.fixture
def recorded():
    if not DATA.is_dir():
        pytest.skip(f"recorded data is absent ({DATA}): set RECORDED_DATA to its folder")
    return DATA


def test_alpaca_eval_reads_the_probabilities_of_a_real_server(run, student, url, recorded, tmp_path):
    file = recorded / "alpaca_eval/gpt4_1106_preview/model_outputs.json.gz"
    outputs = alpaca.outputs(str(file), "reference_from")
    shortest = sorted(outputs, key=lambda row: len(row["instruction"] + row["output"]))
    metrics = run(
        "alpaca_eval",
        student=student,
        reference_from=lines(tmp_path / "references.jsonl", shortest[:3]),
        benchmark_judge=f"smollm2@{url}",
        max_new_tokens=24,
        unfit_judge="warn",
    )["arms"]["main"]["metrics"]
    assert metrics["alpaca_eval.n"] + metrics["alpaca_eval.unread"] == 3
    assert metrics["alpaca_eval.n"] and 0 <= metrics["alpaca_eval.win_rate"] <= 100


def test_mt_bench_counts_the_verdicts_of_a_real_judge(run, student, url, recorded, tmp_path):
    official = recorded / "mt_bench/official"
    questions, references = (
        [json.loads(line) for line in (official / name).read_text().splitlines()]
        for name in ("question.jsonl", "reference_answer_gpt-4.jsonl")
    )
    referenced = {row["question_id"] for row in references}
    questions_asked = [row for row in questions if row["question_id"] in referenced]
    shortest = min(questions_asked, key=lambda row: len("".join(row["turns"])))
    answer = [row for row in references if row["question_id"] == shortest["question_id"]]
    metrics = run(
        "mt_bench",
        student=student,
        questions=lines(tmp_path / "questions.jsonl", [shortest]),
        reference_answers=lines(tmp_path / "references.jsonl", answer),
        judge_prompts=str(official / "judge_prompts.jsonl"),
        benchmark_judge=f"smollm2@{url}",
        max_new_tokens=24,
        unfit_judge="warn",
    )["arms"]["main"]["metrics"]
    counts = [metrics[f"mt_bench.{name}"] for name in ("n", "unread", "cut", "missing")]
    assert sum(counts) == 2 and counts[-1] == 0
