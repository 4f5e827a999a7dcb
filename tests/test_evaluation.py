"""Prompts that the student may have been trained on, and model text that is shown."""

import pandas as pd

from lib import records, show
from lib.evaluation import shared

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
    corpus = records.build(
        {"instruction": text, "response": "a"} for text in ("write a poem about THE SEA", "b")
    )
    stage = Stage(
        tmp_path, corpus_from=corpus, pool_from=records.build([{"instruction": "c", "response": "a"}])
    )
    sentence, metrics = shared.overlap(stage, SCORES, PROMPTS, "prompt", "key", "m.score")
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
