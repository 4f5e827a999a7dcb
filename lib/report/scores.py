"""The scores of a run: a line an arm or a contrast, a column a metric, each with its interval."""

import pandas as pd

from lib.evaluation import registry
from lib.evaluation.registry import HEADLINES

MOST_GAINS = 3  # of SELF-GUIDE that are told one by one
NO_SCORE = "no score in both"


def headline(found: dict) -> str | None:
    """Return the metric that a run is summed up by; None where it has no score.

    The study's `metric` comes first, then the first of the benchmarks' list that all arms have, then that any
    has.
    """
    arms = [of.get("metrics", {}) for of in found["arms"].values()]
    in_any = [name for name in (found.get("metric"), *HEADLINES) if name and _is_scored(found, name)]
    if found.get("metric") in in_any:
        return found["metric"]
    in_all = [name for name in in_any if arms and all(name in metrics for metrics in arms)]
    return next(iter([*in_all, *in_any]), None)


def _is_scored(found: dict, name: str) -> bool:
    contrasts = (of[name] for of in found.get("comparisons", {}).values() if name in of)
    in_arms = any(name in of.get("metrics", {}) for of in found["arms"].values())
    return in_arms or any(it["difference"] is not None for it in contrasts)


def missing_metric(found: dict) -> str:
    """Say that no arm has the metric that the study names; empty where one has."""
    chosen, shown = found.get("metric"), headline(found)
    if not chosen or chosen == shown:
        return ""
    instead = f"The run is summed up by {shown} instead." if shown else "No arm has any other score."
    return f"metric={chosen}: no arm of the run has this score. {instead}"


def columns(found: dict) -> list[str]:
    """Return the metrics of the tables: the headline, then those of the benchmarks in their order."""
    return list(dict.fromkeys([*filter(None, [headline(found)]), *HEADLINES]))


def scores(found: dict) -> pd.DataFrame:
    """A line an arm and a column a metric of a summary, each score with its interval where it has one; empty where there is none.

    The length-controlled win rate of several seeds has none: it is no mean of rows that could be resampled.
    """
    lines = {
        arm: {
            name: _show(name, list(values))
            for name in columns(found)
            if (values := score(of, name)) is not None
        }
        for arm, of in found["arms"].items()
    }
    return _table(lines, found)


def score(arm: dict, name: str) -> tuple[float, ...] | None:
    """Return an arm's score in a metric, with its two bounds if there are any; None without a score."""
    metrics = arm.get("metrics", {})
    if name not in metrics:
        return None
    bounds = [metrics[name + end] for end in ("_low", "_high") if name + end in metrics]
    if name == "alpaca_eval.lc_win_rate" and len(arm.get("seeds", ())) > 1:
        bounds = []
    return (metrics[name], *(bounds if len(bounds) == 2 else ()))


def by_arm(found: dict, name: str) -> dict[str, tuple[float, ...]]:
    """Return the score of every arm that has one, as `plots.intervals` takes them."""
    each = {arm: score(of, name) for arm, of in found["arms"].items()}
    return {arm: values for arm, values in each.items() if values}


def contrasts(found: dict) -> pd.DataFrame:
    """A line a contrast and a column a metric: the paired difference with its interval; empty where arms share none."""
    lines = {
        name.replace("_", " "): {
            metric: _show_difference(metric, it) for metric, it in of.items() if metric in columns(found)
        }
        for name, of in found["comparisons"].items()
    }
    return _table(lines, found)


def difference(found: dict, contrast: str, name: str) -> dict | None:
    """Return the difference of two arms in a metric; None where no row has a score in both.

    A metric without scores by row, such as the held-out loss, has the difference of the means, and no
    interval.
    """
    compared = found["comparisons"].get(contrast, {})
    if name in compared:
        return compared[name] if compared[name]["difference"] is not None else None
    a, _, b = contrast.partition("_vs_")
    values = [found["arms"].get(arm, {}).get("metrics", {}).get(name) for arm in (a, b)]
    return None if None in values else {"difference": values[0] - values[1]}


def label(metric: str, found: dict) -> str:
    """What a metric is called in a table; where the embedded world stood in for a benchmark, that."""
    stands_in = metric.partition(".")[0] in found.get("stand_ins", ())
    name = registry.metric(metric).label
    return f"stand-in for {name}" if stands_in else name


def every(found: dict) -> pd.DataFrame:
    """A line a metric that has an interval, and a column an arm, in the metric's own unit."""
    ends = ("", "_low", "_high")
    lines = {
        arm: {name: _plain(of["metrics"], name) for name in of["metrics"] if _has(of["metrics"], name, ends)}
        for arm, of in found["arms"].items()
    }
    return pd.DataFrame(lines, dtype=object).fillna("")


def gains(found: dict) -> list[str]:
    """Say the main contrasts in the headline metric, or SELF-GUIDE's gains, a sentence each.

    Empty where nothing is compared.
    """
    primary = found.get("primary") or list(found["comparisons"])[:2]
    said = []
    for name in primary:
        each = ((metric, difference(found, name, metric)) for metric in columns(found))
        metric, it = next(((metric, it) for metric, it in each if it), ("", None))
        said += [_gain(name.replace("_", " "), metric, it, found)] if it else []
    return said or _own_gains(found)


def _gain(name: str, metric: str, it: dict, found: dict) -> str:
    clear = "without an interval"
    if "low" in it:
        clear = "above zero" if it["low"] > 0 else "below zero" if it["high"] < 0 else "no difference shown"
    unit = registry.metric(metric).unit
    about = label(metric, found).removesuffix(", %")
    return f"{name}: {' '.join(filter(None, [_show_difference(metric, it), unit]))}, {clear} ({about})"


def _own_gains(found: dict) -> list[str]:
    """SELF-GUIDE's gain over the same student with the same prompt: of each arm, or of many in how many."""
    gains = {}
    for arm, of in found["arms"].items():
        for metric in ("exact_match", "rouge_l"):
            name = f"ni.gain_over.few_shot.{metric}"
            if _has(of["metrics"], name, ("", "_low", "_high")) and arm not in gains:
                ends = {end: of["metrics"][f"{name}_{end}"] for end in ("low", "high")}
                gains[arm] = f"ni.{metric}", {"difference": of["metrics"][name]} | ends
    if len(gains) <= MOST_GAINS:
        return [_gain(f"{arm} over few-shot", metric, it, found) for arm, (metric, it) in gains.items()]
    above = sum(it["low"] > 0 for _, it in gains.values())
    below = sum(it["high"] < 0 for _, it in gains.values())
    mean = 100 * sum(it["difference"] for _, it in gains.values()) / len(gains)
    return [
        f"over few-shot, {len(gains)} tasks: {mean:+.1f} points on average; above zero in {above}, below in {below}, neither in the others"
    ]


def told(found: dict) -> list[str]:
    """What each arm scored, in a sentence."""
    return [
        f"{arm}: {label}: {text}"
        for arm, line in scores(found).iterrows()
        for label, text in line.items()
        if text
    ]


def _has(metrics: dict, name: str, ends: tuple[str, ...]) -> bool:
    return all(name + end in metrics for end in ends)


def _show(metric: str, values: list[float], sign: str = "") -> str:
    """A value, with its interval where it has one: "9.2 [7.6, 10.9]"."""
    how = registry.metric(metric)
    value, *bounds = (f"{how.scale * it:{sign}.{how.decimals}f}" for it in values)
    return f"{value} [{', '.join(bounds)}]" if len(bounds) == 2 else value


def _show_difference(metric: str, it: dict) -> str:
    if it["difference"] is None:
        return NO_SCORE
    return _show(metric, [it[part] for part in ("difference", "low", "high") if part in it], "+")


def _plain(metrics: dict, name: str) -> str:
    return "{:.4g} [{:.4g}, {:.4g}]".format(*(metrics[name + end] for end in ("", "_low", "_high")))


def _table(lines: dict[str, dict], found: dict) -> pd.DataFrame:
    """Lines with anything in them, columns in their order, under their labels."""
    table = pd.DataFrame.from_dict({name: of for name, of in lines.items() if of}, orient="index").fillna("")
    return table[[metric for metric in columns(found) if metric in table]].rename(
        columns=lambda metric: label(metric, found)
    )
