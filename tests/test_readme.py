"""Every command that README, CONTRIBUTING and docs show is accepted: a run up to its first stage, which the other tests run."""

import ast
import re
import shlex
import shutil
import subprocess

import pytest
from project import fetch_nothing

from lib import paths, run
from lib.models import __main__ as ledgers
from lib.models.ledger import Ledger
from lib.runner import folders, params
from tools import parameters

ROOT = paths.ROOT
PAGES = ["README.md", "CONTRIBUTING.md", "params/prompts/README.md"]
PAGES += sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md"))
OTHERS = (
    "export ",
    "source .venv/bin/activate",
    "pip install -c pins.txt",
    "ray start ",
)  # programs of others
ELSEWHERE = {  # command: the test that runs it
    "python -m lib.report demo mine": ("test_pages.py", "def test_runs_are_compared_by_what_differs"),
    "python -m lib.run --clean": ("test_run.py", "--clean"),
    "python -m lib.models probe gpt-4.1-mini": ("test_probe.py", "probe"),
}
OWN = {  # what a reader has and we have not: a file of each kind
    "rows.jsonl": '{"instruction": "Name a river.", "output": "The Rhine."}\n',
    "params/tasks/mine.yaml": "Math: {share: 1, refine: worked}\n",
    "profile.yaml": "packing: true\n",
    "outputs.json": "[]\n",
    "annotations.json": "[]\n",
    "judgments.jsonl": "",
    "task1529_scitail1.1_classification.json": "{}\n",
}


def blocks(language: str, *pages: str) -> list[str]:
    """The code blocks of pages in a language."""
    texts = [(ROOT / page).read_text() for page in pages or PAGES]
    return [block for text in texts for block in re.findall(rf"```{language}\n(.*?)```", text, re.S)]


def commands(*beginnings: str) -> list[str]:
    """The lines of all bash blocks, without their comments; a line of options continues the last command."""
    shown = []
    for block in blocks("bash"):
        lines = [" ".join(shlex.split(line, comments=True, posix=False)) for line in block.splitlines()]
        command = ""
        for line in filter(None, lines):
            command = command if line.startswith("-p ") else line
            shown.append(f"{command} {line}" if line.startswith("-p ") else line)
    runs = [command for command in dict.fromkeys(shown) if command not in ELSEWHERE]
    return [command for command in runs if command.startswith(beginnings)] if beginnings else runs


@pytest.fixture
def reader(tmp_path, monkeypatch):
    """A folder in which a reader's own files are, and which is where a command is given."""
    for name, text in OWN.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "FOLDER").symlink_to(ROOT / "lib/gym/student")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OUTPUTS", str(tmp_path / "outputs"))
    fetch_nothing()
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-mine")
    return tmp_path


def test_the_pages_show_commands():
    assert len(commands()) > 40 and "make demo" in commands()


@pytest.mark.parametrize("command", commands("python -m lib.run "))
def test_a_run_that_is_shown_is_accepted_with_every_setting(command, reader, capsys):
    words = shlex.split(command)[3:]
    given = ROOT / words[0]
    student = ["-p", "student=FOLDER"] if given.stem == "smollm2" else []  # which make smollm2 makes
    assert run.main([str(given), *words[1:], *student, "--plan"]) == 0, capsys.readouterr().err
    assert " · s0" in capsys.readouterr().out


@pytest.mark.parametrize("command", commands("make "))
def test_a_target_that_is_shown_runs_what_is_there(command, capsys):
    words = ["make", "-n", *command.split()[1:], "SMOLLM2=nowhere"]  # the student may be there already
    printed = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    for file in re.findall(r"-m lib\.run (\S+)", printed.stdout):
        assert run.main([str(ROOT / file), "--plan"]) == 0
    for module in re.findall(r"-m (bench)$", printed.stdout, re.M):
        assert (ROOT / f"tests/{module}/__main__.py").is_file()
    assert "-m " in printed.stdout


def test_targets_that_are_named_are_there():
    targets = re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.M)
    for page in PAGES:
        for target in re.findall(r"`make ([a-z0-9-]+)`", (ROOT / page).read_text()):
            assert target in targets, f"{page}: make {target}"


@pytest.mark.parametrize("command", commands("papermill "))
def test_papermill_alone_gets_a_notebook_and_parameters_that_it_declares(command):
    words = command.split()
    name = paths.short(ROOT / words[1]).removeprefix("notebooks/").removesuffix(".ipynb")
    path = folders.notebook_path(name)
    declared = params.declared(params.read_notebook(path), path)
    for flag, given, value in zip(words[3::3], words[4::3], words[5::3], strict=True):
        assert flag == "-p" and params.from_text(value, declared[given].kind, given) is not None


def test_the_ledger_that_is_shown_is_read(tmp_path, capsys):
    (command,) = commands("python -m lib.models ")
    path = tmp_path / "ledger.sqlite"
    Ledger(path).close()
    assert ledgers.main([command.split()[3], str(path)]) == 0


def test_nothing_is_shown_that_no_test_runs():
    tested = ("python -m lib.run ", "python -m lib.models stats ", "make ", "papermill ", *OTHERS)
    assert [command for command in commands() if not command.startswith(tested)] == []
    for file, name in ELSEWHERE.values():
        assert name in (ROOT / "tests" / file).read_text()
    for page in PAGES:
        for file in re.findall(r"`pytest (tests/\S+\.py)[^`]*`", (ROOT / page).read_text()):
            assert page == "docs/log.md" or (ROOT / file).is_file(), file  # old entries name tests of then


def test_the_code_that_is_shown_runs(reader, capsys):
    """A student is asked; the other blocks need a run or the hub, and are parsed."""
    for block in blocks("python"):
        ast.parse(block)
        if "lib.models" in block:
            exec(re.sub(r'load\(".*?"\)', 'load("FOLDER")', block), {})
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("page", PAGES)
def test_links_and_pictures_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", (ROOT / page).read_text()):
        there = (ROOT / page).parent / link
        rendered = (ROOT / "docs/rendered").resolve()  # may not be written yet: make rendered
        assert link.startswith("https://") or there.exists() or there.resolve().is_relative_to(rendered), link


@pytest.mark.parametrize("page", PAGES)
def test_links_into_a_page_name_one_of_its_headings(page):
    for link, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", (ROOT / page).read_text()):
        text = ((ROOT / page).parent / link if link else ROOT / page).read_text()
        headings = [re.sub(r"[^\w\- ]", "", title.lower()) for title in re.findall(r"^#+ (.+)$", text, re.M)]
        assert anchor in [title.replace(" ", "-") for title in headings], anchor


def test_readme_is_one_page():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


def test_the_page_of_parameters_is_that_of_the_cells():
    assert parameters.PAGE.read_text() == parameters.page(), "Do make docs."


def test_params_files_that_are_shown_are_right(reader, tmp_path, capsys, monkeypatch):
    """The YAML of a reader's own, beside ours, which it extends; one whose oracle is exact needs no key."""
    shutil.rmtree(tmp_path / "params")
    shutil.copytree(ROOT / "params", tmp_path / "params")
    for n, block in enumerate(blocks("yaml", "README.md", "docs/recipes.md")):
        path = tmp_path / f"params/mine_{n}.yaml"
        path.write_text(block.replace("reviews.jsonl", str(tmp_path / "reviews.jsonl")))
        (tmp_path / "reviews.jsonl").write_text('{"input": "Splendid.", "output": "positive"}\n')
        monkeypatch.setenv("OPENAI_API_KEY", "" if "oracle: exact" in block else "sk-of-mine")
        assert run.main([str(path), "--plan"]) == 0, capsys.readouterr().err
