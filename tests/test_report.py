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
