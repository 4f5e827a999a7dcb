"""AlpacaEval 2: a model's outputs beside a reference's, the verdicts on them, and how many of them could be read.

Prompts, order of the two outputs, reading and win rate are the `alpaca_eval` package's. What has no verdict stays in the table,
in its place, and is counted.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from lib.errors import UserError, named
from lib.evaluation import annotators, recordings, shared
from lib.models import prices
from lib.models.batches import Ended
from lib.models.chat import Endpoint
from lib.oracle import estimate

REPOSITORY, OUTPUTS = "tatsu-lab/alpaca_eval", "alpaca_eval_gpt4_baseline.json"  # on the hub
TIE, NONE = 0, -1  # preferences of older files, for what is 1.5 now, and for no verdict


def outputs(source: str, name: str) -> list[dict]:
    """A model's outputs: {"instruction", "output", "dataset", "generator"}; an empty source means those of GPT-4 Turbo on the hub.

    Raises UserError naming the parameter (`name`) and the record that is none, or answers an instruction again, and for several
    generators.
    """
    source = source or recordings.hub_file(REPOSITORY, OUTPUTS, name)
    found = recordings.listed(source, name, "instruction", instruction=str, output=str)
    stem = Path(source).name.partition(".")[0]
    rows = [
        {
            "instruction": row["instruction"],
            "output": row["output"],
            "dataset": str(row.get("dataset") or "all"),
            "generator": str(row.get("generator") or stem),
        }
        for row in found
    ]
    if len(names := sorted({row["generator"] for row in rows})) > 1:
        raise UserError(f"{name}: {source} holds outputs of {named(names)}: keep one model's")
    return rows


def respond(asked: list[dict], student, generator: str, **how) -> tuple[list[dict], Ended]:
    """A student's outputs to the instructions, and how they ended; `how` goes to `student.answer`."""
    texts, ended = shared.responses([row["instruction"] for row in asked], student, **how)
    return [
        {
            "instruction": row["instruction"],
            "output": text.strip(),
            "dataset": row["dataset"],
            "generator": generator,
        }
        for row, text in zip(asked, texts, strict=True)
    ], ended


def pair(references: list[dict], answered: list[dict]) -> pd.DataFrame:
    """The references' outputs (`output_1`) beside a model's (`output_2`, null where it has none), a line an instruction.

    The index is the instruction's place in the evaluation set. Raises UserError for an output to an instruction that the
    references lack, and for a model that goes by the reference's name.
    """
    theirs = {row["instruction"]: row["output"] for row in answered}
    _check_known(theirs, references, "outputs answer")
    table = pd.DataFrame(references)[["instruction", "dataset", "output", "generator"]]
    table = table.rename(columns={"output": "output_1", "generator": "generator_1"}).assign(
        output_2=[theirs.get(row["instruction"]) for row in references], generator_2=answered[0]["generator"]
    )
    other = _answered(table)["output_1"] != _answered(table)["output_2"]
    if other.any() and (table["generator_1"] == table["generator_2"]).any():
        raise UserError(
            f"model_outputs and reference_outputs are both of {named([answered[0]['generator']])}, but differ: correct `generator` in one of them"
        )
    return table


# Verdicts: `preference`, 1 for the reference to 2 for the model, null where there is none; `judge`; `raw_completion`, the reply


def recorded(pairs: pd.DataFrame, annotator: str, source: str) -> pd.DataFrame:
    """The pairs with recorded verdicts, read again from their raw replies; a record without one keeps its preference.

    Raises UserError when a record is of other outputs or another annotator, or says something else than its raw reply.
    """
    rows = recordings.listed(source, "annotations", "instruction", instruction=str)
    found = {row["instruction"]: row for row in rows}
    _check_known(found, pairs.to_dict("records"), "annotations are of")
    judged = _answered(pairs)
    judged = judged[judged["instruction"].isin(found)]
    for line in judged.itertuples():
        _check_record(found[line.instruction], line, annotator, f"annotations: {source}")
    raw = {text: row["raw_completion"] for text, row in found.items() if row.get("raw_completion")}
    read = annotators.annotate(judged[judged["instruction"].isin(raw)], annotator, annotators.replayed(raw))
    told = judged["instruction"].map(lambda text: _preference(found[text])).astype(float)
    said = read["preference"].astype(float)
    known = told.reindex(said.index)
    if len(other := judged.loc[said.index][known.notna() & ~((known - said).abs() <= 1e-6)]):
        raise UserError(
            f"annotations: {source} says another preference than its raw reply in {len(other):,} records, the first: "
            f"{other['instruction'].iloc[0]!r:.80}"
        )
    asked = annotators.model(annotator)
    return pairs.assign(
        preference=said.combine_first(told[~told.index.isin(said.index)]).reindex(pairs.index).astype(float),
        judge=pairs["instruction"].map(lambda text: str(found.get(text, {}).get("judge") or asked)),
        raw_completion=pairs["instruction"].map(raw),
    )


def ask(
    pairs: pd.DataFrame, annotator: str, endpoint: Endpoint, report: Callable[[int], None]
) -> pd.DataFrame:
    """The pairs with the verdicts of a judge. What can't be read is asked for once more, what got no reply when the stage runs again."""
    replies: dict[str, dict | None] = {}
    open_, found = _answered(pairs), pd.Series(dtype=float)
    for attempt in (1, 2):
        complete = annotators.asked(endpoint, attempt, report, replies)
        told = annotators.annotate(open_, annotator, complete)["preference"]
        found = told.combine_first(found)
        open_ = open_[told.isna() & open_["instruction"].map(replies).notna()]
    return pairs.assign(
        preference=found.reindex(pairs.index),
        judge=endpoint.model,
        raw_completion=pairs["instruction"].map(replies),
    )


def expected(pairs: pd.DataFrame, annotator: str, endpoint: Endpoint) -> str:
    """What asking a judge about the pairs will take, as markdown."""
    asked = _answered(pairs)
    asked = asked[asked["output_1"] != asked["output_2"]]
    size = len(annotators.template(annotator))
    size += sum(asked[name].str.len().mean() for name in ("instruction", "output_1", "output_2"))
    tokens = size / prices.CHARACTERS_A_TOKEN, annotators.limit(annotator)
    ahead = estimate.ahead(endpoint, "alpaca_eval", len(asked), *tokens) if len(asked) else None
    return estimate.describe([ahead], endpoint) if ahead else ""


def tally(verdicts: pd.DataFrame, limit: int = 1) -> dict[str, int]:
    """How many outputs have a verdict that was read, and how many not; see `shared.tally`.

    `limit` is the annotator's: with one token every reply ends there, by design.
    """
    told = _answered(verdicts)
    ended = told["raw_completion"].map(
        lambda raw: isinstance(raw, dict) and raw.get("finish_reason") == "length"
    )
    return shared.tally(told["preference"], told["raw_completion"], ended.astype(bool) & (limit > 1))


def scores(verdicts: pd.DataFrame) -> pd.DataFrame:
    """Win rates in percent in the long form that lib.evaluation.statistics reads, null where there is no verdict."""
    wins, name = 100 * (verdicts["preference"] - 1), "alpaca_eval.win_rate"
    columns = {"metric": name, "stratum": "all", "weight": 1.0, "id": verdicts["instruction"], "score": wins}
    return pd.DataFrame(columns)


def win_rate(verdicts: pd.DataFrame) -> dict[str, float]:
    """The package's own figures: win_rate and discrete_win_rate in percent, their counts of wins, losses and ties."""
    with annotators.quiet():
        from alpaca_eval.metrics import get_winrate

        return get_winrate(verdicts.dropna(subset=["preference"]))


def around(name: str, lc: float, win_rate: float, length: float, n: int = 4) -> pd.DataFrame:
    """The published models nearest to this one by length-controlled win rate, `n` above and `n` below, with this one among them."""
    published = f"leaderboards/data_AlpacaEval_2/{annotators.PUBLISHED}_leaderboard.csv"
    columns = ["length_controlled_winrate", "win_rate", "avg_length"]
    table = pd.read_csv(annotators.folder().parent / published, index_col=0)[columns]
    ours = pd.DataFrame([[lc, win_rate, length]], index=[f"→ {name}, here"], columns=columns)
    ordered = pd.concat([ours, table]).sort_values(columns[0], ascending=False, kind="stable")
    place = ordered.index.get_loc(ours.index[0])
    return ordered.iloc[max(0, place - n) : place + n + 1]


def write(verdicts: pd.DataFrame, answered: list[dict], annotator: str, folder: Path) -> None:
    """model_outputs.json and annotations.json as AlpacaEval keeps them, with who judged; those of an annotator of the package can be
    given back as recorded ones."""
    told = _answered(verdicts).assign(annotator=annotator).to_json(orient="records", double_precision=15)
    for name, rows in (("model_outputs", answered), ("annotations", json.loads(told))):
        text = json.dumps(rows, indent=1, ensure_ascii=False)
        (folder / f"{name}.json").write_text(text, encoding="utf-8")


def _answered(pairs: pd.DataFrame) -> pd.DataFrame:
    return pairs[pairs["output_2"].notna()]


def _check_known(found: dict, rows: list[dict], what: str) -> None:
    if strange := found.keys() - {row["instruction"] for row in rows}:
        raise UserError(
            f"{len(strange):,} of {len(found):,} {what} instructions that reference_outputs lacks, such as {min(strange)!r:.80}: "
            "the files are of different evaluation sets"
        )


def _preference(record: dict) -> float | None:
    told = record.get("preference")
    if told is None or told == NONE:
        return None
    if isinstance(told, bool) or not isinstance(told, int | float) or not (told == TIE or 1 <= told <= 2):
        raise UserError(
            f"annotations: the preference is {told!r:.40} of {record['instruction']!r:.80}: it must be a number from 1 to 2"
        )
    return 1.5 if told == TIE else float(told)


def _check_record(told: dict, line, annotator: str, where: str) -> None:
    if (told.get("annotator") or annotator) != annotator:
        raise UserError(f"{where} is of the annotator {told['annotator']!r:.60}: set annotator to that")
    if (told.get("output_1"), told.get("output_2")) != (line.output_1, line.output_2):
        raise UserError(
            f"{where} is of other outputs than model_outputs and reference_outputs, as of {line.instruction!r:.80}"
        )
