"""Target tasks: from a Super-NaturalInstructions file, from parameters, from the embedded world."""

import gzip
import json
import lzma
from collections import Counter
from dataclasses import asdict

import pytest

from lib import paths
from lib.errors import UserError
from lib.evaluation import natural_instructions as ni
from lib.evaluation import statistics
from lib.gym import operations, split_of
from lib.self_guide import target

DEMOS = [{"input": f"word {i}", "output": ["odd", "even"][i % 2], "explanation": "…"} for i in range(4)]


def task_file(folder, instances, demos=DEMOS, suffix=".json", **more):
    task = {"Definition": ["Say whether it is odd."], "Positive Examples": demos, "Instances": instances}
    path = folder / f"task1_parity{suffix}"
    write = {".json": open, ".gz": gzip.open, ".xz": lzma.open}[path.suffix]
    with write(path, "wt") as file:
        json.dump(task | more, file)
    return str(path)


def instances(n, labels=("odd", "even")):
    return [{"id": f"x-{i}", "input": f"number {i}", "output": [labels[i % len(labels)]]} for i in range(n)]


@pytest.mark.parametrize("suffix", [".json", ".json.gz", ".json.xz"])
def test_a_task_file_is_a_target_compressed_or_not(tmp_path, suffix):
    material = target.load(task_file(tmp_path, instances(40), suffix=suffix))
    assert material.target.name == "task1_parity" and material.target.instruction == "Say whether it is odd."
    assert material.target.labels == ("even", "odd")
    assert [demo.input for demo in material.target.demos] == ["word 0", "word 1", "word 2"]


def test_a_tenth_is_for_validation_label_by_label_the_same_at_every_start(tmp_path):
    path = task_file(tmp_path, instances(100))
    _, validation, test, _ = target.load(path)
    assert Counter(each.references[0] for each in validation) == {"odd": 5, "even": 5}
    assert len(test) == 90 and not {each.input for each in validation} & {each.input for each in test}
    assert target.load(path).validation == validation


def test_equal_inputs_stay_on_one_side(tmp_path):
    twice = [dict(each, id=f"{each['id']}-{k}") for each in instances(40) for k in range(2)]
    _, validation, test, _ = target.load(task_file(tmp_path, twice))
    assert len(validation) == 8 and not {each.input for each in validation} & {each.input for each in test}


def test_a_label_that_a_demonstration_alone_has_is_a_label_and_is_named(tmp_path):
    demos = [*DEMOS[:2], {"input": "word 9", "output": "neither"}]
    material = target.load(task_file(tmp_path, instances(40), demos))
    assert material.target.labels == ("even", "odd", "neither")
    assert "No instance has the label `neither`" in target.describe(material)


def test_few_shots_show_every_label_before_one_of_them_twice(tmp_path):
    demos = [{"input": f"w{i}", "output": label} for i, label in enumerate(["odd", "odd", "odd", "even"])]
    shown = target.load(task_file(tmp_path, instances(40), demos), shots=2).target.demos
    assert [demo.output for demo in shown] == ["odd", "even"]


@pytest.mark.parametrize("outputs", [["odd", "it is odd"], ["answer {i}"]])
def test_several_references_or_outputs_that_hardly_recur_make_a_generation(tmp_path, outputs):
    texts = [[text.format(i=i % 6) for text in outputs] for i in range(12)]
    many = [{"input": f"number {i}", "output": references} for i, references in enumerate(texts)]
    material = target.load(task_file(tmp_path, many))
    assert material.target.labels == () and material.test[0].references in texts


def test_white_space_around_an_output_makes_no_other_label_and_blank_outputs_are_counted(tmp_path):
    some = instances(20) + [{"input": "n", "output": ["odd\n"]}, {"input": "m", "output": [" "]}]
    material = target.load(task_file(tmp_path, some))
    assert material.target.labels == ("even", "odd") and material.blank == 1
    assert len(material.validation) + len(material.test) == 21


def test_a_single_demonstration_is_enough_and_none_is_refused(tmp_path):
    assert len(target.load(task_file(tmp_path, instances(40), DEMOS[:1])).target.demos) == 1
    with pytest.raises(UserError, match="there is no demonstration"):
        target.load(task_file(tmp_path, instances(40), []))
    given = [{"input": "a", "output": "odd"}]
    assert target.load(task_file(tmp_path, instances(40), []), demos=given).target.demos == (("a", "odd"),)


@pytest.mark.parametrize("demo", [{"input": "a"}, {"input": "", "output": "odd"}])
def test_a_demonstration_that_is_none_is_named(tmp_path, demo):
    with pytest.raises(UserError, match="number 2: an input or an output is missing"):
        target.load(task_file(tmp_path, instances(40), [DEMOS[0], demo]))


def test_what_is_written_is_read_again(tmp_path):
    material = target.load(task_file(tmp_path, instances(40)))
    target.write(material, tmp_path)
    assert target.read(tmp_path) == material


VALUES = {"task": "", "instruction": "", "demos": [], "labels": [], "gold": "", "shots": 3}


def test_a_target_can_be_written_down_with_gold_from_a_file(tmp_path):
    gold = tmp_path / "gold.jsonl"
    gold.write_text(
        '{"instruction": "Odd?", "input": "7", "output": "odd"}\n{"instruction": "8", "output": "even"}\n'
    )
    values = {"instruction": "Odd?", "demos": [{"input": "3", "output": "odd"}], "labels": ["odd", "even"]}
    values |= {"gold": str(gold)}
    material = target.from_parameters(VALUES | values)
    assert asdict(material.target)["labels"] == ("odd", "even")
    assert [(each.input, each.references) for each in material.test] == [("7", ["odd"]), ("8", ["even"])]


def test_a_strange_label_in_demonstrations_or_gold_is_refused(tmp_path):
    values = {"instruction": "Odd?", "demos": [{"input": "3", "output": "uneven"}], "labels": ["odd", "even"]}
    with pytest.raises(UserError, match="demos: the outputs uneven"):
        target.from_parameters(VALUES | values)
    (tmp_path / "gold.jsonl").write_text('{"instruction": "7", "output": "Odd"}')
    values |= {"demos": [{"input": "3", "output": "odd"}], "gold": str(tmp_path / "gold.jsonl")}
    with pytest.raises(UserError, match="gold: the outputs Odd"):
        target.from_parameters(VALUES | values)


# The embedded world


def test_a_chain_of_operations_holds_its_test_out_of_what_may_be_learnt():
    material = operations.load("gym:first_two,repeat", split="test")
    assert material.target.instruction == "Keep the first two letters, then write it twice."
    assert {split_of("first_two repeat", each.input) for each in material.test} == {"test"}
    learnt = [*material.target.demos, *material.validation]
    assert {split_of("first_two repeat", each.input) for each in learnt} == {"train"}
    assert all(each.references == [each.input[:2] * 2] for each in material.test)
    assert operations.right(material.target, ["Anything at all"], ["AnAn"]) == [True]


@pytest.mark.parametrize("source", ["gym:", "gym:revers", "gym:first_two drop_first drop_first"])
def test_what_is_no_chain_is_refused(source):
    with pytest.raises(UserError, match="operation"):
        operations.load(source)


def test_the_prompt_of_a_corpus_row_is_the_one_that_the_evaluation_asks():
    prompt = operations.phrasing("first_two repeat").format(x="horse")
    assert prompt.startswith(operations.describe(("first_two", "repeat")))
    assert prompt.endswith("Input: horse\nOutput:") and prompt.count("Output:") == 4


# Recorded task files


FOLDER = paths.recorded_data() / "natural_instructions"
recorded = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no recorded task files in {FOLDER}")
FILES = {  # file: instances, labels by an independent count of the distinct outputs
    "task1529_scitail1.1_classification": (5060, ("entails", "neutral")),
    "task329_gap_classification": (4449, ("A", "B", "Neither")),
    "task937_defeasible_nli_social_classification": (6499, ("strengthener", "weakener")),
    "task281_points_of_correspondence": (1475, ()),
    "task1562_zest_text_modification": (142, ()),
    "task121_zest_text_modification": (127, ()),
    "task1195_disflqa_disfluent_to_fluent_conversion": (6494, ()),
}


@recorded
@pytest.mark.parametrize("name", FILES)
def test_a_recorded_file_has_its_instances_labels_and_baselines(name):
    path = FOLDER / f"{name}.json.xz"
    whole = json.loads(lzma.decompress(path.read_bytes()))["Instances"]
    material = target.load(str(path))
    assert (len(material.validation) + len(material.test), material.target.labels) == FILES[name]
    assert len(material.validation) == pytest.approx(0.1 * len(whole), rel=0.02, abs=2)

    # by hand: the rows of the test, looked up in the file by their input
    outputs = {each["input"]: each["output"] for each in whole}
    inputs = [each.input for each in material.test]
    means = statistics.means(ni.scores("copy_input", material.target, material.test, inputs))
    if material.target.labels:
        most = Counter(outputs[text][0] for text in inputs).most_common(1)[0][1]
        scores = ni.scores("majority", material.target, material.test, ni.majority(material.test))
        assert statistics.means(scores)["ni.majority.exact_match"] == pytest.approx(most / len(inputs))
    else:
        by_hand = [
            2 * lcs(text, each.references[0]) / (len(text) + len(each.references[0]))
            for text, each in zip(inputs[:20], material.test, strict=False)
        ]
        few = statistics.means(ni.scores("copy_input", material.target, material.test[:20], inputs[:20]))
        assert few["ni.copy_input.rouge_l_char"] == pytest.approx(sum(by_hand) / 20)
        assert 0 < means["ni.copy_input.rouge_l"] < 1


def lcs(a, b):
    """The length of the longest common subsequence, by the textbook's table."""
    row = [0] * (len(b) + 1)
    for char in a:
        before = row[:]
        for j, other in enumerate(b):
            row[j + 1] = before[j] + 1 if char == other else max(row[j], before[j + 1])
    return row[-1]
