"""Does MFD find what the student fails at? Only the embedded world can say, for it knows what is right."""

import json
from pathlib import Path

import pandas as pd

from lib import records
from lib.tapir.curriculum import mfd
from lib.tapir.judge import latest


def by_cell(judged: Path, evaluated: pd.DataFrame) -> pd.DataFrame:
    """One line a family and level of the embedded world.

    Columns: mean MFD over both orders and in the first alone, share of rows hard at 1, 2 and 3, and `failure`, the
    student's failure rate on fresh instances in `evaluated`.
    """
    rows = records.read(judged / "rows.parquet").to_pandas()
    about = pd.DataFrame(map(json.loads, rows["meta"]))[["family", "level"]]
    first = [latest(verdicts).get("oracle_first") for verdicts in rows["verdicts"]]
    table = about.assign(mfd=rows["mfd"], one_order=[mfd(*scores) if scores else None for scores in first])
    for threshold in (1, 2, 3):
        table[f"hard_{threshold}"] = table["mfd"] >= threshold
    fresh = evaluated[evaluated["kind"] == "trained"].groupby(["family", "level"])["credit"].mean()
    return table.groupby(["family", "level"]).mean().assign(failure=1 - fresh)


def agreement(checked: pd.DataFrame) -> pd.DataFrame:
    """How well each measure in the table of `by_cell` tells the true failure rate, 0 to 1.

    Columns: rank correlation, the failure rate it implies on average, and its mean distance from the true one.
    """
    implied = checked.drop(columns="failure").assign(
        mfd=checked["mfd"] / 9, one_order=checked["one_order"] / 9
    )
    return pd.DataFrame(
        {
            "rank correlation": implied.corrwith(checked["failure"], method="spearman"),
            "failure rate it implies": implied.mean(),
            "distance from the true rate": implied.sub(checked["failure"], axis=0).abs().mean(),
        }
    )
