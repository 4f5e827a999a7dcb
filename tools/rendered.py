"""Write the executed notebooks of a run as pages: `python -m tools.rendered`, after `make demo`.

docs/rendered/<notebook>.html is a notebook of the first arm of the first comparison, in round 1 where there
are several. Beside them lie the report of the run, an index, and the figure of the README.
"""

import re
import sys
from base64 import b64encode
from io import BytesIO
from pathlib import Path

import nbformat
from markupsafe import Markup

from lib import paths, plots
from lib.errors import UserError
from lib.evaluation import registry
from lib.report import page, render, scores, tables
from lib.runner import folders

MAX_BYTES = 3_000_000  # of all pages
PIXELS_PER_INCH = 220  # twice those of a screen
LINKS = """<main>
<nav class="byline" aria-label="Pages">
<a href="index.html">All pages</a> · <a href="{}">The notebook</a>{}
</nav>
"""
NEXT = ' · <a href="{0}.html">Next: {0}</a>'
INDEX = """<h1>{}</h1>
<p class="byline">{} · commit {} · <code>{}</code></p>
<div class="scroll" tabindex="0"><table>
<thead><tr><th>Page</th><th>Question</th><th>Result</th></tr></thead>
<tbody>{}</tbody>
</table></div>
<figure tabindex="0"><img src="data:image/png;base64,{}" alt="{}"></figure>
"""
LINE = '<tr><td><a href="{0}.html">{0}</a></td><td>{1}</td><td>{2}</td></tr>\n'


def write(run: Path, to: Path) -> None:
    """Write the pages of a run. Raises UserError if it is not complete, or its pages are too large."""
    summary, table = tables.summary(run), tables.stages(run)
    report, again = run / "report.html", f"Do make {run.name}."
    if summary["status"] != "complete" or len(table) < len(summary["stages"]) or not report.is_file():
        raise UserError(f"{paths.short(run)}: the run is not complete. {again}")
    stages = _chosen(table, scores.main_pair(summary)[0])
    texts = {name: render.notebook_page(page.read(folder), name) for name, folder in stages.items()}
    texts["report"] = report.read_text("utf-8")
    for name, following in zip(texts, [*list(texts)[1:], ""], strict=True):
        notebook = tables.notebook_of(folders.record(stages[name])) if name in stages else name
        further = Markup(NEXT).format(following) if following else ""
        links = Markup(LINKS).format(f"../../notebooks/{notebook}.ipynb", further)
        texts[name] = texts[name].replace("<main>\n", links, 1)
        texts[name] = texts[name].replace(f"{folders.outputs()}/", "outputs/").replace(f"{paths.ROOT}/", "")
    figure = _headline(summary)
    figure.savefig(drawn := BytesIO(), dpi=PIXELS_PER_INCH)
    body = _index(summary, stages, b64encode(drawn.getvalue()).decode(), figure.alt)
    texts["index"] = render.page("notebook.html.j2", title=f"The run {run.name}", body=body)
    if (size := sum(len(text.encode()) for text in texts.values())) > MAX_BYTES:
        raise UserError(f"{paths.short(to)} would have {size:,} bytes, at most {MAX_BYTES:,} fit. {again}")
    to.mkdir(parents=True, exist_ok=True)
    for path in to.glob("*.html"):
        path.unlink()
    for name, text in texts.items():
        page.save(to / f"{name}.html", text)
    (to / "result.png").write_bytes(drawn.getvalue())


def _chosen(table, arm: str) -> dict[str, Path]:
    """Return {name: folder} of an arm's notebooks in round 1, or else the last; evaluations come last."""
    own = table[(table["arm"] == arm) & (table["seed"] == table["seed"].min())].sort_values("round")
    own = own.assign(is_evaluation=own["notebook"].str.startswith("evaluation/"), is_first=own["round"] == 1)
    own = own.sort_values("is_first", kind="stable").drop_duplicates("notebook", keep="last")
    own = own.sort_values(["is_evaluation", "notebook"])
    return dict(zip(own["notebook"].str.rpartition("/")[2], own["folder"], strict=True))


def _headline(summary: dict):
    """Draw the metric that sums up the run, by arm."""
    name = scores.headline(summary)
    metric, title = registry.metric(name), f"{scores.label(name, summary)}, by arm, with 95 % intervals"
    values = scores.by_arm(summary, name)
    return plots.intervals(values, title, metric.label, scale=metric.scale, decimals=metric.decimals)


def _index(summary: dict, stages: dict[str, Path], picture: str, about: str) -> Markup:
    """List the pages, each with the question of its notebook and its result."""
    lines, records = Markup(""), {name: folders.record(folder) for name, folder in stages.items()}
    results = {name: tables.sentence(record) for name, record in records.items()}
    for name, result in (results | {"report": "; ".join(scores.gains(summary))}).items():
        notebook = tables.notebook_of(records[name]) if name in records else name
        first = nbformat.read(folders.notebook_path(notebook), as_version=4).cells[0].source
        question = re.search(r"\*\*(.+?\?)\*\*", first, re.DOTALL)
        words = " ".join(question[1].replace("*", "").split()) if question else ""
        lines += Markup(LINE).format(name, words, result)
    last = max(records.values(), key=lambda record: record["started"])
    title = summary.get("title", summary["run"])
    parts = (title, last["started"][:10], last["commit"], summary["command"], lines, picture, about)
    return Markup(INDEX).format(*parts)


if __name__ == "__main__":
    try:
        write(folders.outputs() / "demo", paths.ROOT / "docs/rendered")
    except UserError as error:
        sys.exit(str(error))
