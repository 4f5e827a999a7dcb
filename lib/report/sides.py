"""The arms of a run side by side: what each took, what it was taught, and on what it differs from another."""

import json
import math
from pathlib import Path

import pandas as pd
from datasets import Dataset

from lib import benchmarks, records
from lib.gym.oracle import ExactOracle
from lib.report.tables import SCORE, embedded, places, stages
from lib.runner import folders

EQUAL = 0.02  # by which response tokens may differ for a budget to be called equal


def account(run: Path, found: dict) -> pd.DataFrame:
    """One line an arm: its score in percent with its interval, over how many seeds, and what that took (see `budget`)."""
    scores = {
        arm: {
            "accuracy, %": "{:.1f} [{:.1f}, {:.1f}]".format(
                *(100 * of["metrics"][SCORE + end] for end in ("", "_low", "_high"))
            ),
            "seeds": len(of["seeds"]),
        }
        for arm, of in found["arms"].items()
    }
    return pd.DataFrame.from_dict(scores, orient="index").join(budget(run))


def replies(run: Path, notebook: str = "evaluation/gym") -> pd.DataFrame:
    """The evaluated replies of every arm and seed, one below the other."""
    found = places(run, notebook)
    parts = [pd.read_parquet(f / "replies.parquet").assign(arm=a, seed=s) for (a, s), f in found.items()]
    return pd.concat(parts, ignore_index=True)


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


def labelled(run: Path, rows: Dataset) -> Dataset:
    """The rows whose task the run knows, with it: all of the embedded world's, else those it judged or expanded."""
    if embedded(run):
        return ExactOracle().classify(rows)
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
        for name, value in (folders.read_json(folder / "metrics.json") or {}).items():
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
    """How many instances of each family ended in which way for two arms: "<a> alone" right, both right, both wrong, "<b> alone".

    Instances are paired by seed and id, over the seeds that both arms have; families in which `a` gains most come first.
    """
    ended = {(1, 0): f"{a} alone", (1, 1): "both right", (0, 0): "both wrong", (0, 1): f"{b} alone"}
    sides = [evaluated[evaluated["arm"] == arm].set_index(["seed", "id"]) for arm in (a, b)]
    pairs = sides[0][["family", "credit"]].join(sides[1]["credit"].rename("other"), how="inner")
    named = pairs[["credit", "other"]].apply(tuple, axis=1).map(ended).rename("outcome")
    table = pd.crosstab(pairs["family"], named).reindex(columns=list(ended.values()), fill_value=0)
    gain = (table[f"{a} alone"] - table[f"{b} alone"]) / table.sum(axis=1)
    return table.loc[gain.sort_values(ascending=False, kind="stable").index].rename_axis(None, axis="columns")


def differing(evaluated: pd.DataFrame, a: str, b: str, n: int = 10, seed: int = 0) -> pd.DataFrame:
    """`n` instances drawn at random among those where the credit of two arms differs."""
    first = evaluated["seed"].min()
    sides = [
        evaluated[(evaluated["arm"] == arm) & (evaluated["seed"] == first)].set_index("id") for arm in (a, b)
    ]
    table = sides[0][["family", "level", "instruction", "answer"]].assign(
        **{a: sides[0]["response"], b: sides[1]["response"], "won": sides[0]["credit"] - sides[1]["credit"]}
    )
    table = table[table["won"] != 0].assign(won=lambda t: t["won"].map({1.0: a, -1.0: b}))
    return table.sample(min(n, len(table)), random_state=seed).reset_index(drop=True)


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


def by_family(evaluated: pd.DataFrame, a: str, b: str) -> dict[str, tuple[float, float, float]]:
    """The lead of arm `a` over `b` in every family, with its 95 % interval, rows resampled within levels; paired by seed and id, the largest
    lead first."""
    sides = [evaluated[evaluated["arm"] == arm].set_index(["seed", "id"]) for arm in (a, b)]
    pairs = sides[0].join(sides[1]["credit"].rename("other"), how="inner").reset_index()
    lead = pd.DataFrame(
        {
            "metric": pairs["family"],
            "stratum": pairs["level"].astype(str),
            "weight": 1.0,
            "score": pairs["credit"] - pairs["other"],
        }
    )
    means, bounds = benchmarks.means(lead), benchmarks.bootstrap_interval(lead)
    return {name: (means[name], *bounds[name]) for name in sorted(means, key=means.get, reverse=True)}
