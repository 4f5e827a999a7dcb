"""Every command that README.md and CONTRIBUTING.md show is accepted: a run up to its first stage, which the other tests run."""

import re
import shlex
import shutil
import subprocess

import pytest

from lib import paths, run
from lib.models import __main__ as ledgers
from lib.models.ledger import Ledger

ROOT = paths.ROOT
PAGES = ("README.md", "CONTRIBUTING.md", "docs/scale.md")
SHELL = ("export OPENAI_API_KEY=", "source .venv/bin/activate")  # for the shell, not for us
ELSEWHERE = {  # command: the test that runs it
    "python -m lib.report demo mine": ("test_pages.py", "def test_runs_are_compared_by_what_differs"),
}
OWN = {  # what a reader has and we have not: a file of each kind
    "rows.jsonl": '{"instruction": "Name a river.", "output": "The Rhine."}\n',
    "params/tasks/mine.yaml": "Math: {share: 1, refine: worked}\n",
    "fsdp.yaml": "distributed_type: FSDP\n",
    "outputs.json": "[]\n",
    "annotations.json": "[]\n",
    "judgments.jsonl": "",
    "task1529_scitail1.1_classification.json": "{}\n",
}


def commands() -> list[str]:
    """The lines of all bash blocks, without their comments; a line of options continues the first command of its block."""
    shown = []
    for page in PAGES:
        for block in re.findall(r"```bash\n(.*?)```", (ROOT / page).read_text(), re.S):
            lines = [" ".join(shlex.split(line, comments=True, posix=False)) for line in block.splitlines()]
            first = next(line for line in lines if line)
            shown += [f"{first} {line}" if line.startswith("-p ") else line for line in lines if line]
    return shown


@pytest.fixture
def reader(tmp_path, monkeypatch):
    """A folder in which a reader's own files are, and which is where a command is given."""
    for name, text in OWN.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    for file in (ROOT / "params").glob("*.yaml"):  # the recorded data that our params files name
        for name in re.findall(r"\$RECORDED_DATA/([^\s,}]+)", file.read_text()):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
    (tmp_path / "FOLDER").symlink_to(ROOT / "lib/gym/student")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RECORDED_DATA", str(tmp_path))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-mine")
    return tmp_path


def test_the_pages_show_commands():
    assert len(commands()) > 25 and "make demo" in commands()


@pytest.mark.parametrize(
    "command", [command for command in commands() if command.startswith("python -m lib.run ")]
)
def test_a_run_that_is_shown_is_accepted_with_every_setting(command, reader, capsys):
    words = shlex.split(command)[3:]
    given = ROOT / words[0]
    assert run.main([str(given), *words[1:], "--plan"]) == 0, capsys.readouterr().err
    assert " · s0" in capsys.readouterr().out


@pytest.mark.parametrize("command", [command for command in commands() if command.startswith("make ")])
def test_a_target_that_is_shown_runs_what_is_there(command, capsys):
    words = ["make", "-n", *command.split()[1:], "SMOLLM2=nowhere"]  # the student may be there already
    printed = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    for file in re.findall(r"-m lib\.run (\S+)", printed.stdout):
        assert run.main([str(ROOT / file), "--plan"]) == 0
    for module in re.findall(r"-m (bench)$", printed.stdout, re.M):
        assert (ROOT / f"tests/{module}/__main__.py").is_file()
    assert "-m " in printed.stdout


def test_the_ledger_is_told_of(tmp_path, capsys):
    (command,) = [command for command in commands() if command.startswith("python -m lib.models ")]
    path = tmp_path / "ledger.sqlite"
    Ledger(path).close()
    assert ledgers.main([command.split()[3], str(path)]) == 0


def test_nothing_is_shown_that_no_test_runs():
    tested = ("python -m lib.run ", "python -m lib.models stats ", "make ", *SHELL)
    assert [
        command for command in commands() if not command.startswith(tested) and command not in ELSEWHERE
    ] == []
    for file, name in ELSEWHERE.values():
        assert name in (ROOT / "tests" / file).read_text()
    for file in re.findall(r"`pytest (\S+)`", (ROOT / "README.md").read_text()):
        assert (ROOT / file).is_file()


@pytest.mark.parametrize("page", PAGES)
def test_links_and_pictures_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text()):
        assert link.startswith("https://") or ((ROOT / page).parent / link).exists(), link


def test_params_files_that_are_shown_are_right(tmp_path, capsys):
    """The YAML of a reader's own, beside ours, which it extends."""
    shutil.copytree(ROOT / "params", tmp_path / "params")
    for n, block in enumerate(re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.S)):
        path = tmp_path / f"params/mine_{n}.yaml"
        path.write_text(block.replace("reviews.jsonl", str(tmp_path / "reviews.jsonl")))
        (tmp_path / "reviews.jsonl").write_text('{"input": "Splendid.", "output": "positive"}\n')
        assert run.main([str(path), "--plan"]) == 0, capsys.readouterr().err
