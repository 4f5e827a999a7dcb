"""Write docs/parameters.md from the notebooks' parameters cells: `make docs`."""

import ast
import io
import json
import tokenize
from pathlib import Path

from lib import paths
from lib.runner import params
from lib.runner.keys import tags

PAGE = paths.ROOT / "docs/parameters.md"
NOTEBOOKS = paths.ROOT / "notebooks"
HEAD = """# Parameters

`make docs` writes this page from the parameters cells of the notebooks; do not edit it.
A params file sets these names under `params`, in an arm or for one stage. `-p name=value` sets them on the
command line, and `params_file` sets them by hand ([recipes.md](recipes.md#a-params-file)). A name has one
type in all notebooks. Where notebooks differ in its default or its meaning, it has several rows.

A name that ends in `_from` is an input. `tapir/4_training@{round-1}/student` is the student of the round
before. A `?` at the end makes an input optional. A path works, too. The runner sets `run` (with
its arm: `demo/tapir`), `seed` and `round`.

What changes no result or belongs to a model is no parameter: prices, limits and chat templates are fields of
[params/models.yaml](../params/models.yaml), memory and speed of training those of a profile (`hardware`), and
`engine`, `ledger` and `jobs` options of the run (`python -m lib.run --help`).

"""
COLUMNS = ("name", "type", "default", "meaning", "notebooks")


def page() -> str:
    """Return the page: links to the notebooks, and one row per name, default and meaning."""
    notebooks = sorted(NOTEBOOKS.rglob("*.ipynb"))
    rows: dict[tuple, list[str]] = {}
    for path in notebooks:
        for row in _parameters(path):
            rows.setdefault(row, []).append(_short(path))
    links = [f"[{_short(path)}](../{path.relative_to(paths.ROOT).as_posix()})" for path in notebooks]
    table = [COLUMNS, ["---"] * len(COLUMNS)]
    for row, users in sorted(rows.items(), key=lambda item: item[0][0].strip("`")):
        table.append((*row, "all" if len(users) == len(notebooks) else ", ".join(users)))
    lines = [f"| {' | '.join(cells)} |" for cells in table]
    return "\n".join([HEAD + f"Notebooks: {' · '.join(links)}", "", *lines, ""])


def _parameters(path: Path) -> list[tuple[str, str, str, str]]:
    """Return name, type, default and help of each parameter of a notebook, as cells of a table."""
    notebook = params.read_notebook(path)
    source = next("".join(cell["source"]) for cell in notebook["cells"] if "parameters" in tags(cell))
    helps = _helps(source)
    cells = []
    for name, p in params.declared(notebook, path).items():
        default = json.dumps(p.default, ensure_ascii=False)
        cells.append((f"`{name}`", p.kind, f"`{default}`", helps[name].replace("|", "\\|")))
    return cells


def _helps(source: str) -> dict[str, str]:
    """Return the comment of each parameter; one that ruff wraps has it on a line of its own."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {t.start[0]: t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT}
    lines = {line.target.id: range(line.lineno, line.end_lineno + 1) for line in ast.parse(source).body}
    return {name: " ".join(comments[n] for n in where if n in comments) for name, where in lines.items()}


def _short(path: Path) -> str:
    """Shorten a notebook's path: tapir/2_oracle_judging to tapir/2, evaluation/gym to gym."""
    number = path.stem.partition("_")[0]
    if not number.isdigit():
        return path.stem
    return "/".join([*path.parent.relative_to(NOTEBOOKS).parts, number])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
