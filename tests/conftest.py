"""A small project of its own for tests of the runner: real notebooks, real kernels, nothing of the suite's size."""

import os
import shutil
import signal
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from lib.runner.keys import RUNNING

# before torch is imported, and for kernels: two workers of two threads each get in each other's way
os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # results are compared to more digits than bfloat16 has
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore Ctrl-C

# files that take longest, the longest first: a worker takes a file whole, and the last one must not be alone with it
LONGEST = (
    "test_notebooks",
    "test_llm_study",
    "test_run",
    "test_launch",
    "test_sft",
    "test_real_server",
    "test_killed_calls",
)

LIB = Path(__file__).parents[1] / "lib"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# nothing that Chromium does of its own accord, and no sandbox, which root may not have
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
QUIET += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]

RESERVED = """run: str = "interactive"  # name of the run
arm: str = "main"  # variant of the study
seed: int = 0  # of every draw
round: int = 0  # of the curriculum
"""


class Project:
    """A folder with notebooks/, params/, lib/ (the runner's modules) and outputs/."""

    def __init__(self, root: Path):
        self.root = root
        for name in ("notebooks", "params", "lib"):
            (root / name).mkdir()
        for name in RUNNING:
            shutil.copy(LIB / name, root / "lib")
        shutil.copytree(LIB / "runner", root / "lib/runner")
        # what is not here is this tree's, not that of the editable install, which may be another
        self.module("__init__", f"__path__.append({str(LIB)!r})")

    def notebook(self, name: str, parameters: str, *cells: str, reserved: str = RESERVED) -> Path:
        """Write a notebook that opens its stage, runs these cells and closes it."""
        opening = f'from lib import runs\nstage = runs.open_stage("{name}", globals())'
        cells = [new_code_cell(source) for source in (opening, *cells, "stage.close()")]
        first = new_code_cell(reserved + parameters, metadata={"tags": ["parameters"]})
        path = self.root / "notebooks" / f"{name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(new_notebook(cells=[first, *cells]), path)
        return path

    def params(self, text: str, name: str = "demo") -> Path:
        path = self.root / "params" / f"{name}.yaml"
        path.write_text(text)
        return path

    def module(self, name: str, text: str) -> None:
        (self.root / "lib" / f"{name}.py").write_text(text)

    def read(self, path: str) -> str:
        return (self.root / "outputs" / path).read_text()


def pytest_collection_modifyitems(items):
    place = {name: i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))


@pytest.fixture
def project(tmp_path, monkeypatch):
    from lib import paths

    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.delenv("OUTPUTS", raising=False)
    monkeypatch.delenv("STAGE", raising=False)
    monkeypatch.chdir(tmp_path)
    return Project(tmp_path)


@pytest.fixture(scope="module")
def chromium():
    """A headless Chromium, the one of this machine; where there is none, what asks for it is skipped."""
    place = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not place:
        pytest.skip("no Chromium is installed: apt-get install chromium")
    from playwright.sync_api import sync_playwright  # other tests can do without it

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=place, args=QUIET)
        yield browser
        browser.close()
