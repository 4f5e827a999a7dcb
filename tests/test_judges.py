"""A judge is compared with recorded verdicts: their formats, the measures, and the notebook on recorded data."""

import json
import lzma
from math import log

import numpy as np
import pytest
from chat_server import ChatServer
from scipy.stats import spearmanr

from lib import paths, records
from lib.errors import UserError
from lib.evaluation import judges, recordings
from lib.gym import questions
from lib.models.catalog import Model
from lib.models.server import ServerBackend
from lib.oracle.llm import LLMOracle
from lib.run import run_study
from lib.runner import preflight
from lib.tapir import fitness

DATA = paths.recorded_data()
RECORDED = pytest.mark.skipif(not DATA.is_dir(), reason=f"recorded data is absent ({DATA})")
CHERRY = {
    "text": "Add 2 and 2.",
    "Answer1": "4",
    "Answer2": "5",
    "review": "9 2\nRight.",
    "review_reverse": "1 9",
}
ALPACA = {"instruction": "Say hi.", "output_1": "hi", "output_2": "ho", "preference": 1.25}
ALPACA |= {"generator_1": "gpt4", "generator_2": "small"}
REVIEW = {"question_id": 1, "answer1_id": "a", "answer2_id": "b", "text": "7 8\nBoth."}
ANSWERS = [{"question_id": 1, "answer_id": name, "text": f"by {name}", "model_id": name} for name in "ab"]
QUESTION = {"question_id": 1, "text": "How so?", "category": "generic"}
SHOWN = "[Question]\nHow so?\n\n[The Start of Assistant's Answer]\nby {}\n[The End of Assistant's Answer]"


def judgment(model, score, turn=1, judge="gpt-4"):
    record = {"question_id": 1, "turn": turn, "model": model, "user_prompt": SHOWN.format(model)}
    return record | {"score": score, "judgment": "x", "judge": [judge, "single-v1"]}


@pytest.fixture
def loaded(tmp_path):
    def write(*contents):
        for n, records_of_file in enumerate(contents):
            lines = "\n".join(json.dumps(record) for record in records_of_file)
            (tmp_path / f"{n}.jsonl").write_text(lines)
        return recordings.load([str(tmp_path / f"{n}.jsonl") for n in range(len(contents))])[0]

    return write


@pytest.mark.parametrize(
    ("files", "texts", "gap"),
    [
        ([[CHERRY]], ("Add 2 and 2.", "4", "5"), (7 + 8) / 2),
        ([[ALPACA]], ("Say hi.", "hi", "ho"), 9 * (0.75 - 0.25)),
        ([[REVIEW], ANSWERS, [QUESTION]], ("How so?", "by a", "by b"), -1),
        ([[judgment("x", 8), judgment("x", 3, turn=2)], [judgment("y", 5)]], ("How so?", "by x", "by y"), 3),
    ],
)
def test_a_recorded_verdict_of_each_kind_is_a_pair_with_a_gap(loaded, files, texts, gap):
    pairs = loaded(*files)
    row = pairs[0]
    assert len(pairs) == 1 and (row["instruction"], row["oracle_response"], row["student_response"]) == texts
    assert judges.gaps(pairs) == pytest.approx([gap])


@pytest.mark.parametrize(
    ("files", "error"),
    [
        ([[{"a": 1}]], "0.jsonl, line 1 is no recorded verdict"),
        ([[CHERRY | {"Answer2": 5}]], "line 1: `Answer2` must be str, not 5"),
        ([[REVIEW], ANSWERS[:1], [QUESTION]], "answer b is in no file. A review needs"),
        ([[REVIEW], ANSWERS], "question 1 is in no file"),
        ([[judgment("x", 8)]], "there is no pair. .*those of two models"),
        (
            [[judgment("x", 8)], [judgment("y", 5, judge="other")]],
            "verdicts of gpt-4, other",
        ),
        ([[ALPACA | {"annotator": "a"}, ALPACA | {"annotator": "b"}]], "verdicts of a, b. Name files of one"),
        ([[CHERRY | {"text": " "}]], "line 1: row without instruction"),
    ],
)
def test_files_that_hold_no_pairs_are_named(loaded, files, error):
    with pytest.raises(UserError, match=error):
        loaded(*files)


def test_repeats_are_counted_and_pairs_of_one_order_stand_beside_those_of_two(tmp_path):
    lines = [
        CHERRY,
        CHERRY | {"review": "1 9"},
        ALPACA,
        judgment("x", 8),
        judgment("x", 3),
        judgment("y", -1),
    ]
    (tmp_path / "all.jsonl").write_text(
        "\n".join(json.dumps(line | {"annotator": "gpt-4"}) for line in lines)
    )
    pairs, repeats = recordings.load([str(tmp_path)])
    assert (len(pairs), repeats) == (5, 2)  # x's two answers are the same text, and no pair
    assert judges.gaps(pairs) == pytest.approx([7.5, -0.0 + 0, 4.5, np.nan, np.nan], nan_ok=True)
    assert judges.orders(pairs).tolist() == [[True, True]] * 2 + [[True, False]] * 3
    assert np.isnan(judges.gaps(pairs, both=True)).tolist() == [False, False, True, True, True]
    first, second = recordings.align(pairs, pairs)
    assert first["verdicts"][:] == second["verdicts"][:] == pairs["verdicts"][:]  # each repeat is its own


def test_verdicts_that_were_not_read_leave_a_gap_unknown(loaded):
    unread = [CHERRY | {"review": "I like both."}, ALPACA | {"preference": None}, CHERRY | {"text": "Add 2."}]
    pairs = loaded(unread[:1] + unread[2:], unread[1:2])
    gaps = judges.gaps(pairs)
    assert np.isnan(gaps).tolist() == [True, False, True]
    table = judges.agreement(gaps, fitness.gaps_by_order(pairs)[:, 0])
    assert table.loc["winner_agreement", "score"] == 1


def test_as_many_pairs_are_drawn_as_are_short_enough(loaded):
    pairs = loaded([CHERRY | {"text": "x" * n} for n in (10, 20, 300)])
    assert [len(recordings.draw(pairs, most, longest)) for most, longest in ((0, 0), (2, 0), (9, 100))] == [
        3,
        2,
        2,
    ]
    with pytest.raises(UserError, match="longest=5: the shortest pair has 12 characters"):
        recordings.draw(pairs, 0, 5)


def test_a_judge_is_fit_by_what_it_agrees_on_and_not_by_length():
    rng = np.random.default_rng(0)
    recorded, length = rng.integers(-4, 5, 200) / 1.0, rng.normal(size=200)
    sentences = {}
    for name, gaps in {"same": recorded, "noise": rng.permutation(recorded), "blind": 0 * recorded}.items():
        measured = judges.agreement(gaps, recorded)
        metrics = {"judge.n": 200, "judge.unread": 0.0}
        sentences[name] = judges.describe_fitness(
            measured, judges.agreement(length, recorded), metrics
        ).partition(":")[0]
    assert sentences["same"] == "**Fit for choosing rows and for reporting**"
    assert sentences["noise"] == sentences["blind"] == "**Fit for neither choosing rows nor reporting**"
    few = judges.describe_fitness(measured, measured, {"judge.n": 5, "judge.unread": 0.0})
    assert few == "**Not known**: only 5 pairs were read by both."


def test_win_rates_are_calibrated_by_the_other_models(loaded):
    """A judge that doubles every rate: the line through the others says the recorded one."""
    lines = []
    for model, losses in (("a", 9), ("b", 8), ("c", 7), ("d", 6)):
        for n in range(10):
            lines.append(ALPACA | {"instruction": f"{model} {n}", "generator_2": model})
            lines[-1] |= {"preference": 1.0 if n < losses else 2.0}
    pairs = loaded(lines)
    recorded = judges.gaps(pairs)
    twice = np.where(np.arange(40) % 10 < np.repeat([8, 6, 4, 2], 10), 9.0, -9.0)
    rates = judges.win_rates(pairs, twice, recorded)
    assert rates["recorded"].tolist() == pytest.approx([10, 20, 30, 40])
    assert rates["judged"].tolist() == pytest.approx([20, 40, 60, 80])
    assert rates["error"].max() < 1e-9
    others = questions.judged_pairs(per_cell=1)
    assert judges.win_rates(others, *np.zeros((2, len(others)))).empty


def test_one_token_says_whom_a_judge_prefers(ledger):
    def reply(body):
        assert (body["max_tokens"], body["top_logprobs"]) == (1, 20)
        first = (
            0.8
            if body["messages"][0]["content"].index("right") < body["messages"][0]["content"].index("wrong")
            else 0.3
        )
        candidates = [{"token": token, "logprob": log(p)} for token, p in ((" 1", first), ("2", 1 - first))]
        content = [{"token": "2", "top_logprobs": candidates}]
        choice = {
            "index": 0,
            "message": {"content": "2"},
            "logprobs": {"content": content},
            "finish_reason": "length",
        }
        return {"choices": [choice]}

    row = {"instruction": "x", "oracle_response": "right", "student_response": "wrong"}
    with ChatServer(reply) as server:
        oracle = LLMOracle(ServerBackend(Model("m", server.url), ledger), judge_scores="preference")
        judged = oracle.score(records.build([row]))
    assert judged["oracle_score"][0] == pytest.approx(1 + 9 * (0.8 + 0.7) / 2)
    assert judges.gaps(judged) == pytest.approx([9 * (2 * 0.75 - 1)])


@pytest.mark.parametrize(
    ("judge", "pairs", "error"),
    [
        ("exact", ["tests/none.json"], "pairs: .*none.json does not exist"),
        ("exact", ["params/tasks"], "pairs: .*no .json"),
        ("gpt-4", [], "judge=gpt-4: pairs is empty. Name"),
        ("recorded:none.json", ["CHERRY"], "none.json does not exist"),
        ("recorded:", ["CHERRY"], "judge=recorded:: there is no such file"),
        ("recorded:nofile", ["CHERRY"], "judge=recorded:nofile: there is no such file"),
        ("record:rows.json", ["CHERRY"], "to name a recording, write recorded:FILE"),
        ("pyproject.toml", ["CHERRY"], "to name a recording, write recorded:FILE"),
        ("exact", ["CHERRY"], "judge=exact: it judges the embedded world alone"),
        ("gpt-4", ["CHERRY"], "judge: .*gpt-4"),  # retired
    ],
)
def test_settings_that_cannot_work_are_refused_before_the_run(judge, pairs, error, tmp_path):
    (tmp_path / "cherry.json").write_text(json.dumps(CHERRY))
    pairs = [str(tmp_path / "cherry.json") if name == "CHERRY" else name for name in pairs]
    with pytest.raises(UserError, match=error):
        preflight.check(
            "evaluation/judge", {"judge": judge, "pairs": pairs, "budget_usd": 0.0, "judge_scores": "text"}
        )


@RECORDED
def test_two_recordings_are_compared_without_a_call_as_an_independent_count_does(
    forked_kernels, tmp_path, monkeypatch
):
    monkeypatch.setenv("OUTPUTS", str(tmp_path))
    file = "judged_pairs/cherry_llm/vicuna_wrap_reviews_{}.json.xz"
    over = {"pairs": str(DATA / file.format("gpt4")), "judge": f"recorded:{DATA / file.format('gpt3.5')}"}
    metrics = run_study(paths.ROOT / "params/judge.yaml", overrides=over)["arms"]["compared"]["metrics"]

    def gaps(name):
        pairs = json.loads(lzma.decompress((DATA / file.format(name)).read_bytes()))["data"]
        scores = [(json.loads(pair["scores"]), json.loads(pair["scores_reverse"])) for pair in pairs]
        return [(a[0] - a[1] + b[1] - b[0]) / 2 for a, b in scores]  # the second order is as shown

    of_judge, recorded = gaps("gpt3.5"), gaps("gpt4")
    winners = [[(gap > 0) - (gap < 0) for gap in each] for each in (of_judge, recorded)]
    same = sum(a == b for a, b in zip(*winners, strict=True)) / len(recorded)
    by_chance = sum(winners[0].count(w) * winners[1].count(w) for w in (-1, 0, 1)) / len(recorded) ** 2
    assert metrics["judge.winner_agreement"] == pytest.approx(same, abs=1e-9)
    assert metrics["judge.kappa"] == pytest.approx((same - by_chance) / (1 - by_chance), abs=1e-9)
    assert metrics["judge.gap_correlation"] == pytest.approx(spearmanr(of_judge, recorded)[0], abs=1e-9)
    for delta in (1, 2, 3):
        a, b = ({i for i, gap in enumerate(each) if gap >= delta} for each in (of_judge, recorded))
        assert metrics[f"judge.hard_overlap_{delta}"] == pytest.approx(len(a & b) / len(a | b), abs=1e-9)
    assert metrics["judge.n"] == 80 and metrics["judge.unread"] == 0
