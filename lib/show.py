"""Show texts of models and of files as data: nothing in them acts as markup, formula or terminal code."""

import os
import re
from collections.abc import Iterable, Mapping
from html import escape

import pandas as pd
from datasets import Dataset

# in tables that notebooks show, cells are escaped and a dollar sign starts no formula
pd.set_option("display.html.use_mathjax", False)
pd.set_option("styler.html.mathjax", False)
pd.set_option("styler.format.escape", "html")

MAX_CELL = 40  # characters of a text that fits in a column
MISSING = "–"
ENDS = (-9.0, 9.0)  # lowest and highest MFD
INVISIBLE = re.compile(  # the joiners 200C and 200D stay: scripts and emoji need them
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\ufeff\U000e0000-\U000e007f]"
)
# the colours are the page's own, dimmed, to be readable on a dark page, too
BOX = '<div style="border-left: 3px solid #9aa0a6; margin: 1em 0 1.6em; padding-left: 0.9em">{}</div>'
HEAD = '<div style="font-weight: bold">{}</div>'
PART = (
    '<div style="opacity: 0.8; font-size: 0.85em; margin-top: 0.5em">{}</div><pre tabindex="0" style="'
    "white-space: pre-wrap; overflow-wrap: anywhere; max-height: {}; overflow-y: auto; font-family: inherit; "
    'unicode-bidi: isolate; margin: 0; padding: 0; background: none; border: none">{}</pre>'
)
NO_FORMULAS = '<div class="mathjax_ignore tex2jax_ignore">{}</div>'  # JupyterLab sets formulas in any output


def plain(text: object) -> str:
    """Replace characters that are invisible, or act on their surroundings, by their number: "[U+200B]"."""
    return INVISIBLE.sub(lambda match: f"[U+{ord(match[0]):04X}]", str(text))


def code(text: object) -> str:
    """Show a name from a file in a sentence: as code, in which nothing is read as markup."""
    return f"`{' '.join(plain(text).replace('`', chr(39)).split())[:80]}`"


def texts(table: pd.DataFrame, heads: list[str], parts: list[str], tallest: str = "14em"):
    """Show rows to read: `heads` in one line, the texts `parts` below; a text taller than `tallest` scrolls.

    A plain table if all texts are short.
    """
    if _fits(table[parts]):
        short = table[heads + parts].map(lambda value: plain(value) if isinstance(value, str) else value)
        return _html(short.to_html(index=False, float_format="{:.2f}".format, na_rep=MISSING))
    rows = table.to_dict("records")
    boxes = (_box({n: row[n] for n in heads}, [(n, row[n]) for n in parts], tallest) for row in rows)
    return _html("".join(boxes))


def example(texts: Mapping[str, object] | Iterable[tuple[str, object]], tallest: str = "20em"):
    """Show one example in full: {"instruction": …, "response": …}, or pairs of these."""
    return _html(_box({}, list(texts.items() if isinstance(texts, Mapping) else texts), tallest))


def head(rows: Dataset, *columns: str, n: int = 3):
    """Show the first rows: columns before the first with longer texts in one line, all others below.

    None, which shows nothing, where there are no rows.
    """
    table = rows.select(range(min(n, len(rows)))).to_pandas()[list(columns)]
    if table.empty:
        return None
    fits = [_fits(table[[name]]) for name in columns]
    first = fits.index(False) if False in fits else len(columns)
    return texts(table, list(columns[:first]), list(columns[first:]))


def browse(rows: Dataset, *parts: str, n: int = 3):
    """Show rows one by one, the highest MFD first, with filters by task and MFD; `parts` are their texts.

    In a run, where nobody can turn a page, the first `n` rows.
    """
    table = rows.select_columns(["id", "task", "mfd", *parts]).to_pandas()
    table = table.sort_values("mfd", ascending=False, kind="stable")  # unread rows come last
    pages = texts(table.head(n), ["id", "task", "mfd"], list(parts))
    if "STAGE" in os.environ:
        return pages
    from IPython.display import display

    # a front end without widgets shows the first rows
    display(browser(table, parts)._repr_mimebundle_() | {"text/html": pages.data}, raw=True)


def browser(table: pd.DataFrame, parts: Iterable[str]):
    """Build the widgets of `browse`: task, MFD from and to, number of the row, the row itself."""
    import ipywidgets

    tasks = ipywidgets.Dropdown(options=["all tasks", *sorted(table["task"].dropna().unique())])
    mfd = ipywidgets.FloatRangeSlider(value=ENDS, min=ENDS[0], max=ENDS[1], step=0.5, description="MFD")
    mfd.layout.width, mfd.readout_format = "28em", ".1f"
    number = ipywidgets.BoundedIntText(value=1, min=1, max=max(len(table), 1), description="row")
    page = ipywidgets.HTML()

    def draw(_change: object = None) -> None:
        fits = table["mfd"].between(*mfd.value) | (table["mfd"].isna() & (mfd.value == ENDS))
        chosen = table[fits & ((tasks.value == "all tasks") | (table["task"] == tasks.value))]
        number.max = max(len(chosen), 1)  # lowers the number, too
        one_row = chosen.iloc[number.value - 1 : number.value]
        page.value = f"{len(chosen):,} rows" + texts(one_row, ["id", "task", "mfd"], list(parts)).data

    for control in (tasks, mfd, number):
        control.observe(draw, "value")
    draw()
    controls = ipywidgets.HBox([tasks, mfd, number], layout={"flex_flow": "row wrap"})
    return ipywidgets.VBox([controls, page])


def _fits(table: pd.DataFrame) -> bool:
    """Say whether all values are short enough for cells of a table."""
    return table.map(lambda value: len(str(value)) <= MAX_CELL and "\n" not in str(value)).all(axis=None)


def _box(heads: dict[str, object], texts: list[tuple[str, object]], tallest: str) -> str:
    line = " · ".join(f"{escape(name)} {_value(value)}" for name, value in heads.items())
    shown = (PART.format(escape(name.replace("_", " ")), tallest, _value(text)) for name, text in texts)
    return BOX.format((HEAD.format(line) if heads else "") + "".join(shown))


def _value(value: object) -> str:
    if value is None or value != value:  # pandas has nan where rows have null
        return MISSING
    return escape(f"{value:.2f}" if isinstance(value, float) else plain(value))


def _html(content: str):
    from IPython.display import HTML

    return HTML(NO_FORMULAS.format(content))
