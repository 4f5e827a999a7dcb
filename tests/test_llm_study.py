"""The TAPIR notebooks with a model behind a URL as their oracle, on rows of no embedded world."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from chat_server import ChatServer
from scripted import Script, unlike

from lib.run import run_study

STUDENT = Path(__file__).parents[1] / "lib/gym/student"
KEY = "sk-a-secret-that-nobody-may-see"
ASKING = """stages:
  - tapir/1_data_selection
  - repeat: 1
    stages:
      - tapir/2_oracle_judging: {{student_from: {student}}}
      - tapir/3_refinement
"""
TEACHING = """      - tapir/4_training: {{student_from: {student}, round_rows: 10, round_tokens: 0, alpha: 0.5}}
  - evaluation/gym: {{per_cell: 1}}
  - report: {{once: true}}
"""
PARAMS = """params:
  {{source: {source}, oracle: "a-model@{url}", samples: 1, judged_rows: 8, temperature: 0, max_new_tokens: 8,
   pool_rows: 20}}
"""


def verdict(text: str) -> str:
    """The longer response gets 9, the shorter one 3 or 4, by the instruction."""
    first, second = (part.split("\n\n")[0] for part in text.split("[Response of assistant ")[1:])
    short = 3 + ("3." in text.split("[Response")[0])
    return f"9 {short}\nbecause" if len(first) > len(second) else f"{short} 9\nbecause"


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Write and run the study against a server that says this."""
    monkeypatch.setenv("OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("LEDGER", str(tmp_path / "ledger.sqlite"))
    count = iter(range(10_000))
    replies = {
        "answer": lambda text: f"A long and careful response to: {text} " * 3,
        "classify": "Arithmetic",
        "expand": lambda text: f"<instruction>Add {unlike(next(count))}.</instruction>",
        "refine": "First one step, then the next one, and so to the end. " * 5,
        "judge": verdict,
    }
    rows = [{"instruction": f"Add {i} and {i}.", "input": "", "output": str(2 * i)} for i in range(100, 116)]
    (tmp_path / "rows.json").write_text(json.dumps(rows))

    def run(url: str, stages: str = ASKING, **other):
        places = {"source": tmp_path / "rows.json", "student": STUDENT}
        (tmp_path / "study.yaml").write_text((stages + PARAMS).format(url=url, **places))
        return run_study(tmp_path / "study.yaml", other)

    run.replies = replies
    return run


def test_the_notebooks_ask_a_model_and_a_second_run_asks_nothing(study, tmp_path, monkeypatch):
    with ChatServer(Script(**study.replies)) as server:
        summary = study(server.url, ASKING + TEACHING)
        total = sum(server.counts.values())
        (tmp_path / "outputs/study").rename(tmp_path / "outputs/before")
        shutil.rmtree(tmp_path / "outputs/store")
        monkeypatch.setenv("LEDGER_ONLY", "1")
        again = study(server.url)  # teaching asks nothing
        assert sum(server.counts.values()) == total
    metrics = summary["arms"]["main"]["metrics"]
    assert metrics["judging.rows"] == 8 and metrics["pool.rows"] > 0 and metrics["pool.kept"] > 0
    assert summary["oracle"]["calls"] == again["oracle"]["calls"] == total <= again["oracle"]["cached"]
    assert again["arms"]["main"]["metrics"]["pool.rows"] == metrics["pool.rows"]
    assert "What was taught" in (tmp_path / "outputs/before/report.html").read_text()
    left = subprocess.run(["grep", "-rlF", KEY, tmp_path], capture_output=True, text=True).stdout
    assert left == ""


def test_a_judge_that_can_t_be_read_fails_the_stage_and_names_the_share(study):
    with (
        ChatServer(Script(**study.replies | {"judge": "Both are good."})) as server,
        pytest.raises(Exception, match=r"100.0% of the verdicts could not be read"),
    ):
        study(server.url)
