"""The table of one task: its baselines, and what a gain is."""

import pandas as pd
import pytest

from lib import models, paths, prompts, records
from lib.errors import UserError
from lib.evaluation import natural_instructions as ni
from lib.evaluation import statistics
from lib.gym import operations
from lib.models import catalog
from lib.models.server import ServerBackend
from lib.models.types import SamplingParams
from lib.self_guide import pairs
from lib.self_guide.generate import GeneratedInput, LabelledInput, TaskPrompter
from lib.self_guide.target import Demo, Instance, Material, Target

DEMOS = (Demo("cat", "tac"), Demo("horse", "esroh"), Demo("bd", "db"))
REVERSE = Target("reverse", "Reverse it.", DEMOS, exact=True)
CHOICE = Target("reverse", "Reverse it.", DEMOS, labels=("tar", "rat", "not_tar"))
WRITTEN = {
    "input_prompt": "gym_input",
    "input_temperature": 1.0,
    "output_samples": 4,
    "output_temperature": 0.2,
}


class Stage:
    """A stage whose inputs were written by stages with these parameters."""

    parameters = {"seed": 0, "max_length": 1024}

    def __init__(self, **written):
        self.written = written

    def record_of(self, name):
        return {"parameters": self.written}


@pytest.fixture(scope="module")
def embedded():
    return models.load(paths.ROOT / "lib/gym/student")


def asking(student, target=REVERSE):
    return TaskPrompter(student, target, SamplingParams(max_tokens=16))


def baselines(student, target=REVERSE):
    return ni.prompting_baselines(Stage(**WRITTEN), asking(student, target), [Demo("owl", "lwo")])


def test_every_way_of_asking_gives_a_response_for_each_input(embedded):
    responses = {name: respond(["rat", "mouse"]) for name, respond in baselines(embedded).items()}
    for name in ("few_shot", "self_consistency", "synthetic_in_context"):
        assert responses.pop(name) == ["tar", "esuom"]
    assert responses.keys() == {"zero_shot", "self_icl"} and len(responses["zero_shot"]) == 2
    assert len(responses["self_icl"]) == 2 and all(responses["self_icl"])


def test_sampling_is_that_of_the_stages_that_wrote_the_pairs_and_without_them_it_is_not_known(embedded):
    with pytest.raises(UserError, match="target_from, pairs_from: no stage wrote both"):
        ni.prompting_baselines(Stage(), asking(embedded), [])


def test_pseudo_inputs_are_neither_empty_nor_repeats(embedded):
    sampling = {"n": 9, "temperature": 1.0, "top_k": 40}
    [new] = asking(embedded).new_inputs(["rat"], prompts.template("gym_input"), **sampling)
    assert 1 < len(new) == len(set(new)) <= 9 and "" not in new and "rat" not in new


def test_constrained_decoding_says_a_label_where_the_prompt_leaves_room(embedded):
    inputs = ["rat", "tar", "x" * 2000]
    assert baselines(embedded, CHOICE)["constrained"](inputs) == ["tar", "rat", ""]


def test_only_a_student_that_is_loaded_here_can_be_held_to_labels(embedded):
    served = ServerBackend(catalog.find("m@http://localhost:1/v1"))
    assert "constrained" not in baselines(embedded) | baselines(served, CHOICE)


def test_a_prompt_without_room_is_not_asked_and_scores_nothing(embedded):
    who = asking(embedded)
    assert who.responses(["x" * 2000, "rat"], DEMOS) == ["", "tar"] and who.unanswered == {"no room": 1}


TEST = [Instance("1", "rat", ["tar"]), Instance("2", "pot", ["top", "opt"])]


def test_a_classification_is_scored_by_the_whole_label_and_by_the_authors_rule():
    means = statistics.means(ni.scores("", CHOICE, TEST[:1], ["start"]))
    assert means == {"ni.exact_match": 0, "ni.exact_match_substring": 1, "ni.parsable": 0}


def test_a_generation_is_scored_against_the_nearest_reference_and_by_characters_against_the_first():
    means = statistics.means(ni.scores("copy_input", REVERSE, TEST, ["tar", "opt"]))
    assert means["ni.copy_input.rouge_l"] == means["ni.copy_input.exact_match"] == 1
    char = means["ni.copy_input.rouge_l_char"]
    assert char == pytest.approx((1 + 2 / 3) / 2)  # "op" of "opt" against "top"


def test_a_gain_is_paired_row_by_row():
    parts = {"": ["tar", "pot"], "few_shot": ["tar", "top"], "gold": ["tar", "top"]}
    scores = pd.concat([ni.scores(name, REVERSE, TEST, texts) for name, texts in parts.items()])
    gains = ni.gains(scores, "exact_match")
    assert statistics.means(gains) == {
        f"ni.gain_over.{name}.exact_match": -0.5 for name in ("few_shot", "gold")
    }
    assert gains[gains["id"] == "1"]["score"].eq(0).all()


# Synthetic pairs as rows


def written(*texts):
    return [GeneratedInput(text, "", 0, "kept" if text else "empty") for text in texts]


def labelled(output, share=1.0, fate="kept"):
    return LabelledInput(output, share, {}, output or "", fate)


def training_set(baseline):
    """The rows of a baseline, beside twenty pairs."""
    instances = [Instance(str(i), str(i), [f"out {i}"]) for i in range(20)]
    synthetic = pairs.pair_rows(
        pairs.input_rows(REVERSE, written(*(each.input for each in instances))),
        [labelled(each.references[0]) for each in instances],
    )
    return pairs.training_sets(Material(REVERSE, instances, []), synthetic, [baseline], seed=0)[baseline]


def test_pairs_keep_the_output_that_the_vote_gave_and_lose_the_others():
    rows = pairs.input_rows(REVERSE, written("rat", "", "pot", "owl"))
    synthetic = pairs.pair_rows(
        rows, [labelled("tar"), labelled(None, 0, "length"), labelled("lwo", 0.2, "self-consistency")]
    )
    assert pairs.input_texts(rows) == ["rat", "pot", "owl"] and pairs.as_demos(synthetic) == [("rat", "tar")]
    [row] = synthetic
    assert (row["response_from"], row["source"]) == ("student", "self_guide:reverse")
    assert records.messages(row) == REVERSE.prompt("rat", DEMOS)


def test_a_demonstration_is_taught_after_the_others_alone():
    rows = training_set("demos_only")
    assert rows["response"][:] == [demo.output for demo in DEMOS]
    for demo, row in zip(DEMOS, rows, strict=True):
        assert f"Output: {demo.output}" not in row["instruction"]


def test_shuffled_labels_are_the_same_outputs_behind_other_inputs():
    gold, shuffled = training_set("gold"), training_set("shuffled_labels")
    assert sorted(shuffled["response"]) == sorted(gold["response"])
    assert shuffled["response"][:] != gold["response"][:]
    assert shuffled["instruction"][:] == gold["instruction"][:]


def test_what_is_right_is_known_in_the_embedded_world_alone():
    chain = operations.load("gym:first_two,repeat").target
    assert operations.right(chain, ["horse", "owl"], ["hoho", "owl"]) == [True, False]
    assert operations.right(CHOICE, ["rat"], ["tar"]) is None


def test_self_bleu_is_100_for_repeats_and_low_for_what_has_nothing_in_common():
    apart = ["the cat sat here", "a dog ran off now", "why do birds sing so"]
    measures = pairs.diversity(["the cat sat on a mat"] * 5, apart)
    assert measures["inputs"] == pytest.approx(100) and measures["demos"] < 10 and measures["size"] == 3
