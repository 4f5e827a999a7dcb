"""What the evaluation notebooks show before a batch: one prompt, one check, one verdict, one loss."""

import json

import pandas as pd
import pytest

from lib import models, paths, records
from lib.errors import UserError
from lib.evaluation import alpaca, ifeval, shared
from lib.gym import questions, world
from lib.models.types import Completion, SamplingParams
from lib.training import encoding


@pytest.fixture(scope="module")
def student():
    return models.load(paths.ROOT / "lib/gym/student")


def test_a_prompt_is_shown_as_the_student_receives_it(student):
    shown = shared.ask_one(student, shared.message("Reverse cat."), SamplingParams(max_tokens=4))
    assert shown["prompt_as_sent"] == "<|bos|><|user|>Reverse cat.<|end|><|assistant|>" and shown["response"]


def test_replies_to_an_evaluation_set_are_graded_row_by_row():
    rows = world.evaluation_set("dev", 1, trained_only=True).select(range(3))
    answers = [json.loads(meta)["answer"] for meta in rows["meta"]]
    replies = [Completion(f"Answer: {answers[0]}"), Completion("banana"), Completion("Ans", "", "length")]
    graded = world.graded(rows, replies)
    assert graded["credit"].tolist() == [1, 0, 0] and graded["answered"].tolist() == [True, False, False]
    assert graded["cut"].tolist() == [False, False, True] and graded["id"].tolist() == rows["id"][:]
    assert set(graded["kind"]) == {"trained"}


def test_the_loss_is_in_bits_per_byte_of_the_rows_that_are_short_enough(student):
    texts = [("Reverse cat.", "Answer: tac"), ("Reverse dog.", "Answer: god"), ("Repeat.", "a " * 60)]
    rows = records.build({"instruction": prompt, "response": response} for prompt, response in texts)
    bits, n = encoding.bits_per_byte(student, rows, 64, lambda done, total: None)
    losses = encoding.response_losses(student, encoding.encode(student.tokenizer, rows.select([0, 1]), 64))
    assert n == 2 and bits == pytest.approx(sum(losses) / 22 / 0.693147, rel=1e-4)
    with pytest.raises(UserError, match="max_length=32: each of 1 rows is as long"):
        encoding.bits_per_byte(student, rows.select([2]), 32, lambda done, total: None)


def test_each_instruction_is_shown_with_what_its_checker_says():
    names = ["punctuation:no_comma", "length_constraints:number_words"]
    kwargs = [{"num_words": None}, {"relation": "less than", "num_words": 2}]
    prompt = {"key": 1, "prompt": "Say it.", "instruction_id_list": names, "kwargs": kwargs}
    assert ifeval.explained(prompt, "one two three")["instructions"].splitlines() == [
        "punctuation:no_comma {}: followed",
        "length_constraints:number_words {'relation': 'less than', 'num_words': 2}: not followed",
    ]


def test_the_judges_prompt_can_be_shown_in_the_embedded_world():
    pairs = pd.DataFrame({"instruction": ["Say a."], "output_1": ["a"], "output_2": ["b"]})
    shown = alpaca.judge_prompt(pairs, "exact")
    assert "Say a." in shown["user"] and set(shown) == {"system", "user"}


def test_the_exact_judge_has_no_length_controlled_win_rate_and_says_why():
    prompts = questions.instructions("dev", 1)[:2]
    pairs = pd.DataFrame({"instruction": [row["instruction"] for row in prompts]})
    pairs = pairs.assign(output_1="no", output_2=["no", None], generator_1="reference", generator_2="student")
    lc = alpaca.length_control(questions.prefer(pairs.fillna("no"), prompts), "exact", "", seed=0)
    assert "fitted with the annotator" in lc.reason and str(lc) == "none" and lc.low is None
