"""The content of summary.json: metrics, comparisons and stages of a run, or of what was done by hand."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from lib import files
from lib.errors import one_line
from lib.runner import folders, keys
from lib.runner.plan import Planned

COUNTED = ("calls", "cached", "failed", "unread", "cut", "usd")
COMPARING = {"cells": [{"cell_type": "code", "source": "import lib.evaluation.statistics"}]}
Done = Iterable[tuple[Planned, Path]]  # finished stages and their folders


def content(run: str, status: str, stages: Iterable[Planned], done: Done, together: dict) -> dict:
    """Return what summary.json says of a run; `together` holds its `comparisons`."""
    results, top = arms(done), folders.outputs() / run
    for arm, bounds in together.get("intervals", {}).items():
        results[arm]["metrics"] |= bounds
    links = {id(stage): folder.relative_to(top).as_posix() for stage, folder in done}
    lines = [
        {"name": p.name, "arm": p.arm, "seed": p.seed, "status": p.status, "seconds": p.seconds}
        | ({"folder": links[id(p)]} if p.folder else {})
        for p in stages
        if p.status
    ]
    return {
        "run": run,
        "status": status,
        "arms": results,
        "comparisons": together.get("comparisons", {}),
        "stages": lines,
        "oracle": oracle(folder for _, folder in done),
        "apart": together.get("apart", {}),
    }


def arms(done: Done) -> dict[str, dict]:
    """Collect the metrics by arm and seed, and average each over the seeds that have it.

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
    results = {}
    for arm, seeds in by_arm.items():
        values: dict[str, list[float]] = {}
        for name, value in (item for metrics in seeds.values() for item in metrics.items()):
            if value is not None:
                values.setdefault(name, []).append(value)
        results[arm] = {"metrics": {name: sum(each) / len(each) for name, each in values.items()}}
        results[arm]["seeds"] = {str(seed): {"metrics": metrics} for seed, metrics in seeds.items()}
    return results


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
    used = []
    for stage, folder in done:
        record = folders.record(folder)  # by hand, a stage may be run again with the same key
        used.append((stage.arm, stage.seed, stage.name, record["key"], record.get("started_at")))
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


# --- by hand


def by_hand() -> dict:
    """Summarise the stages of notebooks opened by hand as a run, each evaluated round as an arm.

    An arm with several rounds becomes "before" (round 0), "round_1", …, after its own name if there are
    several arms. Every later one is compared with the first.
    """
    top = folders.outputs() / folders.BY_HAND
    done = [(stage, stage.folder) for stage in _by_round(_opened(top))]
    first, *others = dict.fromkeys(stage.arm for stage, _ in done if not stage.once) or [""]
    contrasts = [f"{arm}_vs_{first}" for arm in reversed(others)]
    together = comparisons(contrasts, [], done, top / "comparisons.json") if done else {}
    about = {"title": "What was done by hand", "command": f"python -m lib.report {folders.BY_HAND}"}
    return content(folders.BY_HAND, "complete", [stage for stage, _ in done], done, together) | about


def _opened(top: Path) -> list[Planned]:
    """Read the finished stages below a folder, in the order of a run."""
    stages = []
    for folder in (path.parent for path in top.rglob("stage.json")):
        arm, seed, *name = folder.relative_to(top).parts
        record = folders.record(folder)
        is_page = arm != folders.ALL_ARMS or (folder / "notebook.ipynb").is_file()  # of a report, its figures
        if record and record["name"] == "/".join(name) and folders.is_complete(folder) and is_page:
            notebook, _, number = record["name"].partition("@")
            stage = Planned(
                notebook, arm, int(seed[1:]), int(number), record["parameters"], arm == folders.ALL_ARMS
            )
            stages.append(replace(stage, folder=folder, status="done", seconds=record["seconds"]))
    return sorted(stages, key=lambda s: (s.arm, s.seed, _is_evaluation(s), s.round, s.notebook))


def _is_evaluation(stage: Planned) -> bool:
    return stage.notebook.startswith("evaluation/")


def _by_round(stages: list[Planned]) -> list[Planned]:
    """Split each arm into its evaluated rounds and what is behind them, and its last round with the rest."""
    result = [stage for stage in stages if stage.once]
    arms = dict.fromkeys(stage.arm for stage in stages if not stage.once)
    for arm in arms:
        own = [stage for stage in stages if stage.arm == arm]
        evaluations = [stage for stage in own if _is_evaluation(stage) and "round" in stage.values]
        numbers = sorted({stage.round for stage in evaluations} | {max(stage.round for stage in own)})
        for number in numbers:
            label = "before" if number == 0 else f"round_{number}"
            parts = [arm] * (len(arms) > 1) + [label] * (len(numbers) > 1)
            evaluated = [stage for stage in evaluations if stage.round == number]
            used = {folder for stage in evaluated for folder in ancestry(stage.folder)}
            if number == numbers[-1]:
                used |= {stage.folder for stage in own if stage not in evaluations}
            result += [replace(stage, arm="_".join(parts) or arm) for stage in own if stage.folder in used]
    return result


def ancestry(folder: Path, seen: dict[Path, None] | None = None) -> list[Path]:
    """List the stages that a stage was made from, by the inputs in their records, itself last."""
    seen = {} if seen is None else seen
    for path in filter(None, folders.record(folder)["inputs"].values()):
        if (stage := folders.stage_of(Path(path))) and stage not in seen:
            ancestry(stage, seen)
    seen[folder] = None
    return list(seen)
