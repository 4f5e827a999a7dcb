"""What a stage shows in its notebook: its header, how far it is, sentences."""

import sys
from html import escape
from pathlib import Path

from lib import paths
from lib.runner import digests


def header(plan: dict, folder: Path) -> str:
    """A small table: what runs, with which parameters, commit and versions."""
    work = any(path.name not in digests.OWN_FILES for path in folder.iterdir())
    state = "continued" if work else "new"
    inputs = {name: paths.short(Path(path)) for name, path in plan["inputs"].items() if path}
    versions = ", ".join(f"{name} {version}" for name, version in plan["versions"].items())
    rows = plan["parameters"] | inputs | {"commit": plan["commit"], "versions": versions}
    lines = [f"| `{plan['name']}` | {state} in `{paths.short(folder)}` |", "| --- | --- |"]
    lines += [f"| {name} | {_cell(value)} |" for name, value in rows.items()]
    return "\n".join(lines)


def _cell(value: object) -> str:
    text = str(value).replace("|", "\\|").replace("`", "'").replace("\n", " ")
    text = text if len(text) <= 300 else f"{text[:299]}…"
    return f"`{text}`" if text else "empty"


def sentence(done: int, total: int | None, label: str, seconds: float) -> str:
    if total is None:
        return f"{label}: {done:,} after {seconds:.0f} s"
    left = f", about {seconds / done * (total - done):.0f} s left" if 0 < done < total else ""
    return f"{label}: {done:,} of {total:,} in {seconds:.0f} s{left}"


def bar(done: int, total: int | None, text: str):
    """The sentence behind a progress bar, while something is under way; plain text outside a notebook."""
    if not total or done >= total or cell() is None:
        return text
    from IPython.display import HTML

    return HTML(f'<progress value="{done}" max="{total}" style="width: 12em"></progress> {escape(text)}')


def cell() -> int | None:
    """The number of the cell that runs; None outside a notebook."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return shell.execution_count if shell else None


def show(content, **options):
    """A text as Markdown, or what `bar` made, in a notebook; plain text elsewhere."""
    if cell() is not None:
        from IPython.display import display

        return display(markdown(content), **options)
    return print(content)


def markdown(content):
    from IPython.display import Markdown

    return Markdown(content) if isinstance(content, str) else content
