"""Figures stay readable when there are many labels."""

import pytest
from matplotlib.colors import to_rgba

from lib import plots


def test_many_labels_become_the_largest_and_the_sum_of_all_others():
    shares = {f"task {i}": i / 190 for i in range(20)}
    turned = {label: 0.05 for label in shares} | {"task 0": 0.5}
    shown = plots.top_n_and_rest({"pool": shares, "target": turned}, n=3)
    assert list(shown["pool"]) == list(shown["target"]) == ["task 0", "task 18", "task 19", "17 others"]
    assert sum(shown["pool"].values()) == pytest.approx(1) and shown["target"]["task 0"] == 0.5


def test_a_stacked_bar_is_full_and_its_ends_have_the_colours_of_the_arms():
    shares = {"tapir alone": {"one": 0.25, "two": 0.1}, "both right": {"one": 0.5, "two": 0.2}}
    shares |= {"both wrong": {"one": 0, "two": 0.6}, "balanced alone": {"one": 0.25, "two": 0.1}}
    (axes,) = plots.bars(shares, "", "", stacked=True).axes
    right_ends = [bar.get_x() + bar.get_width() for bar in axes.containers[3]]
    assert right_ends == pytest.approx([1, 1]) and axes.get_xlim() == (0, 1)
    ends = [axes.containers[i][0].get_facecolor() for i in (0, 3)]
    assert ends == [to_rgba(plots.ARMS[arm]) for arm in ("tapir", "balanced")]


def test_a_title_that_is_wider_than_its_figure_is_broken_into_lines():
    words = "accuracy by arm and by seed, " * 6
    figures = [plots.intervals({"tapir": (0.5, 0.4, 0.6)}, title, "%") for title in ("accuracy", words)]
    for figure in figures:
        figure.canvas.draw()
    (short, long) = (figure.axes[0]._left_title.get_window_extent() for figure in figures)
    assert long.height > 2 * short.height and long.x1 <= figures[1].bbox.x1
    assert words.strip() in figures[1].alt
