"""Tabulate the scores of a run: a line per arm or contrast, a column per metric, each with its interval."""

import pandas as pd

from lib.errors import UserError
from lib.evaluation import registry

SIGNIFICANT = 0.05  # p below which a difference is shown
ENDS = ("", "_low", "_high")  # of the names of a metric and its interval
INTERVALS = (
    "95 % intervals: rows are resampled; where an arm has several seeds, a t interval over them is added. "
    "With one seed, the luck of a training is not in them."
)


def headline(summary: dict) -> str | None:
    """Return the metric that a run is summed up by; None if it has no score.

    First the study's `metric`, then the first of the registry that all arms have, then that any has.
    """
    arms = [arm.get("metrics", {}) for arm in summary["arms"].values()]
    counts = {name: sum(name in metrics for metrics in arms) for name in registry.headlines()}
    if any(summary.get("metric") in metrics for metrics in arms):
        return summary["metric"]
    return max((name for name in counts if counts[name]), key=lambda n: counts[n] == len(arms), default=None)


def missing_metric(summary: dict) -> str:
    """Say that no arm has the metric that the study names; empty if one has."""
    chosen, used = summary.get("metric"), headline(summary)
    if not chosen or chosen == used:
        return ""
    instead = f"The run is summed up by {used} instead." if used else "No arm has any other score."
    return f"metric={chosen}: no arm of the run has this score. {instead}"


def columns(summary: dict) -> list[str]:
    """Return the metrics of the tables: the headline, then those of the registry in their order."""
    first = filter(None, [headline(summary), summary.get("metric")])
    return list(dict.fromkeys([*first, *registry.headlines()]))


def label(metric: str, summary: dict) -> str:
    """Return the name of a metric in a table."""
    stands_in = metric.partition(".")[0] in summary.get("stand_ins", ())
    return f"{'stand-in for ' * stands_in}{registry.metric(metric).label}"


def show(metric: str, values: tuple[float, ...], sign: str = "") -> str:
    """Show a value in its unit, with its interval if it has one: "9.2 [7.6, 10.9]"."""
    shape = registry.metric(metric)
    value, *bounds = (f"{shape.scale * number:{sign}.{shape.decimals}f}" for number in values)
    return f"{value} [{', '.join(bounds)}]" if bounds else value


# --- arms


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


def scores(summary: dict) -> pd.DataFrame:
    """Tabulate the arms' scores, each with its interval; empty if there is none."""
    each = {name: by_arm(summary, name) for name in columns(summary)}
    shown = {name: {arm: show(name, values) for arm, values in arms.items()} for name, arms in each.items()}
    return _table(shown, list(summary["arms"]), summary)


def _table(shown: dict[str, dict[str, str]], lines: list[str], summary: dict) -> pd.DataFrame:
    """Tabulate {metric: {line: text}}; lines and columns that hold nothing are left out."""
    table = pd.DataFrame({label(name, summary): pd.Series(texts) for name, texts in shown.items() if texts})
    return table.reindex([line for line in lines if line in table.index]).fillna("")


# --- contrasts


def main_pair(summary: dict, contrast: str = "") -> tuple[str, str]:
    """Return the two arms to look at closely: by default of the first contrast, else the last and the first.

    Raises UserError if the run lacks one of the arms.
    """
    arms = list(summary["arms"])
    contrast = contrast or next(iter(summary["comparisons"]), f"{arms[-1]}_vs_{arms[0]}")
    first, _, second = contrast.partition("_vs_")
    if not {first, second} <= set(arms):
        raise UserError(
            f"contrast={contrast}: it names no two arms. Write a_vs_b for two of {', '.join(arms)}."
        )
    return first, second


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
    shown: dict[str, dict[str, str]] = {}
    for metric in columns(summary):
        for name in (name for name, compared in summary["comparisons"].items() if metric in compared):
            values = difference(summary, name, metric)
            text = show(metric, values, "+") if values else "no score in both"
            shown.setdefault(metric, {})[_words(name)] = text
    return _table(shown, list(map(_words, summary["comparisons"])), summary)


def contrasts(summary: dict) -> pd.DataFrame:
    """Tabulate the contrasts in the headline metric: difference, low, high, p, p_holm, kind.

    In the unit that is shown. `p_holm` is of exploratory ones; `kind` is primary or exploratory.
    """
    metric, primary = headline(summary), summary.get("primary") or list(summary["comparisons"])
    lines = {}
    for name, compared in summary["comparisons"].items():
        if metric and (values := difference(summary, name, metric)):
            shown = [registry.metric(metric).scale * value for value in values] + [None] * (3 - len(values))
            line = dict(zip(("difference", "low", "high"), shown, strict=True))
            line |= {part: compared.get(metric, {}).get(part) for part in ("p", "p_holm")}
            lines[_words(name)] = line | {"kind": "primary" if name in primary else "exploratory"}
    return pd.DataFrame.from_dict(lines, orient="index")


def summarise_contrasts(table: pd.DataFrame, lower_is_better: bool = False) -> str:
    """Say which of the `contrasts` help, harm or show no difference, by p, corrected for exploratory ones."""
    table = table.dropna(subset=["p"])
    if not len(table):
        return "These differences have no intervals: nothing is shown to help, and nothing to harm."
    is_shown = table["p_holm"].fillna(table["p"]).astype(float) < SIGNIFICANT
    is_better = (table["difference"] < 0) if lower_is_better else (table["difference"] > 0)
    masks = {
        "Shown to help": is_shown & is_better,
        "Shown to harm": is_shown & ~is_better,
        "No difference shown": ~is_shown,
    }
    lines = [f"- **{name}**: {', '.join(table.index[mask]) or 'nothing'}." for name, mask in masks.items()]
    return "\n".join(lines)


def gains(summary: dict) -> list[str]:
    """Say the main contrasts in their first metric, a sentence each; empty if nothing is compared."""
    texts = []
    for name in summary.get("primary") or list(summary["comparisons"])[:2]:
        for metric in columns(summary):
            if values := difference(summary, name, metric):
                texts.append(_gain(_words(name), metric, values, label(metric, summary)))
                break
    return texts


def conclude(summary: dict, a: str, b: str, budget: str) -> str:
    """Say the difference of two arms, what it rests on, what it does not show, and what to run next."""
    metric, contrast = headline(summary), f"{a}_vs_{b}"
    values = difference(summary, contrast, metric) if metric and contrast in summary["comparisons"] else ()
    if not values:
        following = f"Name `{contrast}` under `comparisons`" if a != b else "Add an arm"
        following += " in a params file, or evaluate a second round by hand."
        return f"This run compares no two arms in a score that both have. {following}"
    seeds = min(len(summary["arms"][arm]["seeds"]) for arm in (a, b))
    rests, following = "rows and seeds", "Repeat it on another benchmark, or with another student."
    if seeds == 1:
        rests = "the choice of test rows alone; another training seed may change the sign"
        following = "Repeat it with more seeds (`seeds: [0, 1, 2]` in a params file)."
    limit = "other benchmarks, and other students"
    if metric.startswith("gym."):
        limit = "real instructions: the embedded world is a toy"
    lines = {
        "Difference": f"{_gain(f'{a} against {b}', metric, values, label(metric, summary))}.",
        "Budget": budget,
        "Seeds": f"{seeds}. The interval covers {rests}." if len(values) == 3 else f"{seeds}.",
        "Not shown": f"{limit}.",
        "Next": following,
    }
    return "\n".join(f"- **{name}**: {text}" for name, text in lines.items())


def _gain(contrast: str, metric: str, values: tuple[float, ...], name: str) -> str:
    clear = "without an interval"
    if len(values) == 3:
        clear = "above zero" if values[1] > 0 else "below zero" if values[2] < 0 else "no difference shown"
    unit = f"{show(metric, values, '+')} {registry.metric(metric).unit}".rstrip()
    return f"{contrast}: {unit}, {clear} ({name.removesuffix(', %')})"


def _words(contrast: str) -> str:
    return contrast.replace("_", " ")
