"""Score a model by AlpacaEval 2: a judge compares its outputs with a reference's.

A verdict has `preference`, 1 for the reference to 2 for the model, null where there is none, `judge`, and
`raw_completion`, the reply. What has no verdict stays in the table, in its place, and is counted.

The length-controlled win rate (Dubois et al., 2024, arXiv 2404.04475) is that at equal lengths. Its
regression is the `alpaca_eval` package's. Its interval is ours: the package's `lc_standard_error` is the
spread of fitted preferences, far too small for one.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
import pandas as pd
from huggingface_hub import hf_hub_download
from joblib import Parallel, delayed

from lib import files, paths
from lib.errors import UserError, named
from lib.evaluation import annotators, shared, statistics
from lib.models.backend import Backend
from lib.models.server import ServerBackend
from lib.models.types import SamplingParams

COLUMNS = ["instruction", "output", "dataset", "generator"]
REPOSITORY, OUTPUTS = "tatsu-lab/alpaca_eval", "alpaca_eval_gpt4_baseline.json"  # on the hub
FEATURES = "df_gamed.csv"  # there, too: each instruction's difficulty, two verbose copies of the reference
REFERENCE, INSTRUCTIONS = "gpt4_1106_preview", 805  # that the difficulties were fitted with
FEWEST = 50  # outputs that a regression needs
LC_RESAMPLES = 150  # fits for the interval of the length-controlled win rate, of a tenth of a second each
TIE = 1.5
PAIR = {"instruction": str, "output_1": str, "output_2": str}  # fields that say what a verdict is about


class LengthControl(NamedTuple):
    """The length-controlled win rate and its interval in percent, or the reason why there is none.

    `by_position` is the package's own, where rows are missing: it looks difficulties up by row number.
    """

    reason: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    by_position: float | None = None

    def __str__(self) -> str:
        return "none" if self.value is None else f"{self.value:.2f} % [{self.low:.2f}, {self.high:.2f}]"


def outputs(source: str, parameter: str) -> list[dict]:
    """Load a model's outputs: {"instruction", "output", "dataset", "generator"}.

    An empty source means those of GPT-4 Turbo on the hub. `parameter` names the source in errors.
    """
    source = source or hf_hub_download(REPOSITORY, OUTPUTS, repo_type="dataset")
    defaults = {"dataset": "all", "generator": Path(source).name.partition(".")[0]}
    rows = shared.load_records(source, parameter, "instruction", instruction=str, output=str)
    rows = [row | {name: str(row.get(name) or defaults[name]) for name in defaults} for row in rows]
    if len(models := {row["generator"] for row in rows}) > 1:
        raise UserError(f"{parameter}={source}: it is of {named(models)}. Keep one model's outputs.")
    return [{column: row[column] for column in COLUMNS} for row in rows]


def respond(
    stage, prompts: list[dict], path: object, student: Backend, generator: str, params: SamplingParams
) -> tuple[list[dict], str]:
    """Generate a student's outputs, its batches in a folder of their own, and describe how it was asked."""
    folder = stage.work / generator
    folder.mkdir(exist_ok=True)
    options = {"folder": folder, "report": stage.report_progress}
    texts, ended = shared.responses([row["instruction"] for row in prompts], student, params, **options)
    rows = [row | {"output": texts[row["instruction"]].strip(), "generator": generator} for row in prompts]
    described = shared.describe_sampling(path, stage.parameters, len(prompts), *ended)
    return [{column: row[column] for column in COLUMNS} for row in rows], described


def pair(references: list[dict], outputs: list[dict]) -> pd.DataFrame:
    """Pair the references' outputs, `output_1`, with a model's, `output_2`, null where missing.

    The index is the instruction's place in the evaluation set. Raises UserError for an output to an
    instruction outside it.
    """
    texts = {row["instruction"]: row["output"] for row in outputs}
    shared.check_known(texts, (row["instruction"] for row in references), "model_outputs")
    table = pd.DataFrame(references).rename(columns={"output": "output_1", "generator": "generator_1"})
    return table.assign(output_2=table["instruction"].map(texts), generator_2=outputs[0]["generator"])


def recorded(pairs: pd.DataFrame, annotator: str, source: str) -> pd.DataFrame:
    """Add recorded verdicts, read again from their raw replies.

    A record without a raw reply keeps its preference, if that is one. Raises UserError when a record is of
    other outputs or another annotator.
    """
    rows = shared.load_records(source, "annotations", "instruction", **PAIR)
    columns = [*PAIR, "annotator", "judge", "preference", "raw_completion"]
    stored = pd.DataFrame(rows).reindex(columns=columns).astype(object)
    stored = stored[stored.pop("annotator").fillna(annotator) == annotator]
    verdicts = pairs.merge(stored, "left", on=list(PAIR), indicator=True)
    if others := len(rows) - (verdicts.pop("_merge") == "both").sum():
        raise UserError(
            f"annotations={source}: {others:,} of its {len(rows):,} records are of other outputs or another "
            "annotator. Name the annotator, model_outputs and reference_from that belong to them."
        )
    verdicts["raw_completion"] = verdicts["raw_completion"].replace("", None)
    stated = verdicts["preference"].astype(float).replace(0, TIE)  # older files have 0, and -1 for none
    replies = verdicts["raw_completion"].dropna()
    read = annotators.read(verdicts.loc[replies.index], annotator, replies).reindex(verdicts.index)
    judge = annotators.settings(annotator)["model_name"]
    preference = read.where(verdicts["raw_completion"].notna(), stated.where(stated.between(1, 2)))
    return verdicts.assign(preference=preference, judge=verdicts["judge"].fillna(judge))


def judge_prompt(pairs: pd.DataFrame, annotator: str) -> dict[str, str]:
    """Show what a judge is asked about the first pair, by role; for `exact` the published judge."""
    name = annotators.PUBLISHED if annotator == "exact" else annotator
    [messages] = annotators.prompts(pairs.dropna(subset=["output_2"]).head(1), name)
    return {message["role"]: message["content"] for message in messages}


def to_judge(pairs: pd.DataFrame) -> pd.DataFrame:
    """Select the pairs that a judge is asked about: those of two outputs that differ."""
    return pairs[pairs["output_2"].notna() & (pairs["output_1"] != pairs["output_2"])]


def ask(
    pairs: pd.DataFrame, annotator: str, endpoint: ServerBackend, report: Callable[[int], None] | None = None
) -> pd.DataFrame:
    """Ask a judge for the verdicts, twice where a reply cannot be read; equal outputs are a tie."""
    shown = to_judge(pairs)
    replies = annotators.ask(shown, annotator, endpoint, report)
    preference = annotators.read(shown, annotator, replies).reindex(pairs.index)
    preference = preference.mask(pairs["output_1"] == pairs["output_2"], TIE)
    return pairs.assign(preference=preference, judge=endpoint.name, raw_completion=replies)


def tally(verdicts: pd.DataFrame, limit: int = 1) -> dict[str, int]:
    """Count the verdicts on outputs, as `shared.tally` does.

    `limit` is the annotator's: with one token every reply ends there, by design.
    """
    judged = verdicts.dropna(subset=["output_2"])
    raw = judged["raw_completion"]
    finish = raw.map(lambda reply: reply.get("finish_reason") if isinstance(reply, dict) else None)
    return shared.tally(judged["preference"], raw, (finish == "length") & (limit > 1))


def scores(verdicts: pd.DataFrame) -> pd.DataFrame:
    """Compute win rates in percent, in the long form of `statistics`."""
    wins = 100 * (verdicts["preference"] - 1)
    columns = {"metric": "alpaca_eval.win_rate", "stratum": "all", "weight": 1.0}
    return pd.DataFrame(columns | {"id": verdicts["instruction"], "score": wins})


def discrete_win_rate(verdicts: pd.DataFrame) -> float:
    """Compute the share of verdicts for the model, in percent; a tie is half of one."""
    read = verdicts["preference"].dropna()
    return float(100 * ((read > TIE).sum() + (read == TIE).sum() / 2) / len(read))


def why_no_lc(pairs: pd.DataFrame, annotator: str, judge: str) -> str:
    """Say why there is no length-controlled win rate; empty where there is one."""
    conditions = (
        ("annotator", annotator, annotators.PUBLISHED),
        ("judge", judge, annotators.settings(annotators.PUBLISHED)["model_name"]),
        ("reference", pairs["generator_1"].iloc[0], REFERENCE),
        ("number of instructions", len(pairs), INSTRUCTIONS),
    )
    for name, value, fitted in conditions:
        if value != fitted:
            return f"its difficulties were fitted with the {name} {fitted}, not {value}"
    if pairs["generator_2"].iloc[0] == REFERENCE and len(to_judge(pairs)):
        return f"the outputs name {REFERENCE} as their generator, but differ from its outputs"
    outputs = pairs["output_2"].count()
    return f"a regression needs {FEWEST} outputs or more, not {outputs}" if outputs < FEWEST else ""


def lc_features(source: str) -> str:
    """Return the path of the difficulties, fetched from the hub where none is named."""
    if source:
        return str(paths.local(source))
    return hf_hub_download(REPOSITORY, FEATURES, repo_type="dataset")


def lc_win_rate(verdicts: pd.DataFrame, features: str) -> float:
    """Compute the length-controlled win rate in percent.

    The verdicts' index is the instruction's place in the evaluation set, so that some may be missing.
    """
    with annotators.quiet():
        from alpaca_eval.metrics import get_length_controlled_winrate, glm_winrate

        # the package fetches the features from the hub at each fit
        with mock.patch.object(glm_winrate, "hf_hub_download", lambda **file: features):
            options = {"save_weights_dir": None, "is_add_glm_preference_inplace": False}
            return get_length_controlled_winrate(verdicts, **options)["length_controlled_winrate"]


def length_control(verdicts: pd.DataFrame, annotator: str, features: str) -> LengthControl:
    """Compute the length-controlled win rate where the conditions for one are met."""
    judged = verdicts[verdicts["output_2"].notna()]
    reason = why_no_lc(verdicts, annotator, ", ".join(sorted(set(judged["judge"]))))
    if reason:
        return LengthControl(reason)
    path = lc_features(features)
    whole = len(judged) == len(verdicts)
    by_position = None if whole else lc_win_rate(judged.reset_index(drop=True), path)
    return LengthControl("", lc_win_rate(judged, path), *_lc_interval(judged, path), by_position)


def _lc_interval(verdicts: pd.DataFrame, features: str) -> tuple[float, float]:
    """Compute its 95 % interval in percent, by a fit to each resample of instructions."""
    rng = np.random.default_rng(0)
    draws = [rng.integers(len(verdicts), size=len(verdicts)) for _ in range(LC_RESAMPLES)]
    needed = verdicts[["preference", "output_1", "output_2", "generator_1", "generator_2"]]
    jobs = (delayed(lc_win_rate)(needed.iloc[draw], features) for draw in draws)
    fits = Parallel(n_jobs=-1, initializer=files.die_with_parent, initargs=(os.getpid(),))(jobs)
    return tuple(np.percentile(fits, statistics.LEVEL).tolist())


def around(name: str, lc: float, win_rate: float, length: float, n: int = 4) -> pd.DataFrame:
    """Tabulate the `n` published models above and below a length-controlled win rate."""
    published = f"leaderboards/data_AlpacaEval_2/{annotators.PUBLISHED}_leaderboard.csv"
    columns = ["length_controlled_winrate", "win_rate", "avg_length"]
    table = pd.read_csv(annotators.folder().parent / published, index_col=0)[columns]
    table.loc[f"→ {name}, here"] = [lc, win_rate, length]
    table = table.sort_values(columns[0], ascending=False, kind="stable")
    rank = table.index.get_loc(f"→ {name}, here")
    return table.iloc[max(0, rank - n) : rank + n + 1]


def write(verdicts: pd.DataFrame, outputs: list[dict], annotator: str, folder: Path) -> None:
    """Write model_outputs.json and annotations.json, which can be given back."""
    table = verdicts.dropna(subset=["output_2"]).assign(annotator=annotator)
    annotations = json.loads(table.to_json(orient="records", double_precision=15))
    files.write_json(folder / "model_outputs.json", outputs)
    files.write_json(folder / "annotations.json", annotations)
