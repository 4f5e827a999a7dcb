"""Draw the figures: one colour-blind safe style, SVG, an alternative text that holds the data.

A function takes plain data and returns a figure. An arm has the same colour in every figure.
"""

import io
import sys
import zlib
from collections.abc import Sequence

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
INK, FAINT, RULE = "#22262b", "#5c636b", "#e3e3e3"
MAX_VECTORS = 2000  # points drawn as vectors; a figure with more holds them as pixels
MAX_ALT = 900  # characters of an alternative text
SPREAD = ["rows", "least", "median", "most"]  # of a histogram, in its alternative text
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


def histogram(values, title: str, x: str, bins=30, line: float | None = None, label: str = "") -> Figure:
    """Draw the number of rows by value; `line` marks a threshold.

    Several groups, {"round 1": values, …}, are panels on one axis, in shares of their rows.
    """
    is_grouped = isinstance(values, dict)
    groups = values if is_grouped else {"rows": values}
    groups = {name: pd.Series(numbers, dtype=float) for name, numbers in groups.items()}
    size = (7.0, 0.9 + 1.1 * len(groups)) if is_grouped else None
    figure, panels = plt.subplots(len(groups), sharex=True, sharey=True, squeeze=False, figsize=size)
    edges = np.histogram_bin_edges(pd.concat(groups), bins)
    for axes, (name, numbers) in zip(panels[:, 0], groups.items(), strict=True):
        weights = np.full(len(numbers), 1 / len(numbers) if is_grouped else 1)
        axes.hist(numbers, bins=edges, weights=weights, color=BLUE, edgecolor="white")
        axes.set_ylabel(name)
        axes.yaxis.set_major_formatter("{x:.0%}" if is_grouped else "{x:,.0f}")
    table = pd.DataFrame(groups).describe().T[["count", "min", "50%", "max"]].set_axis(SPREAD, axis="columns")
    if line is not None:
        for axes in panels[:, 0]:
            axes.axvline(line, color=RED, linestyle="--", label=label)
        panels[0, 0].legend()
        table[f"share at {line:g} or above"] = [(numbers >= line).mean() for numbers in groups.values()]
    return _finish(figure, "Histogram", table, title, x, shape="{:.6g}")


def bars(
    groups: dict[str, dict[str, float]], title: str, x: str, percent: bool = True, stacked: bool = False
) -> Figure:
    """Draw horizontal bars, a group of them per label: {"before": {"Arithmetic": 0.06, …}, "after": {…}}.

    `stacked` groups are parts of one full bar: {"tapir alone": {"chain_sum": 0.1, …}, "both right": {…}, …}.
    What one arm alone got right stands in its colour at its end of the bar, all else in grey between.
    """
    table = pd.DataFrame(groups)
    rows = len(table) * (1 if stacked else max(1, len(groups) / 2))
    figure, axes = plt.subplots(figsize=(7.0, 1 + 0.3 * rows))
    shades = [ARMS.get(name, PALETTE[i % len(PALETTE)]) for i, name in enumerate(groups)]
    if stacked:
        axes.set_xlim(0, 1)
        shades = [SHARED_OUTCOMES.get(name) or colour(name.split(" ")[0]) for name in groups]
    table.plot.barh(ax=axes, width=0.8, color=shades, stacked=stacked, edgecolor="white", legend=False)
    _list_from_the_top(axes, table.index)
    if percent:
        axes.xaxis.set_major_formatter("{x:.0%}")
    if len(groups) > 1:
        figure.legend(loc="outside lower center", ncols=min(len(groups), 6))
    return _finish(figure, "Bar chart", table, title, x, shape="{:.1%}" if percent else "{:.4g}")


def top_n_and_rest(groups: dict[str, dict[str, float]], n: int = 12) -> dict[str, dict[str, float]]:
    """Keep the `n` labels that are largest in any group, and sum all others under one label."""
    table = pd.DataFrame(groups)
    if len(table) <= n + 1:
        return groups
    is_top = table.index.isin(table.max(axis=1).nlargest(n).index)
    rest = pd.DataFrame({f"{(~is_top).sum()} others": table[~is_top].sum()}).T
    return pd.concat([table[is_top], rest]).to_dict()


def curves(lines: dict[str, tuple[Sequence[float], Sequence[float]]], title: str, x: str, y: str) -> Figure:
    """Draw one line per arm: {"tapir": (steps, losses), …}."""
    figure, axes = plt.subplots()
    for name, (steps, values) in lines.items():
        axes.plot(steps, values, label=name, color=colour(name.split(" ")[0]))
    if len(lines) > 1:
        axes.legend()
    table = _table({name: (y[0], y[-1]) for name, (_, y) in lines.items() if len(y)}, ["first", "last"])
    return _finish(figure, "Line chart", table, title, x, y)


def intervals(
    values: dict[str, tuple], title: str, x: str, zero: bool = False, scale: float = 100, decimals: int = 1
) -> Figure:
    """Draw a forest plot, a line per label: {label: (value, low, high)}, or (value,) without an interval.

    Values are multiplied by `scale`, by default to percent; `zero` marks the zero.
    """
    table = scale * _table(values, ["value", "low", "high"])
    figure, axes = plt.subplots(figsize=(7.0, 0.9 + 0.3 * len(table)))
    for i, (name, value, low, high) in enumerate(table.itertuples()):
        shade = ARMS.get(name, BLUE)
        axes.plot([low, high], [i, i], color=shade, solid_capstyle="butt", linewidth=2.4)
        axes.plot([value], [i], "o", color=shade, markersize=6)
        shown = f"{value:.{decimals}f}"
        axes.annotate(shown, (value, i), (0, 6), textcoords="offset points", ha="center", size=8)
    if zero:
        axes.axvline(0, color=FAINT, linewidth=1)
    axes.set_yticks(range(len(table)), table.index)
    _list_from_the_top(axes, table.index)
    return _finish(figure, "Values with 95 % intervals", table, title, x, shape=f"{{:.{decimals}f}}")


def scatter(points: dict[str, tuple[float, ...]], title: str, x: str, y: str) -> Figure:
    """Draw labelled points: {name: (x, y)}, or (x, y, low, high) with a 95 % interval, around zero."""
    table = _table(points, ["x", "y", "low", "high"])
    figure, axes = plt.subplots(figsize=(7.0, 4.2))
    for name, a, b, low, high in table.itertuples():
        shade = RED if high < 0 else GREY if low <= 0 else BLUE
        axes.plot([a, a], [low, high], color=shade, linewidth=1.4)
        axes.plot([a], [b], "o", color=shade, markersize=5)
        axes.annotate(name, (a, b), (4, 2), textcoords="offset points", size=7)
    if table["low"].notna().any():
        axes.axhline(0, color=FAINT, linewidth=1)
    return _finish(figure, "Scatter plot", table, title, x, y)


def binned(x_values: Sequence[float], values: Sequence[float], title: str, x: str, y: str) -> Figure:
    """Draw the finite points, and the mean of each eighth of them from left to right."""
    points = pd.DataFrame({"x": x_values, "y": values}, dtype=float)
    points = points[np.isfinite(points).all(axis="columns")].sort_values("x", kind="stable")
    eighths = [part for part in np.array_split(np.arange(len(points)), 8) if len(part)]
    means = pd.DataFrame([points.iloc[part].mean() for part in eighths], columns=["x", "y"])
    figure, axes = plt.subplots()
    is_large = len(points) > MAX_VECTORS
    axes.plot(points["x"], points["y"], ".", color=BLUE, alpha=0.25, markersize=5, rasterized=is_large)
    axes.plot(means["x"], means["y"], "o-", color=RED, label="mean of an eighth of the pairs")
    axes.legend()
    return _finish(figure, f"Scatter plot of {len(points):,} points, means of eighths", means, title, x, y)


def grid(cells: dict[str, dict[str, float]], title: str) -> Figure:
    """Draw a table of percentages with shaded cells: {row: {column: share}}; nan is a dash."""
    table = pd.DataFrame(cells).T
    figure, axes = plt.subplots(figsize=(7.0, 1.7 + 0.24 * len(table)))
    axes.imshow(100 * table, cmap="Blues", vmin=0, vmax=130, aspect="auto")
    for (i, j), share in np.ndenumerate(table):
        text = f"{100 * share:.0f}" if np.isfinite(share) else "–"
        axes.text(j, i, text, ha="center", va="center", size=8, color="#111111")
    rotation = 30 if len(table.columns) * max(map(len, table)) > MAX_LABELS else 0
    axes.set_xticks(range(len(table.columns)), table, rotation=rotation, ha="left" if rotation else "center")
    axes.set_yticks(range(len(table)), table.index)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    return _finish(figure, "Table of percentages", table, title, shape="{:.0%}")


def colour(arm: str) -> str:
    """Return the colour of an arm: fixed for the usual ones, by its name for any other."""
    return ARMS.get(arm) or MUTED[zlib.crc32(arm.encode()) % len(MUTED)]


def describe(table: pd.DataFrame, shape: str = "{:.3g}") -> str:
    """Say a table line by line: "tapir: value 50.0, low 40.0; random: value 41.2"."""
    lines = []
    for label, line in table.iterrows():
        values = [f"{name} {shape.format(value)}" for name, value in line.dropna().items()]
        lines.append(f"{label}: {', '.join(values)}")
    return "; ".join(lines)


def svg(figure: Figure) -> tuple[str, dict[str, str]]:
    """Return a figure as SVG, and its alternative text as metadata: {"alt": …}."""
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue()
    return text[text.index("<svg") :], {"alt": getattr(figure, "alt", "")}


def _finish(
    figure: Figure, kind: str, table: pd.DataFrame, title: str, x: str = "", y: str = "", shape="{:.3g}"
) -> Figure:
    """Label a figure, and add an alternative text: its kind, title, axes and the `table` of its data."""
    figure.axes[0].set_title(title, wrap=True)
    figure.axes[-1].set_xlabel(x)
    if y:
        figure.axes[0].set_ylabel(y)
    labels = [title, x and f"x: {x}", y and f"y: {y}"]
    text = f"{kind}. {'; '.join(filter(None, labels))}. {describe(table, shape)}."
    figure.alt = text if len(text) <= MAX_ALT else f"{text[: MAX_ALT - 1]}…"
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell:  # show figures by `svg`: IPython adds its own formatter with the first one
        formatters = shell.display_formatter.formatters
        formatters["image/png"].pop(Figure, None)
        formatters["image/svg+xml"].for_type(Figure, svg)
    return figure


def _list_from_the_top(axes: plt.Axes, labels: Sequence[str]) -> None:
    """Turn the y axis into a list that reads from the top down."""
    axes.set(ylabel="", ylim=(len(labels) - 0.4, -0.7))
    axes.grid(axis="y", visible=False)


def _table(lines: dict[str, tuple[float, ...]], columns: list[str]) -> pd.DataFrame:
    """Tabulate tuples under these columns; the numbers that a shorter one lacks are nan."""
    table = pd.DataFrame(list(lines.values()), list(lines), dtype=float)
    return table.reindex(columns=range(len(columns))).set_axis(columns, axis="columns")
