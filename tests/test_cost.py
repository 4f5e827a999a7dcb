"""What a study will ask its oracle is said before it runs, by the stages' own estimate."""

import json

import pytest

from lib import paths
from tools import cost

ROWS = [{"instruction": f"Say {i:03}.", "output": "y" * 400} for i in range(40)]


@pytest.fixture
def estimate(tmp_path, capsys, monkeypatch):
    """The numbers that the command prints for params/small.yaml, by purpose: calls, prompt and completion tokens, USD."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    source = tmp_path / "rows.jsonl"
    source.write_text("\n".join(map(json.dumps, ROWS)))

    def estimate(**values) -> dict[str, list[float]]:
        values = {"source": source, "judged_rows": 10, "pool_rows": 100} | values
        words = [word for name, value in values.items() for word in ("-p", f"{name}={value}")]
        assert cost.main([str(paths.ROOT / "params/small.yaml"), *words]) == 0
        lines = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()]
        table = {line[0]: line[2:] for line in lines if len(line) == 6 and line[2][0].isdigit()}
        return {name: [float(cell.replace(",", "")) for cell in row] for name, row in table.items()}

    return estimate


def test_calls_are_those_of_judging_and_of_a_pool_of_new_rows(estimate):
    calls = {purpose: row[0] for purpose, row in estimate().items()}
    new = 100 - 32  # a row of each task is there: its parent
    refined = 100 - 2 * 2  # two tasks have no style, and two rows each
    assert calls == {
        "answer": 10 + new,
        "classify": 10 + new,
        "expand": new,
        "refine": refined,
        "judge": 2 * 10 + 2 * refined,
    }


def test_money_follows_the_price_of_the_model_that_is_named(estimate):
    mini, dear = estimate(pool_rows=5000), estimate(pool_rows=5000, oracle="gpt-4.1")
    assert {purpose: row[:3] for purpose, row in mini.items()} == {n: row[:3] for n, row in dear.items()}
    calls, prompt, completion, usd = mini["answer"]
    assert completion == calls * 100 and usd == pytest.approx(
        (0.4 * prompt + 1.6 * completion) / 1e6, abs=0.01
    )
    assert dear["judge"][3] == pytest.approx(5 * mini["judge"][3], rel=0.02)


def test_arms_that_share_a_stage_ask_once_and_others_ask_again(estimate, tmp_path):
    file = tmp_path / "two.yaml"
    arms = "{alike: {alpha: 0.2}, other: {judged_rows: 20}}"
    file.write_text(f"extends: {paths.ROOT}/params/small.yaml\narms: {arms}\ncomparisons: []")
    planned = cost.plan(cost.load(file, {"source": str(tmp_path / "rows.jsonl"), "pool_rows": 100}), "two")
    stages = [stage for stage in planned if stage.notebook == cost.JUDGING]
    assert [stage.arm for stage in stages] == ["tapir", "alike", "other"]
    assert [stage.arm for stage in cost.distinct(stages)] == ["tapir", "other"]
    assert cost.calls(stages[-1])["answer"] == 20


def printed(capsys, file: str, *settings: str) -> str:
    """What the command prints for a params file, also where it refuses a setting."""
    words = [word for setting in settings for word in ("-p", setting)]
    cost.main([str(paths.ROOT / "params" / file), *words])
    out, err = capsys.readouterr()
    return out + err


@pytest.mark.parametrize(("judge_scores", "tokens"), [("text", "1,200"), ("expected", "64")])
def test_a_judge_is_asked_twice_about_each_recorded_pair(capsys, tmp_path, judge_scores, tokens):
    pair = {"instruction": "Say it.", "output_1": "This.", "output_2": "That.", "preference": 1.2}
    names = {"generator_1": "a", "generator_2": "b"}
    (tmp_path / "pairs.json").write_text(json.dumps([pair | names | {"output_1": str(i)} for i in range(6)]))
    settings = [
        f"pairs=[{tmp_path / 'pairs.json'}]",
        "judge=gpt-4.1",
        "rows=4",
        f"judge_scores={judge_scores}",
    ]
    (line,) = [line for line in printed(capsys, "judge.yaml", *settings).splitlines() if "gpt-4.1" in line]
    purpose, model, calls, _, completion_tokens, _ = line.strip("| ").split(" | ")
    assert [purpose, model, calls, completion_tokens] == ["judge", "gpt-4.1", "8", tokens]


def test_what_is_asked_and_not_counted_is_named(capsys):
    settings = ["student=lib/gym/student", "questions=q", "reference_answers=a", "judge_prompts=p"]
    text = printed(capsys, "mt_bench.yaml", *settings)
    assert text == "Not counted: gpt-4.1, which evaluation/mt_bench asks.\n"
    retired = printed(capsys, "mt_bench.yaml", *settings, "benchmark_judge=gpt-4").splitlines()
    assert retired == [
        "Not counted: gpt-4, which evaluation/mt_bench asks.",
        "",
        "gpt-4: it is no longer offered since 2026-10-23. A run refuses it.",
    ]


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("oracle", "-p oracle: write name=value"),
        (
            "judge_scores=expectd",
            "judge_scores=expectd: it is unknown. Choose of text, expected, preference.",
        ),
        ("oracle=gpt-5o", "gpt-5o: it is not in params/models.yaml"),
        ("pool_rows=0", "pool_rows=0: it is too low. Set it to 1 or above."),
    ],
)
def test_a_wrong_setting_is_refused_before_the_corpus_is_read(capsys, monkeypatch, setting, sentence):
    monkeypatch.setattr(cost, "judged_rows", None)
    assert printed(capsys, "small.yaml", setting).startswith(sentence)


def test_a_study_of_the_embedded_world_costs_nothing(capsys):
    assert cost.main([str(paths.ROOT / "params/demo.yaml")]) == 0
    assert capsys.readouterr().out == "No stage asks an oracle that costs anything.\n"
    assert cost.main([str(paths.ROOT / "params/nowhere.yaml")]) == 1


def test_a_study_of_the_embedded_world_with_a_real_oracle_is_estimated_without_the_hub(capsys):
    text = printed(capsys, "demo.yaml", "oracle=gpt-4.1-mini", "corpus_rows=300", "judged_rows=40")
    assert "| answer | gpt-4.1-mini |" in text
