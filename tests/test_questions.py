"""The embedded world's stand-ins for the benchmarks: held out, in their formats, and judged exactly."""

import json

import pandas as pd

from lib.evaluation import ifeval, mt_bench, statistics
from lib.gym import questions, split_of, world


def test_all_stand_ins_are_held_out_and_those_that_the_gym_evaluates():
    prompts = questions.instructions(2)
    assert {split_of(row["about"]["family"], row["about"]["payload"]) for row in prompts} == {"dev"}
    evaluated = world.evaluation_set("dev", 2)
    trained = [row["instruction"] for row in evaluated if json.loads(row["meta"])["kind"] == "trained"]
    assert [row["instruction"] for row in prompts] == trained


def test_the_exact_judge_prefers_whoever_alone_is_right():
    prompts = questions.instructions(1)[:1]
    right, wrong = f"Answer: {prompts[0]['about']['answer']}", "Answer: banana"
    outputs = [(right, wrong), (wrong, right), (right, right), (wrong, "no")]
    pairs = pd.DataFrame(outputs, columns=["output_1", "output_2"])
    pairs["instruction"] = prompts[0]["instruction"]
    assert questions.prefer(pairs, prompts)["preference"].tolist() == [1, 2, 1.5, 1.5]


def test_a_conversation_has_two_instances_of_one_family_and_level():
    prompts = questions.conversations(1)
    assert all(len({(about["family"], about["level"]) for about in row["about"]}) == 1 for row in prompts)
    assert all(row["about"][0]["payload"] != row["about"][1]["payload"] for row in prompts)
    answered = {
        row["question_id"]: [f"Answer: {row['about'][0]['answer']}", "Answer: banana"] for row in prompts
    }
    means = statistics.means(mt_bench.scores(questions.rated(prompts, answered)))
    assert (means["mt_bench.turn_1"], means["mt_bench.turn_2"]) == (10, 1)


def test_ifevals_checkers_accept_right_answers_and_refuse_others():
    prompts = questions.constrained(10)
    right = ifeval.check(prompts, {row["prompt"]: f"Answer: {row['about']['answer']}" for row in prompts})
    long = ifeval.check(prompts, {row["prompt"]: "Answer: a, b, c, d, e, f, g, h, i" for row in prompts})
    assert statistics.means(ifeval.scores(right))["ifeval.prompt_strict"] == 1
    assert statistics.means(ifeval.scores(long))["ifeval.prompt_strict"] == 0
