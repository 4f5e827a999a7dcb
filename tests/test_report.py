"""What a report says about a run."""

import re

import pandas as pd
import pytest

from lib import report


@pytest.mark.parametrize(
    "tokens, said",
    [
        ([60_000, 60_900], "differ by 1.5% at most."),
        ([60_000, 61_900], r"\*\*.*differ by 3.2% at most: this is no comparison at equal budget.\*\*"),
        ([], "No arm was taught beyond the warm-up."),
    ],
)
def test_an_unequal_budget_is_said_aloud(tokens, said):
    assert re.search(said, report.equal(pd.DataFrame({"response tokens": tokens})))


def evaluated(arm: str, seed: int, **credits: int) -> pd.DataFrame:
    """Replies of one arm and seed: the family is the first letter of an instance's id."""
    return pd.DataFrame(
        {"arm": arm, "seed": seed, "id": name, "family": name[0], "credit": float(credit)}
        for name, credit in credits.items()
    )


def test_outcomes_pair_instances_by_seed_and_id_and_the_greatest_gain_comes_first():
    replies = [
        evaluated("a", 0, x1=0, x2=1, y1=1),
        evaluated("a", 1, x1=1, x2=1, y1=1),
        evaluated("b", 1, y1=0, x2=1, x1=1),  # in another order
        evaluated("b", 0, y1=0, x2=0, x1=1),
        evaluated("a", 2, x1=1, x2=1, y1=0),  # a seed that b lacks
    ]
    found = report.outcomes(pd.concat(replies), "a", "b")
    assert list(found.index) == ["y", "x"]
    assert found.T.to_dict() == {
        "y": {"a alone": 2, "both right": 0, "both wrong": 0, "b alone": 0},
        "x": {"a alone": 1, "both right": 2, "both wrong": 0, "b alone": 1},
    }
