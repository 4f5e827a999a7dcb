"""Draw what people see of a run: its report and the cards.

The modules that draw are imported late: they take a second, which a run that is complete can do without.
"""

from pathlib import Path

from lib import files
from lib.runner import folders

PAGE, ZIP = "report.html", "report.zip"


def withdraw(run: Path, before: dict | None, summary: dict) -> None:
    """Remove the report of a run whose summary will say something else than `before`."""
    if not before or _results(before) != _results(summary):
        for name in (PAGE, ZIP):
            (run / name).unlink(missing_ok=True)


def _results(summary: dict) -> dict:
    """Return a summary without whether a stage ran or was reused."""
    stages = [{name: value for name, value in line.items() if name != "status"} for line in summary["stages"]]
    return summary | {"stages": stages}


def write_report(run: Path) -> Path:
    """Write the report and cards of a run unless they are there, and return the report's path."""
    if (run / PAGE).is_file():  # written last
        return run / (ZIP if (run / ZIP).is_file() else PAGE)
    return draw(run)


def draw(run: Path) -> Path:
    """Write the report of a run and its cards; return the report's path.

    Raises UserError if the run has no finished stage.
    """
    from lib.report import cards, page, tables

    if tables.is_by_hand(run):
        _analyse(tables.summary(run))
    cards.write(run)  # reads the summary anew where an analysis was added
    return page.write(run)


def _analyse(summary: dict) -> None:
    """Execute the notebooks that report on what was done by hand, as the runner would."""
    from lib.report import targets
    from lib.runner import execute, keys, params

    has_targets = any(line["name"].startswith(targets.EVALUATION) for line in summary["stages"])
    for notebook in ["report", *["self_guide/4_report"] * has_targets]:
        source = folders.notebook_path(notebook)
        content = params.read_notebook(source)
        values = {name: p.default for name, p in params.declared(content, source).items()}
        values |= {"run": folders.BY_HAND}
        final = folders.stage_folder(folders.BY_HAND, folders.ALL_ARMS, 0, notebook, 0)
        part = folders.open_part(folders.part_of(final))
        plan = keys.new_plan(
            f"{notebook}@0", keys.stage_key(content, values, {}), values, {}, folders.BY_HAND
        )
        files.write_json(part / "plan.json", plan)
        execute.run_notebook(source, part, {"run": folders.BY_HAND}, [], {})
        folders.complete(plan, part, final)
