"""The pages in docs/rendered: the executed notebooks of a run, linked with each other."""

import json

import pytest
from bs4 import BeautifulSoup
from test_pages import SCORE, STUDY

from lib.errors import UserError
from lib.run import run_study
from tools import rendered

PARAMETERS = 'level: int = 1  # of four\nsplit: str = "dev"  # of the instances'
PROSE = "# An exam\n\n**Which level is <right>?**"


@pytest.fixture
def run(project):
    project.notebook("exam", PARAMETERS, SCORE, prose=PROSE, says="**7 rows** are right.")
    project.notebook("report", "", "1", prose="# Side by side\n\n**Which arm is better?**")
    run_study(project.params(STUDY.replace("[exam]", "[exam, report: {once: true}]")))
    return project.root / "outputs/demo"


def test_each_page_leads_to_the_next_and_to_its_notebook_and_the_index_to_all(run, project):
    to = project.root / "docs/rendered"
    to.mkdir(parents=True)
    (to / "old.html").write_text("of an earlier run")
    rendered.write(run, to)
    pages = {path.name: path.read_text() for path in to.glob("*.html")}
    links = {
        name: [a["href"] for a in BeautifulSoup(text, "html.parser").find_all("a")]
        for name, text in pages.items()
    }
    assert links["exam.html"] == ["index.html", "../../notebooks/exam.ipynb", "report.html"]
    assert links["report.html"][:2] == ["index.html", "../../notebooks/report.ipynb"]
    assert links["index.html"] == ["exam.html", "report.html"]
    assert "<script" not in "".join(pages.values())
    page = BeautifulSoup(pages["index.html"], "html.parser")
    index = f"{page.get_text(' ')} {page.find('img', src='result.png')['alt']}"
    for words in (
        "Is more <more>?",
        "Which level is <right>?",
        "7 rows are right.",
        "low: value 25.0",
        "commit ",
    ):
        assert words in index
    assert (to / "result.png").read_bytes().startswith(b"\x89PNG") and (
        to / "result.png"
    ).stat().st_size < 150_000


def test_a_run_that_is_not_complete_is_refused(run, project):
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps(summary | {"status": "partial"}))
    with pytest.raises(UserError, match=r"outputs/demo: the run is not complete. Do make demo."):
        rendered.write(run, project.root / "docs/rendered")
    assert not (project.root / "docs/rendered").exists()
