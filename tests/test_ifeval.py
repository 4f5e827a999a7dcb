"""IFEval: what a program can check, offline."""

import pandas as pd
import pytest

from lib.errors import UserError
from lib.evaluation import ifeval, statistics


def prompt(key: int, *instructions: str, **kwargs) -> dict:
    return {
        "key": key,
        "prompt": f"Prompt {key}",
        "instruction_id_list": list(instructions),
        "kwargs": [kwargs] * len(instructions),
    }


COMMA, WORDS = "punctuation:no_comma", "length_constraints:number_words"
SENTENCES, CAPITALS = "length_constraints:number_sentences", "change_case:capital_word_frequency"


def test_strict_takes_the_response_as_it_is_and_loose_leaves_out_its_first_line():
    for response, marks in (("Sure, here it is:\nNo comma.", [0, 1]), (" \n", [0, 0])):
        table = ifeval.check([prompt(1, COMMA)], {"Prompt 1": response})
        assert table[["strict", "loose"]].values.tolist() == [marks]


def test_a_prompt_is_followed_when_all_of_its_instructions_are():
    prompts = [prompt(1, COMMA, WORDS, relation="less than", num_words=3), prompt(2, COMMA)]
    prompts[0]["kwargs"][0] = {}
    prompts[1]["kwargs"] = [{}]
    table = ifeval.check(prompts, {"Prompt 1": "one two three", "Prompt 2": "well"})
    means = statistics.means(ifeval.scores(table))
    assert (means["ifeval.prompt_strict"], means["ifeval.instruction_strict"]) == (1 / 2, 2 / 3)


def test_a_prompt_without_a_response_is_counted_and_not_scored():
    table = ifeval.check([prompt(1, COMMA), prompt(2, COMMA)], {"Prompt 1": "fine"})
    assert ifeval.counts(table) == {"n": 1, "no_response": 1}
    assert table["strict"].isna().tolist() == [False, True]
    assert statistics.means(ifeval.scores(table))["ifeval.instruction_strict"] == 1


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Dr. Smith paid $3.50 in the U.S. market. He left.", 2),
        ("Is it true? Yes! It was at 5 p.m. yesterday.", 3),
    ],
)
def test_sentences_are_counted_as_nltk_counts_them_without_its_data(text, sentences):
    for number, followed in ((sentences, 1), (sentences + 1, 0)):
        prompts = [prompt(1, SENTENCES, relation="at least", num_sentences=number)]
        assert ifeval.check(prompts, {"Prompt 1": text})["strict"].tolist() == [followed]


def test_words_in_capitals_are_counted_by_nltk_s_words():
    for number, followed in ((4, 1), (5, 0)):  # NASA, 'S, FULL-TIME, OK
        prompts = [prompt(1, CAPITALS, capital_relation="at least", capital_frequency=number)]
        text = "NASA'S team works FULL-TIME. Is that OK?"
        assert ifeval.check(prompts, {"Prompt 1": text})["strict"].tolist() == [followed]


def test_the_letter_that_a_prompt_names_is_counted_though_it_is_none():
    prompts = [prompt(1, "keywords:letter_frequency", letter="#", let_frequency=3, let_relation="at least")]
    for text, followed in (("#a #b #c", 1), ("abc" * 50, 0)):
        assert ifeval.check(prompts, {"Prompt 1": text})["strict"].tolist() == [followed]


def test_the_same_text_is_always_of_the_same_language():
    prompts = [prompt(1, "language:response_language", language="en")]
    responses = {"Prompt 1": "no la the der"}
    assert len({ifeval.check(prompts, responses)["strict"][0] for _ in range(20)}) == 1


@pytest.mark.parametrize(
    "row", [prompt(1, WORDS, nonsense=3), prompt(1, "style:brilliant"), prompt(1, COMMA) | {"kwargs": []}]
)
def test_a_prompt_that_a_checker_cannot_use_is_named(row):
    with pytest.raises(UserError, match="checkers fail at prompt 1"):
        ifeval.check([row], {"Prompt 1": "text"})


def test_what_was_written_can_be_given_back(tmp_path):
    prompts, responses = [prompt(1, COMMA)], {"Prompt 1": "Ünd\nso"}
    table = ifeval.check(prompts, responses)
    ifeval.write(table, responses, tmp_path)
    assert ifeval.responses(str(tmp_path / "responses.jsonl"), prompts) == responses
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "checked.parquet"), table)
