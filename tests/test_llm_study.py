"""The TAPIR notebooks with a model behind a URL as their oracle, on rows of no embedded world."""

import json
import subprocess
from pathlib import Path

import pytest
from chat_server import ChatServer
from scripted import Script, unlike

from lib.run import run_study

STUDENT = Path(__file__).parents[1] / "lib/gym/student"
KEY = "sk-a-secret-that-nobody-may-see"
STUDY = """stages:
  - tapir/1_data_selection
  - repeat: 1
    stages:
      - tapir/2_oracle_judging: {{student_from: {student}}}
      - tapir/3_refinement
      - tapir/4_training: {{student_from: {student}, round_rows: 10, round_tokens: 0, alpha: 0.5}}
params:
  {{source: {folder}/rows.json, oracle: "a-model@{url}", judged_rows: 12, temperature: 0,
   max_new_tokens: 8, pool_rows: 20}}
"""


def verdict(text: str) -> str:
    """The longer response gets 9, the shorter one 3 or 4, by the instruction; one verdict of 24 says nothing."""
    instruction, *shown = text.split("[Response of assistant ")
    first, second = (len(part.split("\n\n")[0]) for part in shown)
    if "Add 105 " in instruction and first < second:
        return "Both are good."
    short = 3 + ("3." in instruction)
    return f"9 {short}\nbecause" if first > second else f"{short} 9\nbecause"


@pytest.fixture(scope="module")
def script():
    count = iter(range(10_000))
    return Script(
        answer=lambda text: f"A long and careful response to: {text} " * 3,
        classify="Arithmetic",
        expand=lambda text: f"<instruction>Add {unlike(next(count))}.</instruction>",
        refine="First one step, then the next one, and so to the end. " * 5,
        judge=verdict,
    )


@pytest.fixture(scope="module")
def study(forked_kernels, script, tmp_path_factory):
    """The params file of a study that was run, the server that its oracle is at, and its summary."""
    folder = tmp_path_factory.mktemp("study")
    rows = [{"instruction": f"Add {i} and {i}.", "input": "", "output": str(2 * i)} for i in range(100, 120)]
    (folder / "rows.json").write_text(json.dumps(rows))
    with pytest.MonkeyPatch.context() as patch, ChatServer(script) as server:
        patch.setenv("OUTPUTS", str(folder / "outputs"))
        patch.setenv("LEDGER", str(folder / "ledger.sqlite"))
        patch.setenv("OPENAI_API_KEY", KEY)
        path = folder / "study.yaml"
        path.write_text(STUDY.format(folder=folder, url=server.url, student=STUDENT))
        yield path, server, run_study(path)


def test_the_notebooks_ask_a_model_and_a_verdict_that_can_t_be_read_costs_its_row_alone(study):
    path, server, summary = study
    metrics = summary["arms"]["main"]["metrics"]
    assert metrics["judging.rows"] == 12 and metrics["pool.rows"] > 0 and metrics["pool.kept"] > 0
    assert summary["oracle"]["calls"] == sum(server.counts.values()) and summary["oracle"]["unread"] == 1
    assert (path.parent / "outputs/study/report.html").is_file()
    left = subprocess.run(["grep", "-rlF", KEY, path.parent], capture_output=True, text=True).stdout
    assert left == ""


def test_another_run_of_it_from_the_ledger_alone_asks_nothing_and_ends_the_same(study, monkeypatch):
    path, server, summary = study
    for name in ("2_oracle_judging", "3_refinement"):
        store = path.parent / "outputs/store/tapir"
        (store / name).rename(store / f"{name}_before")
    monkeypatch.setenv("LEDGER_ONLY", "1")
    before = sum(server.counts.values())
    again = run_study(path, name="again")
    assert sum(server.counts.values()) == before <= again["oracle"]["cached"] and not again["oracle"]["calls"]
    pools = [each["arms"]["main"]["metrics"]["pool.rows"] for each in (summary, again)]
    assert pools[0] == pools[1]


def test_a_judge_that_can_t_be_read_fails_the_stage_and_names_the_share(study, script, monkeypatch):
    monkeypatch.setitem(script.replies, "judge", "Both are good.")
    path, server, _ = study
    with pytest.raises(Exception, match=r"100.0% of the verdicts could not be read"):
        run_study(path, {"judge": f"another@{server.url}"}, "unread")
