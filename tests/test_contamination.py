"""A row that holds a benchmark's prompt is overlaps by one of three measures, and counted once."""

import json

import pytest

from lib import records
from lib.corpus import contamination

PROMPT = "Explain in simple words why the sky over the sea is blue at noon."  # 14 words


def find(prompt, *rows):
    data = records.build(row if isinstance(row, dict) else {"instruction": row} for row in rows)
    return contamination.find(data, {"bench": [prompt]})


def causes(prompt, row):
    return list(find(prompt, row)["cause"])


def test_an_equal_prompt_is_found_at_any_length_whatever_its_case_and_signs():
    assert causes("Why?", "why") == ["exact"]
    assert causes("Who is Ada?", {"instruction": "Answer.", "input": "WHO IS ADA"}) == ["exact"]
    assert causes("Answer: who is Ada?", {"instruction": "Answer:", "input": "Who is Ada?"}) == ["exact"]
    turns = [{"role": "user", "content": "Who is Ada?"}, {"role": "assistant", "content": "A mathematician."}]
    assert causes("Who is Ada?", {"instruction": "Go on.", "turns": turns}) == ["exact"]


def test_eight_words_in_a_row_are_found_and_seven_are_not():
    assert causes(PROMPT, "Tell me: why the sky over the sea is blue.") == ["words"]
    assert causes(PROMPT, "Tell me: why the sky over the sea is.") == []


def test_characters_count_as_the_share_of_the_prompt_found_in_the_row():
    prompt = "abcdefghijklmn"  # ten 5-grams
    assert causes(prompt, "abcdefghijkl and a long row around it") == ["characters"]  # eight of them
    assert causes(prompt, "abcdefghijk and a long row around it") == []  # seven
    assert causes(f"{prompt} and a long prompt around it", prompt) == []  # the row lies in the prompt


def test_a_row_counts_once_by_its_first_cause():
    overlaps = find(PROMPT, PROMPT, PROMPT + " Thank you.", "Name a river.")
    assert contamination.count_causes(overlaps) == {"exact": 1, "words": 1, "characters": 0}


def test_a_row_that_touches_two_benchmarks_counts_in_both_and_once_in_the_total():
    data = records.build([{"instruction": PROMPT}])
    overlaps = contamination.find(data, {"one": ["Why?", PROMPT], "two": [PROMPT + " Please."]})
    assert [contamination.touched(overlaps, name) for name in ("one", "two")] == [[1], [0]]
    assert contamination.count_causes(overlaps) == {"exact": 1, "words": 0, "characters": 0}


def test_any_turn_of_a_question_touches_it():
    data = records.build([{"instruction": "Now say it in rhyme, please."}])
    question = ["Name a river.", "Now say it in rhyme, please."]
    overlaps = contamination.find(data, {"bench": [question, "Why?"]})
    assert contamination.touched(overlaps, "bench") == [0]


def test_drop_keeps_the_other_rows_in_order():
    data = records.build({"instruction": text} for text in ("Name a river.", "Why?", "Name a hill."))
    kept, overlaps = contamination.drop(data, {"bench": ["why"]})
    assert kept["instruction"][:] == ["Name a river.", "Name a hill."]
    assert overlaps.values.tolist() == [[data["id"][1], "bench", 0, "exact"]]


def test_the_lookup_agrees_with_a_full_comparison_of_character_5_grams():
    words = ["red", "blue", "sea", "sky", "boat", "wind", "sand", "rain"]
    texts = [" ".join(words[(i * k + k) % 8] for k in range(2 + i % 6)) for i in range(80)]
    grams = [{text[i : i + 5] for i in range(len(text) - 4)} for text in texts]
    full = {
        (row, prompt)
        for row in range(1, 80, 2)
        for prompt in range(0, 80, 2)
        if len(grams[prompt] & grams[row]) / len(grams[prompt]) >= 0.8
    }
    data = records.build({"id": str(i), "instruction": text} for i, text in enumerate(texts) if i % 2)
    overlaps = contamination.find(data, {"bench": texts[::2]})
    assert {(int(row), 2 * prompt) for row, prompt in overlaps[["id", "prompt"]].values} == full


@pytest.mark.parametrize("key", ["instruction", "prompt", "turns"])
def test_each_benchmark_file_is_read_by_its_own_field(tmp_path, key):
    value = ["Name a river.", "Another."] if key == "turns" else "Name a river."
    (tmp_path / "a.jsonl").write_text(json.dumps({key: value, "output": "x"}))
    assert contamination.prompts(str(tmp_path / "a.jsonl")) == [value]
