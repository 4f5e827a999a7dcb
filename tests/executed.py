"""A notebook's cells, run in this process: quick, and an error is the test's own."""

import ast
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat

from lib.runner.keys import tags


def outputs(path: Path, values: dict) -> dict[str, list[str]]:
    """Run the code cells with these parameters; return what each shows, by the last heading above it."""
    names: dict = {"__name__": "__main__"}
    heading, result = "", {}
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            heading = cell.source.splitlines()[0] if cell.source.startswith("#") else heading
            continue
        shown = _run(cell.source, names)
        if "parameters" in tags(cell):
            names |= values
        elif "hide-cell" not in tags(cell):
            result.setdefault(heading, []).extend(shown)
    return {heading: each for heading, each in result.items() if each}


def _run(source: str, names: dict) -> list[str]:
    """Run a cell; return its figures' alternative texts, and its last value as a page shows it."""
    before = set(plt.get_fignums())
    body = ast.parse(source)
    last = body.body.pop().value if body.body and isinstance(body.body[-1], ast.Expr) else None
    exec(compile(body, "cell", "exec"), names)
    value = eval(compile(ast.Expression(last), "cell", "eval"), names) if last else None
    shown = [plt.figure(n).alt for n in plt.get_fignums() if n not in before]
    if value is not None and hasattr(value, "_repr_html_"):
        shown.append(value._repr_html_())
    plt.close("all")
    return shown
