"""What a report reads: the stages of a run as tables, arms and rounds side by side."""

import json
from pathlib import Path

import pandas as pd
from datasets import Dataset

from lib import records
from lib.errors import UserError
from lib.gym.oracle import ExactOracle
from lib.runner import folders

SCORE = "gym.accuracy"  # what arms are compared by
SURE = 0.05  # p below which a difference is shown
EQUAL = 0.02  # by which response tokens may differ for a budget to be called equal


def summary(run: Path) -> dict:
    """summary.json of a run; raises UserError when there is none yet."""
    found = folders.read_json(run / "summary.json")
    if not found or not found["arms"] or found["status"] == "failed":
        raise UserError(
            f"{folders.short(run)} holds no finished run: python -m lib.run params/{run.name}.yaml, or another study, makes one"
        )
    return found


def main_pair(found: dict, candidate: str = "", baseline: str = "") -> tuple[str, str]:
    """The two arms to look at closely: those named, else those of the first comparison, else the last arm and the first.

    Raises UserError when the run has no arm of that name.
    """
    first = next(iter(found["comparisons"]), "")
    pair = first.split("_vs_") if first else (list(found["arms"])[-1], next(iter(found["arms"])))
    pair = candidate or pair[0], baseline or pair[1]
    if lacking := set(pair) - set(found["arms"]):
        there = ", ".join(found["arms"])
        raise UserError(
            f"the run has no arm {', '.join(sorted(lacking))}; name others in the report's parameters ({there})"
        )
    return pair


def compared(found: dict, names: str = "comparisons") -> list[str]:
    """The arms in the contrasts of a summary, or in its `primary` ones alone; all arms where it has none."""
    inside = {arm for name in found.get(names, ()) for arm in name.split("_vs_")}
    return [arm for arm in found["arms"] if arm in inside or not inside]


def contrasts(found: dict) -> pd.DataFrame:
    """One line a contrast, in points: difference, low, high, p, p_holm (of exploratory ones), and `kind`: primary or exploratory."""
    primary = found.get("primary") or list(found["comparisons"])
    lines = {
        name.replace("_", " "): {
            **{part: 100 * of[SCORE][part] for part in ("difference", "low", "high")},
            **{part: of[SCORE].get(part) for part in ("p", "p_holm")},
            "kind": "primary" if name in primary else "exploratory",
        }
        for name, of in found["comparisons"].items()
    }
    return pd.DataFrame.from_dict(lines, orient="index")


def told(contrast: pd.Series) -> str:
    """A line of `contrasts` in one sentence."""
    low, high = contrast["low"], contrast["high"]
    clear = "above zero" if low > 0 else "below zero" if high < 0 else "no difference shown"
    return f"**{contrast.name}**: {contrast['difference']:+.1f} points [{low:+.1f}, {high:+.1f}], {clear}"


def helped(table: pd.DataFrame) -> str:
    """What was shown to help, what to harm and what neither, of the lines of `contrasts`: by p, corrected where it is."""
    shown = table["p_holm"].fillna(table["p"]).astype(float) < SURE
    parts = {
        "Shown to help": shown & (table["difference"] > 0),
        "Shown to harm": shown & (table["difference"] < 0),
        "No difference shown": ~shown,
    }
    return "\n".join(
        f"- **{name}**: {', '.join(table.index[which]) or 'nothing'}." for name, which in parts.items()
    )


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


def parameter(run: Path, notebook: str, name: str) -> object:
    """What a parameter of a notebook was in the run, in the arm that ran it last."""
    return folders.record(list(places(run, notebook).values())[-1])["parameters"][name]


def stages(run: Path) -> pd.DataFrame:
    """One line a stage: notebook, round, arm, seed, status, seconds and the folder of its files."""
    table = pd.DataFrame(summary(run)["stages"])
    table[["notebook", "round"]] = table["name"].str.split("@", expand=True)
    return table.assign(round=table["round"].astype(int), folder=[run / place for place in table["folder"]])


def places(run: Path, notebook: str, round: int | None = None) -> dict[tuple[str, int], Path]:
    """{(arm, seed): folder} of a notebook, in one round or in each arm's latest."""
    table = stages(run)
    mine = table[(table["notebook"] == notebook) & ((table["round"] == round) if round is not None else True)]
    return {(row.arm, row.seed): row.folder for row in mine.sort_values("round").itertuples()}


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


def embedded(run: Path) -> bool:
    """Whether the corpus is the embedded world's, where every row's task and true answer are known."""
    return parameter(run, "tapir/1_data_selection", "source") == "gym"


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
            metrics.setdefault(name, []).append(value or 0)

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
        "US$": sum(metrics.get("oracle.usd", [0])),
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
