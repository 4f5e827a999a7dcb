"""Recorded replies of real judges on real models give the figures that others published. Skipped as a whole where they are absent."""

import json
import math
from functools import cache

import pytest
from chat_server import ChatServer

from lib import paths
from lib.errors import UserError
from lib.evaluation import alpaca, annotators, ifeval, mt_bench, statistics
from lib.run import run_study
from lib.tapir import judge

DATA = paths.recorded_data()
if not DATA.is_dir():
    pytest.skip(f"recorded data is absent ({DATA}): set RECORDED_DATA to its folder", allow_module_level=True)

ALPACA, MT, IF = (f"$RECORDED_DATA/{name}" for name in ("alpaca_eval", "mt_bench", "ifeval"))
PUBLISHED = json.loads((DATA / "alpaca_eval/published.json").read_text())["models"]
REFERENCE = f"{ALPACA}/gpt4_1106_preview/model_outputs.json.gz"
FEATURES = f"{ALPACA}/lc_reconstructed/df_gamed_reconstructed.csv"
MT_PUBLISHED = json.loads((DATA / "mt_bench/published.json").read_text())
MT_FILES = {
    "questions": f"{MT}/official/question.jsonl",
    "reference_answers": f"{MT}/official/reference_answer_gpt-4.jsonl",
    "judge_prompts": f"{MT}/official/judge_prompts.jsonl",
}
PARAMS = paths.ROOT / "params"

# AlpacaEval


@cache
def verdicts(model: str):
    references = alpaca.outputs(REFERENCE, "reference_from")
    pairs = alpaca.pair(
        references, alpaca.outputs(f"{ALPACA}/{model}/model_outputs.json.gz", "model_outputs")
    )
    return alpaca.recorded(pairs, annotators.PUBLISHED, f"{ALPACA}/{model}/annotations.json.gz")


def controlled(table) -> float:
    return alpaca.lc_win_rate(table.dropna(subset=["output_2"]), alpaca.lc_features(FEATURES))


@pytest.mark.parametrize("model", PUBLISHED)
def test_the_recorded_win_rate_is_the_published_one(model):
    table = verdicts(model)
    assert alpaca.tally(table)["read"] == PUBLISHED[model]["n_total"] and len(table) == 805
    means, discrete = statistics.means(alpaca.scores(table)), alpaca.discrete_win_rate(table)
    assert means["alpaca_eval.win_rate"] == pytest.approx(PUBLISHED[model]["win_rate"], abs=1e-6)
    assert discrete == pytest.approx(PUBLISHED[model]["discrete_win_rate"], abs=1e-9)


@pytest.mark.parametrize("model", [name for name, figures in PUBLISHED.items() if figures["n_total"] == 805])
def test_the_length_controlled_win_rate_is_the_published_one_up_to_the_reconstruction(model):
    assert controlled(verdicts(model)) == pytest.approx(
        PUBLISHED[model]["length_controlled_winrate"], abs=0.16
    )


def test_a_published_figure_of_a_model_with_missing_rows_took_difficulties_by_position():
    """phi-2 has 803 of 805 rows. Behind the first missing one the leaderboard gave every row the difficulty of another."""
    published, table = PUBLISHED["phi-2"]["length_controlled_winrate"], verdicts("phi-2")
    by_position = table.dropna(subset=["output_2"]).reset_index(drop=True)
    assert controlled(by_position) == pytest.approx(published, abs=0.001)
    assert controlled(table) == pytest.approx(published - 0.505, abs=0.01)


def test_a_model_without_its_second_row_keeps_nearly_its_length_controlled_win_rate():
    whole = verdicts("alpaca-7b")
    some = whole.drop(index=1)
    by_position = some.reset_index(drop=True)
    assert abs(controlled(some) - controlled(whole)) < 0.05 < abs(controlled(by_position) - controlled(whole))


@cache
def replies(model: str) -> dict[str, dict]:
    """The recorded reply to each prompt, filled in by hand, in the order of the outputs that its preference tells."""
    template = (annotators.folder() / "alpaca_eval_clf_gpt4_turbo/alpaca_eval_clf.txt").read_text()
    user = template.split("<|im_start|>user")[1].split("<|im_end|>")[0].strip()
    by_prompt = {}
    for row in verdicts(model).itertuples():
        if not isinstance(row.raw_completion, dict):
            continue
        top = {
            token["token"]: token["logprob"]
            for token in row.raw_completion["logprobs"]["content"][0]["top_logprobs"]
        }
        m, big = (math.exp(top.get(token, -math.inf)) for token in ("m", "M"))
        as_shown = abs(2 - m / (m + big) - row.preference) < 1e-6
        first, second = (row.output_1, row.output_2) if as_shown else (row.output_2, row.output_1)
        parts = {"instruction": row.instruction, "output_1": first, "output_2": second}
        text = user
        for name in parts:
            text = text.replace(f"{{{name}}}", f"\0{name}\0")
        for name, value in parts.items():
            text = text.replace(f"\0{name}\0", value)
        by_prompt[text.strip()] = row.raw_completion
    return by_prompt


@pytest.mark.slow
@pytest.mark.parametrize("model", ["gpt-3.5-turbo-1106", "phi-2"])
def test_replayed_through_a_server_the_live_path_gives_the_published_win_rate(model, tmp_path, monkeypatch):
    monkeypatch.setenv("OUTPUTS", str(tmp_path))
    monkeypatch.setenv("LEDGER", str(tmp_path / "ledger.sqlite"))
    recorded = replies(model)
    with ChatServer(lambda body: {"choices": [recorded[body["messages"][1]["content"]]]}) as server:
        summary = run_study(
            PARAMS / "alpaca_eval.yaml",
            {
                "model_outputs": f"{ALPACA}/{model}/model_outputs.json.gz",
                "reference_from": REFERENCE,
                "lc_features": FEATURES,
                "benchmark_judge": f"gpt-4-1106-preview@{server.url}",
            },
            "live",
        )
        assert len(server.bodies) == len(recorded)
    metrics = summary["arms"]["main"]["metrics"]
    assert metrics["alpaca_eval.win_rate"] == pytest.approx(PUBLISHED[model]["win_rate"], abs=1e-6)
    assert metrics["alpaca_eval.unread"] == 0 and metrics["alpaca_eval.n"] == PUBLISHED[model]["n_total"]
    assert summary["oracle"]["calls"] == len(recorded)


@pytest.mark.slow
def test_the_command_for_recorded_annotations_gives_all_its_figures(tmp_path, monkeypatch):
    monkeypatch.setenv("OUTPUTS", str(tmp_path))
    values = {name: f"{ALPACA}/alpaca-7b/{name}.json.gz" for name in ("model_outputs", "annotations")}
    values |= {"reference_from": REFERENCE, "lc_features": FEATURES}
    metrics = run_study(PARAMS / "alpaca_eval.yaml", values, "recorded")["arms"]["main"]["metrics"]
    for name in ("win_rate", "lc_win_rate"):
        low, value, high = (metrics[f"alpaca_eval.{name}{end}"] for end in ("_low", "", "_high"))
        assert low < value < high
        assert 0.4 < (high - low) / (2 * 1.96) < 1.2  # the standard error of the win rate is 0.49 points
    assert (metrics["alpaca_eval.n"], metrics["alpaca_eval.avg_length"]) == (805, 396)


# MT-Bench


def questions():
    return mt_bench.questions(f"{MT}/official/question.jsonl")


@pytest.mark.parametrize("model", MT_PUBLISHED["score"])
def test_recorded_judgments_give_the_published_scores(model):
    verdicts = mt_bench.recorded(questions(), f"{MT}/judgments/{model}.jsonl.xz")
    means = statistics.means(mt_bench.scores(verdicts))
    for name in ("score", "turn_1", "turn_2"):
        assert means[f"mt_bench.{name}"] == pytest.approx(MT_PUBLISHED[name][model], abs=1e-9)


@pytest.mark.parametrize("model", MT_PUBLISHED["score"])
def test_the_judge_is_shown_what_fastchat_showed_it(model):
    answers = mt_bench.answers(f"{MT}/answers/{model}.jsonl.xz", "answers", questions())
    gold = mt_bench.answers(f"{MT}/official/reference_answer_gpt-4.jsonl", "reference_answers", questions())
    prompts = mt_bench.judge_prompts(f"{MT}/official/judge_prompts.jsonl")
    needed = mt_bench.to_judge(questions(), answers, gold, prompts, "gpt-4")
    verdicts = mt_bench.recorded(questions(), f"{MT}/judgments/{model}.jsonl.xz")
    assert len(needed) == 160 and needed["shown"].tolist() == verdicts["shown"].tolist()


def test_a_file_with_three_verdicts_in_four_unread_has_no_headline_score():
    verdicts = mt_bench.recorded(questions(), f"{MT}/judgments/granite-7b-lab_with_failed_calls.jsonl.xz")
    with pytest.raises(UserError, match="40 of 160 verdicts read .120 unread"):
        judge.check(mt_bench.tally(verdicts))


@pytest.mark.slow
def test_the_mt_bench_command_refuses_what_is_mostly_unread_unless_it_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("OUTPUTS", str(tmp_path))
    values = MT_FILES | {"judgments": f"{MT}/judgments/granite-7b-lab_with_failed_calls.jsonl.xz"}
    with pytest.raises(Exception, match="40 of 160 verdicts read"):
        run_study(PARAMS / "mt_bench.yaml", values, "granite")
    failed = json.loads((tmp_path / "granite/summary.json").read_text())
    assert "mt_bench.score" not in json.dumps(failed) and failed["status"] == "failed"
    metrics = run_study(PARAMS / "mt_bench.yaml", values | {"unfit_judge": "warn"}, "granite")["arms"][
        "main"
    ]["metrics"]
    assert (metrics["mt_bench.n"], metrics["mt_bench.unread"]) == (40, 120)


@pytest.mark.slow
def test_two_models_are_compared_question_by_question(tmp_path, monkeypatch):
    monkeypatch.setenv("OUTPUTS", str(tmp_path))
    a, b = MT_PUBLISHED["score"]
    study = tmp_path / "pair.yaml"
    study.write_text(
        f"extends: {PARAMS}/mt_bench.yaml\narms: {{a: {{judgments: {MT}/judgments/{a}.jsonl.xz}}, b: {{judgments: {MT}/judgments/{b}.jsonl.xz}}}}\n"
        "comparisons: [a_vs_b]\n"
    )
    result = run_study(study, MT_FILES, "pair")["comparisons"]["a_vs_b"]["mt_bench.score"]
    assert result["difference"] == pytest.approx(
        MT_PUBLISHED["score"][a] - MT_PUBLISHED["score"][b], abs=1e-9
    )
    assert 0 < result["low"] < result["high"] and result["n"] == 160


# IFEval


def official(rule: str) -> list[dict]:
    import lzma

    with lzma.open(DATA / f"ifeval/official_results_gpt4_{rule}.jsonl.xz", "rt") as file:
        return [json.loads(line) for line in file]


@pytest.mark.parametrize(("rule", "differ"), [("strict", []), ("loose", [1122])])
def test_all_recorded_responses_get_the_official_marks_but_where_the_official_letter_is_random(rule, differ):
    """Keys 1122 and 1129 ask for "#" and "!", in whose place the official checker drew a letter."""
    prompts = ifeval.prompts(f"{IF}/input_data.jsonl.xz")
    answered = ifeval.responses(f"{IF}/responses_gpt4_20231107.jsonl.xz", prompts)
    table = ifeval.check(prompts, answered)
    assert ifeval.counts(table) == {"n": 540, "no_response": 1}
    marks = table.dropna(subset=["response"]).groupby("prompt")[rule].apply(list)
    expected = {row["prompt"]: row["follow_instruction_list"] for row in official(rule)}
    other = {prompt for prompt in expected if marks[prompt] != expected[prompt]}
    assert [row["key"] for row in prompts if row["prompt"] in other] == differ


@pytest.mark.slow
def test_the_ifeval_command_gives_all_its_figures(tmp_path, monkeypatch):
    monkeypatch.setenv("OUTPUTS", str(tmp_path))
    values = {"prompts": f"{IF}/input_data.jsonl.xz", "responses": f"{IF}/responses_gpt4_20231107.jsonl.xz"}
    metrics = run_study(PARAMS / "ifeval.yaml", values, "ifeval")["arms"]["main"]["metrics"]
    assert (metrics["ifeval.n"], metrics["ifeval.no_response"]) == (540, 1)
    names = ("prompt_strict", "prompt_loose", "instruction_strict", "instruction_loose")
    assert all(0.75 < metrics[f"ifeval.{name}"] < 0.9 for name in names)
