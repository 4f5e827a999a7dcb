"""Compare the arms of a run: what each cost, what it was trained on, and the rows on which two differ."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from datasets import Dataset, concatenate_datasets

from lib import files, records
from lib.evaluation import registry
from lib.gym.oracle import ExactOracle, mfd_by_cell
from lib.report import scores, tables
from lib.runner import folders
from lib.tapir import tasks as taxonomies

SELECTION, JUDGING, REFINEMENT, TRAINING = (
    f"tapir/{name}" for name in ("1_data_selection", "2_oracle_judging", "3_refinement", "4_training")
)
RESPONSE_ENDS = ("gym.cut", "gym.no_answer", "gym.cells_between")
TEXTS = ["family", "level", "instruction", "answer"]  # of the embedded world's replies
GYM_TASKS = "params/tasks/gym.yaml"  # where an embedded run judged nothing
EQUAL = 0.02  # by which response tokens may differ in an equal budget


def account(summary: dict, budget: pd.DataFrame) -> pd.DataFrame:
    """Tabulate the arms: headline score with its interval, number of seeds, and cost (a `budget`)."""
    headline = scores.scores(summary).iloc[:, :1].reindex(list(summary["arms"])).fillna("")
    seeds = pd.Series({arm: len(result["seeds"]) for arm, result in summary["arms"].items()}, name="seeds")
    return headline.join(seeds).join(budget)


def other_sets(summary: dict) -> pd.DataFrame:
    """Tabulate the arms' other metrics of the embedded world, in percent; empty without any."""
    names = [*registry.benchmark("evaluation/gym").metrics, *RESPONSE_ENDS]
    table = pd.DataFrame({name.removeprefix("gym."): scores.by_arm(summary, name) for name in names})
    texts = table.map(lambda values: scores.show("gym.accuracy", values), na_action="ignore")
    return texts.astype(object).fillna("")


# --- scored rows


def rows(run: Path, metric: str | None) -> pd.DataFrame:
    """Read the scored rows of a metric: arm, seed, id, stratum, part, score; empty without any.

    The part groups rows in figures: a family of the embedded world, elsewhere the stratum.
    """
    latest = {}  # by arm and seed: of several rounds the last
    for stage in tables.stages(run).sort_values("round", kind="stable").itertuples():
        if (stage.folder / "scores.parquet").is_file():
            table = pd.read_parquet(stage.folder / "scores.parquet")
            if len(table := table[table["metric"] == metric]):
                latest[stage.arm, stage.seed] = table.assign(arm=stage.arm, seed=stage.seed)
    if not latest:
        return pd.DataFrame(columns=["arm", "seed", "id", "stratum", "part", "score"])
    each = pd.concat(latest.values(), ignore_index=True).dropna(subset=["score"])
    level = r" \d+$" if metric.startswith("gym.") else "$"
    return each.assign(part=each["stratum"].str.replace(level, "", regex=True))


def by_stratum(evaluated: pd.DataFrame, arms: list[str]) -> dict[str, dict[str, float]]:
    """Average the scores of these arms per stratum; empty if there is one stratum alone."""
    table = evaluated.pivot_table("score", "stratum", "arm").reindex(columns=arms).dropna()
    return table.to_dict("index") if len(table) > 1 else {}


def paired(evaluated: pd.DataFrame, a: str, b: str) -> pd.DataFrame:
    """Pair the rows of two arms: seed, id, part, and the score of each arm under its name."""
    if a == b:  # a run of one arm
        return pd.DataFrame(columns=["seed", "id", "part", a])
    first, second = (evaluated[evaluated["arm"] == arm].rename(columns={"score": arm}) for arm in (a, b))
    return first[["seed", "id", "part", a]].merge(second[["seed", "id", b]], on=["seed", "id"])


def outcomes(evaluated: pd.DataFrame, a: str, b: str) -> pd.DataFrame:
    """Count the rows of each part by outcome: "<a> alone" right, both right, both wrong, "<b> alone".

    Scores that are neither 0 nor 1 have the outcomes "<a> higher", equal and "<b> higher". Parts in which `a`
    gains most come first. Empty if no row has a score in both.
    """
    pairs = paired(evaluated, a, b)
    if not len(pairs):
        return pd.DataFrame()
    sign = np.sign(pairs[a] - pairs[b])
    names = {1: f"{a} higher", 0: "equal", -1: f"{b} higher"}
    if pairs[[a, b]].isin([0, 1]).all(axis=None):
        sign = sign.where(sign != 0, pairs[a] / 2)  # a half: both are right
        names = {1: f"{a} alone", 0.5: "both right", 0: "both wrong", -1: f"{b} alone"}
    columns = list(names.values())
    table = pd.crosstab(pairs["part"], sign.map(names)).reindex(columns=columns, fill_value=0)
    gain = (table[columns[0]] - table[columns[-1]]) / table.sum(axis=1)
    order = gain.sort_values(ascending=False, kind="stable").index
    return table.loc[order].rename_axis(None).rename_axis(None, axis="columns")


def disagreements(evaluated: pd.DataFrame, replies: pd.DataFrame, a: str, b: str, n: int = 10, seed: int = 0):
    """Draw `n` rows on which the scores of two arms differ, of the first seed that both have.

    Rows that the `replies` of the embedded world do not hold are shown by id and scores.
    """
    pairs = paired(evaluated, a, b)
    pairs = pairs[(pairs["seed"] == pairs["seed"].min()) & (pairs[a] != pairs[b])]
    drawn = pairs.sample(min(n, len(pairs)), random_state=seed)
    drawn = drawn.assign(won=np.where(drawn[a] > drawn[b], a, b))
    if not len(drawn) or not drawn["id"].isin(replies.get("id", ())).all():
        return drawn[["id", "part", "won"]].join(drawn[[a, b]].map("{:g}".format))
    first, second = (replies[replies["arm"] == arm].rename(columns={"response": arm}) for arm in (a, b))
    texts = first[["seed", "id", *TEXTS, a]].merge(second[["seed", "id", b]], on=["seed", "id"])
    return drawn[["seed", "id", "won"]].merge(texts)[["id", *TEXTS, a, b, "won"]]


def replies(run: Path) -> pd.DataFrame:
    """Read all replies of the embedded world's evaluation; empty without any."""
    places = tables.places(run, "evaluation/gym")
    parts = [pd.read_parquet(at / "replies.parquet").assign(arm=a, seed=s) for (a, s), at in places.items()]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["arm", "seed", "id"])


# --- what the arms were trained on


def losses(run: Path) -> dict[str, tuple[list[float], list[float]]]:
    """Return steps and training losses by arm, over all rounds after the warm-up, of the first seed."""
    lines: dict[str, tuple[list[float], list[float]]] = {}
    table = tables.stages(run, TRAINING, first_round=1)
    for stage in table[table["seed"] == table["seed"].min()].itertuples():
        steps, values = lines.setdefault(stage.arm, ([], []))
        before = steps[-1] if steps else 0
        for entry in files.read_json(stage.folder / "losses.json"):
            steps.append(before + entry["step"])
            values.append(entry["loss"])
    return lines


def mixes(run: Path, arms: list[str], seed: int) -> dict[str, dict[str, float]]:
    """Compute the task mix of the corpus, of the rows of each arm after the warm-up, and the target.

    Rows without a known task are left out. Empty if nothing was trained, or the run used no taxonomy.
    """
    table = tables.stages(run, TRAINING, first_round=1)
    table = table[(table["seed"] == seed) & table["arm"].isin(arms)]
    corpora = tables.places(run, SELECTION)
    sets = {"corpus": [corpora[arm, seed] for arm in table["arm"] if (arm, seed) in corpora][:1]}
    sets |= {arm: list(stages["folder"]) for arm, stages in table.groupby("arm", sort=False)}
    named = (tables.parameter(run, notebook, "tasks") for notebook in (REFINEMENT, JUDGING))
    path = next(filter(None, named), GYM_TASKS if tables.is_embedded(run) else None)
    taxonomy = taxonomies.load_taxonomy(path) if path else {}
    mixes = {}
    for name, stages in sets.items():
        rows = [records.read(folder / "rows.parquet") for folder in stages]
        rows = _labelled(run, concatenate_datasets(rows)) if rows else records.build([])
        if labelled := [i for i, task in enumerate(rows["task"]) if task in taxonomy]:
            mixes[name] = taxonomies.mix(rows.select(labelled), taxonomy)
    return mixes | {"target": {task: entry.share for task, entry in taxonomy.items()}} if mixes else {}


def _labelled(run: Path, rows: Dataset) -> Dataset:
    """Label rows with the tasks that the run knows: of all rows, or of those it judged or expanded."""
    if tables.is_embedded(run):
        return ExactOracle().classify(records.update(rows, task=[None] * len(rows)))
    tasks = {}
    for notebook, file in ((JUDGING, "rows.parquet"), (REFINEMENT, "pool.parquet")):
        for folder in tables.places(run, notebook).values():
            labelled = pq.read_table(folder / file, columns=["id", "task"]).to_pydict()
            tasks |= dict(zip(labelled["id"], labelled["task"], strict=True))
    return records.update(rows, task=[tasks.get(row_id) for row_id in rows["id"]])


def budget(run: Path) -> pd.DataFrame:
    """Tabulate what each arm's training after the warm-up took, as means over seeds; empty without rounds."""
    lines = []
    for (arm, _), stages in tables.stages(run).groupby(["arm", "seed"]):
        trained = stages[(stages["notebook"] == TRAINING) & (stages["round"] > 0)]
        if len(trained):
            others = stages["folder"][~stages["notebook"].str.startswith("evaluation/")]
            lines.append({"arm": arm} | _spent(others, trained))
    return pd.DataFrame(lines).groupby("arm").mean() if lines else pd.DataFrame()


def _spent(stages: pd.Series, trained: pd.DataFrame) -> dict[str, float]:
    metrics = [folders.metrics(folder) for folder in stages]

    def total(name: str) -> float:
        values = [each[name] for each in metrics if name in each]
        return sum(math.nan if value is None else value for value in values)

    rounds = [f"training.round_{number}" for number in trained["round"]]
    drawn = [pd.read_parquet(folder / "rows.parquet", columns=["id"]) for folder in trained["folder"]]
    return {
        "response tokens": sum(total(f"{name}.response_tokens") for name in rounds),
        "rows": sum(total(f"{name}.rows") for name in rounds),
        "unique rows": pd.concat(drawn)["id"].nunique(),
        "steps": sum(total(f"{name}.steps") for name in rounds),
        "oracle calls": total("oracle.calls"),
        "student tokens": total("judging.student_tokens"),
        "USD": total("oracle.usd"),
    }


def describe_budget(budget: pd.DataFrame, arms: list[str]) -> str:
    """Say whether these arms were trained on as many response tokens, within 2 %, by those with rounds."""
    tokens = budget["response tokens"][budget.index.isin(arms)] if len(budget) else budget
    if not len(tokens):
        return "No arm was trained beyond the warm-up."
    if len(tokens) == 1:
        only = f"Only {tokens.index[0]} was trained beyond the warm-up: any training may explain a gain."
        return f"{only} Compare it with an arm of random rows (`alpha: 0`) and as many tokens."
    apart = tokens.max() / tokens.min() - 1
    text = f"The response tokens of the arms that are compared differ by {apart:.1%} at most"
    return f"{text}." if apart <= EQUAL else f"**{text}: this is no comparison at equal budget.**"


def mfds(run: Path, arms: list[str], first: str, seed: int) -> dict[str, pd.Series]:
    """Return {"round 1": MFDs, …} of the arm `first`, or else of the first arm that judged any."""
    table = tables.stages(run, JUDGING)
    for arm in [first, *arms]:
        judged = {}
        for stage in table[(table["arm"] == arm) & (table["seed"] == seed)].itertuples():
            values = pd.read_parquet(stage.folder / "rows.parquet", columns=["mfd"])["mfd"].dropna()
            judged |= {f"round {stage.round}": values} if len(values) else {}
        if judged:
            return judged
    return {}


def mfd_check(run: Path, replies: pd.DataFrame, arm: str, seed: int) -> pd.DataFrame | None:
    """Tabulate MFD beside the failure rate of an arm without rounds (see `mfd_by_cell`).

    None outside the embedded world, without such an arm, and if `arm` judged nothing in round 1.
    """
    table = tables.stages(run, JUDGING)
    judged = table["folder"][(table["round"] == 1) & (table["arm"] == arm) & (table["seed"] == seed)]
    trained = tables.stages(run, TRAINING, first_round=1)["arm"]
    fresh = replies[(replies["seed"] == seed) & ~replies["arm"].isin(trained)]
    fresh = fresh[fresh["arm"] == fresh["arm"].min()]
    is_known = len(judged) and len(fresh) and tables.is_embedded(run)
    return mfd_by_cell(judged.iloc[0], fresh) if is_known else None
