"""summary.json: what a run found, by arm; rewritten after every stage and present after a failure too."""

from collections.abc import Callable, Iterable
from pathlib import Path

from lib import files, paths
from lib.errors import one_line
from lib.runner import folders, keys
from lib.runner.plan import Planned

COUNTED = ("calls", "cached", "failed", "unread", "cut", "usd")


def merge_metrics(of_seeds: Iterable[dict[str, float | None]]) -> dict[str, float]:
    """The mean over seeds of every metric; a seed without it, or with null, does not count."""
    values: dict[str, list[float]] = {}
    for metrics in of_seeds:
        for name, value in metrics.items():
            if value is not None:
                values.setdefault(name, []).append(value)
    return {name: sum(of) / len(of) for name, of in values.items()}


def arms(done: Iterable[tuple[Planned, Path]]) -> dict[str, dict]:
    """Metrics by arm and seed; where rounds or stages share a name, the later one stands, but what was asked of the oracle adds up."""
    of_seed: dict[str, dict[int, dict]] = {}
    for stage, folder in done:
        if not stage.once:
            metrics = of_seed.setdefault(stage.arm, {}).setdefault(stage.seed, {})
            for name, value in (files.read_json(folder / "metrics.json") or {}).items():
                adds = name.startswith("oracle.") and name in metrics
                metrics[name] = _sum([value, metrics[name]]) if adds else value
                if name.endswith(
                    own := f"_round_{stage.round}"
                ):  # the last round's stands under the name alone
                    metrics[name.removesuffix(own)] = value
    return {
        arm: {
            "metrics": merge_metrics(seeds.values()),
            "seeds": {str(n): {"metrics": m} for n, m in seeds.items()},
        }
        for arm, seeds in of_seed.items()
    }


def oracle(used: Iterable[Path]) -> dict[str, float | None]:
    """Calls, calls answered by the ledger, unread and cut verdicts, and dollars, None where a price is unknown; a shared stage counts once."""
    each = [files.read_json(folder / "metrics.json") or {} for folder in sorted(set(used))]
    return {name: _sum([metrics.get(f"oracle.{name}", 0) for metrics in each]) for name in COUNTED}


def _sum(values: list[float | None]) -> float | None:
    return None if None in values else sum(values)


def comparisons(
    names: list[str], primary: list[str], done: list[tuple[Planned, Path]], cache: Path
) -> dict[str, dict]:
    """Compare arms: {"comparisons": {"a_vs_b": …}, "intervals": {arm: {metric: …}}, "apart": {name: why}}.

    Where there are `primary` contrasts the others are exploratory: `p_holm` corrects their p for their
    number, metric by metric. What cannot be compared is empty, and `apart` says why. Kept in `cache` as long
    as the stages and the comparing code stay the same, for it resamples many times.
    """
    if not (paths.ROOT / "lib/evaluation/statistics.py").is_file():
        return {}
    used = [(stage.arm, stage.seed, stage.name, folders.record(folder)["key"]) for stage, folder in done]
    notebook = {"cells": [{"cell_type": "code", "source": "import lib.evaluation.statistics"}]}
    key = keys.stage_key(notebook, {}, {}, also=[names, primary, used])
    kept = files.read_json(cache) or {}
    if kept.get("key") != key:
        apart: dict[str, str] = {}
        arms = {stage.arm: None for stage, _ in done if not stage.once}
        of_arms = {arm: _tried(arm, apart, _intervals, arm, done) for arm in arms}
        compared = {name: _tried(name, apart, _compare, name, done) for name in names}
        if primary:
            _correct([of for name, of in compared.items() if name not in primary])
        kept = {"key": key, "comparisons": compared, "intervals": of_arms, "apart": apart}
        files.write_json(cache, kept)
    return kept


def _tried(name: str, apart: dict[str, str], compute: Callable[..., dict], *given: object) -> dict:
    """Compute, or note why that cannot be: the stages are paid, and their report is to be drawn."""
    try:
        return compute(*given)
    except ValueError as error:
        apart[name] = one_line(error)
        return {}


def _correct(exploratory: list[dict]) -> None:
    """Add p_holm to every metric of these contrasts."""
    from lib.evaluation import statistics

    for metric in {name for of in exploratory for name in of}:
        having = [of[metric] for of in exploratory if "p" in of.get(metric, {})]
        for it, corrected in zip(having, statistics.holm([of["p"] for of in having]), strict=True):
            it["p_holm"] = corrected


def _compare(name: str, done: list[tuple[Planned, Path]]) -> dict:
    """Compare two arms; empty where no stage with scores is in both."""
    a, _, b = name.partition("_vs_")
    return differences(scored(a, done), scored(b, done))


def differences(ours: dict[str, dict[int, Path]], theirs: dict[str, dict[int, Path]]) -> dict[str, dict]:
    """What `scored` found of two arms, compared notebook by notebook, for those that both went through, and on the seeds that both have: each
    notebook has rows of its own."""
    from lib.evaluation import statistics

    found = {}
    for notebook in [name for name in ours if name in theirs]:
        if both := [seed for seed in ours[notebook] if seed in theirs[notebook]]:
            found |= statistics.compare(*([side[notebook][seed] for seed in both] for side in (ours, theirs)))
    return found


def _intervals(arm: str, done: list[tuple[Planned, Path]]) -> dict[str, float]:
    """<metric>_low and _high over several seeds; with one seed a stage's own metrics hold them."""
    from lib.evaluation import statistics

    found = {}
    for of_seeds in scored(arm, done).values():
        if len(of_seeds) > 1:
            for metric, it in statistics.across_seeds(list(of_seeds.values())).items():
                found |= {f"{metric}_low": it["low"], f"{metric}_high": it["high"]}
    return found


def scored(arm: str, done: Iterable[tuple[Planned, Path]]) -> dict[str, dict[int, Path]]:
    """By notebook and seed, an arm's folders with a scores.parquet; of several rounds the last."""
    found: dict[str, dict[int, Path]] = {}
    for stage, folder in done:
        if stage.arm == arm and (folder / "scores.parquet").is_file():
            found.setdefault(stage.notebook, {})[stage.seed] = folder
    return found
