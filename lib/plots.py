"""Draw the figures: one colour-blind safe style, SVG, an alternative text that holds the data.

A function takes plain data and returns a figure. An arm has the same colour in every figure.
"""

import io
import sys
import zlib
from collections.abc import Iterable, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

PALETTE = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442"]  # Okabe and Ito
BLUE, RED, GREY = PALETTE[0], PALETTE[5], "#8A8A8A"
# Paul Tol's muted scheme: one for each usual arm, and any other arm gets one by its name
MUTED = ["#332288", "#88CCEE", "#44AA99", "#117733", "#999933", "#DDCC77", "#CC6677", "#882255", "#AA4499"]
BASELINES = ("mfd", "mfd_mix", "constant_alpha", "random_oracle", "longest", "ifd", "score", "deita", "lion")
ARMS = {"tapir": BLUE, "self_guide": RED, "balanced": "#E69F00", "random": "#009E73"}
ARMS |= {"warm_up": "#7F7F7F", "corpus": "#BFBFBF"} | dict(zip(BASELINES, MUTED, strict=True))
SHARED_OUTCOMES = {"both right": "#C9C9C9", "both wrong": "#EBEBEB", "equal": "#C9C9C9"}
INK, FAINT, RULE, PAPER = "#22262b", "#5c636b", "#e3e3e3", "#ffffff"
DARK = {INK: "#e4e7ea", FAINT: "#a9b0b7", RULE: "#3a4047", PAPER: "none"}  # the same colours on a dark page
MAX_VECTORS = 2000  # points drawn as vectors; a figure with more holds them as pixels
MAX_ALT = 900  # characters of an alternative text
MAX_LABELS = 90  # characters of a row of column labels; longer ones are rotated
plt.rc("figure", figsize=(7.0, 3.2), dpi=110)
plt.rc("figure.constrained_layout", use=True)
plt.rc("savefig", dpi=200)
plt.rc("svg", fonttype="none", hashsalt="figures")  # text stays text; the same figure is the same file
plt.rc("font", size=9.5, **{"sans-serif": ["DejaVu Sans", "Verdana", "Arial"]})
plt.rc("text", parse_math=False, color=INK)  # a dollar sign in a name starts no formula
plt.rc("axes", labelcolor=INK, titlecolor=INK, edgecolor=FAINT, grid=True, axisbelow=True)
plt.rc("axes", titlesize=10.5, titleweight="bold", titlelocation="left")
plt.rc("axes.spines", top=False, right=False)
plt.rc(("xtick", "ytick"), color=FAINT, labelcolor=INK)
plt.rc("grid", color=RULE, linewidth=0.7)
plt.rc("legend", frameon=False)
plt.rc("lines", linewidth=1.6)


def histogram(values, title: str, x: str, bins=30, line: float | None = None, label: str = ""):
    """Draw the number of rows by value; `line` marks a threshold.

    Several groups, {"round 1": values, …}, are panels on one axis, in shares of their rows.
    """
    groups = values if isinstance(values, dict) else {"rows": values}
    size = (7.0, 0.9 + 1.1 * len(groups)) if values is groups else None
    figure, panels = plt.subplots(len(groups), sharex=True, sharey=True, squeeze=False, figsize=size)
    edges = np.histogram_bin_edges(np.concatenate([np.asarray(v, float) for v in groups.values()]), bins)
    texts = []
    for axes, (name, numbers) in zip(panels[:, 0], groups.items(), strict=True):
        weights = np.full(len(numbers), 1 / len(numbers) if values is groups else 1)
        axes.hist(numbers, bins=edges, weights=weights, color=BLUE, edgecolor="white")
        axes.set_ylabel(name)
        axes.yaxis.set_major_formatter("{x:.0%}" if values is groups else "{x:,.0f}")
        low, median, high = np.percentile(numbers, [0, 50, 100])
        texts.append(f"{name}: {len(numbers):,} values from {low:.3g} to {high:.3g}, median {median:.3g}")
        if line is not None:
            axes.axvline(line, color=RED, linestyle="--", label=label)
            texts[-1] += f", {np.mean(np.asarray(numbers) >= line):.0%} at {line:g} or above"
    panels[0, 0].set_title(title)
    axes.set_xlabel(x)
    if line is not None:
        panels[0, 0].legend()
    return with_alt_text(figure, "Histogram", texts)


def bars(groups: dict[str, dict[str, float]], title: str, x: str, percent: bool = True):
    """Draw horizontal bars, a group of them per label: {"before": {"Arithmetic": 0.06, …}, "after": {…}}."""
    table = pd.DataFrame(groups)
    figure, axes = plt.subplots(figsize=(7.0, 0.9 + 0.3 * len(table) * max(1, len(groups) / 2)))
    shades = [ARMS.get(name, PALETTE[i % 7]) for i, name in enumerate(groups)]
    table.plot.barh(ax=axes, width=0.8, color=shades, legend=False)
    _finish_rows(axes, title, x)
    if percent:
        axes.xaxis.set_major_formatter("{x:.0%}")
    if len(groups) > 1:
        figure.legend(loc="outside lower center", ncols=min(len(groups), 6))
    return with_alt_text(figure, "Bar chart", _describe(table, "{:.1%}" if percent else "{:.4g}"))


def outcomes(counts: dict[str, dict[str, int]], title: str, x: str):
    """Draw a full bar per label, in shares: {"chain_sum": {"tapir alone": 3, "both right": 9, …}, …}.

    Rows that one arm alone got right stand in its colour at its end of the bar, all others in grey between.
    """
    table = pd.DataFrame(counts).T
    table = table.div(table.sum(axis=1).clip(lower=1), axis=0)
    figure, axes = plt.subplots(figsize=(7.0, 1.2 + 0.26 * len(table)))
    shades = [SHARED_OUTCOMES.get(part) or colour(part.split(" ")[0]) for part in table]
    table.plot.barh(ax=axes, width=0.75, color=shades, stacked=True, edgecolor="white", legend=False)
    _finish_rows(axes, title, x)
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter("{x:.0%}")
    figure.legend(loc="outside lower center", ncols=len(table.columns))
    return with_alt_text(figure, "Stacked bars", _describe(table))


def top_n_and_rest(groups: dict[str, dict[str, float]], n: int = 12) -> dict[str, dict[str, float]]:
    """Keep the `n` labels that are largest in any group, and sum all others under one label."""
    table = pd.DataFrame(groups)
    if len(table) <= n + 1:
        return groups
    is_top = table.index.isin(table.max(axis=1).nlargest(n).index)
    rest = pd.DataFrame({f"{(~is_top).sum()} others": table[~is_top].sum()}).T
    return pd.concat([table[is_top], rest]).to_dict()


def curves(lines: dict[str, tuple[Sequence[float], Sequence[float]]], title: str, x: str, y: str):
    """Draw one line per arm: {"tapir": (steps, losses), …}."""
    figure, axes = plt.subplots()
    for name, (steps, values) in lines.items():
        axes.plot(steps, values, label=name, color=colour(name.split(" ")[0]))
    axes.set(title=title, xlabel=x, ylabel=y)
    if len(lines) > 1:
        axes.legend()
    texts = [f"{name}: from {y[0]:.3g} to {y[-1]:.3g}" for name, (_, y) in lines.items() if len(y)]
    return with_alt_text(figure, "Line chart", texts)


def intervals(values: dict[str, tuple], title: str, x: str, zero=False, scale=100.0, decimals=1):
    """Draw a forest plot, a line per label: {label: (value, low, high)}, or (value,) without an interval.

    Values are multiplied by `scale`, by default to percent; `zero` marks the zero.
    """
    figure, axes = plt.subplots(figsize=(7.0, 0.9 + 0.3 * len(values)))
    texts = []
    for i, (name, numbers) in enumerate(values.items()):
        value, *bounds = (scale * number for number in numbers)
        shade = ARMS.get(name, BLUE)
        axes.plot(bounds, [i] * len(bounds), color=shade, solid_capstyle="butt", linewidth=2.4)
        axes.plot([value], [i], "o", color=shade, markersize=6)
        shown, *ends = (f"{number:.{decimals}f}" for number in (value, *bounds))
        axes.annotate(shown, (value, i), (0, 6), textcoords="offset points", ha="center", size=8)
        texts.append(f"{name}: {shown}" + (f", from {ends[0]} to {ends[1]}" if ends else ""))
    if zero:
        axes.axvline(0, color=FAINT, linewidth=1)
    axes.set_yticks(range(len(values)), list(values))
    _finish_rows(axes, title, x)
    return with_alt_text(figure, "Values with their 95 % intervals", texts)


def scatter(points: dict[str, tuple[float, ...]], title: str, x: str, y: str):
    """Draw labelled points: {name: (x, y)}, or (x, y, low, high) with a 95 % interval, around zero."""
    figure, axes = plt.subplots(figsize=(7.0, 4.2))
    texts = []
    for name, (a, b, *bounds) in points.items():
        low, high = bounds or (b, b)
        shade = BLUE if low > 0 or not bounds else RED if high < 0 else GREY
        axes.plot([a, a], [low, high], color=shade, linewidth=1.4)
        axes.plot([a], [b], "o", color=shade, markersize=5)
        axes.annotate(name, (a, b), (4, 2), textcoords="offset points", size=7)
        texts.append(f"{name}: {a:.3g}, {b:.3g}" + (f", from {low:.3g} to {high:.3g}" if bounds else ""))
    if any(len(point) > 2 for point in points.values()):
        axes.axhline(0, color=FAINT, linewidth=1)
    axes.set(title=title, xlabel=x, ylabel=y)
    return with_alt_text(figure, "Scatter plot", texts)


def binned(at: Sequence[float], values: Sequence[float], title: str, x: str, y: str):
    """Draw the finite points, and the mean of each eighth of them from left to right."""
    at, values = np.asarray(at, float), np.asarray(values, float)
    finite = np.isfinite(at) & np.isfinite(values)
    at, values = at[finite], values[finite]
    figure, axes = plt.subplots()
    axes.plot(at, values, ".", color=BLUE, alpha=0.25, markersize=5, rasterized=len(at) > MAX_VECTORS)
    eighths = [part for part in np.array_split(np.argsort(at, kind="stable"), 8) if len(part)]
    means = [(at[part].mean(), values[part].mean()) for part in eighths]
    axes.plot(*zip(*means, strict=True), "o-", color=RED, label="mean of an eighth of the pairs")
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.legend()
    kind = f"Scatter plot of {len(at):,} points with the means of eighths"
    return with_alt_text(figure, kind, [f"at {a:.3g} on average {b:.3g}" for a, b in means])


def radar(groups: dict[str, dict[str, float]], title: str, highest: float):
    """Draw a web of categories, a line per group: {"turn 1": {"writing": 9.5, …}, …}, from 0 to `highest`."""
    table = pd.DataFrame(groups)
    angles = np.linspace(0, 2 * np.pi, len(table), endpoint=False)
    figure, axes = plt.subplots(figsize=(6.0, 4.6), subplot_kw={"projection": "polar"})
    for shade, (name, values) in zip(PALETTE, table.items(), strict=False):
        closed = [*values, values.iloc[0]]
        axes.plot([*angles, angles[0]], closed, label=name, color=shade, marker="o", markersize=3)
    axes.set_theta_offset(np.pi / 2)
    axes.set_theta_direction(-1)
    axes.set_xticks(angles, table.index)
    axes.tick_params(axis="x", pad=14)
    axes.set(title=title, ylim=(0, highest))
    figure.legend(loc="outside lower center", ncols=len(groups))
    return with_alt_text(figure, "Radar chart", _describe(table, "{:.3g}"))


def grid(cells: dict[str, dict[str, float]], title: str):
    """Draw a table of percentages with shaded cells: {row: {column: share}}; nan is a dash."""
    table = pd.DataFrame(cells).T
    figure, axes = plt.subplots(figsize=(7.0, 0.8 + 0.24 * len(table)))
    axes.imshow(100 * table, cmap="Blues", vmin=0, vmax=130, aspect="auto")
    for (i, j), share in np.ndenumerate(table):
        text = f"{100 * share:.0f}" if np.isfinite(share) else "–"
        axes.text(j, i, text, ha="center", va="center", size=8, color="#111111")
    crowded = len(table.columns) * max(map(len, table)) > MAX_LABELS
    axes.set_xticks(range(len(table.columns)), table, **({"rotation": 30, "ha": "left"} if crowded else {}))
    axes.set_yticks(range(len(table)), table.index)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.set_title(title)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    return with_alt_text(figure, "Table of percentages", _describe(table))


def colour(arm: str) -> str:
    """Return the colour of an arm: fixed for the usual ones, by its name for any other."""
    return ARMS.get(arm) or MUTED[zlib.crc32(arm.encode()) % len(MUTED)]


def svg(figure: Figure) -> tuple[str, dict[str, str]]:
    """Return a figure as SVG, and its alternative text as metadata: {"alt": …}."""
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue()
    return text[text.index("<svg") :], {"alt": getattr(figure, "alt", "")}


def with_alt_text(figure: Figure, kind: str, texts: Iterable[str]) -> Figure:
    """Add an alternative text to a figure: its kind, title, axes and data."""
    _show_as_svg()
    axes = figure.axes[0]
    title, x, y = axes.get_title(loc="left"), axes.get_xlabel(), axes.get_ylabel()
    named = "; ".join(filter(None, [title, x and f"x: {x}", y and f"y: {y}"]))
    text = f"{kind}. {named}. {'; '.join(texts)}."
    figure.alt = text if len(text) <= MAX_ALT else f"{text[: MAX_ALT - 1]}…"
    axes.set_title(title, wrap=True)
    return figure


def _show_as_svg() -> None:
    """Let a notebook show figures by `svg`; IPython adds its own formatter with the first figure."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell:
        formatters = shell.display_formatter.formatters
        formatters["image/png"].pop(Figure, None)
        formatters["image/svg+xml"].for_type(Figure, svg)


def _finish_rows(axes, title: str, x: str) -> None:
    """Set the title, and the labels of a figure whose y axis is a list, from the top down."""
    axes.set(title=title, xlabel=x, ylabel="", ylim=(len(axes.get_yticks()) - 0.4, -0.7))
    axes.grid(axis="y", visible=False)


def _describe(table: pd.DataFrame, shape: str = "{:.0%}") -> list[str]:
    """Say every line of a table: "label: column value, column value"."""
    lines = table.map(shape.format).T.to_dict()
    return [
        f"{name}: {', '.join(f'{n} {text}' for n, text in values.items())}" for name, values in lines.items()
    ]
