"""What the evaluation notebooks show and write: one prompt, one check, one verdict, one loss, an overlap."""

import json

import pandas as pd
import pytest

from lib import models, paths, records, show
from lib.errors import UserError
from lib.evaluation import alpaca, ifeval, metrics, mt_bench, shared
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


def test_the_exact_judge_has_a_prompt_to_show_but_no_length_controlled_win_rate_and_says_why():
    prompts = questions.instructions(1)[:2]
    pairs = pd.DataFrame({"instruction": [row["instruction"] for row in prompts]})
    pairs = pairs.assign(output_1="no", output_2="no", generator_1="reference", generator_2="student")
    shown = alpaca.judge_prompt(pairs, "exact")
    assert prompts[0]["instruction"] in shown["user"] and set(shown) == {"system", "user"}
    lc = alpaca.length_control(questions.prefer(pairs, prompts), "exact", "")
    assert "fitted with the annotator" in lc.reason and str(lc) == "none" and lc.low is None


# Files of another form or of another evaluation set

OUTPUT = {"instruction": "Hi", "output": "a", "dataset": "d", "generator": "ref"}
PROMPT = {"key": 1, "prompt": "Hi", "instruction_id_list": [], "kwargs": []}
QUESTIONS = [{"question_id": 1, "category": "math", "turns": ["What is 2 + 2?", "And plus 3?"]}]
JUDGMENT = {"question_id": 1, "turn": 1, "judgment": "[[9]]"}
LOADERS = {
    "outputs": lambda source: alpaca.pair([OUTPUT], alpaca.outputs(source, "model_outputs")),
    "prompts": ifeval.prompts,
    "responses": lambda source: ifeval.responses(source, [PROMPT]),
    "answers": lambda source: mt_bench.answers(source, "answers", QUESTIONS),
    "judgments": lambda source: mt_bench.recorded(QUESTIONS, source),
}
MISFITS = [
    ("outputs", [], "holds no records"),
    ("outputs", [OUTPUT | {"output": None}], "model_outputs: .*row 1: `output` must be a text, not None"),
    ("outputs", [OUTPUT] * 2, "`instruction` 'Hi' repeats"),
    ("outputs", [OUTPUT, OUTPUT | {"instruction": "Sing"}], "1 of its prompts are outside .* such as 'Sing'"),
    ("prompts", [{"key": 1, "prompt": "Hi"}], "`instruction_id_list` must be a list, not None"),
    ("prompts", [PROMPT, PROMPT | {"prompt": "Another"}], "`key` 1 repeats"),
    ("responses", [{"prompt": "No", "response": "a"}], "outside the evaluation set, such as 'No'"),
    ("answers", [{"question_id": 1, "choices": []}], "the answer to 1 has no two turns of text"),
    ("answers", [{"question_id": 1, "choices": [{"turns": ["one", None]}]}], "answer to 1 has no two turns"),
    ("answers", [{"question_id": 9, "choices": [{"turns": ["one", "two"]}]}], "outside .* such as 9"),
    ("judgments", [{"question_id": 1, "turn": 1}], "`judgment` must be a text, not None"),
    ("judgments", [JUDGMENT | {"question_id": 7}], r"outside the evaluation set, such as \(7, 1\)"),
    ("judgments", [JUDGMENT | {"model": name} for name in "ab"], "judgments=.* is of a, b. Keep one"),
]


@pytest.mark.parametrize(("kind", "rows", "fault"), MISFITS)
def test_a_file_of_another_form_or_of_another_evaluation_set_is_named(tmp_path, kind, rows, fault):
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    with pytest.raises(UserError, match=fault):
        LOADERS[kind](str(tmp_path / "rows.json"))


# Prompts that the student may have been trained on

PROMPTS = [{"key": 1, "prompt": "Write a poem about the sea."}, {"key": 2, "prompt": "Name three rivers."}]
SCORES = pd.DataFrame(
    {"metric": "m.score", "stratum": "all", "weight": 1.0, "id": ["1", "2"], "score": [1.0, 0.0]}
)


class Stage:
    """A stage whose student's training stage had these rows as its inputs."""

    def __init__(self, folder, **inputs):
        paths = {name: str(records.write(rows, folder / f"{name}.parquet")) for name, rows in inputs.items()}
        self.records = {"student_from": {"inputs": paths | {"student_from": None}}}

    def record_of(self, name):
        return self.records[name]


def test_prompts_in_the_corpus_or_the_pool_are_counted_and_left_out(tmp_path):
    texts = {"corpus_from": ["write a poem about THE SEA", "b"], "pool_from": ["c"]}
    rows = {name: records.build({"instruction": t, "response": "a"} for t in texts[name]) for name in texts}
    sentence, metrics = shared.overlap(Stage(tmp_path, **rows), SCORES, PROMPTS, "prompt", "key", "m.score")
    assert metrics == {"m.touched": 1, "m.score_untouched": 0.0}
    assert sentence.startswith("1 of 2 prompts are touched by the 3 training rows")
    sentence, metrics = shared.overlap(Stage(tmp_path), SCORES, PROMPTS, "prompt", "key", "m.score")
    assert metrics == {} and "not known here" in sentence


def test_model_text_is_escaped_in_a_table_and_out_of_it():
    long = [{"<b>": 0.123, "reply": "<script>alert(1)</script> <img src=x onerror=alert(1)>"}]
    short = [{"<b>": 1, "reply": "<script>"}, {"<b>": 2, "reply": "no"}]
    for rows in (long, short):
        page = show.texts(pd.DataFrame(rows), ["<b>"], ["reply"]).data
        assert "<script" not in page and "<img" not in page and "<b>" not in page and "&lt;b&gt;" in page
    assert show.code("a`<b>\nc") == "`a'<b> c`"


def test_metrics_take_the_nearest_reference_but_for_characters_which_take_the_first():
    assert metrics.exact_match(["a ", "b", "c", "d"], [["x", "a"], ["b"], ["x"], ["D"]]) == 0.5
    assert metrics.rouge_l(["the cats ran"], [["a dog", "The cat ran"]]) == 1  # words are stemmed
    assert metrics.rouge_l(["one two three four"], [["one three"]]) == pytest.approx(2 * 1 * 0.5 / 1.5)
    assert metrics.rouge_l_char(["abcd"], [["abxd", "abcd"]]) == 0.75
    assert metrics.rouge_l_char([""], [["ab"]]) == 0


@pytest.mark.parametrize("measure", [metrics.exact_match, metrics.rouge_l, metrics.rouge_l_char])
@pytest.mark.parametrize(("predictions", "gold"), [([], []), (["a"], []), (["a"], [[]])])
def test_responses_without_references_are_refused(measure, predictions, gold):
    with pytest.raises(ValueError, match="each prediction needs its own list"):
        measure(predictions, gold)
