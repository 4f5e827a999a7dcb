"""SELF-GUIDE: the prompts of the student, the filters, the vote, and the error where nothing is kept."""

from random import Random

import pytest

from lib import prompts
from lib.errors import UserError
from lib.models.types import NO_ROOM, Completion
from lib.self_guide import filters, generate
from lib.self_guide.target import Demo, Target

DEMOS = (Demo("the red house", "house"), Demo("a small dog", "dog"), Demo("one green tree", "tree"))
TARGET = Target("last", "Give the last word.", DEMOS)
YES_NO = Target(
    "is it red", "Say whether it is red.", (Demo("a rose", "yes"), Demo("grass", "no")), ("no", "yes")
)


def replies(*texts, finish="stop"):
    return [Completion(text, finish_reason=finish) for text in texts]


def fates(texts, target=TARGET, finish="stop"):
    used = filters.input_filters(target)
    answered = replies(*texts, finish=finish)
    return [filters.fate(reply, generate.clean_reply(reply.text), used) for reply in answered]


def test_each_text_fails_at_the_first_filter_that_it_does_not_pass():
    texts = ["", "x", "a" * 40, "Sure! Here you are", "the blue house", "the blue house", "a small dog"]
    assert fates(texts) == ["empty", "length", "length", "noise", "kept", "duplicate", "duplicate"]


def test_what_the_token_limit_cut_is_not_kept_unless_the_input_had_ended():
    assert fates(["the blue house"], finish="length") == ["cut"]
    assert fates(["the blue house\nInput: another"], finish="length") == ["kept"]
    assert fates([""], finish=NO_ROOM) == [NO_ROOM]
    assert filters.fate(Completion("", "hm"), "", filters.input_filters(TARGET)) == "cut"  # thoughts alone


@pytest.mark.parametrize(
    ("lengths", "bounds"),
    [
        ([10, 20, 30], (20 - 2 * 8.165, 20 + 2 * 8.165)),
        ([4, 4, 4], (2, 6)),  # no spread: a quarter of 4 stands in
        ([4], (1, 16)),  # the spread of one or two says nothing
        ([2, 6], (1, 16)),
    ],
)
def test_length_bounds_are_two_deviations_around_the_mean(lengths, bounds):
    assert filters.length_bounds(["a" * n for n in lengths]) == pytest.approx(bounds, abs=0.01)


def test_where_nothing_is_kept_the_most_frequent_fate_is_named_with_its_bound_and_three_texts():
    texts = ["", "x" * 500, "y", "z", "w"]
    used = filters.input_filters(TARGET)
    with pytest.raises(UserError) as error:
        filters.require_some_kept(fates(texts), texts, used)
    for part in ("length", "7 to 19 characters", "none of 5", f"{'x' * 60!r}, 'y', 'z'."):
        assert part in str(error.value)
    filters.require_some_kept(["empty", "kept"], ["", "a"], used)


def test_a_prompt_shows_all_demonstrated_inputs_and_up_to_ten_earlier_ones():
    template, earlier = prompts.template("self_guide_input"), [f"earlier {i}" for i in range(30)]
    counts = set()
    for seed in range(40):
        [turn] = generate.input_prompt(TARGET, earlier, "", Random(seed), template)
        assert all(demo.input in turn["content"] for demo in DEMOS)
        assert not any(f"Output: {demo.output}" in turn["content"] for demo in DEMOS)
        counts.add(turn["content"].count("Input: earlier"))
    assert min(counts) == 1 and max(counts) == 10


def test_an_output_prompt_without_demonstrations_is_the_instruction_and_the_input():
    [turn] = TARGET.prompt("a {red} cat", ())
    assert turn["content"] == "Give the last word.\nInput: a {red} cat\nOutput:"


def test_rounds_show_what_was_kept_before_and_never_more(monkeypatch):
    shown = []

    def ask(batch, number):
        shown.append([turn["content"] for [turn] in batch])
        return replies(f"the new house {number}", "", f"the old tree {number}")

    monkeypatch.setattr(generate, "ROUND_PROMPTS", 3)
    template = generate.input_template(TARGET, "self_guide_input")
    written = generate.write_inputs(TARGET, ask, template, rounds=3)
    assert [each.fate for each in written] == ["kept", "empty", "kept"] * 3
    assert all("(none yet)" in prompt for prompt in shown[0])
    assert all("house 0" in prompt or "tree 0" in prompt for prompt in shown[1])
    assert not any("house 2" in prompt for prompt in shown[2])


def test_a_classification_asks_for_inputs_of_every_label_and_forgets_it():
    requests = []

    def ask(batch, number):
        requests.extend(turn["content"] for [turn] in batch)
        return replies(*(f"thing {number} {i}" for i in range(len(batch))))

    template = generate.input_template(YES_NO, "self_guide_input")
    written = generate.write_inputs(YES_NO, ask, template, rounds=10)
    labels = [each.label for each in written]
    assert {"yes", "no"} == set(labels) and 25 < labels.count("yes") < 75
    assert all(f'output is "{label}"' in prompt for label, prompt in zip(labels, requests, strict=True))


def test_the_prompts_of_a_round_are_what_the_batch_sends():
    sent, template = [], generate.input_template(TARGET, "gym_input")

    def ask(batch, number):
        sent.append(batch)
        return replies(*(f"a new house {number}{i}" for i in range(len(batch))))

    written = generate.write_inputs(TARGET, ask, template, rounds=2)
    earlier = [each.text for each in written if each.round == 0]
    rounds = [generate.round_prompts(TARGET, kept, n, template, 0) for n, kept in enumerate(([], earlier))]
    assert [batch for _, batch in rounds] == sent


def test_each_filter_says_what_it_makes_of_a_reply():
    table = filters.checks(Completion("Sure!"), "Sure!", filters.input_filters(TARGET))
    assert list(table.loc[~table["kept"], "filter"]) == ["length", "noise"]


def labelled(*rows):
    votes = [vote(*texts) for texts in rows]
    return generate.tabulate([f"input {i}" for i in range(len(votes))], votes)


def test_the_account_counts_inputs_and_samples_by_fate_with_its_bound():
    table = labelled(["house", "house"], ["tree", ""], ["", "x" * 99, ""])
    account = filters.account(table, filters.output_filters(TARGET))
    assert account[["inputs", "samples"]].T.to_dict("list") == {
        "kept": [2, 3],
        "empty": [1, 3],
        "length": [0, 1],
    }
    assert account.loc["length", "bounds"].endswith("characters")
    assert filters.dropped_counts(table["fate"]) == {"dropped.empty": 1}
    assert list(filters.dropped(table)["input"]) == ["input 2"]


def test_accuracy_is_of_the_outputs_that_are_kept_where_what_is_right_is_known():
    table = labelled(["house", "house"], ["tree"], [""])
    checked = table.assign(right=[True, False, True])
    accuracy = generate.accuracy(synthetic=checked, validation=table.assign(right=None))
    assert accuracy.to_dict("index") == {"synthetic": {"right": 0.5, "kept": 2}}


def vote(*texts, target=TARGET):
    return generate.choose_output(target, replies(*texts), filters.output_filters(target), 0.3)


def test_the_most_frequent_output_is_chosen_and_the_shortest_of_equals():
    assert vote("house", "house", "tree").output == "house"
    assert vote("house", "tree", "tree", "house").output == "tree"


def test_the_share_is_of_all_samples_those_that_were_dropped_included():
    winner = vote("house", "house", "", "", "", "", "", "", "", "")
    assert (winner.output, winner.share, winner.fate) == ("house", 0.2, "self-consistency")
    assert winner.samples == {"kept": 2, "empty": 8}


def test_an_input_without_any_output_says_why():
    assert vote("", "", "x" * 99).fate == "empty"
    assert vote("", "x" * 99, "y" * 99)[3:] == ("x" * 99, "length")


def test_labels_are_read_from_what_is_said_and_their_length_does_not_count():
    winner = vote("The answer is yes", "yes", "no", "who knows", target=YES_NO)
    assert (winner.output, winner.share) == ("yes", 0.5)
    assert winner.samples == {"kept": 3, "no label": 1}
