"""Compute the scores of a run: a line per arm or contrast, a column per metric, each with its interval."""

import pandas as pd

from lib.errors import UserError
from lib.evaluation import registry

MAX_GAINS = 3  # of SELF-GUIDE that are said one by one
SIGNIFICANT = 0.05  # p below which a difference is shown
ENDS = ("", "_low", "_high")  # of the names of a metric and its interval
FEW_SHOT = "ni.gain_over.few_shot."


def headline(summary: dict) -> str | None:
    """Return the metric that a run is summed up by; None if it has no score.

    First the study's `metric`, then the first of the registry that all arms have, then that any has.
    """
    arms = [arm.get("metrics", {}) for arm in summary["arms"].values()]
    scored = [
        name for name in (summary.get("metric"), *registry.HEADLINES) if name and _is_scored(summary, name)
    ]
    if summary.get("metric") in scored:
        return summary["metric"]
    shared = [name for name in scored if all(name in metrics for metrics in arms)]
    return next(iter([*shared, *scored]), None)


def _is_scored(summary: dict, name: str) -> bool:
    contrasts = (metrics[name] for metrics in summary.get("comparisons", {}).values() if name in metrics)
    in_arms = any(name in arm.get("metrics", {}) for arm in summary["arms"].values())
    return in_arms or any(contrast["difference"] is not None for contrast in contrasts)


def missing_metric(summary: dict) -> str:
    """Say that no arm has the metric that the study names; empty if one has."""
    chosen, used = summary.get("metric"), headline(summary)
    if not chosen or chosen == used:
        return ""
    instead = f"The run is summed up by {used} instead." if used else "No arm has any other score."
    return f"metric={chosen}: no arm of the run has this score. {instead}"


def columns(summary: dict) -> list[str]:
    """Return the metrics of the tables: the headline, then those of the registry in their order."""
    return list(dict.fromkeys([*filter(None, [headline(summary)]), *registry.HEADLINES]))


def label(metric: str, summary: dict) -> str:
    """Return the name of a metric in a table."""
    stands_in = metric.partition(".")[0] in summary.get("stand_ins", ())
    return f"{'stand-in for ' * stands_in}{registry.metric(metric).label}"


# --- arms


def scores(summary: dict) -> pd.DataFrame:
    """Tabulate the arms' scores, each with its interval; empty if there is none."""
    lines = {
        arm: {name: show(name, values) for name in columns(summary) if (values := score(result, name))}
        for arm, result in summary["arms"].items()
    }
    return _table(lines, summary)


def score(arm: dict, name: str) -> tuple[float, ...]:
    """Return (score, low, high) of an arm in a metric, (score,) without an interval, () without a score."""
    values = tuple(arm.get("metrics", {}).get(name + end) for end in ENDS)
    # over seeds, a length-controlled win rate is no mean of rows that could be resampled
    is_mean = name != "alpaca_eval.lc_win_rate" or len(arm.get("seeds", ())) <= 1
    return values if None not in values and is_mean else values[: values[0] is not None]


def by_arm(summary: dict, name: str) -> dict[str, tuple[float, ...]]:
    """Return the score of every arm that has one, as `plots.intervals` takes them."""
    each = {arm: score(result, name) for arm, result in summary["arms"].items()}
    return {arm: values for arm, values in each.items() if values}


def show(metric: str, values: tuple[float, ...], sign: str = "") -> str:
    """Show a value in its unit, with its interval if it has one: "9.2 [7.6, 10.9]"."""
    shape = registry.metric(metric)
    value, *bounds = (f"{shape.scale * number:{sign}.{shape.decimals}f}" for number in values)
    return f"{value} [{', '.join(bounds)}]" if bounds else value


def _table(lines: dict[str, dict], summary: dict) -> pd.DataFrame:
    """Tabulate the lines that hold anything, the columns in their order under their labels."""
    filled = {name: line for name, line in lines.items() if line}
    table = pd.DataFrame.from_dict(filled, orient="index").fillna("")
    shown = table[[metric for metric in columns(summary) if metric in table]]
    return shown.rename(columns=lambda metric: label(metric, summary))


# --- contrasts


def main_pair(summary: dict, candidate: str = "", baseline: str = "") -> tuple[str, str]:
    """Return the two arms to look at closely: by default of the first contrast, else the last and the first.

    Raises UserError if the run has no arm of that name.
    """
    arms = list(summary["arms"])
    pair = next(iter(summary["comparisons"]), f"{arms[-1]}_vs_{arms[0]}").split("_vs_")
    pair = candidate or pair[0], baseline or pair[1]
    if unknown := set(pair) - set(arms):
        raise UserError(f"the run has no arm {', '.join(sorted(unknown))}. Name one of {', '.join(arms)}.")
    return pair


def compared(summary: dict, names: str = "comparisons") -> list[str]:
    """Return the arms in the contrasts of a summary, or in its `primary` ones; all arms if it has none."""
    inside = {arm for name in summary.get(names, ()) for arm in name.split("_vs_")}
    return [arm for arm in summary["arms"] if arm in inside or not inside]


def difference(summary: dict, contrast: str, name: str) -> tuple[float, ...]:
    """Return (difference, low, high) of two arms in a metric; () if no row has a score in both.

    A metric without scores by row, such as the held-out loss, has the difference of the means alone.
    """
    compared = summary["comparisons"].get(contrast, {})
    if name in compared:
        values = tuple(compared[name][part] for part in ("difference", "low", "high"))
        return values if None not in values else ()
    values = [summary["arms"].get(arm, {}).get("metrics", {}).get(name) for arm in contrast.split("_vs_")]
    return () if None in values or len(values) < 2 else (values[0] - values[1],)


def differences(summary: dict) -> pd.DataFrame:
    """Tabulate the paired differences, a line per contrast; empty if the arms share no metric."""
    lines = {}
    for name, compared in summary["comparisons"].items():
        each = {
            metric: difference(summary, name, metric) for metric in columns(summary) if metric in compared
        }
        lines[name.replace("_", " ")] = {
            metric: show(metric, values, "+") if values else "no score in both"
            for metric, values in each.items()
        }
    return _table(lines, summary)


def contrasts(summary: dict) -> pd.DataFrame:
    """Tabulate the contrasts in the headline metric: difference, low, high, p, p_holm, kind.

    In the unit that is shown. `p_holm` is of exploratory ones; `kind` is primary or exploratory.
    """
    metric, primary = headline(summary), summary.get("primary") or list(summary["comparisons"])
    lines = {}
    for name, compared in summary["comparisons"].items():
        if metric and (values := difference(summary, name, metric)):
            shown = [registry.metric(metric).scale * value for value in values] + [None] * (3 - len(values))
            ps = {part: compared.get(metric, {}).get(part) for part in ("p", "p_holm")}
            line = dict(zip(("difference", "low", "high"), shown, strict=True)) | ps
            lines[name.replace("_", " ")] = line | {"kind": "primary" if name in primary else "exploratory"}
    return pd.DataFrame.from_dict(lines, orient="index")


def summarise_contrasts(table: pd.DataFrame, lower_is_better: bool = False) -> str:
    """Say which of the `contrasts` help, harm or show no difference, by p, corrected for exploratory ones."""
    table = table.dropna(subset=["p"])
    if not len(table):
        return "These differences have no intervals: nothing is shown to help, and nothing to harm."
    shown = table["p_holm"].fillna(table["p"]).astype(float) < SIGNIFICANT
    better = (table["difference"] < 0) if lower_is_better else (table["difference"] > 0)
    parts = {"Shown to help": shown & better, "Shown to harm": shown & ~better, "No difference shown": ~shown}
    return "\n".join(
        f"- **{name}**: {', '.join(table.index[mask]) or 'nothing'}." for name, mask in parts.items()
    )


def gains(summary: dict) -> list[str]:
    """Say the main contrasts, or SELF-GUIDE's gains, a sentence each; empty if nothing is compared."""
    texts = []
    for name in summary.get("primary") or list(summary["comparisons"])[:2]:
        each = ((metric, difference(summary, name, metric)) for metric in columns(summary))
        first = next(((metric, values) for metric, values in each if values), None)
        texts += [_gain(name.replace("_", " "), *first, summary)] if first else []
    return texts or _gains_over_few_shot(summary)


def _gain(name: str, metric: str, values: tuple[float, ...], summary: dict) -> str:
    clear = "without an interval"
    if len(values) == 3:
        clear = "above zero" if values[1] > 0 else "below zero" if values[2] < 0 else "no difference shown"
    unit = f"{show(metric, values, '+')} {registry.metric(metric).unit}".rstrip()
    return f"{name}: {unit}, {clear} ({label(metric, summary).removesuffix(', %')})"


def _gains_over_few_shot(summary: dict) -> list[str]:
    """Say SELF-GUIDE's gain over the same student with the same prompt, of many arms in one sentence."""
    gains = {}
    for arm, result in summary["arms"].items():
        for metric in ("rouge_l", "exact_match"):
            if len(values := score(result, FEW_SHOT + metric)) == 3:
                gains[arm] = f"ni.{metric}", values
    if len(gains) <= MAX_GAINS:
        return [_gain(f"{arm} over few-shot", *gain, summary) for arm, gain in gains.items()]
    each = pd.DataFrame([values for _, values in gains.values()], columns=["gain", "low", "high"])
    above, below = (each["low"] > 0).sum(), (each["high"] < 0).sum()
    mean = f"over few-shot, {len(gains)} tasks: {100 * each['gain'].mean():+.1f} points on average"
    return [f"{mean}; above zero in {above}, below in {below}, neither in the others"]
