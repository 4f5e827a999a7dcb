"""The arms of a run side by side: what each took, what it was taught, and on what it differs from another."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
from datasets import Dataset, concatenate_datasets

from lib import files, records
from lib.evaluation import statistics
from lib.gym import calibration
from lib.gym.oracle import ExactOracle
from lib.report import scores
from lib.report.tables import compared, embedded, parameter, places, stages
from lib.tapir import tasks as taxonomies

SETS = ("accuracy", "corpus_mix", "unseen_level", "unseen_family", "unseen_phrasing", "forgetting")
SPLITS = {"dev": "the split that settings are chosen on", "test": "the split that settings never saw"}
EQUAL = 0.02  # by which response tokens may differ for a budget to be called equal


def account(run: Path, found: dict) -> pd.DataFrame:
    """Tabulate the arms: headline score with its interval, number of seeds, and cost (see `budget`)."""
    name = scores.headline(found)
    shown = scores.scores(found)
    table = shown[[scores.label(name, found)] if name and len(shown) else []]
    seeds = {arm: len(of["seeds"]) for arm, of in found["arms"].items()}
    return table.reindex(list(seeds)).fillna("").assign(seeds=pd.Series(seeds)).join(budget(run))


def spread(found: dict, arm: str) -> str:
    """Say what the intervals of an arm hold."""
    seeds = len(found["arms"][arm]["seeds"])
    held = "one seed: rows resampled, not the training" if seeds == 1 else f"{seeds} seeds and rows resampled"
    fewer = len(compared(found, "primary")) < len(found["arms"])
    return f"{held}; fewer in exploratory arms" if fewer else held


def split(run: Path) -> str:
    """Say of which split the embedded world's instances are; empty where the run has none."""
    name = parameter(run, "evaluation/gym", "split")
    return f"Instances of `{name}`: {SPLITS[name]}." if name else ""


def other_sets(found: dict) -> pd.DataFrame:
    """Tabulate the arms' scores on the embedded world's other sets, in percent; empty without any."""
    lines = {
        arm: {part: _bounded(of["metrics"], f"gym.{part}") for part in SETS}
        for arm, of in found["arms"].items()
        if "gym.accuracy" in of["metrics"]
    }
    return pd.DataFrame.from_dict(lines, orient="index", columns=list(SETS))


def _bounded(metrics: dict, name: str) -> str:
    """A score in percent with its interval."""
    values = [100 * metrics[name + end] for end in ("", "_low", "_high") if name + end in metrics]
    return "{:.1f} [{:.1f}, {:.1f}]".format(*values) if len(values) == 3 else ""


def answered(found: dict) -> pd.DataFrame:
    """Tabulate how the arms' responses in the embedded world ended, as shares; empty without any."""
    lines = {
        arm: {part: of["metrics"].get(f"gym.{part}") for part in ("cut", "no_answer", "cells_between")}
        for arm, of in found["arms"].items()
        if "gym.accuracy" in of["metrics"]
    }
    return pd.DataFrame.from_dict(lines, orient="index")


def rows(run: Path, metric: str | None) -> pd.DataFrame:
    """Read the scored rows of a metric: arm, seed, id, stratum, part, score; empty without any.

    The part is what rows are grouped by in figures: a family of the embedded world, elsewhere the stratum.
    """
    found = {}
    for stage in stages(run).sort_values("round", kind="stable").itertuples():
        if (stage.folder / "scores.parquet").is_file():
            table = pd.read_parquet(stage.folder / "scores.parquet")
            if len(table := table[table["metric"] == metric]):
                found[stage.arm, stage.seed] = table.assign(arm=stage.arm, seed=stage.seed)
    if not found:
        return pd.DataFrame(columns=["arm", "seed", "id", "stratum", "part", "score"])
    each = pd.concat(found.values(), ignore_index=True).dropna(subset=["score"])
    level = r" \d+$" if metric.startswith("gym.") else "$"
    return each.assign(part=each["stratum"].str.replace(level, "", regex=True))


def by_stratum(evaluated: pd.DataFrame, arms: list[str]) -> dict[str, dict[str, float]]:
    """Average the scores of these arms per stratum; empty where there is one stratum alone."""
    mine = evaluated[evaluated["arm"].isin(arms)]
    table = mine.pivot_table(index="stratum", columns="arm", values="score").reindex(columns=arms).dropna()
    return {name: line.to_dict() for name, line in table.iterrows()} if len(table) > 1 else {}


def replies(run: Path, notebook: str = "evaluation/gym") -> pd.DataFrame:
    """Read all replies of the embedded world's evaluation; empty without any."""
    found = places(run, notebook)
    parts = [pd.read_parquet(f / "replies.parquet").assign(arm=a, seed=s) for (a, s), f in found.items()]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["arm", "seed", "id"])


def losses(run: Path) -> dict[str, tuple[list[float], list[float]]]:
    """Training loss by arm over the steps of all its rounds after the warm-up, of its first seed."""
    lines: dict[str, tuple[list[float], list[float]]] = {}
    table = stages(run)
    for row in table[(table["notebook"] == "tapir/4_training") & (table["round"] > 0)].itertuples():
        if row.seed == table["seed"].min():
            steps, values = lines.setdefault(row.arm, ([], []))
            before = steps[-1] if steps else 0
            for entry in json.loads((row.folder / "losses.json").read_text()):
                steps.append(before + entry["step"])
                values.append(entry["loss"])
    return lines


def taught(run: Path, seed: int) -> dict[str, list[Dataset]]:
    """The rows drawn in each round after the warm-up, by arm."""
    table = stages(run)
    mine = table[(table["notebook"] == "tapir/4_training") & (table["round"] > 0) & (table["seed"] == seed)]
    return {
        arm: [records.read(folder / "rows.parquet") for folder in of["folder"]]
        for arm, of in mine.groupby("arm", sort=False)
    }


def mixes(run: Path, arms: list[str], seed: int, tasks: str) -> dict[str, dict[str, float]]:
    """Compute the task mix of the corpus, of the rows of each arm, and the target.

    `tasks` is the taxonomy where the run itself used none. Rows whose task is not known, or not in it, are
    left out. Empty where nothing was taught.
    """
    drawn = {arm: parts for arm, parts in taught(run, seed).items() if arm in arms}
    selected = places(run, "tapir/1_data_selection")
    corpus = next((folder for (arm, n), folder in selected.items() if arm in drawn and n == seed), None)
    groups = {"corpus": [records.read(corpus / "rows.parquet")]} if corpus else {}
    taxonomy = taxonomies.load_taxonomy(parameter(run, "tapir/3_refinement", "tasks") or tasks)
    known = {name: labelled(run, concatenate_datasets(parts)) for name, parts in (groups | drawn).items()}
    fitting = {name: _of_tasks(side, taxonomy) for name, side in known.items()} if drawn else {}
    found = {name: taxonomies.mix(side, taxonomy) for name, side in fitting.items() if len(side)}
    return found | {"target": {task: it.share for task, it in taxonomy.items()}} if found else {}


def _of_tasks(side: Dataset, taxonomy: dict) -> Dataset:
    return side.select([i for i, task in enumerate(side["task"][:]) if task in taxonomy])


def labelled(run: Path, rows: Dataset) -> Dataset:
    """The rows whose task the run knows, with it: all of the embedded world's, else those it judged or expanded."""
    if embedded(run):
        return ExactOracle().classify(records.update(rows, task=[None] * len(rows)))
    known = {}
    for notebook, file in (("tapir/2_oracle_judging", "rows"), ("tapir/3_refinement", "pool")):
        for folder in places(run, notebook).values():
            found = records.read(folder / f"{file}.parquet")
            known |= dict(zip(found["id"], found["task"], strict=True))
    rows = records.update(rows, task=[known.get(row_id) for row_id in rows["id"]])
    return rows.select([i for i, task in enumerate(rows["task"]) if task])


def budget(run: Path) -> pd.DataFrame:
    """What each arm's training after the warm-up took, as means over seeds; empty where no arm has rounds."""
    lines = []
    table = stages(run)
    for (arm, seed), mine in table.groupby(["arm", "seed"]):
        trained = mine[(mine["notebook"] == "tapir/4_training") & (mine["round"] > 0)]
        if len(trained):
            lines.append({"arm": arm, "seed": seed} | _spent(mine, trained))
    return (
        pd.DataFrame(lines, columns=None if lines else ["arm", "seed"])
        .drop(columns="seed")
        .groupby("arm")
        .mean()
    )


def equal(budget: pd.DataFrame, arms: list[str]) -> str:
    """Whether these arms were taught as many response tokens, within 2 %, in one sentence; those without rounds do not count."""
    budget = budget[budget.index.isin(arms)]
    if not len(budget):
        return "No arm was taught beyond the warm-up."
    apart = budget["response tokens"].max() / budget["response tokens"].min() - 1
    said = f"The response tokens of the arms that are compared differ by {apart:.1%} at most"
    return f"{said}." if apart <= EQUAL else f"**{said}: this is no comparison at equal budget.**"


def _spent(mine: pd.DataFrame, trained: pd.DataFrame) -> dict[str, float]:
    metrics = {}
    for folder in mine["folder"][~mine["notebook"].str.startswith("evaluation/")]:
        for name, value in (files.read_json(folder / "metrics.json") or {}).items():
            metrics.setdefault(name, []).append(math.nan if value is None else value)

    def total(ending: str) -> float:
        rounds = [f"training.round_{n}.{ending}" for n in trained["round"]]
        return sum(metrics[name][0] for name in rounds)

    ids = [row_id for folder in trained["folder"] for row_id in records.read(folder / "rows.parquet")["id"]]
    return {
        "response tokens": total("response_tokens"),
        "rows": total("rows"),
        "unique rows": len(set(ids)),
        "steps": total("steps"),
        "oracle calls": sum(metrics.get("oracle.calls", [0])),
        "student tokens": sum(metrics.get("judging.student_tokens", [0])),
        "USD": sum(metrics.get("oracle.usd", [0])),
    }


def outcomes(evaluated: pd.DataFrame, a: str, b: str) -> pd.DataFrame:
    """Count the rows of each part by outcome: "<a> alone" right, both right, both wrong, "<b> alone".

    Scores that are neither 0 nor 1 have the outcomes "<a> higher", equal and "<b> higher". Rows are paired by
    seed and id, over the seeds that both arms have; parts in which `a` gains most come first. Empty where no
    row has a score in both.
    """
    pairs = paired(evaluated, a, b)
    if not len(pairs):
        return pd.DataFrame()
    if pairs[[a, b]].isin([0, 1]).all(axis=None):
        names = {(1, 0): f"{a} alone", (1, 1): "both right", (0, 0): "both wrong", (0, 1): f"{b} alone"}
        ended = pairs[[a, b]].apply(tuple, axis=1).map(names)
    else:
        names = {1: f"{a} higher", 0: "equal", -1: f"{b} higher"}
        ended = np.sign(pairs[a] - pairs[b]).map(names)
    first, *_, last = names.values()
    table = pd.crosstab(pairs["part"], ended).reindex(columns=list(names.values()), fill_value=0)
    gain = (table[first] - table[last]) / table.sum(axis=1)
    order = gain.sort_values(ascending=False, kind="stable").index
    return table.loc[order].rename_axis(None).rename_axis(None, axis="columns")


def paired(evaluated: pd.DataFrame, a: str, b: str) -> pd.DataFrame:
    """Pair the rows of two arms by seed and id: stratum, part, and the score of each arm under its name."""
    sides = [evaluated[evaluated["arm"] == arm].set_index(["seed", "id"]) for arm in (a, b)]
    mine = sides[0][["stratum", "part", "score"]].rename(columns={"score": a})
    return mine.join(sides[1]["score"].rename(b), how="inner") if a != b else mine.iloc[:0].assign(**{b: 0.0})


def differing(evaluated: pd.DataFrame, texts: pd.DataFrame, a: str, b: str, n: int = 10, seed: int = 0):
    """Draw `n` rows on which the scores of two arms differ, of the first seed that both have.

    `texts` are replies of the embedded world; rows that they do not hold are shown by id and scores.
    """
    pairs = paired(evaluated, a, b).reset_index("seed")
    pairs = pairs[(pairs["seed"] == pairs["seed"].min()) & (pairs[a] != pairs[b])]
    table = pairs[["part"]].assign(won=np.where(pairs[a] > pairs[b], a, b))
    if len(texts) and table.index.isin(texts["id"]).all():
        first = texts[texts["seed"] == pairs["seed"].min()]
        sides = [first[first["arm"] == arm].set_index("id").loc[table.index] for arm in (a, b)]
        about = sides[0][["family", "level", "instruction", "answer"]]
        table = about.assign(**{a: sides[0]["response"], b: sides[1]["response"], "won": table["won"]})
    else:
        table = table.assign(**{name: pairs[name].map("{:g}".format) for name in (a, b)})
    return table.sample(min(n, len(table)), random_state=seed).reset_index()


def mfds(run: Path, arm: str, seed: int) -> dict[str, list[float]]:
    """The MFD of every row that was judged in both orders, by the round that judged it: {"round 1": […], …}."""
    table = stages(run)
    mine = table[
        (table["notebook"] == "tapir/2_oracle_judging") & (table["arm"] == arm) & (table["seed"] == seed)
    ]
    found = {
        f"round {row.round}": [
            value for value in records.read(row.folder / "rows.parquet")["mfd"] if value is not None
        ]
        for row in mine.itertuples()
    }
    return {name: values for name, values in found.items() if values}


def by_part(evaluated: pd.DataFrame, a: str, b: str) -> dict[str, tuple[float, float, float]]:
    """Compute the lead of arm `a` over `b` in every part, with its 95 % interval, the largest first.

    Rows are paired by seed and id, and resampled within strata. Empty where there is one part alone.
    """
    pairs = paired(evaluated, a, b)
    lead = (
        pairs[["stratum"]].assign(metric=pairs["part"], weight=1.0, score=pairs[a] - pairs[b]).reset_index()
    )
    if lead["metric"].nunique() < 2:
        return {}
    means, bounds = statistics.means(lead), statistics.bootstrap_interval(lead)
    return {name: (means[name], *bounds[name]) for name in sorted(means, key=means.get, reverse=True)}


def judged_by(run: Path, arms: list[str], first: str, seed: int) -> dict[str, list[float]]:
    """Return the MFDs by round of the arm `first`, or else of the first arm that judged any."""
    each = (mfds(run, arm, seed) for arm in dict.fromkeys([first, *arms]))
    return next((found for found in each if found), {})


def checked(run: Path, answers: pd.DataFrame, candidate: str, warm_up: str, seed: int) -> pd.DataFrame | None:
    """Tabulate MFD beside the failure rate of the warm-up's student (see `calibration.by_cell`).

    None outside the embedded world, without the arm `warm_up`, and where `candidate` judged nothing.
    """
    judged = places(run, "tapir/2_oracle_judging", round=1).get((candidate, seed))
    fresh = answers[(answers["arm"] == warm_up) & (answers["seed"] == seed)]
    known = judged and len(fresh) and embedded(run)
    return calibration.by_cell(judged, fresh) if known else None
