"""Runs of small notebooks by the real papermill: reuse, restarts, failures, what lies in outputs/."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import psutil
import pytest

import lib.evaluation
from lib import files, paths
from lib.errors import UserError
from lib.report import render
from lib.report.__main__ import main as report
from lib.run import main, run_study
from lib.runner import folders
from lib.stage import open_stage

DATA = '(stage.folder / "rows.txt").write_text("a b c")'
TRAIN = """text = stage.input("rows_from").read_text() + f" {selection}"
_ = (stage.folder / "scores.parquet").write_text(text)
stage.write_metrics({"gym.accuracy": len(text) + seed, "oracle.calls": 2, "gym.lost": float("nan")})"""
ROWS_FROM = 'rows_from: str = "data/rows.txt"  # the corpus\nselection: str = "mfd"  # of hard rows'
SLOW = """import time
path = stage.folder / "rows.txt"
have = len(path.read_text().splitlines()) if path.exists() else 0
for i in range(have, 12):
    stage.report_progress(i, 12)
    with open(path, "a") as file:
        _ = file.write(f"row {i}\\n")
    time.sleep(0.1)"""


def stored(project, path: str) -> Path:
    """The folder in the store that a link in outputs leads to."""
    folder = (project.root / "outputs" / path).resolve()
    assert folder.is_relative_to(project.root / "outputs/store")
    return folder


def statuses(summary):
    return [(line["name"], line["arm"], line["status"]) for line in summary["stages"]]


@pytest.fixture
def study(project, monkeypatch):
    """Data shared by two arms, and training which differs; scores are compared by name alone."""
    stub = types.ModuleType("statistics")
    stub.compare = lambda a, b: {
        "files": [f"{x.parents[1].name} {y.parents[1].name}" for x, y in zip(a, b, strict=True)]
    }
    stub.holm = lambda ps: [len(ps) * p for p in ps]
    stub.across_seeds = lambda folders: {"gym.accuracy": {"mean": 0, "low": 1, "high": len(folders)}}
    monkeypatch.setitem(sys.modules, "lib.evaluation.statistics", stub)
    monkeypatch.setattr(lib.evaluation, "statistics", stub, raising=False)
    project.notebook("data", "", DATA)
    project.notebook("train", ROWS_FROM, "from lib import a", TRAIN)
    project.module("a", "X = 1")
    project.module("plots", "COLOUR = 1")
    return project


def test_arms_share_what_is_equal_and_only_a_change_runs_again(study, capsys):
    text = "stages: [data, train]\narms: {random: {selection: random}, mfd: {}}\nprimary: [mfd_vs_random]"
    path = study.params(text)
    first = run_study(path)
    assert statuses(first) == [
        ("data@0", "random", "done"),
        ("train@0", "random", "done"),
        ("data@0", "mfd", "reused"),
        ("train@0", "mfd", "done"),
    ]
    assert stored(study, "demo/mfd/s0/data@0") == stored(study, "demo/random/s0/data@0")
    assert not os.path.isabs(os.readlink(study.root / "outputs/demo/mfd/s0/data@0"))
    other = run_study(path, name="other")
    assert {status for _, _, status in statuses(other)} == {"reused"} and other["arms"] == first["arms"]
    assert "reused" in capsys.readouterr().out
    assert_summary_is_as_designed(study, first)
    assert_record_is_as_designed(study)

    study.module("plots", "COLOUR = 2")
    assert {status for _, _, status in statuses(run_study(path))} == {"reused"}

    study.module("a", "X = 2")
    again = run_study(path)
    assert [status for _, _, status in statuses(again)] == ["reused", "done", "reused", "done"]
    assert len(list((study.root / "outputs/store/train").iterdir())) == 4  # the earlier two are kept

    study.module("a", "X = 1")
    back = run_study(path)
    assert {status for _, _, status in statuses(back)} == {"reused"}
    assert back["arms"] == first["arms"]

    (study.root / "outputs/demo/mfd/s0/train@0/scores.parquet").write_text("a b c lfd")  # as long as before
    repaired = run_study(path)
    assert [status for _, _, status in statuses(repaired)] == ["reused", "reused", "reused", "done"]
    assert "scores.parquet is not as it was written" in capsys.readouterr().out


def test_arms_whose_settings_are_swapped_are_compared_anew_and_keep_their_own_files(study):
    text = "stages: [data, train]\narms: {a: {selection: %s}, b: {selection: %s}}\nprimary: [a_vs_b]"
    run_study(study.params(text % ("one", "three")))
    swapped = run_study(study.params(text % ("three", "one")))
    assert [swapped["arms"][arm]["metrics"]["gym.accuracy"] for arm in "ab"] == [11, 9]
    assert swapped["comparisons"] == {"a_vs_b": {"files": ["a b"]}}


def test_exploratory_arms_take_fewer_seeds_and_their_contrasts_with_scores_are_corrected(study):
    nothing = dict.fromkeys(("difference", "low", "high")) | {"n": 0}

    def compare(a: list[Path], b: list[Path]) -> dict:
        return {"m": nothing if b[0].parents[1].name == "c" else {"difference": len(a), "p": 0.03}}

    sys.modules["lib.evaluation.statistics"].compare = compare
    text = "stages: [data, train: {when: selection != 'none'}]\nseeds: [0, 1]\nexploratory_seeds: [0]\n"
    text += "primary: [a_vs_b]\ncomparisons: [c_vs_a, c_vs_b, b_vs_c, d_vs_a]\n"
    text += "arms: {a: {}, b: {selection: three}, c: {selection: four}, d: {selection: none}}"
    summary = run_study(study.params(text))
    seeds = {arm: list(result["seeds"]) for arm, result in summary["arms"].items()}
    assert seeds == {"a": ["0", "1"], "b": ["0", "1"], "c": ["0"], "d": ["0"]}
    assert summary["comparisons"] == {
        "a_vs_b": {"m": {"difference": 2, "p": 0.03}},
        "c_vs_a": {"m": {"difference": 1, "p": 0.03, "p_holm": 0.06}},
        "c_vs_b": {"m": {"difference": 1, "p": 0.03, "p_holm": 0.06}},
        "b_vs_c": {"m": nothing},
        "d_vs_a": {},
    }
    assert summary["status"] == "complete"


def assert_summary_is_as_designed(study, summary):
    assert json.loads(study.read("demo/summary.json")) == summary
    assert (summary["run"], summary["status"]) == ("demo", "complete")
    assert summary["arms"]["random"]["metrics"] == {"gym.accuracy": 12, "oracle.calls": 2}
    assert summary["arms"]["mfd"]["seeds"]["0"]["metrics"]["gym.accuracy"] == 9
    assert summary["comparisons"] == {"mfd_vs_random": {"files": ["mfd random"]}}
    assert summary["oracle"] == {"calls": 4, "cached": 0, "failed": 0, "unread": 0, "cut": 0, "usd": 0}


def assert_record_is_as_designed(study):
    folder = study.root / "outputs/demo/random/s0/train@0"
    written = {"scores.parquet", "metrics.json", "stage.json", "notebook.ipynb"}
    assert {path.name for path in folder.iterdir()} == written
    record = json.loads((folder / "stage.json").read_text())
    assert {"key", "parameters", "inputs", "commit", "versions", "seconds", "started", "files"} <= set(record)
    assert record["parameters"]["selection"] == "random" and record["parameters"]["run"] == "demo/random"
    assert record["inputs"]["rows_from"] == str(stored(study, "demo/random/s0/data@0") / "rows.txt")


def test_metrics_are_means_over_seeds_and_the_report_comes_last(study):
    report = """import json
summary = json.loads((stage.run_folder / "summary.json").read_text())
print("accuracy", summary["arms"]["main"]["metrics"]["gym.accuracy"])"""
    study.notebook("report", "", report)
    path = study.params("stages: [data, train, report: {once: true}]\nseeds: [0, 1]")
    summary = run_study(path)
    metrics = summary["arms"]["main"]["metrics"]
    assert (metrics["gym.accuracy"], metrics["gym.accuracy_low"], metrics["gym.accuracy_high"]) == (9.5, 1, 2)
    assert summary["command"] == "python -m lib.run params/demo.yaml"
    assert statuses(summary)[2:] == [
        ("data@0", "main", "reused"),
        ("train@0", "main", "done"),
        ("report@0", "all", "done"),
    ]
    assert "accuracy 9.5" in study.read("demo/report.html")
    assert {status for _, _, status in statuses(run_study(path))} == {"reused"}


def test_a_failure_is_three_lines_and_leaves_a_summary(project, capsys):
    project.notebook("data", "", "x = 1 / 0")
    assert main([str(project.params("stages: [data]"))]) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 3
    assert "data@0" in lines[0] and "x = 1 / 0" in lines[0]
    assert lines[1] == "ZeroDivisionError: division by zero"
    assert lines[2].startswith("see ") and os.path.exists(lines[2].removeprefix("see "))
    summary = json.loads(project.read("demo/summary.json"))
    assert summary["status"] == "failed" and statuses(summary) == [("data@0", "main", "failed")]


def test_the_engine_of_a_run_reaches_its_stages_and_changes_no_key(project, monkeypatch):
    monkeypatch.setattr("lib.models.find_spec", lambda name: True)  # as if Ray were installed
    project.notebook("data", "", '_ = (stage.folder / "rows.txt").write_text(stage.engine)')
    path = project.params("stages: [data]\nengine: ray:2")
    assert statuses(run_study(path)) == [("data@0", "main", "done")]
    assert project.read("demo/main/s0/data@0/rows.txt") == "ray:2"
    monkeypatch.setenv("ENGINE", "local")
    summary = run_study(path)
    assert statuses(summary) == [("data@0", "main", "reused")]
    assert summary["command"] == "python -m lib.run params/demo.yaml --engine local"


def test_an_engine_that_is_none_is_refused_before_anything_runs(project, capsys, monkeypatch):
    monkeypatch.delenv("ENGINE", raising=False)
    project.notebook("data", "", DATA)
    assert main([str(project.params("stages: [data]\nengine: vllm")), "--plan"]) == 1
    assert "engine=vllm: it is unknown. Set local, ray, or ray:4" in capsys.readouterr().err


def test_a_formula_that_cannot_be_drawn_is_shown_as_its_source_and_costs_no_work(project, capsys):
    project.notebook("data", "", DATA, prose="# Data\n\nA formula with a slip: $x^$.")
    assert main([str(project.params("stages: [data]"))]) == 0, capsys.readouterr().err
    assert project.read("demo/main/s0/data@0/rows.txt") == "a b c"
    assert "A formula with a slip: <code>$x^$</code>." in project.read("demo/report.html")


def test_stages_whose_report_cannot_be_drawn_are_kept_and_it_is_drawn_later(project, monkeypatch):
    def broken(notebook, **options):
        raise ValueError("no such colour")

    drawn = render.body
    project.notebook("data", "", DATA)
    project.notebook("more", 'rows_from: str = "data/rows.txt"')
    path = project.params("stages: [data, more]")
    monkeypatch.setattr(render, "body", broken)
    with pytest.raises(UserError, match="all stages of demo are recorded, .*python -m lib.report demo"):
        run_study(path)
    summary = json.loads(project.read("demo/summary.json"))
    assert summary["status"] == "complete"
    assert statuses(summary) == [("data@0", "main", "done"), ("more@0", "main", "done")]
    with pytest.raises(ValueError, match="no such colour"):  # whole, for who looks for the cause
        report([summary["run"]])
    monkeypatch.setattr(render, "body", drawn)
    assert {status for _, _, status in statuses(run_study(path))} == {"reused"}
    assert "<html" in project.read("demo/report.html")


def test_a_second_runner_on_the_same_run_is_refused(project):
    project.notebook("data", "")
    path = project.params("stages: [data]")
    folder = folders.outputs() / "demo"
    folder.mkdir(parents=True)
    with files.lock(folder / "lock"), pytest.raises(UserError, match=f"in use by process {os.getpid()}"):
        run_study(path)


# --- death and restart


def wait(condition, seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def rows_so_far(project) -> list[str]:
    parts = list(project.root.glob("outputs/store/slow/*.part/rows.txt"))
    return parts[0].read_text().splitlines() if parts else []


def start(project, path, *more):
    """The command, in a process group of its own; returns once its stage has written a row more."""
    before = len(rows_so_far(project))
    words = [sys.executable, "-m", "lib.run", str(path), *more]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    runner = subprocess.Popen(words, cwd=project.root, start_new_session=True, **quiet)
    wait(lambda: len(rows_so_far(project)) > before or runner.poll() is not None)
    assert runner.poll() is None
    return runner


def kernel_of(project) -> int:
    return int(next(project.root.glob("outputs/store/slow/*.part/lock")).read_text())


def finished_rows(project, path) -> list[str]:
    run_study(path)
    return project.read("demo/main/s0/slow@0/rows.txt").splitlines()


ALL_ROWS = [f"row {i}" for i in range(12)]


def test_killing_the_runners_group_and_repeating_the_command_ends_with_the_same_rows(project):
    project.notebook("slow", "", SLOW)
    path = project.params("stages: [slow]")
    runner = start(project, path)
    kernel = kernel_of(project)
    os.killpg(runner.pid, signal.SIGKILL)
    runner.communicate()
    assert 0 < len(rows_so_far(project)) < 12
    assert finished_rows(project, path) == ALL_ROWS
    wait(lambda: not psutil.pid_exists(kernel))  # a dead one is there until its new parent has noticed


def test_a_killed_kernel_fails_the_stage_and_ctrl_c_stops_it_and_both_can_be_resumed(project):
    project.notebook("slow", "", SLOW)
    path = project.params("stages: [slow]")
    runner = start(project, path)
    os.kill(kernel_of(project), signal.SIGKILL)
    assert "the kernel died" in runner.communicate(timeout=30)[1]
    assert runner.returncode == 1
    runner = start(project, path)
    os.kill(runner.pid, signal.SIGINT)
    assert "the same command goes on" in runner.communicate(timeout=30)[1]
    assert runner.returncode == 130
    assert json.loads(project.read("demo/summary.json"))["status"] == "partial"
    assert finished_rows(project, path) == ALL_ROWS


@pytest.mark.parametrize("done", ["a part that was not moved", "a damaged stage that was half removed"])
def test_a_stage_that_was_recorded_and_not_moved_is_not_run_again(project, done):
    project.notebook("data", "", DATA)
    path = project.params("stages: [data]")
    run_study(path)
    folder = stored(project, "demo/main/s0/data@0")
    shutil.copytree(folder, folders.part_of(folder))
    if "damaged" in done:
        (folder / "stage.json").unlink()
    else:
        shutil.rmtree(folder)
    again = run_study(path)
    assert statuses(again) == [("data@0", "main", "reused")]
    assert project.read("demo/main/s0/data@0/rows.txt") == "a b c"


def test_cleaning_removes_what_no_run_links_to_and_nothing_in_use(project, capsys):
    project.notebook("data", "size: int = 1", "print(size)")
    path = project.params("stages: [data]")
    run_study(path)
    old = stored(project, "demo/main/s0/data@0")
    run_study(path, {"size": "2"})
    new = stored(project, "demo/main/s0/data@0")
    part = folders.open_part(folders.part_of(old.with_name("a" * 12)))
    assert main(["--clean"]) == 0 and old.is_dir()
    assert str(old.relative_to(project.root)) in capsys.readouterr().out
    with files.lock(part / "lock"):
        assert main(["--clean=yes"]) == 0
    assert not old.exists() and new.is_dir() and part.is_dir()
    assert main(["--clean=yes"]) == 0 and not part.exists()


def test_a_stage_knows_its_seed_though_its_notebook_has_none(project):
    project.notebook(
        "data",
        "seed: int = 0  # of rows",
        "_ = (stage.folder / 'rows.txt').write_text(str(seed))",
        reserved="",
    )
    parameters = 'rows_from: str = "data/rows.txt"  # the corpus'
    project.notebook("exam", parameters, 'stage.write_metrics({"exam.seed": stage.seed})', reserved="")
    seeds = run_study(project.params("stages: [data, exam]\nseeds: [0, 1]"))["arms"]["main"]["seeds"]
    assert {seed: each["metrics"]["exam.seed"] for seed, each in seeds.items()} == {"0": 0, "1": 1}


def test_two_runs_at_once_run_an_equal_stage_once(project):
    project.notebook("slow", "", SLOW)
    path = project.params("stages: [slow]")
    runner = start(project, path)
    again = run_study(path, name="other")
    assert runner.wait(30) == 0 and statuses(again) == [("slow@0", "main", "reused")]
    assert project.read("other/main/s0/slow@0/rows.txt").splitlines() == ALL_ROWS


# --- side by side

MEET = """import os, pathlib, time
outputs = pathlib.Path(os.environ["OUTPUTS"])
(outputs / f"{selection}.there").write_text(os.environ["OMP_NUM_THREADS"] + " " + os.environ.get("CUDA_VISIBLE_DEVICES", ""))
until = time.monotonic() + 30
while len(list(outputs.glob("*.there"))) < 2:
    assert time.monotonic() < until, "alone"
    time.sleep(0.05)"""
TWO = "stages: [meet, train: {rows_from: meet}]\narms: {a: {selection: one}, b: {selection: two}}"


def test_stages_run_side_by_side_each_with_its_share_of_cores_and_its_gpu(study, monkeypatch, capsys):
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    study.notebook("meet", 'selection: str = ""', MEET)
    study.notebook("train", ROWS_FROM, 'print(stage.input("rows_from"))')
    summary = run_study(study.params(TWO), workers=2)
    assert statuses(summary) == [(f"{name}@0", arm, "done") for arm in "ab" for name in ("meet", "train")]
    share, gpus = str(max(1, os.cpu_count() // 2)), set()
    for name in ("one", "two"):
        threads, gpu = study.read(f"{name}.there").split()
        assert threads == share and not gpus.add(gpu)
    assert gpus == {"4", "7"}
    lines = capsys.readouterr().out.splitlines()
    labels = sorted(line.partition(" … done")[0] for line in lines[:4])
    assert labels == [f"{name}@0 · {arm} · s0" for name in ("meet", "train") for arm in "ab"]


def test_a_params_file_fixes_the_threads_of_its_stages(study):
    counting = 'import os\nstage.write_metrics({"x.threads": int(os.environ["OMP_NUM_THREADS"])})'
    study.notebook("count", "", counting)
    summary = run_study(study.params("stages: [count]\nthreads: 3"), workers=2)
    assert summary["arms"]["main"]["metrics"]["x.threads"] == 3


def test_a_stage_that_two_arms_share_is_run_once_and_a_failure_lets_the_stages_beside_it_end(study):
    failing = "import time\ntime.sleep(3)\nassert selection != 'bad', 'it is bad'\ntime.sleep(2)"
    study.notebook("work", 'selection: str = ""', failing)
    text = "stages: [data, work]\narms: {a: {selection: bad}, b: {selection: good}}"
    with pytest.raises(UserError, match="work@0 · a · s0 failed in"):
        run_study(study.params(text), workers=2)
    summary = json.loads(study.read("demo/summary.json"))
    assert statuses(summary) == [
        ("data@0", "a", "done"),
        ("work@0", "a", "failed"),
        ("data@0", "b", "reused"),
        ("work@0", "b", "done"),
    ]
    assert summary["status"] == "failed"


def test_ctrl_c_stops_all_stages_that_run_side_by_side(project):
    project.notebook("slow", 'name: str = ""', SLOW, "print(name)")
    path = project.params("stages: [slow]\narms: {a: {name: x}, b: {name: y}}")
    runner = start(project, path, "--jobs", "2")

    def kernels() -> list[int]:
        texts = [lock.read_text() for lock in project.root.glob("outputs/store/slow/*.part/lock")]
        return [int(text) for text in texts if text]

    wait(lambda: len(kernels()) == 2)
    both = kernels()
    os.kill(runner.pid, signal.SIGINT)
    assert "the same command goes on" in runner.communicate(timeout=30)[1] and runner.returncode == 130
    wait(lambda: not any(map(psutil.pid_exists, both)))
    assert json.loads(project.read("demo/summary.json"))["status"] == "partial"


# --- by hand


def values(**own):
    return {"run": "interactive/main", "seed": 0, "round": 0} | own


def test_an_input_that_is_missing_by_hand_names_the_notebook_to_run_first(study):
    with pytest.raises(UserError, match=r"Run notebooks/data.ipynb first"):
        open_stage("train", values(rows_from="data/rows.txt"))
    stage = open_stage("data", values())
    (stage.folder / "rows.txt").write_text("by hand")
    stage.close()
    stage = open_stage("train", values(rows_from="data/rows.txt"))
    assert stage.input("rows_from").read_text() == "by hand"
    with pytest.raises(UserError, match="must be a number"):
        stage.write_metrics({"gym.accuracy": "high"})
    stage.close()


def test_a_notebook_by_hand_reads_the_latest_round_or_the_one_that_is_named_of_a_run_too(study):
    study.notebook("rounds", "", 'print(round)\n_ = (stage.folder / "rows.txt").write_text(f"{round}")')
    run_study(study.params("stages: [{repeat: 2, stages: [rounds]}]"))

    def read(reference: str, **where) -> str | None:
        stage = open_stage("train", values(run="demo/main", rows_from=reference, **where))
        path = stage.input("rows_from")
        return path and path.read_text()

    assert (read("rounds/rows.txt", round=1), read("rounds/rows.txt", round=5)) == ("1", "2")
    assert read("rounds@{round-1}/rows.txt", round=3) == "2"
    assert read("rounds@{round-1}/rows.txt", round=0) is None and read("rounds@9/rows.txt?") is None
    with pytest.raises(
        UserError, match=r"no stage rounds@9 before it. Run .*rounds.ipynb first \(round = 9\)"
    ):
        read("rounds@9/rows.txt")


# Paths behind -p

READ = """from lib import paths
_ = (stage.folder / "rows.txt").write_text(paths.local(source).read_text())"""


@pytest.fixture
def elsewhere(project, monkeypatch):
    """The shell stands in another folder than the project; both have a data/rows.txt."""
    project.notebook("data", 'source: str = "data/rows.txt"', READ)
    project.params("stages: [data]")
    shell = project.root / "elsewhere"
    for folder in (project.root, shell):
        (folder / "data").mkdir(parents=True)
        (folder / "data/rows.txt").write_text(f"{folder.name} data/rows.txt")
    monkeypatch.chdir(shell)
    return project


def test_a_file_behind_p_is_the_one_of_the_shells_folder_and_a_change_of_it_runs_its_stage_again(elsewhere):
    words = ["../params/demo.yaml", "-p", "source=data/rows.txt"]
    assert main(words) == 0
    assert elsewhere.read("demo/main/s0/data@0/rows.txt") == "elsewhere data/rows.txt"
    (elsewhere.root / "elsewhere/data/rows.txt").write_text("changed")
    assert main(words) == 0 and elsewhere.read("demo/main/s0/data@0/rows.txt") == "changed"


def test_an_address_is_fetched_for_a_run_and_read_there_and_by_hand(elsewhere, site):
    (site.folder / "rows.json").write_text("[1]")
    words = ["../params/demo.yaml", "-p", f"source={site.url}/rows.json"]
    assert main([*words, "--plan"]) == 0 and main(words) == 0
    assert elsewhere.read("demo/main/s0/data@0/rows.txt") == "[1]" and len(site.requests) == 1
    opened = values(source=words[-1].removeprefix("source="))
    open_stage("data", opened).close()
    assert paths.local(opened["source"]).read_text() == "[1]" and len(site.requests) == 1
