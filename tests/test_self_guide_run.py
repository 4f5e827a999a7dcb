"""SELF-GUIDE from end to end on task files, through papermill, by the student in the repository: really written, taught and asked."""

import json
import lzma
from random import Random

import pytest

from lib.errors import UserError
from lib.gym import operations
from lib.run import run_study

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("forked_kernels")]
FIRST = ("first_two", "drop_last")  # the first letter, which is the label
SMALL = {"student": "lib/gym/student", "input_rounds": "12", "input_tokens": "30", "input_temperature": "1.0"}
SMALL |= {"input_prompt": "gym_input", "output_samples": "4"}
SMALL |= {"max_new_tokens": "20", "max_length": "1024", "test_rows": "40", "validated_rows": "10"}
SMALL |= {"learning_rate": "2e-4", "batch_size": "16", "hardware": "cpu"}


def words(letters, n):
    rng, drawn = Random("words"), set()
    while len(drawn) < n:
        text = operations.word(rng)
        drawn |= {text} if text[0] in letters else set()
    return sorted(drawn)


def write(folder, instances, demos, definition):
    task = {"Definition": definition, "Positive Examples": demos, "Instances": instances}
    path = folder / "task7_letters.json.xz"
    path.write_bytes(lzma.compress(json.dumps(task).encode()))
    return str(path)


def run(folder, monkeypatch, task, **more):
    monkeypatch.setenv("OUTPUTS", str(folder / "outputs"))
    return run_study("params/self_guide.yaml", SMALL | {"task": task} | more, "letters")


def test_a_classification_with_a_label_that_gold_lacks_goes_through(tmp_path, monkeypatch):
    instances = [{"input": text, "output": [text[0]]} for text in words("abc", 120)]
    demos = [{"input": text, "output": text[0]} for text in ("apple", "ball", "cold", "dusk")]
    task = write(tmp_path, instances, demos, [operations.describe(FIRST)])
    summary = run(tmp_path, monkeypatch, task, shots="0")
    metrics = summary["arms"]["main"]["metrics"]
    lines = ["", "zero_shot.", "few_shot.", "self_consistency.", "constrained.", "self_icl."]
    lines += ["synthetic_in_context.", "demos_only.", "shuffled_labels.", "gold.", "majority.", "copy_input."]
    for line in lines:
        for metric in ("exact_match", "exact_match_substring", "parsable"):
            assert 0 <= metrics[f"ni.{line}{metric}"] <= 1, (line, metric)
        assert metrics[f"ni.{line}exact_match_low"] <= metrics[f"ni.{line}exact_match_high"]
    assert metrics["ni.n"] == 40 and metrics["ni.constrained.parsable"] == 1
    assert metrics["ni.copy_input.parsable"] == 0  # "apple" is not the label "a"
    assert "When does teaching itself" in (tmp_path / "outputs/letters/report.html").read_text()
    pairs = {name.partition("pairs.")[2]: n for name, n in metrics.items() if "pairs." in name}
    lost = sum(n for name, n in pairs.items() if name.startswith("dropped."))
    assert pairs["labelled"] == pairs["kept"] + lost  # each loss has its cause


def test_a_generation_with_several_references_and_one_demonstration_goes_through(tmp_path, monkeypatch):
    chain = ("reverse", "upper")
    instances = [
        {"input": text, "output": [operations.apply(chain, text), text]} for text in words("defgh", 60)
    ]
    demos = [{"input": "cat", "output": "TAC"}]
    task = write(tmp_path, instances, demos, operations.describe(chain))
    metrics = run(tmp_path, monkeypatch, task)["arms"]["main"]["metrics"]
    for line in ("", "few_shot.", "demos_only.", "gold.", "copy_input."):
        for metric in ("rouge_l", "rouge_l_char", "exact_match"):
            assert 0 <= metrics[f"ni.{line}{metric}"] <= 1, (line, metric)
    assert (
        metrics["ni.copy_input.rouge_l"] == metrics["ni.copy_input.exact_match"] == 1
    )  # the second reference
    assert metrics["ni.copy_input.rouge_l_char"] < 0.5  # the first one alone counts
    assert "ni.majority.exact_match" not in metrics


def test_a_filter_that_rejects_everything_stops_the_run_and_names_itself(tmp_path, monkeypatch):
    demos = [{"input": text * 20, "output": text[0]} for text in ("apple", "ball", "cold")]
    instances = [{"input": text, "output": [text[0]]} for text in words("abc", 60)]
    task = write(tmp_path, instances, demos, [operations.describe(FIRST)])
    with pytest.raises(
        UserError,
        match=r"none of 20 inputs is kept.*filter length \(kept: 44 to 130 characters\).*'.*', '.*', '.*'",
    ):
        run(tmp_path, monkeypatch, task, input_rounds="2")
