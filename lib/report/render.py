"""An executed notebook as HTML: no script, nothing from the network, formulas as MathML, model text as text.

nbconvert walks the cells; cells.html.j2 says what each becomes. What an output holds is data: markup in it is sanitized, and a page's content
policy forbids scripts and requests besides.
"""

import base64
import copy
import re
from functools import cache
from html import escape
from pathlib import Path

import matplotlib.pyplot as plt
import nh3
from jinja2 import Environment, FileSystemLoader, pass_context
from markupsafe import Markup
from matplotlib.figure import Figure
from mistune.plugins.table import render_table
from nbconvert import HTMLExporter
from nbconvert.filters.ansi import strip_ansi
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

from lib import plots, show
from lib.runner.keys import tags

HERE = Path(__file__).parent
HEADINGS = {f"h{level}" for level in range(1, 7)}  # those of a page are its own
ALLOWED = nh3.ALLOWED_TAGS - {"a", "img"} - HEADINGS | {"details", "summary", "progress"}
ATTRIBUTES = {
    "*": {"style", "class", "title", "open"},
    "td": {"colspan", "rowspan"},
    "th": {"colspan", "rowspan", "scope"},
}
ATTRIBUTES |= {"pre": {"tabindex"}, "progress": {"value", "max"}}
STYLES = {
    "opacity",
    "font-size",
    "font-weight",
    "margin",
    "margin-top",
    "padding",
    "padding-left",
    "border",
    "border-left",
}
STYLES |= {
    "white-space",
    "overflow-wrap",
    "overflow-y",
    "max-height",
    "text-align",
    "vertical-align",
    "unicode-bidi",
}
EMPTY = re.compile(r"<th[^>]*>(?:&nbsp;|\s)*</th>")  # a heading that says nothing is none
NUMBER = re.compile(r"<td[^>]*>(?=\s*[^<]*\d)([-+−\d.,%\s\[\]()–e]+|nan)</td>")


def body(notebook: dict, level: int = 1, fold_code: bool = False, within: bool = False) -> str:
    """The cells of a notebook as HTML, its title a heading of this level, and so on below; `fold_code` folds every code cell, `within` a report
    leaves out what that says itself: parameters, commit and versions."""
    shown = copy.deepcopy(notebook)
    shown.cells = _sections(shown.cells)
    found, _ = _cells(level).from_notebook_node(shown, {"fold_code": fold_code, "within": within})
    return found


def _sections(cells: list) -> list:
    """Leave out sections tagged "optional" whose code shows nothing; a section ends at the next heading."""
    sections = [[]]
    for cell in cells:
        if cell.cell_type == "markdown" and cell.source.startswith("#"):
            sections.append([])
        sections[-1].append(cell)
    return [cell for section in sections if not _is_empty(section) for cell in section]


def _is_empty(section: list) -> bool:
    if not section or "optional" not in tags(section[0]):
        return False
    return not any(cell.get("outputs") and "hide-cell" not in tags(cell) for cell in section)


def page(template: str, **content: object) -> str:
    """A page of one of the templates beside this module; texts are escaped, `Markup` is not."""
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    styles = Markup(f"<style>{(HERE / 'page.css').read_text()}{_code_styles()}</style>")
    return environment.get_template(template).render(styles=styles, **content)


def notebook_page(notebook: dict, title: str) -> str:
    """A page of one notebook."""
    return page("notebook.html.j2", title=title, body=Markup(body(notebook)))


def svg_figure(svg: str, alt: str) -> Markup:
    """A figure that turns dark where the page does. Inside an image nothing of it can act."""
    rules = "".join(
        f'[style*="{part}: {light}"]{{{part}:{dark}!important}}'
        for light, dark in plots.DARK.items()
        for part in ("fill", "stroke")
    )
    style = f"<style>@media (prefers-color-scheme: dark){{{rules}}}</style>"
    start = svg.index(">", svg.index("<svg")) + 1
    data = base64.b64encode((svg[:start] + style + svg[start:]).encode()).decode()
    return Markup('<figure tabindex="0"><img src="data:image/svg+xml;base64,{}" alt="{}"></figure>').format(
        data, alt
    )


def figure(drawn: Figure) -> Markup:
    """A figure drawn for the page itself."""
    text, metadata = plots.svg(drawn)
    plt.close(drawn)
    return svg_figure(text, metadata["alt"])


def sanitized(html: str) -> str:
    """Markup without anything that acts or loads; numbers in tables are marked as such."""
    kept = nh3.clean(
        show.plain(html),
        tags=ALLOWED,
        attributes=ATTRIBUTES,
        filter_style_properties=STYLES,
        link_rel=None,
    )
    return NUMBER.sub(r'<td class="number">\1</td>', EMPTY.sub("<td></td>", kept))


@cache
def _cells(level: int) -> "_Cells":
    """Compiling a template takes longer than filling it in."""
    return _Cells(raw_template=(HERE / "cells.html.j2").read_text(), level=level)


class _Cells(HTMLExporter):
    """nbconvert's exporter with our filters."""

    def __init__(self, level: int, **options: object):
        super().__init__(**options)
        self.level = level

    def default_filters(self):
        yield from super().default_filters()
        yield "markdown2html", self.markdown2html
        yield "said", lambda source: markdown(show.plain(source), self.level, formulas=False)
        yield "sanitized", sanitized
        yield "plain", lambda text: show.plain(strip_ansi(text))
        yield (
            "svg_figure",
            lambda svg, metadata: svg_figure(svg, metadata.get("image/svg+xml", {}).get("alt") or "a figure"),
        )

    @pass_context
    def markdown2html(self, context, source):
        return markdown(source, self.level)


def markdown(source: str, level: int = 1, formulas: bool = True) -> str:
    """Markdown as HTML, headings from this level on; without `formulas` a dollar sign is one, as in what a stage says of its data."""
    return MarkdownWithMath(renderer=_Prose(level, formulas)).render(source)


class _Prose(IPythonRenderer):
    """Markup in a text is text, formulas are MathML, and a link to another notebook, which no page has, is its name."""

    def __init__(self, level: int, formulas: bool):
        super().__init__(escape=True, allow_harmful_protocols=False, exclude_anchor_links=True)
        self.level, self.formulas = level, formulas

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
        return (
            f'<p class="formula" tabindex="0">{_mathml(body, "block")}</p>'
            if self.formulas
            else escape(f"$${body}$$")
        )

    def inline_math(self, body: str) -> str:
        return _mathml(body, "inline") if self.formulas else escape(f"${body}$")


@cache
def _mathml(formula: str, display: str) -> str:
    """Convert a formula to MathML; one that latex2mathml cannot parse stays as its source."""
    from latex2mathml.converter import convert

    try:
        return convert(formula, display=display)
    except Exception:  # its errors have no class in common, and some are IndexError and the like
        sign = "$$" if display == "block" else "$"
        return f"<code>{escape(f'{sign}{formula}{sign}')}</code>"


@cache
def _code_styles() -> str:
    """Colours of code, on light and on dark: two styles with enough contrast in every part (WCAG AA)."""
    from pygments.formatters import HtmlFormatter

    light, dark = (HtmlFormatter(style=name).get_style_defs(".highlight") for name in ("xcode", "lightbulb"))
    return f"{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}"
