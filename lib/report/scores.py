"""The scores of a run: a line an arm or a contrast, a column a metric, each with its interval."""

import pandas as pd

SHOWN = {  # metric: its name in a table, what brings it to the unit that is shown, decimals, and that unit
    "gym.accuracy": ("embedded world, accuracy, %", 100, 1, "points"),
    "alpaca_eval.win_rate": ("AlpacaEval 2, win rate, %", 1, 1, "points"),
    "alpaca_eval.lc_win_rate": ("length-controlled, %", 1, 1, "points"),
    "mt_bench.score": ("MT-Bench, 1 to 10", 1, 2, "of ten"),
    "ifeval.prompt_strict": ("IFEval, prompts followed, %", 100, 1, "points"),
    "ni.exact_match": ("target task, exact match, %", 100, 1, "points"),
    "ni.rouge_l": ("target task, ROUGE-L, %", 100, 1, "points"),
}


MOST_GAINS = 3  # of SELF-GUIDE that are told one by one


def scores(found: dict) -> pd.DataFrame:
    """A line an arm and a column a metric of a summary, each score with its interval where it has one; empty where there is none.

    The length-controlled win rate of several seeds has none: it is no mean of rows that could be resampled.
    """
    return _table(
        {arm: _line(of["metrics"], len(of.get("seeds", ()))) for arm, of in found["arms"].items()}, found
    )


def contrasts(found: dict) -> pd.DataFrame:
    """A line a contrast and a column a metric: the paired difference with its interval; empty where arms share none."""
    lines = {
        name.replace("_", " "): {
            metric: _show(metric, [it["difference"], it["low"], it["high"]], "+")
            for metric, it in of.items()
            if metric in SHOWN
        }
        for name, of in found["comparisons"].items()
    }
    return _table(lines, found)


def label(metric: str, found: dict) -> str:
    """What a metric is called in a table; where the embedded world stood in for a benchmark, that."""
    stands_in = metric.partition(".")[0] in found.get("stand_ins", ())
    return f"stand-in for {SHOWN[metric][0]}" if stands_in else SHOWN[metric][0]


def every(found: dict) -> pd.DataFrame:
    """A line a metric that has an interval, and a column an arm, in the metric's own unit."""
    lines = {
        arm: {name: _plain(of["metrics"], name) for name in of["metrics"] if f"{name}_low" in of["metrics"]}
        for arm, of in found["arms"].items()
    }
    return pd.DataFrame(lines, dtype=object).fillna("")


def gains(found: dict) -> list[str]:
    """The contrasts that the run is about, in its first metric, or what SELF-GUIDE gained, each in a sentence; empty where nothing is compared."""
    primary = found.get("primary") or list(found["comparisons"])[:2]
    said = []
    for name in primary:
        of = found["comparisons"].get(name, {})
        metric = next((metric for metric in SHOWN if metric in of), None)
        said += [_gain(name.replace("_", " "), metric, of[metric], found)] if metric else []
    return said or _own_gains(found)


def _gain(name: str, metric: str, it: dict, found: dict) -> str:
    clear = "above zero" if it["low"] > 0 else "below zero" if it["high"] < 0 else "no difference shown"
    unit = SHOWN[metric][3]
    return f"{name}: {_show(metric, [it['difference'], it['low'], it['high']], '+')} {unit}, {clear} ({label(metric, found).removesuffix(', %')})"


def _own_gains(found: dict) -> list[str]:
    """SELF-GUIDE's gain over the same student with the same prompt: of each arm, or of many in how many."""
    gains = {}
    for arm, of in found["arms"].items():
        for metric in ("exact_match", "rouge_l"):
            name = f"ni.gain_over.few_shot.{metric}"
            if f"{name}_low" in of["metrics"] and arm not in gains:
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


def _line(metrics: dict, seeds: int) -> dict[str, str]:
    ends = {name: [end for end in ("", "_low", "_high") if name + end in metrics] for name in SHOWN}
    if seeds > 1:
        ends["alpaca_eval.lc_win_rate"] = [""]
    return {
        name: _show(name, [metrics[name + end] for end in ends[name]]) for name in SHOWN if name in metrics
    }


def _show(metric: str, values: list[float], sign: str = "") -> str:
    """A value, with its interval where it has one: "9.2 [7.6, 10.9]"."""
    _, scale, decimals, _ = SHOWN[metric]
    value, *bounds = (f"{scale * it:{sign}.{decimals}f}" for it in values)
    return f"{value} [{', '.join(bounds)}]" if len(bounds) == 2 else value


def _plain(metrics: dict, name: str) -> str:
    return "{:.4g} [{:.4g}, {:.4g}]".format(*(metrics[name + end] for end in ("", "_low", "_high")))


def _table(lines: dict[str, dict], found: dict) -> pd.DataFrame:
    """Lines with anything in them, columns in the order of SHOWN, under their labels."""
    table = pd.DataFrame.from_dict({name: of for name, of in lines.items() if of}, orient="index").fillna("")
    return table[[metric for metric in SHOWN if metric in table]].rename(
        columns=lambda metric: label(metric, found)
    )
