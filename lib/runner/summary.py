"""The metrics and comparisons in summary.json."""

from collections.abc import Callable, Iterable
from pathlib import Path

from lib import files
from lib.errors import one_line
from lib.runner import folders, keys
from lib.runner.plan import Planned

COUNTED = ("calls", "cached", "failed", "unread", "cut", "usd")
COMPARING = {"cells": [{"cell_type": "code", "source": "import lib.evaluation.statistics"}]}
Done = Iterable[tuple[Planned, Path]]  # finished stages and their folders


def merge_metrics(seeds: Iterable[dict[str, float | None]]) -> dict[str, float]:
    """Average every metric over the seeds that have it."""
    values: dict[str, list[float]] = {}
    for metrics in seeds:
        for name, value in metrics.items():
            if value is not None:
                values.setdefault(name, []).append(value)
    return {name: sum(each) / len(each) for name, each in values.items()}


def arms(done: Done) -> dict[str, dict]:
    """Collect the metrics by arm and seed.

    Where rounds or stages share a name the later one stands, but what was asked of the oracle adds up.
    The last round's `x_round_3` stands under `x`, too.
    """
    by_arm: dict[str, dict[int, dict]] = {}
    for stage, folder in done:
        if not stage.once:
            metrics = by_arm.setdefault(stage.arm, {}).setdefault(stage.seed, {})
            for name, value in folders.metrics(folder).items():
                adds = name.startswith("oracle.") and name in metrics
                metrics[name] = _sum([value, metrics[name]]) if adds else value
                if name.endswith(f"_round_{stage.round}"):
                    metrics[name.removesuffix(f"_round_{stage.round}")] = value
    return {
        arm: {
            "metrics": merge_metrics(seeds.values()),
            "seeds": {str(seed): {"metrics": metrics} for seed, metrics in seeds.items()},
        }
        for arm, seeds in by_arm.items()
    }


def oracle(used: Iterable[Path]) -> dict[str, float | None]:
    """Add up the oracle's calls and USD (None: unknown), each stage once."""
    each = [folders.metrics(folder) for folder in sorted(set(used))]
    return {name: _sum([metrics.get(f"oracle.{name}", 0) for metrics in each]) for name in COUNTED}


def _sum(values: list[float | None]) -> float | None:
    return None if None in values else sum(values)


def comparisons(names: list[str], primary: list[str], done: list[tuple[Planned, Path]], cache: Path) -> dict:
    """Compare arms: {"comparisons": {"a_vs_b": …}, "intervals": {arm: {metric: …}}, "apart": {name: why}}.

    Where there are `primary` contrasts the others are exploratory: `p_holm` corrects their p for their
    number, metric by metric. What cannot be compared is empty, and `apart` says why. The result, which takes
    many resamples, is kept in `cache` as long as the stages and the comparing code stay the same.
    """
    used = [(stage.arm, stage.seed, stage.name, folders.record(folder)["key"]) for stage, folder in done]
    key = keys.stage_key(COMPARING, {}, {}, also=[names, primary, used])
    kept = files.read_json(cache) or {}
    if kept.get("key") == key:
        return kept
    kept = {"key": key, "comparisons": {}, "intervals": {}, "apart": {}}
    arms = dict.fromkeys(stage.arm for stage, _ in done if not stage.once)
    by_arm = {arm: scored(arm, done) for arm in arms}
    for arm, stages in by_arm.items():
        _try(kept, "intervals", arm, _intervals, stages)
    for name in names:
        a, _, b = name.partition("_vs_")
        _try(kept, "comparisons", name, differences, by_arm.get(a, {}), by_arm.get(b, {}))
    if primary:
        _correct([metrics for name, metrics in kept["comparisons"].items() if name not in primary])
    files.write_json(cache, kept)
    return kept


def _try(result: dict, kind: str, name: str, compute: Callable[..., dict], *sides: dict) -> None:
    """Compute, or note why not: the stages are paid, and need their report."""
    result[kind][name] = {}
    try:
        result[kind][name] = compute(*sides)
    except ValueError as error:
        result["apart"][name] = one_line(error)


def _correct(exploratory: list[dict]) -> None:
    """Add p_holm to every metric of these contrasts."""
    from lib.evaluation import statistics

    for metric in {name for metrics in exploratory for name in metrics}:
        tested = [metrics[metric] for metrics in exploratory if "p" in metrics.get(metric, {})]
        corrected = statistics.holm([test["p"] for test in tested])
        for test, p_holm in zip(tested, corrected, strict=True):
            test["p_holm"] = p_holm


def differences(a: dict[str, dict[int, Path]], b: dict[str, dict[int, Path]]) -> dict[str, dict]:
    """Compare what `scored` returns of two arms, on the seeds that both have."""
    result = {}
    for notebook in [name for name in a if name in b]:
        if seeds := [seed for seed in a[notebook] if seed in b[notebook]]:
            from lib.evaluation import statistics  # takes a second: only where there are scores

            result |= statistics.compare(*([side[notebook][seed] for seed in seeds] for side in (a, b)))
    return result


def _intervals(stages: dict[str, dict[int, Path]]) -> dict[str, float]:
    """Compute <metric>_low and _high over several seeds; one seed's metrics have them."""
    result = {}
    for seeds in stages.values():
        if len(seeds) > 1:
            from lib.evaluation import statistics

            for metric, bounds in statistics.across_seeds(list(seeds.values())).items():
                result |= {f"{metric}_low": bounds["low"], f"{metric}_high": bounds["high"]}
    return result


def scored(arm: str, done: Done) -> dict[str, dict[int, Path]]:
    """Find an arm's last folders with a scores.parquet, by notebook and seed."""
    result: dict[str, dict[int, Path]] = {}
    for stage, folder in done:
        if stage.arm == arm and (folder / "scores.parquet").is_file():
            result.setdefault(stage.notebook, {})[stage.seed] = folder
    return result
