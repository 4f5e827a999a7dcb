"""What people see of a run: a page for each stage, then the report and the cards. What makes them takes a second to import, which a run that is
all there can do without."""

from pathlib import Path

from lib.runner import folders

PAGE, ZIP = "report.html", "report.zip"


def write_page(part: Path) -> None:
    """notebook.html beside notebook.ipynb."""
    import nbformat

    from lib.report import render

    notebook = nbformat.read(part / "notebook.ipynb", as_version=4)
    page = render.notebook_page(notebook, part.name.partition("@")[0])
    with folders.whole(part / "notebook.html") as partial:
        partial.write_text(page, encoding="utf-8")


def withdraw(run: Path, before: dict | None, found: dict) -> None:
    """Remove a report that is about to be outdated: where a run's summary will say something else than before."""
    if not before or _results(before) != _results(found):
        for name in (PAGE, ZIP):
            (run / name).unlink(missing_ok=True)


def write_report(run: Path) -> Path:
    """The report of a run and a card for each of its students and pools, where they are not there already; returns where the report lies."""
    if (run / PAGE).is_file():  # written last
        return run / (ZIP if (run / ZIP).is_file() else PAGE)
    from lib import cards
    from lib.report import page

    cards.write(run)
    return page.write(run)


def _results(found: dict) -> dict:
    """A summary but for whether a stage ran or was reused."""
    stages = [{name: it for name, it in line.items() if name != "status"} for line in found["stages"]]
    return found | {"stages": stages}
