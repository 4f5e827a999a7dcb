"""The oracle behind a URL: what it says becomes rows, what can't be read or used is counted, never made up."""

import contextlib
import doctest
import itertools
from dataclasses import replace

import pytest
from chat_server import ChatServer
from scripted import Script, unlike

from lib import models, paths, records
from lib.corpus import novelty
from lib.errors import UserError
from lib.models.__main__ import main
from lib.models.catalog import Model
from lib.models.server import ServerBackend
from lib.oracle import replies
from lib.oracle.llm import LLMOracle
from lib.tapir import judge
from lib.tapir.tasks import Task, rebalance
from lib.text import split_thoughts

LABELS = ("Math", "Code", "Code Debug")


@pytest.fixture
def make(ledger):
    """An oracle on a server that says this."""
    with contextlib.ExitStack() as opened:

        def oracle(fault=lambda body, nth: None, **script):
            server = opened.enter_context(ChatServer(Script(**script), fault))
            backend = ServerBackend(Model("m", server.url, timeout_s=1), ledger, tries=2)
            return LLMOracle(backend, labels=LABELS), server

        yield oracle


def rows(n: int = 2, **columns):
    return records.build([{"instruction": f"What is {i} + {i}?", **columns} for i in range(n)])


def test_a_row_that_lacks_an_answer_gets_one_and_another_keeps_its_own(make):
    oracle, server = make(answer=lambda text: f"answered {text}")
    answered = {"instruction": "a", "oracle_response": "mine"}
    mixed = records.build([answered, {"instruction": "b", "input": "c"}])
    assert oracle.answer(mixed)["oracle_response"][:] == ["mine", "answered b\n\nc"]
    assert sum(server.counts.values()) == oracle.account()["oracle.calls"] == 1


def test_a_call_without_a_reply_leaves_the_row_null_and_is_counted(make):
    oracle, _ = make(lambda body, nth: "500" if "0 + 0" in str(body) else None, answer="four")
    assert oracle.answer(rows())["oracle_response"][:] == [None, "four"]
    assert oracle.failed == {"answer": 1}


def test_an_oracle_may_be_a_model_in_this_process(tmp_path):
    student = models.load(paths.ROOT / "lib/gym/student")
    oracle = LLMOracle(student, labels=LABELS, max_tokens=8, judge_max_tokens=8)
    answered = oracle.answer(rows(1, student_response="b"))
    judged = oracle.score(oracle.classify(answered))
    assert len(judged) == 1 and oracle.account()["oracle.calls"] == 0
    assert oracle.cut == answered["oracle_response"][:].count(None)
    assert oracle.estimate(judged, answer=3) == "" and "0 oracle calls" in oracle.describe()


def test_both_orders_are_judged_and_read_as_shown(make):
    def verdict(text):
        return "9 3\nbecause" if text.index("right") < text.index("wrong") else "4 8\nbecause"

    oracle, _ = make(judge=verdict)
    judged = oracle.score(rows(3, oracle_response="right", student_response="wrong"))
    assert judged["oracle_score"][:] == [8.5] * 3 and judged["student_score"][:] == [3.5] * 3
    assert [v["order"] for v in judged[0]["verdicts"]] == list(judge.ORDERS)


def test_any_two_columns_are_compared_and_a_row_that_lacks_one_is_not(make):
    oracle, _ = make(judge=lambda text: "9 3" if text.index("right") < text.index("wrong") else "4 8")
    whole = {"instruction": "a", "oracle_response": "wrong", "refined_response": "right"}
    pairs = records.build([whole, {"instruction": "b", "oracle_response": "wrong"}])
    verdicts = oracle.compare(pairs, "oracle_response", "refined_response")
    assert judge.mean_scores(verdicts[0]) == (3.5, 8.5) and verdicts[1] == []


def test_only_the_order_that_was_not_read_is_asked_for_again_once_and_then_counted_unread(make):
    replies = iter(["9 3", "I like both.", "4 8", "I like both.", "9 3", "I like both."])
    oracle, server = make(judge=lambda text: next(replies))
    oracle.backend.concurrency = 1
    judged = oracle.score(rows(1, oracle_response="right", student_response="wrong"))
    orders = [("oracle_first", 1), ("student_first", 1), ("student_first", 2)]
    assert [(v["order"], v["attempt"]) for v in judged[0]["verdicts"]] == orders
    assert judged["oracle_score"][:] == [8.5]
    unread = oracle.score(rows(1, oracle_response="no", student_response="yes"))
    assert unread["oracle_score"][:] == [None] and sum(server.counts.values()) == 6
    assert judge.tally(unread) == {"read": 1, "unread": 1, "cut": 0, "missing": 0, "total": 2}


def test_a_rating_that_can_t_be_read_is_asked_for_once_more_and_then_there_is_none(make):
    oracle, server = make(rate=lambda text: "4.5" if "[Response]\nyes" in text else "It depends.")
    rows = records.build([{"instruction": text, "response": text} for text in ("yes", "no")])
    assert oracle.rate(rows, "accuracy") == [4.5, None]
    assert len(server.bodies) == 3


def test_rows_with_verdicts_are_not_judged_again(make):
    oracle, server = make(judge="9 3")
    once = oracle.score(rows(oracle_response="a", student_response="b"))
    assert oracle.score(once).to_list() == once.to_list() and sum(server.counts.values()) == 4


def test_a_response_cut_at_the_token_limit_is_not_used_but_counted_and_its_row_not_judged(make):
    script = {"answer": "a beginning", "refine": "Step one,", "judge": "9 3"}
    oracle, _ = make(lambda body, nth: "length" if "0 + 0" in str(body) else None, **script)
    answered = oracle.answer(rows(student_response="b"))
    assert answered["oracle_response"][:] == [None, "a beginning"]
    assert [len(given) for given in oracle.score(answered)["verdicts"]] == [0, 2]
    changed = rows(2, task="Math", oracle_response="4")
    assert oracle.refine(changed, {"Math": "worked"}) == [None, "Step one,"]
    assert oracle.account()["oracle.cut_responses"] == 2 and "2 responses were cut" in oracle.describe()


def test_a_label_that_is_none_or_several_stays_null(make):
    script = {"0 + 0": "Math.", "1 + 1": "Math or Code", "2 + 2": "code debug"}
    oracle, _ = make(classify=lambda text: next(v for k, v in script.items() if k in text))
    assert oracle.classify(rows(3))["task"][:] == ["Math", None, "Code Debug"]


HOSTILE = {
    "copy of its parent": "<instruction>what is 0 + 0</instruction><input></input>",
    "refusal": "I'm sorry, but I can't do that.",
    "unreadable": "Sure! Here is one: What is 5 + 5?",
    "another task": "<instruction>Write a program.</instruction>",
}


@pytest.mark.parametrize("cause", HOSTILE)
def test_a_hostile_expansion_is_dropped_and_counted_once_by_its_cause(make, cause):
    tasks = {"classify": lambda text: "Code" if "program" in text else "Math"}
    oracle, _ = make(expand=HOSTILE[cause], answer="4", **tasks)
    children, drops = oracle.expand(rows(1, task="Math"))
    assert len(children) == 0 and drops == {cause: 1}


def test_an_expansion_becomes_a_row_with_its_parent_task_and_response(make):
    script = "Sure.\n<instruction>What is 7 + 7?</instruction>\n<input>None</input>"
    oracle, _ = make(expand=script, classify="Math", answer="14")
    parents = rows(1, task="Math", hard=True)
    (child,), drops = oracle.expand(parents)
    assert (child["instruction"], child["input"], child["oracle_response"]) == ("What is 7 + 7?", "", "14")
    assert (child["task"], child["hard"], child["source"]) == ("Math", True, f"expanded:{parents['id'][0]}")
    assert not drops and child["mfd"] is None


def test_what_is_known_is_not_expanded_to_again_and_a_second_try_is_another_call(make):
    oracle, server = make(expand="<instruction>What is 1 + 1?</instruction>", classify="Math", answer="2")
    parents = rows(2, task="Math")
    oracle.know(parents)
    for _ in range(2):
        assert oracle.expand(parents.select([0]))[1] == {"duplicate": 1}
    assert [n for text, n in server.counts.items() if "Here is an" in text] == [2]


@pytest.mark.parametrize("script", ["Two and two.", "", "4.", "I cannot help."])
def test_a_rewrite_that_is_nothing_a_copy_or_a_refusal_is_none(make, script):
    oracle, _ = make(refine=script)
    changed = rows(2, task="Math", oracle_response="4")
    assert oracle.refine(changed, {"Math": "worked"}) == [script if "two" in script else None] * 2
    assert oracle.refine(changed, {"Math": "none"}) == [None, None]


def test_what_is_too_like_a_known_instruction_or_in_a_benchmark_is_not_brought_forth(make):
    script = iter(["Name three big rivers in France.", "What is the meaning of life?"])
    new = {"expand": lambda text: f"<instruction>{next(script)}</instruction>"}
    oracle, _ = make(classify="Math", answer="a", **new)
    corpus = records.build(
        [{"instruction": "Write a poem."}, {"instruction": "Name three rivers in France."}]
    )
    oracle.know(corpus, {"life": ["What is the meaning of life?"]})
    oracle.backend.concurrency = 1
    assert oracle.expand(rows(2, task="Math"))[1] == {"too similar": 1, "in a benchmark": 1}
    assert "big rivers" in oracle.dropped["too similar"]["instruction"]
    assert novelty.twin(oracle.dropped["too similar"], corpus) == "Name three rivers in France."


def test_a_few_parents_bring_forth_many_children_and_none_is_paid_again(make):
    count = itertools.count()
    new = {"expand": lambda text: f"<instruction>{unlike(next(count))}</instruction>"}
    oracle, server = make(classify="Math", answer="14", **new)
    taxonomy = {"Math": Task(1.0, "none")}
    pool, account = rebalance(rows(3, task="Math"), oracle, taxonomy, 40, seed=0)
    assert len(pool) == 40 and account["Math"] == {"parents": 3, "expanded": 37, "short": 0}
    total = sum(server.counts.values())
    oracle.know(records.build([]))  # as in another start
    again, _ = rebalance(rows(3, task="Math"), oracle, taxonomy, 40, seed=0)
    assert again["id"][:] == pool["id"][:] and sum(server.counts.values()) == total


THOUGHT = "<think>Draft: <instruction>What is 1 + 1?</instruction></think>"
NEW = "<instruction>What is 7 + 7?</instruction>"


@pytest.mark.parametrize(
    "script, kept",
    [
        (f"{THOUGHT}\n{NEW}", ("What is 7 + 7?", "")),
        (f"{NEW}\n<input>its input, or nothing</input>", ("What is 7 + 7?", "")),
        (f"{NEW}\n<input>3, 4</input>", ("What is 7 + 7?", "3, 4")),
        (f"{NEW}\n<input>3, 4", None),
        ("<instruction>the new instruction</instruction>\n<input>its input, or nothing</input>", None),
        (THOUGHT, None),
    ],
)
def test_of_an_expansion_only_what_is_complete_and_meant_is_taken(script, kept):
    assert replies.new_instruction(split_thoughts(script)[1]) == kept


@pytest.mark.parametrize("finish, cause", [("length", "cut"), ("content_filter", "filtered")])
def test_an_expansion_that_did_not_end_by_itself_is_dropped_by_its_cause(make, finish, cause):
    oracle, _ = make(expand={"choices": [{"message": {"content": NEW}, "finish_reason": finish}]})
    assert oracle.expand(rows(1, task="Math"))[1] == {cause: 1}


ENDED = [("four", "stop", "four"), ("four", "end_turn", "four"), ("<think>hm</think> four", "stop", "four")]
ENDED += [("<think>hm</think>", "stop", None), ("  \n", "stop", None)]
ENDED += [("four", reason, None) for reason in ("length", "max_tokens", "abort", "content_filter")]


@pytest.mark.parametrize("text, finish, kept", ENDED)
def test_only_a_response_with_a_text_that_ended_by_itself_is_taught(make, text, finish, kept):
    oracle, _ = make(answer={"choices": [{"message": {"content": text}, "finish_reason": finish}]})
    assert oracle.answer(rows(1))["oracle_response"][:] == [kept]


def test_an_answer_that_is_all_thoughts_is_none_and_its_cause_is_named(make):
    message = {"content": None, "reasoning_content": "I could say four."}
    oracle, server = make(answer={"choices": [{"message": message, "finish_reason": "stop"}]})
    assert oracle.answer(rows(2))["oracle_response"][:] == [None, None] and len(server.bodies) == 2
    cause = "2 got no reply (answer); the most frequent cause (2): `the reply holds no text"
    assert cause in oracle.describe()


def test_a_judge_that_thinks_all_its_tokens_away_is_counted_as_cut(make):
    thoughts = {"choices": [{"message": {"content": "<think>Assistant 1: 9\nAssistant 2: 2\nbut wait"}}]}
    thoughts["choices"][0]["finish_reason"] = "length"
    oracle, _ = make(judge=thoughts)
    judged = oracle.score(rows(2, oracle_response="a", student_response="b"))
    tally = judge.tally(judged)
    assert tally == {"read": 0, "unread": 0, "cut": 4, "missing": 0, "total": 4}
    with pytest.raises(UserError, match="extra: {max_tokens"):
        judge.check(tally)


def test_a_judgement_without_a_reply_is_no_verdict_and_is_missing_from_the_tally(make):
    oracle, server = make(lambda body, nth: "500" if "0 + 0" in str(body) else None, judge="9 3")
    judged = oracle.score(rows(2, oracle_response="a", student_response="b"))
    assert [len(given) for given in judged["verdicts"]] == [0, 2] and oracle.failed == {"judge": 2}
    assert judge.tally(judged) == {"read": 2, "unread": 0, "cut": 0, "missing": 2, "total": 4}


def test_a_judge_that_takes_json_is_asked_for_it_and_read(make):
    oracle, server = make(judge='{"assistant_1": 9, "assistant_2": 3, "reasons": "8 of 10 words match."}')
    oracle.judge = ServerBackend(replace(oracle.judge.model, json=True), oracle.judge.ledger)
    judged = oracle.score(rows(1, oracle_response="a", student_response="b"))
    assert judged["oracle_score"][:] == [6.0]
    schema = server.bodies[0]["response_format"]["json_schema"]["schema"]
    assert list(schema["properties"]) == ["assistant_1", "assistant_2", "reasons"]


def test_the_account_of_a_stage_outlives_its_restart(make, monkeypatch):
    oracle, _ = make(answer="four")
    oracle.backend.run, oracle.backend.stage = "a run", "a stage"
    oracle.answer(rows(3))
    again = LLMOracle(ServerBackend(oracle.backend.model, oracle.backend.ledger, "a run", "a stage"))
    again.answer(rows(5))
    counts = {"calls": 5, "cached": 3, "failed": 0, "cut_responses": 0, "usd": 0}
    expected = {f"oracle.{name}": count for name, count in counts.items()}
    assert again.account() | {"oracle.usd": 0} == expected


REFUSALS = ["I'm sorry, but I can't help with that.", "As an AI, I have no opinion.", "I’m afraid I can’t."]
RESPONSES = [
    "Sorry is a board game for four.",
    "I am afraid of spiders, said the king.",
    "I can't believe it.",
]


@pytest.mark.parametrize("text", [*REFUSALS, *RESPONSES])
def test_a_refusal_is_told_from_a_response_that_begins_like_one(text):
    assert replies.is_refusal(text) is (text in REFUSALS)


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(replies).failed == 0


def test_the_command_shows_exports_and_checks_a_ledger(make, tmp_path, capsys):
    oracle, _ = make(answer="four")
    oracle.answer(rows())
    printed = {}
    for what in ("stats", "export", "check"):
        assert main([what, str(tmp_path / "ledger.sqlite")]) == 0
        printed[what] = capsys.readouterr().out
    assert "answer" in printed["stats"] and "unknown" in printed["stats"]
    assert printed["export"].count("\n") == 2 and printed["check"].startswith("whole")
    assert main(["stats", str(tmp_path / "none.sqlite")]) == 1
    assert "there is no such file" in capsys.readouterr().err
