"""What a report says about a run."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from lib.report import arms, facts, scores, tables


@pytest.mark.parametrize(
    "tokens, sentence",
    [
        ({"a": 60_000, "b": 60_900}, "differ by 1.5% at most."),
        ({"a": 60_000, "b": 61_900}, r"^\*\*.*by 3.2% at most: this is no comparison at equal budget\.\*\*$"),
        ({"a": 60_000, "reference": 180_000}, "Only a was trained beyond the warm-up"),
        ({}, "No arm was trained beyond the warm-up."),
    ],
)
def test_an_unequal_budget_is_said_aloud(tokens, sentence):
    budget = pd.DataFrame({"response tokens": pd.Series(tokens, dtype=float)})
    assert re.search(sentence, arms.describe_budget(budget, ["a", "b"]))


def contrast(difference, low, high, **p):
    return {"gym.accuracy": {"difference": difference, "low": low, "high": high, **p}}


FOUND = {
    "arms": {arm: {"metrics": {"gym.accuracy": 0.5}} for arm in ("tapir", "balanced", "random", "reference")},
    "primary": ["tapir_vs_balanced"],
    "comparisons": {
        "tapir_vs_balanced": contrast(0.02, 0.01, 0.03, p=0.001),
        "tapir_vs_random": contrast(-0.05, -0.08, -0.01, p=0.02, p_holm=0.04),
        "balanced_vs_random": contrast(-0.02, -0.03, -0.01, p=0.03, p_holm=0.06),
    },
}


def test_a_conclusion_says_what_it_rests_on_what_it_does_not_show_and_what_is_next():
    arms_found = {arm: result | {"seeds": {"0": {}}} for arm, result in FOUND["arms"].items()}
    lines = scores.conclude(FOUND | {"arms": arms_found}, "tapir", "random", "Equal.").splitlines()
    assert lines == [
        "- **Difference**: tapir against random: -5.0 [-8.0, -1.0] points, below zero (embedded world, accuracy).",
        "- **Budget**: Equal.",
        "- **Seeds**: 1. The interval covers the choice of test rows alone; another training seed may change the sign.",
        "- **Not shown**: real instructions: the embedded world is a toy.",
        "- **Next**: Repeat it with more seeds (`seeds: [0, 1, 2]` in a params file).",
    ]


def test_arms_that_the_run_does_not_compare_have_no_conclusion():
    assert "compares no two arms" in scores.conclude(FOUND, "reference", "random", "")


def test_contrasts_are_in_points_and_exploratory_where_primary_ones_were_named():
    table = scores.contrasts(FOUND)
    assert list(table.index) == ["tapir vs balanced", "tapir vs random", "balanced vs random"]
    assert list(table["difference"]) == [2, -5, -2]
    assert list(table["kind"]) == ["primary", "exploratory", "exploratory"]


def test_the_corrected_p_says_what_helped():
    assert scores.summarise_contrasts(scores.contrasts(FOUND)).splitlines() == [
        "- **Shown to help**: tapir vs balanced.",
        "- **Shown to harm**: tapir vs random.",
        "- **No difference shown**: balanced vs random.",
    ]


def test_the_arms_compared_are_those_of_the_contrasts_or_all():
    assert scores.compared(FOUND) == ["tapir", "balanced", "random"]
    assert scores.compared(FOUND, "primary") == ["tapir", "balanced"]
    assert scores.compared(FOUND | {"comparisons": {}}) == list(FOUND["arms"])


def evaluated(arm: str, seed: int, **scores: float) -> pd.DataFrame:
    """Scored rows of one arm and seed: the part is the first letter of a row's id."""
    return pd.DataFrame(
        {"arm": arm, "seed": seed, "id": name, "stratum": name[0], "part": name[0], "score": float(score)}
        for name, score in scores.items()
    )


def test_outcomes_pair_rows_by_seed_and_id_and_the_greatest_gain_comes_first():
    rows = [
        evaluated("a", 0, x1=0, x2=1, y1=1),
        evaluated("a", 1, x1=1, x2=1, y1=1),
        evaluated("b", 1, y1=0, x2=1, x1=1),  # in another order
        evaluated("b", 0, y1=0, x2=0, x1=1),
        evaluated("a", 2, x1=1, x2=1, y1=0),  # a seed that b lacks
    ]
    table = arms.outcomes(pd.concat(rows), "a", "b")
    assert list(table.index) == ["y", "x"]
    assert table.T.to_dict() == {
        "y": {"a alone": 2, "both right": 0, "both wrong": 0, "b alone": 0},
        "x": {"a alone": 1, "both right": 2, "both wrong": 0, "b alone": 1},
    }


def test_scores_that_are_not_right_or_wrong_are_higher_equal_or_lower():
    rows = pd.concat([evaluated("a", 0, x1=8, x2=5, x3=2), evaluated("b", 0, x1=7, x2=5, x3=9)])
    assert arms.outcomes(rows, "a", "b").T.to_dict() == {"x": {"a higher": 1, "equal": 1, "b higher": 1}}
    drawn = arms.disagreements(rows, pd.DataFrame(), "a", "b")
    lines = {tuple(line) for line in drawn[["id", "won", "a", "b"]].to_numpy()}
    assert lines == {("x1", "a", "8", "7"), ("x3", "b", "2", "9")}


GYM, IFEVAL = "gym.accuracy", "ifeval.prompt_strict"
BOUNDED = {IFEVAL: 0.5, f"{IFEVAL}_low": 0.4, f"{IFEVAL}_high": 0.6}
SCORED = {
    "arms": {"tapir": {"metrics": BOUNDED}, "random": {"metrics": {GYM: 0.3}}},
    "comparisons": {
        "tapir_vs_random": {GYM: {"difference": 0.1, "low": 0, "high": 0.2}},
        "tapir_vs_balanced": {IFEVAL: {"difference": -0.05, "low": -0.1, "high": 0.01}},
    },
}


def test_scores_are_shown_for_the_arms_and_contrasts_that_have_them():
    table = scores.scores(SCORED)
    columns = ["embedded world, accuracy, %", "IFEval, prompts followed, %"]
    assert list(table) == columns and list(table.index) == ["tapir", "random"]
    assert table.to_numpy().tolist() == [["", "50.0 [40.0, 60.0]"], ["30.0", ""]]
    assert scores.differences(SCORED).loc["tapir vs balanced", columns[1]] == "-5.0 [-10.0, +1.0]"
    assert len(scores.scores({"arms": {"a": {"metrics": {}}}})) == 0


def test_the_gain_is_that_of_the_primary_contrasts_in_their_first_metric():
    assert scores.gains(SCORED | {"primary": ["tapir_vs_balanced"]}) == [
        "tapir vs balanced: -5.0 [-10.0, +1.0] points, no difference shown (IFEval, prompts followed)"
    ]


def scored(metrics: dict[str, float], seeds: int = 1) -> dict:
    return {"metrics": metrics, "seeds": {str(seed): {} for seed in range(seeds)}}


EXAM, LOSS = "exam.marks", "held_out.bits_per_byte"


@pytest.mark.parametrize(
    ("arms", "chosen", "metric"),
    [
        ([{GYM: 1, IFEVAL: 1}, {IFEVAL: 0}], None, IFEVAL),
        ([{GYM: 1, IFEVAL: 1}], None, GYM),
        ([{GYM: 1, IFEVAL: 1}], IFEVAL, IFEVAL),
        ([{GYM: 1}, {"mt_bench.score": 1}], None, GYM),
        ([{GYM: 1}], EXAM, GYM),
        ([{GYM: 1}, {GYM: 1, EXAM: 2}], EXAM, EXAM),
        ([{LOSS: 2}], None, LOSS),
        ([{"training.loss": 2}], None, None),
        ([], None, None),
    ],
)
def test_the_headline_is_the_studys_metric_or_the_first_that_all_arms_have(arms, chosen, metric):
    each = {f"arm {i}": scored(metrics) for i, metrics in enumerate(arms)}
    summary = {"arms": each, "comparisons": {}, "metric": chosen}
    assert scores.headline(summary) == metric
    assert bool(scores.missing_metric(summary)) == (chosen not in (None, metric))
    if metric:
        assert list(scores.scores(summary))[0] == scores.label(metric, summary)


def test_a_metric_without_scores_by_row_is_compared_without_an_interval_and_lower_may_be_better():
    summary = {"arms": {"a": scored({LOSS: 1.5}), "b": scored({LOSS: 1.75})}, "comparisons": {"a_vs_b": {}}}
    assert scores.gains(summary) == [
        "a vs b: -0.250 bits per byte, without an interval (held-out loss, bits per byte (lower is better))"
    ]
    assert scores.contrasts(summary).loc["a vs b", "difference"] == -0.25
    lower = pd.DataFrame({"difference": [-0.25], "p": [0.01], "p_holm": [None]}, ["a vs b"])
    assert scores.summarise_contrasts(lower, lower_is_better=True).startswith("- **Shown to help**: a vs b.")


def test_a_contrast_without_scores_is_named_and_claims_nothing():
    nothing = {"difference": None, "low": None, "high": None, "n": 0}
    summary = {"arms": {"a": scored({GYM: 1}), "b": scored({})}, "comparisons": {"a_vs_b": {GYM: nothing}}}
    assert scores.differences(summary).loc["a vs b", "embedded world, accuracy, %"] == "no score in both"
    assert scores.gains(summary) == [] and len(scores.contrasts(summary)) == 0


def test_without_contrasts_there_is_no_gain():
    summary = {"comparisons": {}, "arms": {"main": {"metrics": {"mt_bench.score": 7.5}}}}
    assert scores.gains(summary) == []


def test_a_length_controlled_win_rate_of_several_seeds_has_no_interval():
    rate = "alpaca_eval.lc_win_rate"
    metrics = {rate: 5.0, f"{rate}_low": 4.0, f"{rate}_high": 6.0}
    for seeds, text in ((1, "5.0 [4.0, 6.0]"), (2, "5.0")):
        table = scores.scores({"arms": {"a": scored(metrics, seeds)}})
        assert table.loc["a", "length-controlled, %"] == text


def stage(folder: Path, notebook: str, judges: tuple = (), **parameters: object) -> dict[Path, dict]:
    """Write the judges of a stage; return its record by its folder."""
    (folder / notebook).mkdir(parents=True)
    (folder / notebook / "judges.json").write_text(json.dumps({"judges": judges}))
    return {folder / notebook: {"name": f"{notebook}@1", "parameters": parameters}}


def test_a_judge_that_judges_what_it_taught_is_named(tmp_path):
    records = stage(tmp_path, "tapir/2_oracle_judging", oracle="gpt-4", judge="")
    records |= stage(tmp_path, "evaluation/alpaca_eval", ("gpt-4-1106-preview",), annotator="")
    records |= stage(tmp_path, "evaluation/mt_bench", ("gpt-4",), questions="question.jsonl")
    own, other = facts.judges(records).split("; ")
    assert own.startswith("gpt-4 (rows, MT-Bench)") and "it judges its own work" in own
    assert other == "gpt-4-1106-preview (AlpacaEval 2)"


def test_a_corpus_that_brought_its_verdicts_has_no_judge(tmp_path):
    for source, judge in (("rows.jsonl", facts.FROM_CORPUS["exact"]), ("gym", facts.NAMES["exact"])):
        records = stage(tmp_path / source, "tapir/2_oracle_judging", oracle="exact", judge="")
        records |= stage(tmp_path / source, "tapir/1_data_selection", source=source)
        assert facts.judges(records) == f"{judge} (rows)"


def test_a_student_whose_responses_were_recorded_is_the_file_that_holds_them(tmp_path):
    recorded = stage(tmp_path, "evaluation/mt_bench", student="a/b", judgments="/home/me/granite.jsonl")
    assert facts.student(recorded) == "responses recorded in granite.jsonl"
    assert facts.student(stage(tmp_path, "evaluation/ifeval", student="a/b")) == "a/b"


@pytest.mark.parametrize(
    "oracle, text",
    [
        ({}, "no oracle call"),
        ({"usd": 1.5}, "47 oracle calls, USD 1.50; "),
        ({"usd": None}, "47 oracle calls, at a price that is not known; "),
    ],
)
def test_calls_and_cost_are_counted(oracle, text):
    counted = {"calls": 47, "cached": 50, "unread": 2, "cut": 1} if oracle else {"calls": 0, "cached": 0}
    rest = "50 replies were in the ledger already; 2 verdicts unread, 1 cut" if oracle else ""
    assert facts.cost({"oracle": counted | oracle}) == text + rest


def test_a_score_that_rests_on_part_of_its_benchmark_says_so():
    part = {"mt_bench.n": 40, "mt_bench.unread": 120, "mt_bench.cut": 0}
    part |= {"ifeval.n": 541, "ifeval.no_response": 0}
    assert facts.verdicts({"arms": {"main": {"metrics": part}}}) == "main: MT-Bench, 40 of 160 read"


def test_a_stand_in_is_no_figure_of_its_benchmark(tmp_path):
    assert "stand-in for IFEval, prompts followed, %" in scores.scores(SCORED | {"stand_ins": ["ifeval"]})
    [stand_in] = stage(tmp_path / "a", "evaluation/mt_bench", questions="").values()
    [benchmark] = stage(tmp_path / "b", "evaluation/mt_bench", questions="question.jsonl").values()
    assert (tables.title(stand_in), tables.title(benchmark)) == ("Stand-in for MT-Bench", "MT-Bench")


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("tapir/4_training@2", "Training, round 2"),
        ("self_guide/1_input_generation@0", "Input generation"),
        ("exam@0", "Exam"),
    ],
)
def test_any_stage_has_a_title(name, title):
    assert tables.title({"name": name, "parameters": {}}) == title
