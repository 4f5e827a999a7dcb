"""Score a model by AlpacaEval 2: a judge compares its outputs with a reference's.

A verdict has `preference`, 1 for the reference to 2 for the model, null where there is none, `judge`, and
`raw_completion`, the reply. What has no verdict stays in the table, in its place, and is counted.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from huggingface_hub import hf_hub_download

from lib import files
from lib.errors import UserError, named
from lib.evaluation import annotators, shared
from lib.models import catalog
from lib.models.backend import Backend
from lib.models.server import ServerBackend
from lib.models.types import Ended, SamplingParams
from lib.oracle import estimate

COLUMNS = ("instruction", "output", "dataset", "generator")
REPOSITORY, OUTPUTS = "tatsu-lab/alpaca_eval", "alpaca_eval_gpt4_baseline.json"  # on the hub
TIE = 1.5
STORED = ["output_1", "output_2", "annotator", "judge", "preference", "raw_completion"]  # of a verdict


def outputs(source: str, parameter: str) -> list[dict]:
    """Load a model's outputs: {"instruction", "output", "dataset", "generator"}.

    An empty source means those of GPT-4 Turbo on the hub. `parameter` names the source in errors.
    """
    source = source or hf_hub_download(REPOSITORY, OUTPUTS, repo_type="dataset")
    defaults = {"dataset": "all", "generator": Path(source).name.partition(".")[0]}
    rows = shared.load_records(source, parameter, "instruction", instruction=str, output=str)
    rows = [row | {name: str(row.get(name) or defaults[name]) for name in defaults} for row in rows]
    if len(generators := {row["generator"] for row in rows}) > 1:
        raise UserError(f"{parameter}={source}: it holds outputs of {named(generators)}. Keep one model's.")
    return [{column: row[column] for column in COLUMNS} for row in rows]


def respond(
    prompts: list[dict], student: Backend, generator: str, params: SamplingParams, **options
) -> tuple[list[dict], Ended]:
    """Generate a student's outputs, and count how they ended (`shared.responses`)."""
    texts, ended = shared.responses([row["instruction"] for row in prompts], student, params, **options)
    rows = [row | {"output": texts[row["instruction"]].strip(), "generator": generator} for row in prompts]
    return [{column: row[column] for column in COLUMNS} for row in rows], ended


def pair(references: list[dict], outputs: list[dict]) -> pd.DataFrame:
    """Pair the references' outputs, `output_1`, with a model's, `output_2`.

    An `output_2` that is missing is null. The index is the instruction's place in the evaluation set. Raises
    BadInput for an output to an instruction outside it.
    """
    texts = {row["instruction"]: row["output"] for row in outputs}
    shared.check_known(texts, (row["instruction"] for row in references), "model_outputs")
    table = pd.DataFrame(references)[["instruction", "dataset", "output", "generator"]]
    table = table.rename(columns={"output": "output_1", "generator": "generator_1"})
    output_2 = [texts.get(text) for text in table["instruction"]]
    return table.assign(output_2=output_2, generator_2=outputs[0]["generator"])


def recorded(pairs: pd.DataFrame, annotator: str, source: str) -> pd.DataFrame:
    """Add recorded verdicts, read again from their raw replies.

    A record without a raw reply keeps its preference, if that is one. Raises UserError when a record is of
    other outputs or another annotator.
    """
    rows = shared.load_records(source, "annotations", "instruction", instruction=str)
    stored = pd.DataFrame(rows).set_index("instruction").reindex(columns=STORED).astype(object)
    shared.check_known(stored.index, pairs["instruction"], f"annotations={source}")
    judged = _answered(pairs)
    judged = judged[judged["instruction"].isin(stored.index)]
    stored = stored.loc[judged["instruction"]].set_index(judged.index)
    same = stored["annotator"].isna() | (stored["annotator"] == annotator)
    same &= (stored["output_1"] == judged["output_1"]) & (stored["output_2"] == judged["output_2"])
    if not same.all():
        first = judged["instruction"][~same].iloc[0]
        raise UserError(
            f"annotations={source}: the record of {first!r:.80} is of other outputs or another annotator. "
            "Name the annotator, model_outputs and reference_outputs that belong to it."
        )
    replies = stored["raw_completion"][stored["raw_completion"].fillna("").astype(bool)]
    stated = pd.to_numeric(stored["preference"].drop(replies.index), errors="coerce")
    stated = stated.replace(0, TIE)  # as older files have it, and -1 where there is no verdict
    preference = _read(judged, annotator, replies).combine_first(stated.where(stated.between(1, 2)))
    judges = stored["judge"].reindex(pairs.index).fillna(annotators.model(annotator))
    return pairs.assign(preference=preference, judge=judges, raw_completion=replies)


def ask(
    pairs: pd.DataFrame, annotator: str, endpoint: ServerBackend, report: Callable[[int], None]
) -> pd.DataFrame:
    """Ask a judge for the verdicts: twice where a reply cannot be read."""
    judged = _answered(pairs)
    shown = judged[judged["output_1"] != judged["output_2"]]
    replies = annotators.ask(shown, annotator, endpoint, 1, report)
    unread = shown[annotators.read(shown, annotator, replies).isna() & replies.notna()]
    if len(unread):
        replies = annotators.ask(unread, annotator, endpoint, 2, report).combine_first(replies)
    preference = _read(judged, annotator, replies)
    return pairs.assign(preference=preference, judge=endpoint.name, raw_completion=replies)


def _read(judged: pd.DataFrame, annotator: str, replies: pd.Series) -> pd.Series:
    """Read the preferences of the pairs that have replies; equal outputs are a tie."""
    ties = judged.index[judged["output_1"] == judged["output_2"]]
    read = annotators.read(judged.loc[replies.index], annotator, replies)
    return pd.Series(TIE, ties).combine_first(read)


def expected(pairs: pd.DataFrame, annotator: str, endpoint: ServerBackend) -> str:
    """Describe the calls, tokens and money that the judge will take, as markdown."""
    shown = _answered(pairs)
    shown = shown[shown["output_1"] != shown["output_2"]]
    if shown.empty:
        return ""
    prompts = annotators.prompts(shown, annotator)
    tokens = sum(map(catalog.tokens, prompts)) / len(prompts)
    ahead = estimate.ahead(endpoint, "alpaca_eval", len(shown), tokens, annotators.limit(annotator))
    return estimate.describe([ahead], endpoint)


def tally(verdicts: pd.DataFrame, limit: int = 1) -> dict[str, int]:
    """Count the verdicts on outputs, as `shared.tally` does.

    `limit` is the annotator's: with one token every reply ends there, by design.
    """
    judged = _answered(verdicts)
    raw = judged["raw_completion"]
    finish = raw.map(lambda reply: reply.get("finish_reason") if isinstance(reply, dict) else None)
    return shared.tally(judged["preference"], raw, (finish == "length") & (limit > 1))


def scores(verdicts: pd.DataFrame) -> pd.DataFrame:
    """Compute win rates in percent, in the long form of `statistics`."""
    wins = 100 * (verdicts["preference"] - 1)
    columns = {"metric": "alpaca_eval.win_rate", "stratum": "all", "weight": 1.0}
    return pd.DataFrame(columns | {"id": verdicts["instruction"], "score": wins})


def win_rate(verdicts: pd.DataFrame) -> dict[str, float]:
    """Compute the package's own win_rate and discrete_win_rate, in percent."""
    with annotators.quiet():
        from alpaca_eval.metrics import get_winrate

        return get_winrate(verdicts.dropna(subset=["preference"]))


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
    table = _answered(verdicts).assign(annotator=annotator)
    annotations = json.loads(table.to_json(orient="records", double_precision=15))
    for name, rows in (("model_outputs", outputs), ("annotations", annotations)):
        files.write_json(folder / f"{name}.json", rows)


def _answered(pairs: pd.DataFrame) -> pd.DataFrame:
    return pairs[pairs["output_2"].notna()]
