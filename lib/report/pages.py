"""What people see of a run: a page for each stage, then the report and the cards. What makes them takes a second to import, which a run that is
all there can do without."""

import sys
from pathlib import Path

from lib import files, paths
from lib.errors import UserError, one_line
from lib.runner import digests

PAGE, ZIP = "report.html", "report.zip"


def write_page(stage: Path) -> None:
    """Write notebook.html beside notebook.ipynb, where it is not there already."""
    if (stage / digests.STAGE_PAGE).is_file():
        return
    import nbformat

    from lib.report import render

    notebook = nbformat.read(stage / "notebook.ipynb", as_version=4)
    page = render.notebook_page(notebook, stage.name.partition("@")[0])
    with files.whole(stage / digests.STAGE_PAGE) as partial:
        partial.write_text(page, encoding="utf-8")


def attempt(stage: Path, again: str) -> None:
    """Draw the page of a recorded stage; print a failure and what to do, and go on.

    Raises UserError where the disk is full.
    """
    try:
        write_page(stage)
    except UserError:
        raise
    except Exception as error:
        reason = one_line(f"{type(error).__name__}: {error}")
        print(f"\n{paths.short(stage)}: its page cannot be drawn ({reason}). Do {again}.", file=sys.stderr)


def withdraw(run: Path, before: dict | None, found: dict) -> None:
    """Remove a report that is about to be outdated: where a run's summary will say something else than before."""
    if not before or _results(before) != _results(found):
        for name in (PAGE, ZIP):
            (run / name).unlink(missing_ok=True)


def write_report(run: Path) -> Path:
    """Write what is missing of a run's report and cards, and return where the report lies."""
    if (run / PAGE).is_file():  # written last
        return run / (ZIP if (run / ZIP).is_file() else PAGE)
    return draw(run)


def draw(run: Path) -> Path:
    """Write a run's report, its cards and the pages that its stages lack; return where the report lies.

    Raises UserError where the run has no finished stage.
    """
    from lib.report import cards, page, tables

    for stage in tables.stages(run)["folder"].unique():
        write_page(stage)
    cards.write(run)
    return page.write(run)


def _results(found: dict) -> dict:
    """A summary but for whether a stage ran or was reused."""
    stages = [{name: it for name, it in line.items() if name != "status"} for line in found["stages"]]
    return found | {"stages": stages}
