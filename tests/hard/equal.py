"""What two runs must have in common to be equal, and what none may leave behind."""

import json
import os
from pathlib import Path

import pyarrow.parquet as pq
from small import Place


def differences(run: Path, other: Path) -> list[str]:
    """Files of two runs that are not equal: contents, without time and cost."""
    first, second = contents(run), contents(other)
    return sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))


def contents(run: Path) -> dict[str, object]:
    """What each file of a run says: rows and weights to the last bit, metrics and scores; of others that they are there, of a page
    that it is whole."""
    return {path.relative_to(run).as_posix(): _content(path) for path in _files(run)}


def _files(run: Path) -> list[Path]:
    return [Path(folder, name) for folder, _, names in os.walk(run, followlinks=True) for name in names]


def _content(path: Path) -> object:
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    if path.suffix == ".safetensors" or path.name == "losses.json":
        return path.read_bytes()
    if path.name == "metrics.json":
        return _own(json.loads(path.read_text()))
    if path.name == "summary.json":
        summary = json.loads(path.read_text())
        return summary["status"], [line["name"] for line in summary["stages"]], _own(summary["arms"])
    whole = path.suffix != ".html" or path.read_bytes().rstrip().endswith(b"</html>")
    return True if whole else object()  # which is equal to no other


def _own(metrics: dict) -> dict:
    """But for how many calls the ledger answered: those that a killed start had made."""
    return {
        name: _own(value) if isinstance(value, dict) else value
        for name, value in metrics.items()
        if name != "oracle.cached"
    }


def left_over(run: Place) -> list[str]:
    """What no finished run leaves behind: work under way, half-written files, a log of the ledger's."""
    files = [path for path in run.outputs.rglob("*") if path.is_file()]
    leftovers = [
        path
        for path in files
        if path.suffix == ".tmp" or "work" in path.relative_to(run.outputs).parts or ".part/" in str(path)
    ]
    wal = run.ledger.with_name(run.ledger.name + "-wal")
    leftovers += [wal] if wal.exists() and wal.stat().st_size else []
    return [str(path) for path in leftovers]
