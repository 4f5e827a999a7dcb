"""The embedded world's stand-ins for the benchmarks: held out, in their formats, and judged exactly."""

import json

import pandas as pd

from lib.evaluation import ifeval, mt_judging, statistics
from lib.gym import questions, split_of, world


def test_all_stand_ins_are_held_out_and_those_that_the_gym_evaluates():
    asked = questions.instructions("dev", 2)
    assert {split_of(row["about"]["family"], row["about"]["payload"]) for row in asked} == {"dev"}
    trained = [
        text
        for text, meta in zip(
            *(world.evaluation_set("dev", 2)[name] for name in ("instruction", "meta")), strict=True
        )
        if json.loads(meta)["kind"] == "trained"
    ]
    assert [row["instruction"] for row in asked] == trained


def test_the_exact_judge_prefers_whoever_alone_is_right():
    asked = questions.instructions("dev", 1)[:1]
    right, wrong = f"Answer: {asked[0]['about']['answer']}", "Answer: banana"
    for first, second, preference in (
        (right, wrong, 1),
        (wrong, right, 2),
        (right, right, 1.5),
        (wrong, "no", 1.5),
    ):
        pairs = pd.DataFrame(
            [{"instruction": asked[0]["instruction"], "output_1": first, "output_2": second}]
        )
        assert questions.prefer(pairs, asked)["preference"].tolist() == [preference]


def test_a_conversation_has_two_instances_of_one_family_and_level():
    asked = questions.conversations("dev", 1)
    assert all(len({(it["family"], it["level"]) for it in row["about"]}) == 1 for row in asked)
    assert all(row["about"][0]["payload"] != row["about"][1]["payload"] for row in asked)
    answered = {
        row["question_id"]: [f"Answer: {row['about'][0]['answer']}", "Answer: banana"] for row in asked
    }
    means = statistics.means(mt_judging.scores(questions.rated(asked, answered)))
    assert (means["mt_bench.turn_1"], means["mt_bench.turn_2"]) == (10, 1)


def test_ifevals_checkers_accept_right_answers_and_refuse_others():
    asked = questions.constrained("dev", 10)
    right = ifeval.check(asked, {row["prompt"]: f"Answer: {row['about']['answer']}" for row in asked})
    long = ifeval.check(asked, {row["prompt"]: "Answer: a, b, c, d, e, f, g, h, i" for row in asked})
    assert statistics.means(ifeval.scores(right))["ifeval.prompt_strict"] == 1
    assert statistics.means(ifeval.scores(long))["ifeval.prompt_strict"] == 0
