"""Compare the arms of a run: what each cost, what it was trained on, and the rows on which two differ."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
from datasets import Dataset, concatenate_datasets

from lib import files, records
from lib.evaluation import registry
from lib.gym.oracle import ExactOracle, mfd_by_cell
from lib.report import scores, tables
from lib.runner import folders
from lib.tapir import tasks as taxonomies

TRAINING, JUDGING = "tapir/4_training", "tapir/2_oracle_judging"
RESPONSE_ENDS = ("gym.cut", "gym.no_answer", "gym.cells_between")
EQUAL = 0.02  # by which response tokens may differ in an equal budget


def account(summary: dict, budget: pd.DataFrame) -> pd.DataFrame:
    """Tabulate the arms: headline score with its interval, number of seeds, and cost (a `budget`)."""
    name = scores.headline(summary)
    values = scores.by_arm(summary, name) if name else {}
    table = pd.DataFrame({"seeds": {arm: len(result["seeds"]) for arm, result in summary["arms"].items()}})
    if values:
        shown = pd.Series({arm: scores.show(name, score) for arm, score in values.items()})
        table.insert(0, scores.label(name, summary), shown.reindex(table.index).fillna(""))
    return table.join(budget)


def other_sets(summary: dict) -> pd.DataFrame:
    """Tabulate the arms' other metrics of the embedded world, in percent; empty without any."""
    names = [*registry.benchmark("evaluation/gym").metrics, *RESPONSE_ENDS]
    arms = {arm: result for arm, result in summary["arms"].items() if "gym.accuracy" in result["metrics"]}
    each = {arm: {name: scores.score(result, name) for name in names} for arm, result in arms.items()}
    table = pd.DataFrame.from_dict(each, orient="index").rename(
        columns=lambda name: name.removeprefix("gym.")
    )
    return table.map(lambda values: scores.show("gym.accuracy", values) if values else "")


# --- scored rows


def rows(run: Path, metric: str | None) -> pd.DataFrame:
    """Read the scored rows of a metric: arm, seed, id, stratum, part, score; empty without any.

    The part groups rows in figures: a family of the embedded world, elsewhere the stratum.
    """
    each = {}
    for stage in tables.stages(run).sort_values("round", kind="stable").itertuples():
        if (stage.folder / "scores.parquet").is_file():
            table = pd.read_parquet(stage.folder / "scores.parquet")
            if len(table := table[table["metric"] == metric]):
                each[stage.arm, stage.seed] = table.assign(arm=stage.arm, seed=stage.seed)
    if not each:
        return pd.DataFrame(columns=["arm", "seed", "id", "stratum", "part", "score"])
    each = pd.concat(each.values(), ignore_index=True).dropna(subset=["score"])
    level = r" \d+$" if metric.startswith("gym.") else "$"
    return each.assign(part=each["stratum"].str.replace(level, "", regex=True))


def by_stratum(evaluated: pd.DataFrame, arms: list[str]) -> dict[str, dict[str, float]]:
    """Average the scores of these arms per stratum; empty if there is one stratum alone."""
    table = evaluated[evaluated["arm"].isin(arms)]
    table = table.pivot_table(index="stratum", columns="arm", values="score").reindex(columns=arms).dropna()
    return {name: line.to_dict() for name, line in table.iterrows()} if len(table) > 1 else {}


def paired(evaluated: pd.DataFrame, a: str, b: str) -> pd.DataFrame:
    """Pair the rows of two arms by seed and id: stratum, part, and the score of each arm under its name."""
    first, second = (evaluated[evaluated["arm"] == arm].set_index(["seed", "id"]) for arm in (a, b))
    first = first[["stratum", "part", "score"]].rename(columns={"score": a})
    return first.join(second["score"].rename(b), how="inner") if a != b else first.iloc[:0].assign(**{b: 0.0})


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
    pairs = paired(evaluated, a, b).reset_index("seed")
    first = pairs["seed"].min()
    pairs = pairs[(pairs["seed"] == first) & (pairs[a] != pairs[b])]
    table = pairs[["part"]].assign(won=np.where(pairs[a] > pairs[b], a, b))
    if len(replies) and table.index.isin(replies["id"]).all():
        of_seed = replies[replies["seed"] == first]
        texts = {arm: of_seed[of_seed["arm"] == arm].set_index("id").loc[table.index] for arm in (a, b)}
        about = texts[a][["family", "level", "instruction", "answer"]]
        table = about.assign(**{arm: texts[arm]["response"] for arm in (a, b)}, won=table["won"])
    else:
        table = table.assign(**{name: pairs[name].map("{:g}".format) for name in (a, b)})
    return table.sample(min(n, len(table)), random_state=seed).reset_index()


def replies(run: Path, notebook: str = "evaluation/gym") -> pd.DataFrame:
    """Read all replies of the embedded world's evaluation; empty without any."""
    places = tables.places(run, notebook)
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


def mixes(run: Path, arms: list[str], seed: int, tasks: str) -> dict[str, dict[str, float]]:
    """Compute the task mix of the corpus, of the rows of each arm after the warm-up, and the target.

    `tasks` is the taxonomy if the run itself used none. Rows without a known task are left out. Empty if
    nothing was trained.
    """
    table = tables.stages(run, TRAINING, first_round=1)
    table = table[(table["seed"] == seed) & table["arm"].isin(arms)]
    trained = {
        arm: [path / "rows.parquet" for path in stages["folder"]]
        for arm, stages in table.groupby("arm", sort=False)
    }
    corpora = tables.places(run, "tapir/1_data_selection")
    corpus = [corpora[arm, seed] / "rows.parquet" for arm in trained if (arm, seed) in corpora][:1]
    taxonomy = taxonomies.load_taxonomy(tables.parameter(run, "tapir/3_refinement", "tasks") or tasks)
    mixes = {}
    for name, paths in ({"corpus": corpus} | trained).items() if trained else ():
        rows = _labelled(run, concatenate_datasets([records.read(path) for path in paths])) if paths else ()
        labelled = [i for i, task in enumerate(rows["task"]) if task in taxonomy] if len(rows) else []
        if labelled:
            mixes[name] = taxonomies.mix(rows.select(labelled), taxonomy)
    return mixes | {"target": {task: entry.share for task, entry in taxonomy.items()}} if mixes else {}


def _labelled(run: Path, rows: Dataset) -> Dataset:
    """Label rows with the tasks that the run knows: of all rows, or of those it judged or expanded."""
    if tables.is_embedded(run):
        return ExactOracle().classify(records.update(rows, task=[None] * len(rows)))
    tasks = {}
    for notebook, file in ((JUDGING, "rows"), ("tapir/3_refinement", "pool")):
        for folder in tables.places(run, notebook).values():
            rows_of_stage = records.read(folder / f"{file}.parquet")
            tasks |= dict(zip(rows_of_stage["id"], rows_of_stage["task"], strict=True))
    return records.update(rows, task=[tasks.get(row_id) for row_id in rows["id"]])


def budget(run: Path) -> pd.DataFrame:
    """Tabulate what each arm's training after the warm-up took, as means over seeds; empty without rounds."""
    table, lines = tables.stages(run), []
    for (arm, seed), stages in table.groupby(["arm", "seed"]):
        trained = stages[(stages["notebook"] == TRAINING) & (stages["round"] > 0)]
        if len(trained):
            others = stages["folder"][~stages["notebook"].str.startswith("evaluation/")]
            lines.append({"arm": arm, "seed": seed} | _spent(others, trained))
    table = pd.DataFrame(lines, columns=None if lines else ["arm", "seed"])
    return table.drop(columns="seed").groupby("arm").mean()


def _spent(stages: pd.Series, trained: pd.DataFrame) -> dict[str, float]:
    metrics = [folders.metrics(folder) for folder in stages]

    def total(*names: str) -> float:
        values = [each[name] for each in metrics for name in names if name in each]
        return sum(math.nan if value is None else value for value in values)

    rounds = {n: total(*(f"training.round_{i}.{n}" for i in trained["round"])) for n in tables.TRAINED}
    ids = [row_id for folder in trained["folder"] for row_id in records.read(folder / "rows.parquet")["id"]]
    return {
        "response tokens": rounds["response_tokens"],
        "rows": rounds["rows"],
        "unique rows": len(set(ids)),
        "steps": rounds["steps"],
        "oracle calls": total("oracle.calls"),
        "student tokens": total("judging.student_tokens"),
        "USD": total("oracle.usd"),
    }


def describe_budget(budget: pd.DataFrame, arms: list[str]) -> str:
    """Say whether these arms were trained on as many response tokens, within 2 %, by those with rounds."""
    tokens = budget["response tokens"][budget.index.isin(arms)]
    if not len(tokens):
        return "No arm was trained beyond the warm-up."
    apart = tokens.max() / tokens.min() - 1
    text = f"The response tokens of the arms that are compared differ by {apart:.1%} at most"
    return f"{text}." if apart <= EQUAL else f"**{text}: this is no comparison at equal budget.**"


def mfds(run: Path, arms: list[str], first: str, seed: int) -> dict[str, list[float]]:
    """Return {"round 1": MFDs, …} of the arm `first`, or else of the first arm that judged any."""
    table = tables.stages(run, JUDGING)
    for arm in dict.fromkeys([first, *arms]):
        stages = table[(table["arm"] == arm) & (table["seed"] == seed)].itertuples()
        each = {
            f"round {stage.round}": records.read(stage.folder / "rows.parquet")["mfd"] for stage in stages
        }
        read = {name: [value for value in values if value is not None] for name, values in each.items()}
        if judged := {name: values for name, values in read.items() if values}:
            return judged
    return {}


def mfd_check(run: Path, replies: pd.DataFrame, arm: str, warm_up: str, seed: int) -> pd.DataFrame | None:
    """Tabulate MFD beside the failure rate of the warm-up's student (see `mfd_by_cell`).

    None outside the embedded world, without the arm `warm_up`, and if `arm` judged nothing in round 1.
    """
    table = tables.stages(run, JUDGING)
    judged = table["folder"][(table["round"] == 1) & (table["arm"] == arm) & (table["seed"] == seed)]
    fresh = replies[(replies["arm"] == warm_up) & (replies["seed"] == seed)]
    is_known = len(judged) and len(fresh) and tables.is_embedded(run)
    return mfd_by_cell(judged.iloc[0], fresh) if is_known else None
