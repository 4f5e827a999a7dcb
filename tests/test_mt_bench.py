"""MT-Bench: two turns, one judge, and verdicts without a rating that are counted and not scored."""

import json

import numpy as np
import pandas as pd
import pytest
from chat_server import ChatServer

from lib.errors import UserError
from lib.evaluation import mt_bench, shared, statistics
from lib.models.catalog import Model
from lib.models.server import ServerBackend
from lib.models.types import Completion, SamplingParams

QUESTIONS = [
    {"question_id": 1, "category": "writing", "turns": ["Write {a} line.", "Now in rhyme."]},
    {"question_id": 2, "category": "math", "turns": ["What is 2 + 2?", "And plus 3?"]},
]
ANSWERED = {1: ["A line.", "A line so fine."], 2: ["4", "7"]}
GOLD = {2: ["Four.", "Seven."]}
TEMPLATE = "Q {question} A {answer} R {ref_answer_1}"
TWO = "Q {question_1} A {answer_1} Q {question_2} A {answer_2} R {ref_answer_1} {ref_answer_2}"
NAMES = ("single-v1", "single-math-v1", "single-v1-multi-turn", "single-math-v1-multi-turn")
TEMPLATES = (TEMPLATE, TEMPLATE, TWO, TWO)
PROMPTS = {
    name: {"name": name, "system_prompt": f"S {name}", "prompt_template": template}
    for name, template in zip(NAMES, TEMPLATES, strict=True)
}


@pytest.mark.parametrize(
    ("reply", "first", "last"),  # FastChat takes the first; of a judge that is asked the last counts
    [
        ("Fine. Rating: [[8]]", 8, 8),
        ("Rating: [[8.5]] as [1] says", 8.5, 8.5),
        ("First [[3]], no: [[ 4 ]]", 3, 4),
        ("arr[[0]] is wrong. Rating: [[7]]", 0, 7),
        ("<think>[[2]]</think> Rating: [[9]]", 9, 9),
        ("<think>[[3]] maybe", None, None),
        ("Rating: 8", None, None),
        ("[[85]]", None, None),
    ],
)
def test_a_rating_stands_in_brackets_or_is_unread(reply, first, last):
    assert (mt_bench.read_rating(reply), mt_bench.read_rating(reply, last=True)) == (first, last)


def to_judge(answers: dict = ANSWERED, gold: dict = GOLD) -> pd.DataFrame:
    return mt_bench.to_judge(QUESTIONS, answers, gold, PROMPTS, "judge")


def test_the_judge_is_shown_the_conversation_and_for_math_the_reference():
    writing, rhyme, two, three = to_judge().itertuples()
    assert (writing.system, writing.shown) == ("S single-v1", "Q Write {a} line. A A line. R ")  # braces stay
    assert (two.system, two.shown) == ("S single-math-v1", "Q What is 2 + 2? A 4 R Four.")
    assert three.shown == "Q What is 2 + 2? A 4 Q And plus 3? A 7 R Four. Seven."
    assert rhyme.system == "S single-v1-multi-turn"


def test_a_missing_reference_answer_is_named():
    with pytest.raises(UserError, match="reference_answers: question 2 has none"):
        to_judge(gold={})


def test_a_student_answers_both_turns_at_the_temperature_of_the_category():
    calls = []

    class Student:
        def generate(self, prompts, params):
            calls.extend((params.temperature, [turn["content"] for turn in prompt]) for prompt in prompts)
            return [[Completion(f"to {prompt[-1]['content']}", "hm", "length")] for prompt in prompts]

    turns, ended = mt_bench.respond(QUESTIONS, Student(), SamplingParams())
    assert turns[2] == ["to What is 2 + 2?", "to And plus 3?"] and ended == (4, 0)
    assert (0.7, ["Write {a} line."]) in calls
    assert (0.0, ["What is 2 + 2?", "to What is 2 + 2?", "And plus 3?"]) in calls


@pytest.fixture
def ask(ledger):
    def ask(server: ChatServer, verdicts: pd.DataFrame | None = None, **options):
        judge = ServerBackend(Model("judge", server.url), ledger, **options)
        return mt_bench.ask(to_judge() if verdicts is None else verdicts, judge)

    return ask


def test_one_verdict_is_asked_for_before_the_others_but_not_where_the_ledger_is_read_only(ledger):
    with ChatServer(lambda body: "Rating: [[6]]") as server:
        judge = ServerBackend(Model("judge", server.url), ledger)
        first = shared.first_to_ask(to_judge(), judge)
        assert mt_bench.ask(first, judge)[["question_id", "turn", "score"]].values.tolist() == [[1, 1, 6]]
        judge.ledger_only = True
        assert mt_bench.ask(shared.first_to_ask(to_judge(), judge), judge).empty
        assert len(server.bodies) == 1


def test_each_turn_is_judged_as_fastchat_has_it(ask):
    with ChatServer(lambda body: "Rating: [[6]]") as server:
        verdicts = ask(server)
        sent = {(body["temperature"], body["max_tokens"]) for body in server.bodies}
    assert sent == {(0, 2048)} and verdicts["score"].tolist() == [6] * 4
    assert mt_bench.tally(verdicts) == {"read": 4, "unread": 0, "cut": 0, "missing": 0, "total": 4}


def test_an_unreadable_verdict_is_asked_for_once_more_and_then_counted(ask):
    def reply(body):
        text, again = body["messages"][-1]["content"], server.counts[json.dumps(body, sort_keys=True)] > 1
        if "R Four." in text and "Seven" not in text:
            return "I can't say."
        return "Hm." if "rhyme" in text and not again else "[[5]]" if again else "[[9]]"

    with ChatServer(reply) as server:
        verdicts = ask(server)
        assert len(server.bodies) == 6
    assert verdicts["score"].fillna(-9).tolist() == [9, 5, -9, 9]
    assert mt_bench.tally(verdicts)["unread"] == 1
    means = statistics.means(mt_bench.scores(verdicts))
    assert (means["mt_bench.score"], means["mt_bench.math"], means["mt_bench.turn_1"]) == (23 / 3, 9, 9)


def test_a_verdict_cut_by_the_limit_states_no_rating_and_is_counted_apart_from_a_failed_call(ask):
    def fault(body, nth):
        return "500" if "rhyme" in body["messages"][-1]["content"] else None

    whole = {"choices": [{"finish_reason": "length", "message": {"content": "arr[[0]] is"}}]}
    with ChatServer(lambda body: whole, fault) as server:
        tally = mt_bench.tally(ask(server, tries=1))
    assert tally == {"read": 0, "unread": 0, "cut": 3, "missing": 1, "total": 4}


def test_a_question_without_an_answer_is_missing_and_keeps_its_place(ask):
    with ChatServer(lambda body: "[[6]]") as server:
        verdicts = ask(server, to_judge({1: ANSWERED[1]}))
    assert mt_bench.tally(verdicts) == {"read": 2, "unread": 0, "cut": 0, "missing": 2, "total": 4}
    scores = mt_bench.scores(verdicts)
    assert np.isnan(statistics.means(scores)["mt_bench.math"])
    assert len(scores[scores["metric"] == "mt_bench.score"]) == 4


def test_a_rating_in_single_brackets_counts_as_fastchat_has_it_and_is_shown(ask):
    with ChatServer(lambda body: "[[6]]" if "rhyme" in str(body) else "arr[3] is wrong.") as server:
        verdicts = ask(server)
    assert verdicts["score"].tolist() == [3, 6, 3, 3] and len(mt_bench.doubtful(verdicts)) == 3


def test_several_recorded_judgments_of_a_turn_count_as_their_mean(recorded):
    scores = mt_bench.scores(recorded([*GOOD, line(1, 1, "[[5]]", 5)]))
    assert scores["score"].tolist()[:4] == [7, 8, pytest.approx(np.nan, nan_ok=True), 4]


def line(question: int, turn: int, reply: str, score: float, **more) -> dict:
    row = {"question_id": question, "turn": turn, "judgment": reply, "score": score}
    return row | {"judge": ["gpt-4", "x"]} | more


GOOD = [line(1, 1, "[[9]]", 9), line(1, 2, "[[8]]", 8), line(2, 1, "none", -1), line(2, 2, "[[4]]", 4)]


@pytest.fixture
def recorded(tmp_path):
    def read(rows: list[dict]):
        (tmp_path / "judgments.jsonl").write_text("\n".join(map(json.dumps, rows)))
        return mt_bench.recorded(QUESTIONS, str(tmp_path / "judgments.jsonl"))

    return read


def test_recorded_judgments_are_read_again_and_what_they_lack_is_missing(recorded):
    verdicts = recorded(GOOD[:3])
    assert verdicts["score"].fillna(-9).tolist() == [9, 8, -9, -9] and set(verdicts["judge"]) == {"gpt-4", ""}
    assert mt_bench.tally(verdicts) == {"read": 2, "unread": 1, "cut": 0, "missing": 1, "total": 4}


def test_what_was_written_can_be_given_back_and_says_the_same_gaps_and_all(ask, tmp_path):
    def fault(body, nth):
        return "500" if "plus 3" in str(body) else None

    def reply(body):
        return "arr[[0]] is wrong. Rating: [[6]]" if "rhyme" in str(body) else "nothing"

    with ChatServer(reply, fault) as server:
        verdicts = ask(server, tries=1)
    assert 6 in verdicts["score"].values
    mt_bench.write(verdicts, ANSWERED, tmp_path)
    answers = mt_bench.answers(str(tmp_path / "answers.jsonl"), "answers", QUESTIONS)
    again = mt_bench.recorded(QUESTIONS, str(tmp_path / "judgments.jsonl"))
    assert answers == ANSWERED and mt_bench.tally(again) == mt_bench.tally(verdicts)
    assert again["score"].fillna(-1).tolist() == verdicts["score"].fillna(-1).tolist()
    kept = ["question_id", "turn", "reply", "shown"]
    replied = verdicts["reply"].notna()
    assert again[replied][kept].values.tolist() == verdicts[replied][kept].values.tolist()
    assert (~replied).sum() == 1
