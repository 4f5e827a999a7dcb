"""The kinds of figures: each a function of plain data that returns a figure with its alternative text."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np

from lib.figure import ARMS, BOTH, FAINT, MOST_VECTORS, PALETTE, colour, name_points, told


def histogram(
    values: Sequence[float], title: str, x: str, bins=30, line: float | None = None, label: str = ""
):
    """How many rows have which value; `line` marks a threshold."""
    figure, axes = plt.subplots()
    axes.hist(values, bins=bins, color=PALETTE[0], edgecolor="white")
    axes.set(title=title, xlabel=x, ylabel="rows")
    if line is not None:
        axes.axvline(line, color=PALETTE[5], linestyle="--", label=label)
        axes.legend()
    low, middle, high = np.percentile(values, [0, 50, 100])
    says = [f"{len(values):,} rows from {low:.3g} to {high:.3g}, median {middle:.3g}"]
    says += [f"{np.mean(np.asarray(values) >= line):.0%} at {line:g} or above"] if line is not None else []
    return told(figure, "Histogram", says)


def ridges(
    groups: dict[str, Sequence[float]], title: str, x: str, line: float | None = None, label: str = ""
):
    """A histogram a group, one below the other on one axis: {"round 1": mfd, "round 2": mfd, …}, in shares of the group's rows."""
    figure, panels = plt.subplots(
        len(groups), sharex=True, sharey=True, squeeze=False, figsize=(7.0, 0.9 + 1.1 * len(groups))
    )
    bins = np.histogram_bin_edges(np.concatenate([np.asarray(it, float) for it in groups.values()]), 30)
    for axes, (name, values) in zip(panels[:, 0], groups.items(), strict=True):
        weights = np.full(len(values), 1 / len(values))
        axes.hist(values, bins=bins, weights=weights, color=PALETTE[0], edgecolor="white")
        axes.set_ylabel(name)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        if line is not None:
            axes.axvline(line, color=PALETTE[5], linestyle="--", label=label)
    panels[0, 0].set_title(title)
    panels[-1, 0].set_xlabel(x)
    if line is not None:
        panels[0, 0].legend(loc="upper center")
    return told(figure, "Histograms", [_middle(*group, line) for group in groups.items()])


def _middle(name: str, values: Sequence[float], line: float | None) -> str:
    above = f", {np.mean(np.asarray(values) >= line):.0%} at {line:g} or above" if line is not None else ""
    return f"{name}: {len(values):,} rows, median {np.median(values):.3g}{above}"


def bars(groups: dict[str, dict[str, float]], title: str, x: str, percent: bool = True):
    """Horizontal bars, one group of them a label: {"before": {"Arithmetic": 0.06, …}, "after": {…}}."""
    labels = list(next(iter(groups.values())))
    height = 0.8 / len(groups)
    figure, axes = plt.subplots(figsize=(7.0, 0.9 + 0.3 * len(labels) * max(1, len(groups) / 2)))
    for i, (name, shares) in enumerate(groups.items()):
        at = np.arange(len(labels)) + (i - (len(groups) - 1) / 2) * height
        axes.barh(
            at, [shares[label] for label in labels], height, label=name, color=ARMS.get(name, PALETTE[i % 7])
        )
    axes.set(title=title, xlabel=x)
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    if percent:
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    if len(groups) > 1:
        figure.legend(loc="outside lower center", ncols=min(len(groups), 6))
    unit = "{:.1%}" if percent else "{:.4g}"
    each = (" and ".join(f"{n} {unit.format(of[label])}" for n, of in groups.items()) for label in labels)
    says = [f"{label}: {text}" for label, text in zip(labels, each, strict=True)]
    return told(figure, "Bar chart", says)


def outcomes(counts: dict[str, dict[str, int]], title: str, x: str):
    """One bar a label, in shares: {"chain_sum": {"tapir alone": 3, "both right": 9, "both wrong": 7, "balanced alone": 1}, …}.

    What one arm alone got right stands in its colour at its end of the bar, what says nothing of the two in grey between.
    """
    parts = list(next(iter(counts.values())))
    shares = np.array([[of[part] / max(sum(of.values()), 1) for part in parts] for of in counts.values()])
    figure, axes = plt.subplots(figsize=(7.0, 1.2 + 0.26 * len(counts)))
    for part, share, left in zip(parts, shares.T, (shares.cumsum(axis=1) - shares).T, strict=True):
        shade = BOTH.get(part) or colour(part.split(" ")[0])
        axes.barh(range(len(counts)), share, 0.75, left, label=part, color=shade, edgecolor="white")
    axes.set(title=title, xlabel=x, xlim=(0, 1), ylim=(len(counts) - 0.4, -0.6))
    axes.set_yticks(range(len(counts)), list(counts))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.grid(axis="y", visible=False)
    figure.legend(loc="outside lower center", ncols=len(parts))
    each = (", ".join(f"{part} {share:.0%}" for part, share in zip(parts, of, strict=True)) for of in shares)
    says = [f"{label}: {text}" for label, text in zip(counts, each, strict=True)]
    return told(figure, "Stacked bars", says)


def gather(groups: dict[str, dict[str, float]], most: int = 12) -> dict[str, dict[str, float]]:
    """Shares for `bars`, where labels are many: those that are largest in any group, and the sum of all others."""
    labels = list(next(iter(groups.values())))
    if len(labels) <= most + 1:
        return groups
    largest = sorted(labels, key=lambda label: -max(shares[label] for shares in groups.values()))[:most]
    rest = f"{len(labels) - most} others"
    return {
        name: {label: shares[label] for label in labels if label in largest}
        | {rest: sum(share for label, share in shares.items() if label not in largest)}
        for name, shares in groups.items()
    }


def curves(lines: dict[str, tuple[Sequence[float], Sequence[float]]], title: str, x: str, y: str):
    """Lines over x, one an arm: {"tapir": (steps, losses), …}."""
    figure, axes = plt.subplots()
    for name, (at, values) in lines.items():
        axes.plot(at, values, label=name, color=colour(name.split(" ")[0]))
    axes.set(title=title, xlabel=x, ylabel=y)
    if len(lines) > 1:
        axes.legend()
    ends = {name: values for name, (_, values) in lines.items() if len(values)}
    says = [f"{name}: from {values[0]:.3g} to {values[-1]:.3g}" for name, values in ends.items()]
    return told(figure, "Line chart", says)


def intervals(
    values: dict[str, tuple[float, ...]],
    title: str,
    x: str,
    zero: bool = False,
    scale: float = 100,
    decimals: int = 1,
):
    """Draw a forest plot: a line per label, {label: (value, low, high)}.

    A value without an interval is (value,). Values are multiplied by `scale`, by default to percent.
    """
    figure, axes = plt.subplots(figsize=(7.0, 0.9 + 0.3 * len(values)))
    says = []
    for i, (name, (value, *bounds)) in enumerate(values.items()):
        value, bounds = scale * value, [scale * it for it in bounds]
        shade = colour(name) if name in ARMS else PALETTE[0]
        axes.plot(bounds, [i] * len(bounds), color=shade, solid_capstyle="butt", linewidth=2.4)
        axes.plot([value], [i], "o", color=shade, markersize=6)
        text = f"{value:.{decimals}f}"
        axes.annotate(text, (value, i), (0, 6), textcoords="offset points", ha="center", size=8)
        reach = ", from {} to {}".format(*(f"{it:.{decimals}f}" for it in bounds)) if bounds else ""
        says.append(f"{name}: {text}{reach}")
    if zero:
        axes.axvline(0, color=FAINT, linewidth=1)
    axes.set(title=title, xlabel=x, ylim=(len(values) - 0.4, -0.7))
    axes.set_yticks(range(len(values)), list(values))
    axes.grid(axis="y", visible=False)
    return told(figure, "Values with their 95 % intervals", says)


def dots(points: dict[str, tuple[float, float]], title: str, x: str, y: str):
    """A labelled point each: {"chain_sum 1": (x, y), …}."""
    figure, axes = plt.subplots(figsize=(7.0, 4.0))
    for a, b in points.values():
        axes.plot([a], [b], "o", color=PALETTE[0], markersize=5)
    axes.set(title=title, xlabel=x, ylabel=y)
    name_points(axes, points)
    return told(figure, "Scatter plot", [f"{name}: {a:.3g}, {b:.3g}" for name, (a, b) in points.items()])


def against(points: dict[str, tuple[float, float, float, float]], title: str, x: str, y: str):
    """A labelled point each with its 95 % interval, around zero: {name: (x, y, low, high)}."""
    figure, axes = plt.subplots(figsize=(7.0, 4.4))
    axes.axhline(0, color=FAINT, linewidth=1)
    for at, value, low, high in points.values():
        shade = PALETTE[0] if low > 0 else PALETTE[5] if high < 0 else "#8A8A8A"
        axes.plot([at, at], [low, high], color=shade, linewidth=1.4)
        axes.plot([at], [value], "o", color=shade, markersize=5)
    axes.set(title=title, xlabel=x, ylabel=y)
    name_points(axes, {name: (at, value) for name, (at, value, *_) in points.items()})
    says = [
        f"{n}: at {at:.3g} {v:+.3g}, from {low:+.3g} to {high:+.3g}"
        for n, (at, v, low, high) in points.items()
    ]
    return told(figure, "Scatter plot with 95 % intervals", says)


def binned(at: Sequence[float], values: Sequence[float], title: str, x: str, y: str):
    """Points, and their means in eighths of them, from the leftmost on."""
    at, values = np.asarray(at, float), np.asarray(values, float)
    known = np.isfinite(at) & np.isfinite(values)
    at, values = at[known], values[known]
    figure, axes = plt.subplots()
    pixels = len(at) > MOST_VECTORS
    axes.plot(at, values, ".", color=PALETTE[0], alpha=0.25, markersize=5, rasterized=pixels)
    parts = [part for part in np.array_split(np.argsort(at, kind="stable"), 8) if len(part)]
    means = [at[part].mean() for part in parts], [values[part].mean() for part in parts]
    axes.plot(*means, "o-", color=PALETTE[5], label="mean of an eighth of the pairs")
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.legend()
    says = [f"at {a:.3g} on average {b:.3g}" for a, b in zip(*means, strict=True)]
    return told(figure, f"Scatter plot of {len(at):,} points with the means of eighths", says)


def radar(groups: dict[str, dict[str, float]], title: str, most: float):
    """A web of categories, one line a group: {"turn 1": {"writing": 9.5, …}, …}; `most` is the end of every axis."""
    labels = list(next(iter(groups.values())))
    angles = np.linspace(0, 2 * np.pi, len(labels), endpoint=False)
    figure, axes = plt.subplots(figsize=(6.0, 4.6), subplot_kw={"projection": "polar"})
    for i, (name, values) in enumerate(groups.items()):
        line = [values[label] for label in labels]
        shade = ARMS.get(name, PALETTE[i % 7])
        axes.plot([*angles, angles[0]], [*line, line[0]], label=name, color=shade, marker="o", markersize=3)
    axes.set_theta_offset(np.pi / 2)
    axes.set_theta_direction(-1)
    axes.set_xticks(angles, labels)
    axes.tick_params(axis="x", pad=14)
    axes.set(title=title, ylim=(0, most))
    figure.legend(loc="outside lower center", ncols=len(groups))
    each = (" and ".join(f"{n} {of[label]:.3g}" for n, of in groups.items()) for label in labels)
    says = [f"{label}: {text}" for label, text in zip(labels, each, strict=True)]
    return told(figure, "Radar chart", says)


def grid(cells: dict[str, dict[str, float]], title: str):
    """A table of percentages with shaded cells: {row: {column: share}}."""
    rows, columns = list(cells), list(next(iter(cells.values())))
    values = np.array([[100 * cells[row][column] for column in columns] for row in rows])
    figure, axes = plt.subplots(figsize=(7.0, 0.8 + 0.24 * len(rows)))
    axes.imshow(values, cmap="Blues", vmin=0, vmax=130, aspect="auto")
    for i, j in np.ndindex(*values.shape):
        text = f"{values[i, j]:.0f}" if np.isfinite(values[i, j]) else "–"
        axes.text(j, i, text, ha="center", va="center", size=8, color="#111111")
    crowded = len(columns) * max(map(len, columns)) > 90  # characters that a line of labels holds
    axes.set_xticks(
        range(len(columns)), columns, rotation=30 if crowded else 0, ha="left" if crowded else "center"
    )
    axes.set_yticks(range(len(rows)), rows)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.set_title(title, pad=10)
    axes.grid(visible=False)
    for side in axes.spines.values():
        side.set_visible(False)
    each = (", ".join(f"{n} {share:.0%}" for n, share in of.items()) for of in cells.values())
    return told(figure, "Table of percentages", [f"{r}: {text}" for r, text in zip(rows, each, strict=True)])
