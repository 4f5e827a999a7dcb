"""Which rows are taught as hard: those MFD finds, or as many by chance."""

import pytest

from lib import curriculum, records, selection
from lib.errors import UserError


def rows(*values, threshold=2.0):
    return records.build(
        {"instruction": str(i), "mfd": value, "hard": curriculum.is_hard(value, threshold)}
        for i, value in enumerate(values)
    )


JUDGED = rows(9.0, 0.0, 2.0, None, 1.0, -3.0)


def test_mfd_selects_the_rows_that_reach_the_threshold_and_no_unread_one():
    assert selection.select(JUDGED, "mfd", seed=0)["instruction"][:] == ["0", "2"]


def test_chance_draws_as_many_rows_as_mfd_finds_hard_from_all_of_them():
    drawn = [selection.select(JUDGED, "random", seed)["instruction"][:] for seed in range(60)]
    assert all(len(set(one)) == 2 for one in drawn)
    assert {text for one in drawn for text in one} == set("012345")


def test_chance_is_a_function_of_its_seed():
    drawn = [tuple(selection.select(JUDGED, "random", seed)["id"]) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_mfd_with_one_value_selects_nothing():
    with pytest.raises(UserError, match="fewer than two values"):
        selection.select(rows(3.0, 3.0, None), "mfd", seed=0)


@pytest.mark.parametrize("judged", [rows(None, None), rows(0.0, 0.0)])
@pytest.mark.parametrize("name", ["mfd", "random"])
def test_rows_none_of_which_is_hard_are_refused(judged, name):
    with pytest.raises(UserError, match="no row reaches the threshold"):
        selection.select(judged, name, seed=0)


def test_a_threshold_that_no_row_reaches_is_an_error():
    with pytest.raises(UserError, match="lower threshold"):
        selection.select(rows(1.0, 0.0), "mfd", seed=0)


def test_an_unknown_selection_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match="'mdf' is unknown: choose one of mfd, random"):
        selection.select(JUDGED, "mdf", seed=0)
