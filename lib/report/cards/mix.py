"""What a set of rows consists of, counted without reading its texts."""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

COLUMNS = ["id", "response_from", "source", "licence", "task", "hard"]
HUB = {
    "apache-2.0",
    "mit",
    "bsd-2-clause",
    "bsd-3-clause",
    "cc0-1.0",
    "odc-by",
    "odbl",
    "unlicense",
    "gpl-3.0",
}
HUB |= {f"cc-by{kind}-{n}" for kind in ("", "-sa", "-nc", "-nd", "-nc-sa", "-nc-nd") for n in ("3.0", "4.0")}


class Mix(NamedTuple):
    """How many rows are of which kind; those without a value count under None."""

    rows: int
    unique: int
    responses: Counter  # by response_from
    tasks: Counter
    hard: Counter
    sources: Counter  # by (source, licence); all rows expanded from others are of the source "expanded"


def count(files: list[Path]) -> Mix:
    """The mix of several files of rows; a row that stands in two of them counts twice, but for `unique`."""
    table = pa.concat_tables(pq.read_table(path, columns=COLUMNS) for path in files)
    sources = pc.replace_substring_regex(table["source"], pattern="(?s)^expanded:.*", replacement="expanded")
    table = table.set_column(table.column_names.index("source"), "source", sources)
    kinds = (_count(table, name) for name in ("response_from", "task", "hard"))
    unique = pc.count_distinct(table["id"]).as_py()
    return Mix(len(table), unique, *kinds, _count(table, "source", "licence"))


def _count(table: pa.Table, *names: str) -> Counter:
    counts: Counter = Counter()
    for row in table.group_by(list(names)).aggregate([([], "count_all")]).to_pylist():
        values = tuple(row[name] if row[name] != "" else None for name in names)
        counts[values if len(names) > 1 else values[0]] += row["count_all"]
    return counts


def licence(rows: Mix) -> str | None:
    """The hub's name of the one licence that all rows state, else None."""
    stated = {(text or "").strip().lower().replace(" ", "-") for _, text in rows.sources}
    return next(iter(stated & HUB)) if len(stated) == 1 and stated <= HUB else None
