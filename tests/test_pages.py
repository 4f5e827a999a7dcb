"""Pages: what a reader gets of a run, and that what models said stays text on it."""

import io
import shutil
import zipfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pandas as pd
import pytest
from bs4 import BeautifulSoup
from hostile import HOSTILE
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from project import Project

from lib import paths, plots, show
from lib.errors import UserError
from lib.report import __main__ as command
from lib.report import compare, page, render
from lib.run import run_study

ACTING = ["script", "iframe", "object", "embed", "form", "svg", "link", "base", "meta", "style", "h1", "img"]


def cell(source="", outputs=(), *tags):
    return new_code_cell(source, outputs=list(outputs), metadata={"tags": list(tags)})


def shown(content, kind="text/html"):
    return new_output("display_data", {kind: content})


def parsed(*cells, **options):
    return BeautifulSoup(render.body(new_notebook(cells=list(cells)), **options), "html.parser")


def hostile_cells() -> list:
    table = pd.DataFrame({"name": ["one"] * len(HOSTILE), "reply": HOSTILE})
    outputs = [shown(show.texts(table, ["name"], ["reply"]).data)]
    outputs += [shown(show.texts(table.assign(reply=table["reply"].str[:9]), ["name"], ["reply"]).data)]
    outputs += [shown(show.example({"reply": text}).data) for text in HOSTILE]
    outputs += [shown(table._repr_html_()), shown(table.style.to_html())]
    outputs += [shown(f"The name {show.code(text)}.", "text/markdown") for text in HOSTILE]
    outputs += [new_output("stream", text=text) for text in HOSTILE]
    outputs += [new_output("error", ename="E", evalue=text, traceback=[text]) for text in HOSTILE]
    kinds = ("text/html", "text/markdown", "text/plain")
    outputs += [shown(text, kind) for text in HOSTILE for kind in kinds]
    return [cell("show(replies)", outputs)]


def test_nothing_that_a_model_says_acts_on_a_page():
    shown_page = parsed(*hostile_cells())
    assert not shown_page.find_all(ACTING)
    tags = shown_page.find_all(True)
    assert not [name for tag in tags for name in tag.attrs if name.startswith("on")]
    assert not [tag for tag in tags if not tag.get("href", "https://").startswith("https://")]
    assert "\x1b" not in str(shown_page) and "\x07" not in str(shown_page)
    assert "\u202e" not in str(show.example({"a": HOSTILE[5]}).data)


def test_what_a_model_says_can_still_be_read():
    for text in HOSTILE:
        assert show.plain(text) in parsed(cell("", [shown(show.example({"reply": text}).data)])).get_text()


def test_only_prose_has_formulas():
    assert len(parsed(new_markdown_cell("$$a = b$$ and $c$")).find_all("math")) == 2
    outputs = [shown(show.example({"reply": HOSTILE[3]}).data), shown(show.code("$x$"), "text/markdown")]
    assert not parsed(cell("", outputs)).find_all("math")


def test_every_figure_has_its_data_as_alternative_text():
    figure = plots.intervals({"tapir": (0.5, 0.4, 0.6)}, "Accuracy by arm", "accuracy, %")
    svg, metadata = plots.svg(figure)
    output = new_output("display_data", {"image/svg+xml": svg}, metadata={"image/svg+xml": metadata})
    image = parsed(cell("", [output])).img
    for text in ("Accuracy by arm", "accuracy, %", "tapir: value 50.0, low 40.0"):
        assert text in image["alt"]
    assert image["src"].startswith("data:image/svg+xml;base64,")


def test_code_folds_by_its_tag_and_all_of_it_in_a_report():
    cells = [cell("a = 1"), cell("b = 2", (), "hide-input")]
    cells += [cell("c = 3", (), "hide-cell"), cell("d = 4", (), "fold")]
    folded = [tag.get_text() for tag in parsed(*cells).find_all("details")]
    assert [("b = 2" in text, "d = 4" in text) for text in folded] == [(True, False), (False, False)]
    assert "c = 3" not in parsed(*cells).get_text() and "a = 1" in parsed(*cells).get_text()
    assert len(parsed(*cells, fold_code=True).find_all("details")) == 3


def test_headings_start_where_the_page_says_and_links_to_notebooks_are_their_names():
    prose = "# Title\n\n## Part\n\nNext: [3 · Refinement](3_refinement.ipynb), [x](https://a.b)"
    shown_page = parsed(new_markdown_cell(prose), level=3)
    assert [tag.name for tag in shown_page.find_all(["h1", "h2", "h3", "h4"])] == ["h3", "h4"]
    assert [tag["href"] for tag in shown_page.find_all("a")] == ["https://a.b"]
    assert "3 · Refinement" in shown_page.get_text()


def test_a_page_forbids_scripts_and_requests():
    text = render.notebook_page(new_notebook(cells=[new_markdown_cell("# A")]), "<A>")
    policy = BeautifulSoup(text, "html.parser").find("meta", {"http-equiv": "Content-Security-Policy"})
    assert policy["content"] == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert "<title>&lt;A&gt;</title>" in text


def test_an_image_without_a_safe_description_is_escaped():
    hostile = '"><script>alert(1)</script>'
    output = new_output("display_data", {"image/png": "AAAA"}, metadata={"image/png": {"alt": hostile}})
    shown_page = parsed(cell("", [output]))
    assert shown_page.img["alt"] == hostile and not shown_page.script


def test_what_cannot_be_seen_is_shown_by_its_number():
    invisible = "a\u200bb\u2060c\ufeff\U000e0041\u2028"
    assert show.plain(invisible) == "a[U+200B]b[U+2060]c[U+FEFF][U+E0041][U+2028]"
    assert show.plain("\U0001f468\u200d\U0001f33e é\n\t") == "\U0001f468\u200d\U0001f33e é\n\t"


# --- a run of its own: two arms, scored by a notebook

LEVEL = 'level: int = 1  # of four\nsplit: str = "dev"  # of the instances'
SCORE = """import pandas as pd
scores = pd.DataFrame({"metric": "gym.accuracy", "id": [str(i) for i in range(40)], "stratum": "", "weight": 1.0})
scores["score"] = [float(i % 4 < level) for i in range(40)]
scores.to_parquet(stage.folder / "scores.parquet")
stage.write_metrics({"gym.accuracy": scores["score"].mean(), "gym.accuracy_low": 0.0, "gym.accuracy_high": 1.0})
stage.write_metrics({"oracle.calls": 7, "oracle.usd": 0.25})
print("<script>alert(1)</script>")"""
STUDY = """title: Is more <more>?
question: Which level is right more often?
stages: [exam]
arms: {low: {level: 1}, high: {level: 3}}
comparisons: [high_vs_low]
"""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """The folder of a project that ran the study."""
    root = tmp_path_factory.mktemp("recorded")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "ROOT", root)
        patch.delenv("OUTPUTS", raising=False)
        project = Project(root)
        project.notebook("exam", LEVEL, SCORE)
        run_study(project.params(STUDY))
    return root


@pytest.fixture
def finished(project, recorded):
    """The run, in a project of the test's own."""
    shutil.copytree(recorded, project.root, symlinks=True, dirs_exist_ok=True)
    return project.root / "outputs/demo"


def read(path: Path) -> str:
    return BeautifulSoup(path.read_text(), "html.parser").get_text(" ")


def test_a_reader_of_the_report_alone_knows_gain_interval_cost_and_command(finished):
    text, source = read(finished / "report.html"), (finished / "report.html").read_text()
    assert "Is more <more>?" in text and "Which level is right more often?" in text
    assert "high vs low: +50.0 [" in text and "above zero (embedded world, accuracy)" in text
    assert "14 oracle calls" in text and "USD 0.50" in text and "python -m lib.run params/demo.yaml" in text
    assert all(words in text for words in ("level: 3", "- high_vs_low", "Threads"))
    assert "<script" not in source and "&lt;script&gt;" in source
    assert not (finished / "report.zip").exists()


def test_the_flow_parts_where_the_arms_do(finished):
    trunk, branches = page.flow(finished, ["low", "high"])
    titles = {arm: [box["title"] for box in boxes] for arm, boxes in branches.items()}
    assert not trunk and titles == {"low": ["Exam"], "high": ["Exam"]}
    assert [box["title"] for box in page.flow(finished, ["low"])[0]] == ["Exam"]


def test_a_stage_says_its_result_in_a_sentence_of_its_own(project):
    project.notebook("exam", "", says="**7 rows** of <b>`x`</b>.")
    run_study(project.params("stages: [exam]"))
    [box], _ = page.flow(project.root / "outputs/demo", ["main"])
    assert box["says"] == "7 rows of <b>x</b>."
    assert "7 rows of &lt;b&gt;x&lt;/b&gt;." in (project.root / "outputs/demo/report.html").read_text()


def test_a_report_is_drawn_anew_by_the_command_and_stays_where_a_run_changes_nothing(finished, project):
    path = finished / "report.html"
    path.write_text("old")
    run_study(project.root / "params/demo.yaml")
    assert path.read_text() == "old"
    assert command_line("demo") == (0, "outputs/demo/report.html\n", "")
    assert "Which level" in path.read_text()


def test_a_report_that_is_too_large_becomes_an_archive_whose_links_lead_somewhere(finished, monkeypatch):
    monkeypatch.setattr(page, "MAX_BYTES", 20_000)
    assert page.write(finished).name == "report.zip"
    with zipfile.ZipFile(finished / "report.zip") as archive:
        links = BeautifulSoup(archive.read("report.html"), "html.parser").select("section:last-of-type a")
        assert len(links) == 2 and {a["href"].replace("%40", "@") for a in links} < set(archive.namelist())


def command_line(*words: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        return command.main(list(words)), out.getvalue(), err.getvalue()


def test_runs_are_compared_by_what_differs_and_paired_by_instance(finished, project):
    run_study(project.root / "params/demo.yaml", {"high.level": "4"}, "other")
    code, path, _ = command_line("demo", "other")
    text = read(project.root / path.strip())
    assert code == 0 and path == "outputs/demo-against-other.html\n"
    assert "exam: level" in text and "1, 3" in text and "1, 4" in text
    assert "other: high − demo: high" in text and "+25.0 [" in text


def test_runs_scored_on_other_rows_are_not_compared_and_that_is_said(finished, project):
    other = project.root / "outputs/other"
    shutil.copytree(finished, other)
    for path in other.glob("*/s0/exam@0/scores.parquet"):
        pd.read_parquet(path).assign(id=lambda t: "x" + t["id"]).to_parquet(path)
    text = compare.write([finished, other]).read_text()
    assert "rows were scored in one arm alone" in text


def test_a_wrong_request_is_one_clear_line(finished):
    for words, message in {
        ("nothing",): "run=nothing: there is no such run. Name one of these: demo.",
        ("demo", "demo"): "two have the same name",
    }.items():
        code, out, err = command_line(*words)
        assert (code, out) == (1, "") and message in err and err.count("\n") == 1


def test_arms_scored_on_other_rows_end_no_run_and_the_report_says_so(project):
    project.notebook("exam", LEVEL, SCORE.replace("range(40)", "range(40 + level)"))
    summary = run_study(project.params(STUDY))
    assert summary["status"] == "complete" and summary["comparisons"] == {"high_vs_low": {}}
    text = read(project.root / "outputs/demo/report.html")
    assert "high vs low cannot be compared: 2 rows were scored in one arm alone" in text


# --- runs that are not whole


def test_a_run_that_fails_after_it_succeeded_keeps_no_report_of_then(finished, project):
    project.notebook("exam", LEVEL, "1 / 0")
    with pytest.raises(UserError):
        run_study(project.root / "params/demo.yaml")
    assert not (finished / "report.html").exists()
    assert command_line("demo")[0] == 1  # no stage of it is finished


def test_a_stage_that_is_no_longer_whole_is_missing_from_the_report_and_counted(finished):
    (finished / "low/s0/exam@0/stage.json").write_text("{")
    assert command_line("demo")[0] == 0
    assert "1 of 2 stages are not on this page" in read(finished / "report.html")


def test_a_failed_stage_is_counted_and_the_others_are_shown(project):
    project.notebook("exam", LEVEL, "1 / (level - 3)")
    with pytest.raises(UserError):
        run_study(project.params(STUDY))
    assert command_line("demo")[0] == 0
    text = read(project.root / "outputs/demo/report.html")
    assert "failed" in text and "1 of 2 stages are not on this page" in text
