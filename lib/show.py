"""How texts of models and of files are shown: as data. Nothing in them is read as markup, formula or terminal code."""

from collections.abc import Iterable, Mapping
from html import escape

import pandas as pd
from datasets import Dataset

# tables that notebooks show without more ado: cells are escaped, and a dollar sign starts no formula
pd.set_option("display.html.use_mathjax", False)
pd.set_option("styler.html.mathjax", False)
pd.set_option("styler.format.escape", "html")

SHORT = 40  # characters of a text that fits in a column
# the colours are the page's own, dimmed, so that they can be read on a dark page, too
BOX = '<div style="border-left: 3px solid #9aa0a6; margin: 1em 0 1.6em; padding-left: 0.9em">{}</div>'
HEAD = '<div style="font-weight: bold">{}</div>'
PART = (
    '<div style="opacity: 0.8; font-size: 0.85em; margin-top: 0.5em">{}</div>'
    '<pre tabindex="0" style="white-space: pre-wrap; overflow-wrap: anywhere; max-height: {}; overflow-y: auto; '
    'font-family: inherit; unicode-bidi: isolate; margin: 0; padding: 0; background: none; border: none">{}</pre>'
)
IGNORED = '<div class="mathjax_ignore tex2jax_ignore">{}</div>'  # JupyterLab sets formulas in what it finds
# control characters (but for tab and newline) as their pictures, and what turns the direction of text by its number
VISIBLE = {code: chr(0x2400 + code) for code in range(0x20) if code not in (0x09, 0x0A, 0x0D)}
VISIBLE |= {0x7F: "\u2421"} | {code: f"[U+{code:04X}]" for code in (*range(0x80, 0xA0), 0x200E, 0x200F)}
VISIBLE |= {
    code: f"[U+{code:04X}]"
    for code in (0x061C, *range(0x2028, 0x202F), *range(0x2060, 0x2070), 0x00AD, 0x200B, 0xFEFF)
}
VISIBLE |= {
    code: f"[U+{code:04X}]" for code in range(0xE0000, 0xE0080)
}  # tags, which hide text; joiners stay: scripts and emoji need them


def plain(text: object) -> str:
    """A text in which what is invisible, or acts on its surroundings, is shown by its number."""
    return str(text).translate(VISIBLE)


def code(text: object) -> str:
    """A name from a file, to be shown in a sentence: as code, in which nothing is read as markup."""
    return f"`{' '.join(plain(text).replace('`', chr(39)).split())[:80]}`"


def texts(table: pd.DataFrame, heads: list[str], parts: list[str], tallest: str = "14em"):
    """Rows to read: short columns in one line, texts one below the other; what is taller than `tallest` scrolls. Where all texts are short a
    plain table."""
    if table[parts].map(lambda value: len(str(value)) <= SHORT and "\n" not in str(value)).all(axis=None):
        short = table[heads + parts].map(lambda value: plain(value) if isinstance(value, str) else value)
        return _html(short.to_html(index=False, float_format="{:.2f}".format))
    rows = table.to_dict("records")
    return _html(
        "".join(_box({n: row[n] for n in heads}, [(n, row[n]) for n in parts], tallest) for row in rows)
    )


def example(texts: Mapping[str, object] | Iterable[tuple[str, object]], tallest: str = "20em"):
    """One example in full: {"instruction": …, "response": …}, or pairs of these; what is taller than `tallest` scrolls."""
    return _html(_box({}, list(texts.items()) if isinstance(texts, Mapping) else list(texts), tallest))


def head(rows: Dataset, *columns: str, n: int = 3) -> pd.DataFrame:
    """The first rows as a table."""
    return rows.select(range(min(n, len(rows)))).to_pandas()[list(columns)]


def _box(heads: dict[str, object], texts: list[tuple[str, object]], tallest: str) -> str:
    told = HEAD.format(" · ".join(f"{escape(name)} {_value(value)}" for name, value in heads.items()))
    shown = (PART.format(escape(name.replace("_", " ")), tallest, _value(text)) for name, text in texts)
    return BOX.format(told * bool(heads) + "".join(shown))


def _value(value: object) -> str:
    return escape(f"{value:.2f}" if isinstance(value, float) else plain(value))


def _html(content: str):
    from IPython.display import HTML

    return HTML(IGNORED.format(content))
