"""Compare MFD with the true failure rate, which only the embedded world knows."""

import json
from pathlib import Path

import pandas as pd

from lib import records
from lib.tapir.curriculum import mfd
from lib.tapir.judge import latest


def by_cell(judged: Path, evaluated: pd.DataFrame) -> pd.DataFrame:
    """Tabulate MFD and failure rate by family and level.

    Columns: mean MFD over both orders and in the first alone, share of rows hard at 1, 2 and 3, and
    `failure`, the student's failure rate on fresh instances in `evaluated`.
    """
    rows = records.read(judged / "rows.parquet")
    table = pd.DataFrame(map(json.loads, rows["meta"]))[["family", "level"]]
    table["mfd"] = pd.Series(rows["mfd"][:], dtype=float)
    first = [latest(verdicts).get("oracle_first") for verdicts in rows["verdicts"]]
    table["one_order"] = [mfd(*scores) if scores else None for scores in first]
    for threshold in (1, 2, 3):
        table[f"hard_{threshold}"] = table["mfd"] >= threshold
    fresh = evaluated[evaluated["kind"] == "trained"].groupby(["family", "level"])["credit"].mean()
    return table.groupby(["family", "level"]).mean().assign(failure=1 - fresh)


def agreement(cells: pd.DataFrame) -> pd.DataFrame:
    """Compare each measure of `by_cell` with the true failure rate, both 0 to 1.

    Columns: rank correlation, mean implied failure rate, and mean distance from the true rate.
    """
    implied = cells.drop(columns="failure").assign(mfd=cells["mfd"] / 9, one_order=cells["one_order"] / 9)
    return pd.DataFrame(
        {
            "rank correlation": implied.corrwith(cells["failure"], method="spearman"),
            "failure rate it implies": implied.mean(),
            "distance from the true rate": implied.sub(cells["failure"], axis=0).abs().mean(),
        }
    )
