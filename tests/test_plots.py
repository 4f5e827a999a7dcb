"""Figures stay readable when there are many labels."""

import pytest

from lib import plots


def test_many_labels_become_the_largest_and_the_sum_of_all_others():
    shares = {f"task {i}": i / 190 for i in range(20)}
    turned = {label: 0.05 for label in shares} | {"task 0": 0.5}
    gathered = plots.gather({"pool": shares, "target": turned}, most=3)
    assert list(gathered["pool"]) == list(gathered["target"]) == ["task 0", "task 18", "task 19", "17 others"]
    assert sum(gathered["pool"].values()) == pytest.approx(1) and gathered["target"]["task 0"] == 0.5


def test_few_labels_stay_as_they_are():
    groups = {"pool": {"Math": 0.5, "Art": 0.5}}
    assert plots.gather(groups) == groups
