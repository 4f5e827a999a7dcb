"""The pages in docs/rendered: the executed notebooks of a run, linked with each other."""

import json

import pytest
from bs4 import BeautifulSoup
from test_pages import LEVEL, SCORE, STUDY

from lib.errors import UserError
from lib.run import run_study
from tools import rendered

PROSE = "# An exam\n\n**Which level is <right>?**"


def test_each_page_leads_to_the_next_and_the_index_to_all_if_the_run_is_complete(project):
    project.notebook("exam", LEVEL, SCORE, prose=PROSE, says="**7 rows** are right.")
    project.notebook("report", "", "1", prose="# Side by side\n\n**Which arm is better?**")
    run_study(project.params(STUDY.replace("[exam]", "[exam, report: {once: true}]")))
    run, to = project.root / "outputs/demo", project.root / "docs/rendered"
    to.mkdir(parents=True)
    (to / "old.html").write_text("of an earlier run")
    rendered.write(run, to)
    pages = {path.name: BeautifulSoup(path.read_text(), "html.parser") for path in to.glob("*.html")}
    links = {name: [link["href"] for link in page.find_all("a")] for name, page in pages.items()}
    assert links["exam.html"] == ["index.html", "../../notebooks/exam.ipynb", "report.html"]
    assert links["report.html"][:2] == ["index.html", "../../notebooks/report.ipynb"]
    assert links["index.html"] == ["exam.html", "report.html"]
    assert not any(page.find("script") for page in pages.values())
    index = pages["index.html"]
    text = f"{index.get_text(' ')} {index.find('img')['alt']}"
    words = ["Is more <more>?", "Which level is <right>?", "7 rows are right.", "low: value 25.0", "commit "]
    assert all(each in text for each in words)
    picture = (to / "result.png").read_bytes()
    assert picture.startswith(b"\x89PNG") and len(picture) < 150_000

    # a run that is not complete is refused, and replaces nothing
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps(summary | {"status": "partial"}))
    with pytest.raises(UserError, match=r"outputs/demo: the run is not complete. Do make demo."):
        rendered.write(run, to)
    assert (to / "result.png").read_bytes() == picture


def test_no_page_names_a_folder_of_the_machine_wherever_outputs_are(project, monkeypatch, tmp_path_factory):
    outputs = tmp_path_factory.mktemp("outputs")
    monkeypatch.setenv("OUTPUTS", str(outputs))
    project.notebook("exam", LEVEL, SCORE, prose=PROSE)
    project.notebook("report", "", "1", prose="# Side by side\n\n**Which arm is better?**")
    run_study(project.params(STUDY.replace("[exam]", "[exam, report: {once: true}]")))
    rendered.write(outputs / "demo", project.root / "docs/rendered")
    pages = [path.read_text() for path in (project.root / "docs/rendered").glob("*.html")]
    assert any("outputs/store/exam/" in page for page in pages)
    assert not any(str(folder) in page for page in pages for folder in (outputs, project.root))
