"""Render an executed notebook as HTML: no script, no request, formulas as MathML, model text as text.

nbconvert walks the cells; cells.html.j2 says what each becomes. Markup in an output is sanitized; the
content policy of a page forbids scripts and requests besides.
"""

import base64
import re
from functools import cache
from html import escape
from pathlib import Path

import nh3
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup
from mistune import BlockParser, InlineParser
from mistune.plugins.table import render_table
from nbconvert import HTMLExporter
from nbconvert.filters.ansi import strip_ansi
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode

from lib import show
from lib.report.tables import ABSENT
from lib.runner.keys import tags

HERE = Path(__file__).parent
HEADINGS = {f"h{level}" for level in range(1, 7)}  # those of a page are its own
ALLOWED = nh3.ALLOWED_TAGS - {"a", "img"} - HEADINGS | {"details", "summary"}
ATTRIBUTES = {
    "*": {"style", "class", "title", "open"},
    "td": {"colspan", "rowspan"},
    "th": {"colspan", "rowspan", "scope"},
    "pre": {"tabindex"},
}
STYLES = {"opacity", "font-size", "font-weight", "margin", "margin-top", "padding", "padding-left"}
STYLES |= {"border", "border-left", "white-space", "overflow-wrap", "overflow-y", "max-height"}
STYLES |= {"text-align", "vertical-align", "unicode-bidi"}
EMPTY_HEADING = re.compile(r"<th[^>]*>(?:&nbsp;|\s)*</th>")
NUMBER = re.compile(r"<td[^>]*>(?=\s*[^<]*\d)([-+−\d.,%\s\[\]()–e]+|nan)</td>")


def body(notebook: dict, level: int = 1, fold_code: bool = False, within: bool = False) -> str:
    """Render the cells of a notebook as HTML, its title as a heading of this level.

    `fold_code` folds every code cell; `within` a report leaves out parameters, commit and versions.
    """
    shown = NotebookNode(notebook, cells=_sections(notebook.cells))
    return _exporter(level).from_notebook_node(shown, {"fold_code": fold_code, "within": within})[0]


def _sections(cells: list) -> list:
    """Drop cells "not-on-page", and sections tagged "optional" whose code shows nothing but its absence.

    A section ends at the next heading.
    """
    sections = [[]]
    for cell in (cell for cell in cells if "not-on-page" not in tags(cell)):
        if cell.cell_type == "markdown" and cell.source.startswith("#"):
            sections.append([])
        sections[-1].append(cell)
    shown = []
    for section in filter(None, sections):
        outputs = [o for cell in section if "hide-cell" not in tags(cell) for o in cell.get("outputs", ())]
        is_absent = all(output.get("metadata", {}).get(ABSENT) for output in outputs)
        shown += [] if "optional" in tags(section[0]) and is_absent else section
    return shown


def page(template: str, **content: object) -> str:
    """Fill in a template beside this module; texts are escaped, `Markup` is not."""
    loader = FileSystemLoader(HERE)
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    styles = Markup(f"<style>{(HERE / 'page.css').read_text()}{_code_styles()}</style>")
    return environment.get_template(template).render(styles=styles, **content)


def notebook_page(notebook: dict, title: str) -> str:
    """Render a page of one notebook."""
    return page("notebook.html.j2", title=title, body=Markup(body(notebook)))


def sanitized(html: str) -> str:
    """Remove markup that acts or loads; mark the numbers in tables."""
    allowed = {"tags": ALLOWED, "attributes": ATTRIBUTES, "filter_style_properties": STYLES}
    clean = nh3.clean(show.plain(html), link_rel=None, **allowed)
    return NUMBER.sub(r'<td class="number">\1</td>', EMPTY_HEADING.sub("<td></td>", clean))


@cache
def _exporter(level: int) -> HTMLExporter:
    """Return nbconvert's exporter with our template and filters; compiling a template is slow."""
    exporter = HTMLExporter(raw_template=(HERE / "cells.html.j2").read_text())
    filters = {
        "markdown2html": lambda source: markdown(source, level),
        "sentence": lambda source: markdown(show.plain(source), level, formulas=False),
        "sanitized": sanitized,
        "plain": lambda text: show.plain(strip_ansi(text)),
        "base64": lambda text: base64.b64encode(text.encode()).decode(),
    }
    for name, function in filters.items():
        exporter.register_filter(name, function)
    return exporter


def markdown(source: str, level: int, formulas: bool = True) -> str:
    """Render Markdown, headings from this level on; without `formulas` a dollar sign stays one."""
    parsers = () if formulas else (BlockParser(), InlineParser())
    return MarkdownWithMath(_Prose(level), *parsers).render(source)


class _Prose(IPythonRenderer):
    """Shows markup in a text as text, formulas as MathML, and a link to another notebook as its name."""

    def __init__(self, level: int):
        super().__init__(escape=True, allow_harmful_protocols=False)
        self.level = level

    def heading(self, text: str, level: int, **attributes: object) -> str:
        number = min(level + self.level - 1, 6)
        return f"<h{number}>{text}</h{number}>\n"

    def block_code(self, code: str, info: str | None = None) -> str:
        return super().block_code(code, info).replace("<pre", '<pre tabindex="0"', 1)

    def link(self, text: str, url: str, title: str | None = None) -> str:
        return super().link(text, url, title) if url.startswith(("https://", "http://")) else text

    def image(self, text: str, url: str, title: str | None = None) -> str:
        return escape(text)

    def table(self, text: str) -> str:
        return f'<div class="scroll" tabindex="0">{render_table(self, text)}</div>'

    def block_math(self, body: str) -> str:
        return f'<p class="formula" tabindex="0">{_mathml(body, "block")}</p>'

    def inline_math(self, body: str) -> str:
        return _mathml(body, "inline")


@cache
def _mathml(formula: str, display: str) -> str:
    """Convert a formula to MathML; one that latex2mathml cannot parse stays as its source."""
    from latex2mathml.converter import convert

    try:
        return convert(formula, display=display)
    except Exception:  # its errors have no class in common
        sign = "$$" if display == "block" else "$"
        return f"<code>{escape(f'{sign}{formula}{sign}')}</code>"


@cache
def _code_styles() -> str:
    """Return the colours of code on light and dark: two styles of sufficient contrast (WCAG AA)."""
    from pygments.formatters import HtmlFormatter

    light, dark = (HtmlFormatter(style=name).get_style_defs(".highlight") for name in ("xcode", "lightbulb"))
    return f"{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}"
