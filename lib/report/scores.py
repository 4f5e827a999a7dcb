"""What a report says of the benchmarks: scores by arm, differences between arms, and who judged."""

from pathlib import Path

import pandas as pd

from lib.evaluation.shared import JUDGES
from lib.report import places
from lib.runner import folders

SHOWN = {  # metric: its name in a table, what brings it to the unit that is shown, and decimals
    "alpaca_eval.win_rate": ("AlpacaEval 2, win rate, %", 1, 1),
    "alpaca_eval.lc_win_rate": ("length-controlled, %", 1, 1),
    "mt_bench.score": ("MT-Bench, 1 to 10", 1, 2),
    "ifeval.prompt_strict": ("IFEval, prompts followed, %", 100, 1),
}
FILES = {"AlpacaEval": "alpaca_eval", "MT-Bench": "mt_bench"}  # those with a judge


def scores(found: dict) -> pd.DataFrame:
    """A line an arm and a column a benchmark of a summary, each score with its interval; empty where none was run.

    The length-controlled win rate of several seeds has none: it is no mean of rows that could be resampled.
    """
    lines = {arm: _line(of["metrics"], len(of.get("seeds", ()))) for arm, of in found["arms"].items()}
    return _table(lines)


def contrasts(found: dict) -> pd.DataFrame:
    """A line a contrast and a column a benchmark: the paired difference with its interval; empty where arms share none."""
    lines = {
        name.replace("_", " "): {
            SHOWN[metric][0]: _show(metric, [it["difference"], it["low"], it["high"]], "+")
            for metric, it in of.items()
            if metric in SHOWN
        }
        for name, of in found["comparisons"].items()
    }
    return _table(lines)


def judges(run: Path) -> str:
    """Who judged what, and whether an evaluation was judged by who had taught or chosen."""
    told = [folders.record(folder)["parameters"] for folder in places(run, "tapir/2_oracle_judging").values()]
    teachers = {of[name] for of in told for name in ("oracle", "judge_model") if of[name]}
    named = {"oracle and judge of the training": teachers}
    named |= {f"{name}'s judge": _evaluators(run, f"evaluation/{file}") for name, file in FILES.items()}
    said = "; ".join(f"{what}: {', '.join(sorted(names))}" for what, names in named.items() if names)
    same = teachers & (set().union(*list(named.values())[1:]) - {"exact"})
    warning = (
        f" **{', '.join(sorted(same))} also taught or chose the rows: it judges its own work.**"
        if same
        else ""
    )
    return f"{said[:1].upper()}{said[1:]}.{warning}"


def _evaluators(run: Path, notebook: str) -> set[str]:
    found = (folders.read_json(folder / JUDGES) or {} for folder in places(run, notebook).values())
    return {name for of in found for name in of.get("judges", ())}


def _line(metrics: dict, seeds: int) -> dict[str, str]:
    ends = {name: ("", "_low", "_high") for name in SHOWN}
    if seeds > 1:
        ends["alpaca_eval.lc_win_rate"] = ("",)
    return {
        SHOWN[name][0]: _show(name, [metrics[name + end] for end in ends[name]])
        for name in SHOWN
        if name in metrics
    }


def _show(metric: str, values: list[float], sign: str = "") -> str:
    """A value, with its interval where it has one: "9.2 [7.6, 10.9]"."""
    _, scale, decimals = SHOWN[metric]
    value, *bounds = (f"{scale * it:{sign}.{decimals}f}" for it in values)
    return f"{value} [{', '.join(bounds)}]" if bounds else value


def _table(lines: dict[str, dict]) -> pd.DataFrame:
    return pd.DataFrame.from_dict(
        {name: line for name, line in lines.items() if line}, orient="index"
    ).fillna("")
