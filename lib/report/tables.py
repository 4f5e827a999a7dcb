"""What a report reads: the summary of a run, its contrasts, its stages and where they lie."""

import re
from functools import cache
from pathlib import Path

import pandas as pd

from lib import files, paths
from lib.errors import UserError
from lib.evaluation import registry
from lib.report import scores
from lib.runner import folders

LOST = ("unread", "cut", "missing", "no_response")  # of a benchmark's verdicts or prompts
ROUND_ROWS = re.compile(r"training\.round_\d+\.rows")
SURE = 0.05  # p below which a difference is shown


def summary(run: Path) -> dict:
    """summary.json of a run, and which benchmarks the embedded world stood in for; raises UserError where no stage is finished."""
    found, whole = _finished(run)
    records = [folders.record(run / line["folder"]) for line in whole]
    return found | {"stand_ins": sorted({_benchmark(of) for of in records if stands_in(of)})}


def _finished(run: Path) -> tuple[dict, list[dict]]:
    """summary.json, and its lines whose stage is whole."""
    found = files.read_json(run / "summary.json")
    whole = _whole(run, found) if found and found.get("arms") else []
    if not whole:
        again = (found or {}).get("command", f"python -m lib.run params/{run.name}.yaml")
        raise UserError(f"{paths.short(run)} holds no finished stage: {again} makes it")
    return found, whole


def _whole(run: Path, found: dict) -> list[dict]:
    """The lines of a summary whose stage is there, with a record and an executed notebook that can be read."""
    lines = ((line, run / line["folder"]) for line in found["stages"] if "folder" in line)
    return [line for line, folder in lines if folders.record(folder) and _is_read(folder / "notebook.ipynb")]


def _is_read(path: Path) -> bool:
    return path.is_file() and _is_json(path, path.stat().st_mtime_ns)


@cache
def _is_json(path: Path, changed: int) -> bool:
    """Read once as long as it stays the same: a report asks for its stages many times, and notebooks are long."""
    return files.read_json(path) is not None


def stands_in(record: dict) -> bool:
    """Whether the embedded world stood in for the benchmark of a stage."""
    benchmark = registry.benchmark(record["name"].partition("@")[0])
    if not benchmark or not benchmark.stand_in:
        return False
    name, value = benchmark.stand_in
    return record["parameters"].get(name) == value


def _benchmark(record: dict) -> str:
    return record["name"].partition("@")[0].rpartition("/")[2]


def read(metrics: dict) -> dict[str, dict[str, float]]:
    """{"MT-Bench": {"read": n, "total": n}, …}: verdicts or prompts of a benchmark, and those that its score rests on."""
    found = {}
    for benchmark in registry.BENCHMARKS:
        if benchmark.counted and f"{benchmark.prefix}.n" in metrics:
            n = metrics[f"{benchmark.prefix}.n"]
            lost = sum(metrics.get(f"{benchmark.prefix}.{cause}") or 0 for cause in LOST)
            found[benchmark.name] = {"read": n, "total": n + lost}
    return found


def main_pair(found: dict, candidate: str = "", baseline: str = "") -> tuple[str, str]:
    """The two arms to look at closely: those named, else those of the first comparison, else the last arm and the first.

    Raises UserError when the run has no arm of that name.
    """
    first = next(iter(found["comparisons"]), "")
    pair = first.split("_vs_") if first else (list(found["arms"])[-1], next(iter(found["arms"])))
    pair = candidate or pair[0], baseline or pair[1]
    if lacking := set(pair) - set(found["arms"]):
        there = ", ".join(found["arms"])
        raise UserError(
            f"the run has no arm {', '.join(sorted(lacking))}; name others in the report's parameters ({there})"
        )
    return pair


def compared(found: dict, names: str = "comparisons") -> list[str]:
    """The arms in the contrasts of a summary, or in its `primary` ones alone; all arms where it has none."""
    inside = {arm for name in found.get(names, ()) for arm in name.split("_vs_")}
    return [arm for arm in found["arms"] if arm in inside or not inside]


def contrasts(found: dict) -> pd.DataFrame:
    """Tabulate the contrasts in the headline metric, in the unit that is shown.

    A contrast without scores is left out. Columns: difference, low, high, p, p_holm (of exploratory ones),
    and `kind`: primary or exploratory.
    """
    metric, primary = scores.headline(found), found.get("primary") or list(found["comparisons"])
    lines = {}
    for name in found["comparisons"] if metric else ():
        if it := scores.difference(found, name, metric):
            scale = registry.metric(metric).scale
            bounds = {
                part: scale * it[part] if part in it else None for part in ("difference", "low", "high")
            }
            kind = "primary" if name in primary else "exploratory"
            ps = {part: it.get(part) for part in ("p", "p_holm")}
            lines[name.replace("_", " ")] = bounds | ps | {"kind": kind}
    return pd.DataFrame.from_dict(lines, orient="index")


def helped(table: pd.DataFrame, lower_is_better: bool = False) -> str:
    """What was shown to help, what to harm and what neither, of the lines of `contrasts`: by p, corrected where it is."""
    table = table.dropna(subset=["p"])
    if not len(table):
        return "These differences have no intervals: nothing is shown to help, and nothing to harm."
    shown = table["p_holm"].fillna(table["p"]).astype(float) < SURE
    better = (table["difference"] < 0) if lower_is_better else (table["difference"] > 0)
    parts = {
        "Shown to help": shown & better,
        "Shown to harm": shown & ~better,
        "No difference shown": ~shown,
    }
    return "\n".join(
        f"- **{name}**: {', '.join(table.index[which]) or 'nothing'}." for name, which in parts.items()
    )


def parameter(run: Path, notebook: str, name: str) -> object:
    """What a parameter of a notebook was in the run, in the arm that ran it last; None where none did."""
    folders_of = list(places(run, notebook).values())
    return folders.record(folders_of[-1])["parameters"].get(name) if folders_of else None


def stages(run: Path) -> pd.DataFrame:
    """One line a finished stage: notebook, round, arm, seed, status, seconds and the folder of its files."""
    table = pd.DataFrame(_finished(run)[1])
    table[["notebook", "round"]] = table["name"].str.split("@", expand=True)
    return table.assign(round=table["round"].astype(int), folder=[run / place for place in table["folder"]])


def places(run: Path, notebook: str, round: int | None = None) -> dict[tuple[str, int], Path]:
    """{(arm, seed): folder} of a notebook, in one round or in each arm's latest."""
    table = stages(run)
    mine = table[(table["notebook"] == notebook) & ((table["round"] == round) if round is not None else True)]
    return {(row.arm, row.seed): row.folder for row in mine.sort_values("round").itertuples()}


def embedded(run: Path) -> bool:
    """Whether the corpus is the embedded world's, where every row's task and true answer are known."""
    return parameter(run, "tapir/1_data_selection", "source") == "gym"
