"""A small project of its own for tests of the runner: real notebooks, real kernels, nothing of the suite's size."""

import re
import shutil
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from lib import paths
from lib.runner.keys import RUNNING

LIB = Path(__file__).parents[1] / "lib"

RESERVED = """run: str = "interactive/main"  # the run and its arm
seed: int = 0  # of every draw
round: int = 0  # of the curriculum
"""


def fetch_nothing() -> None:
    """Keep an empty file in $OUTPUTS for each address that our params files name, as if it had been fetched."""
    for file in (LIB.parent / "params").glob("*.yaml"):
        for address in filter(paths.ADDRESS.fullmatch, re.findall(r"https://[^\s,}]+", file.read_text())):
            paths.downloaded(address).parent.mkdir(parents=True, exist_ok=True)
            paths.downloaded(address).touch()


class Project:
    """A folder with notebooks/, params/, lib/ (the runner's modules) and outputs/."""

    def __init__(self, root: Path):
        self.root = root
        for name in ("notebooks", "params", "lib"):
            (root / name).mkdir()
        for name in RUNNING - {"runner"}:
            shutil.copy(LIB / name, root / "lib")
        shutil.copytree(LIB / "runner", root / "lib/runner")
        # what is not here is this tree's, not that of the editable install, which may be another
        self.module("__init__", f"__path__.append({str(LIB)!r})")

    def notebook(
        self,
        name: str,
        parameters: str,
        *cells: str,
        reserved: str = RESERVED,
        prose: str = "",
        says: str = "",
    ) -> Path:
        """Write a notebook that opens its stage, runs these cells and closes it with what it `says`, below `prose`."""
        opening = f'from lib.stage import open_stage\nstage = open_stage("{name}", globals())'
        cells = [new_code_cell(source) for source in (opening, *cells, f"stage.close({says!r})")]
        first = new_code_cell(reserved + parameters, metadata={"tags": ["parameters"]})
        path = self.root / "notebooks" / f"{name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        head = [new_markdown_cell(prose)] if prose else []
        nbformat.write(new_notebook(cells=[*head, first, *cells]), path)
        return path

    def params(self, text: str, name: str = "demo") -> Path:
        path = self.root / "params" / f"{name}.yaml"
        path.write_text(text)
        return path

    def module(self, name: str, text: str) -> None:
        path = self.root / "lib" / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    def read(self, path: str) -> str:
        return (self.root / "outputs" / path).read_text()
