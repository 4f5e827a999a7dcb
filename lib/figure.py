"""What figures have in common: one style, colour-blind safe (Okabe and Ito), the same colour for an arm everywhere; shown as SVG, with an
alternative text."""

import io
import sys
import textwrap
import zlib
from collections.abc import Iterable

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.text import Text

PALETTE = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442"]
ARMS = {
    "tapir": "#0072B2",
    "self_guide": "#D55E00",
    "balanced": "#E69F00",
    "random": "#009E73",
    "warm_up": "#7F7F7F",
    "corpus": "#BFBFBF",
}
# Paul Tol's muted scheme, for all other arms: those of the study one each, as far as it goes, and any by its name
OTHERS = ["#332288", "#88CCEE", "#44AA99", "#117733", "#999933", "#DDCC77", "#CC6677", "#882255", "#AA4499"]
ARMS |= dict(
    zip(
        ("mfd", "mfd_mix", "constant_alpha", "random_oracle", "longest", "ifd", "score", "deita", "lion"),
        OTHERS,
        strict=True,
    )
)

BOTH = {"both right": "#C9C9C9", "both wrong": "#EBEBEB", "equal": "#C9C9C9"}  # what two arms have in common
INK, FAINT, RULE, PAPER = "#22262b", "#5c636b", "#e3e3e3", "#ffffff"  # what a dark page turns round
DARK = {INK: "#e4e7ea", FAINT: "#a9b0b7", RULE: "#3a4047", PAPER: "none"}
MOST_VECTORS = 2000  # points of a figure that are drawn as vectors; beyond, as pixels
LONGEST = 900  # characters of an alternative text

plt.rcParams.update(
    {
        "figure.figsize": (7.0, 3.2),
        "figure.dpi": 110,
        "savefig.dpi": 200,
        "text.parse_math": False,  # a dollar sign in a name starts no formula
        "svg.fonttype": "none",  # text stays text: it can be read aloud, searched and copied
        "svg.hashsalt": "figures",  # the same figure is the same file
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial"],
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.titlecolor": INK,
        "axes.edgecolor": FAINT,
        "xtick.color": FAINT,
        "ytick.color": FAINT,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "font.size": 9.5,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 10.5,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": RULE,
        "grid.linewidth": 0.7,
        "legend.frameon": False,
        "lines.linewidth": 1.6,
        "figure.constrained_layout.use": True,
    }
)


def colour(arm: str) -> str:
    """The colour of an arm: fixed for the usual ones, by its name for any other."""
    return ARMS.get(arm) or OTHERS[zlib.crc32(arm.encode()) % len(OTHERS)]


def svg(figure: Figure) -> tuple[str, dict[str, str]]:
    """A figure as SVG, and its alternative text as metadata: {"alt": …}."""
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue()
    return text[text.index("<svg") :], {"alt": getattr(figure, "alt", "")}


def _as_svg() -> None:
    """In a notebook figures are shown by `svg`: the usual way knows no alternative text, and is set up when the first figure is."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell:
        formatters = shell.display_formatter.formatters
        formatters["image/png"].pop(Figure, None)
        formatters["image/svg+xml"].for_type(Figure, svg)


def told(figure: Figure, kind: str, says: Iterable[str]) -> Figure:
    """The figure with its alternative text: what kind it is, its title and axes, and what it says."""
    _as_svg()
    axes = figure.axes[0]
    named = [axes.get_title(loc="left") or axes.get_title()]
    named += [
        f"{name}: {text}" for name, text in (("x", axes.get_xlabel()), ("y", axes.get_ylabel())) if text
    ]
    text = f"{kind}. {'; '.join(filter(None, named))}. {'; '.join(says)}."
    figure.alt = text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
    _wrap(axes, named[0])
    return figure


def _wrap(axes, title: str) -> None:
    """Break a title into lines where it would end beyond the figure."""
    axes.figure.canvas.draw()
    for text in axes.findobj(
        lambda artist: isinstance(artist, Text) and title and artist.get_text() == title
    ):
        box = text.get_window_extent()
        room = (axes.figure.bbox.x1 - box.x0) / box.width
        if room < 1:
            text.set_text(textwrap.fill(title, int(len(title) * room)))


def name_points(axes, points: dict[str, tuple[float, float]]) -> None:
    """Name the points, each where it covers no name before it; one for which there is no room stays without."""
    axes.figure.canvas.draw()
    taken = []
    for name, at in points.items():
        for x, y, side in ((4, 2, "left"), (-4, 2, "right"), (4, -8, "left"), (-4, -8, "right")):
            text = axes.annotate(name, at, (x, y), textcoords="offset points", size=7, color=INK, ha=side)
            box = text.get_window_extent()
            if not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            text.remove()
