"""How texts of data stand in a card: names of sources, licences, tasks and models can hold anything."""

from collections import Counter
from collections.abc import Iterable

LONGEST = 80  # characters of a name
MOST = 20  # lines of a table of counts


def said(text: object) -> str:
    """A name in one line, without what can't be seen."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())[:LONGEST]


def code(text: object) -> str:
    """A name as code, in which nothing is markup; a bar, which would end a table's cell, is broken."""
    return f"`{said(text).replace('`', chr(39)).replace('|', chr(0xA6)) or '?'}`"


def verbatim(text: str) -> str:
    """A text of any lines as a block of code, which no line of it can end."""
    lines = ("".join(c if c.isprintable() else " " for c in line) for line in text.splitlines())
    return "\n".join(f"    {line}" for line in lines)


def figure(value: float | None) -> str:
    """A number to read: "12,000", "0.2345"."""
    return "not recorded" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def table(head: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    """A Markdown table; its cells are Markdown already."""
    head = list(head)
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *lines))


def counts(head: list[str], of: Counter, nothing: str) -> str:
    """Counts of rows as a table, the least of many in one line; `nothing` stands for no value."""
    lines = [[*_cells(value, nothing), n] for value, n in of.most_common()]
    if rest := lines[MOST:]:
        lines[MOST:] = [[f"{len(rest):,} others", *[""] * (len(head) - 1), sum(line[-1] for line in rest)]]
    shown = ([*names, f"{n:,}", f"{n / of.total():.1%}"] for *names, n in lines)
    return table([*head, "rows", "share"], shown)


def _cells(value: object, nothing: str) -> list[str]:
    return [nothing if it is None else code(it) for it in (value if isinstance(value, tuple) else (value,))]
