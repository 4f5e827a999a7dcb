"""The embedded world: what is held out stays out, answers and steps are right, credit is exact."""

import json
import re
import subprocess
import sys
from collections import Counter
from decimal import Decimal
from random import Random

import pandas as pd
import pytest
from reasoning_gym.arithmetic.leg_counting import ANIMALS

from lib import records
from lib.gym import families, split_of, world
from lib.gym.families import FAMILIES
from lib.gym.oracle import ExactOracle, mfd_by_cell

CELLS = families.cells() + families.cells(trained=False)
STEPPED = [name for name in FAMILIES if families.exercise(name, 1, Random(0)).steps]


def instances(family, level, n=200):
    rng = Random(f"{family} {level}")
    return [families.exercise(family, level, rng) for _ in range(n)]


def abouts(rows):
    return [json.loads(meta) for meta in rows["meta"]]


def payloads(rows):
    return {(about["family"], about["payload"]) for about in abouts(rows)}


def cells_of(rows):
    return Counter((about["family"], about["level"]) for about in abouts(rows))


@pytest.fixture(scope="module")
def corpus():
    return world.corpus(1500, seed=0)


@pytest.fixture(scope="module")
def evaluation():
    return {split: world.evaluation_set(split, 10) for split in ("dev", "test")}


# What is held out


def test_about_one_instance_in_ten_is_held_out_half_of_it_for_each_use():
    counts = Counter(split_of(c[0], instance.payload) for c in CELLS for instance in instances(*c))
    total = sum(counts.values())
    assert counts["train"] / total == pytest.approx(0.9, abs=0.02)
    assert counts["dev"] / total == pytest.approx(0.05, abs=0.015)


def test_corpus_and_expansion_share_no_instance_with_either_evaluation_set(corpus, evaluation):
    expanded, _ = ExactOracle().expand(corpus.select(range(500)))
    taught = payloads(corpus) | payloads(expanded)
    for rows in evaluation.values():
        assert not taught & payloads(rows)
        assert not set(corpus["instruction"]) & set(rows["instruction"])


def test_no_evaluation_set_asks_the_same_thing_twice(evaluation):
    for rows in evaluation.values():
        keys = [key for key in payloads(rows) if key[0] != "operations"]
        assert len(keys) == sum(about["family"] != "operations" for about in abouts(rows))


def test_evaluation_keeps_the_unseen_apart_from_the_taught(evaluation):
    for about in abouts(evaluation["test"]):
        cell = (about["family"], about["level"])
        taught = about["kind"] in ("trained", "unseen_phrasing")
        assert about["family"] == "operations" or taught == (cell in families.cells())


# Wordings


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_eight_wordings_of_the_same_content_two_of_them_held_out(family):
    held_out, trained = families.phrasings(family, held_out=True), families.phrasings(family)
    wordings = trained + held_out
    needed = [set(re.findall(r"{(\w+)}", text)) for text in wordings]
    assert len(set(wordings)) == len(wordings) >= 8
    assert all(names == needed[0] for names in needed)
    assert set(families.exercise(family, 1, Random(0)).slots) == needed[0]
    assert len(held_out) == 2


# Answers


def filtered(x, verb, side, bound):
    beyond = (lambda n: n > int(bound)) if side == "larger" else (lambda n: n < int(bound))
    return ", ".join(n for n in x.split(", ") if beyond(int(n)) == (verb == "keep")) or "none"


def constrained(x, constraints):
    words, rules = x.split(), constraints.split(", ")
    for rule in rules:
        if rule.startswith("give exactly"):
            words = words[: int(rule.split()[2])]
    text = (", " if "separate the words by commas" in rules else " ").join(words)
    text = text.upper() if "use upper case" in rules else text
    prefix = [rule.split()[-1] for rule in rules if rule.startswith("begin with")]
    return " ".join(prefix + [text])


SOLVERS = {
    "chain_sum": lambda x: str(eval(x)),
    "decimal_chain_sum": lambda x: str(eval(re.sub(r"[\d.]+", r"Decimal('\g<0>')", x), {"Decimal": Decimal})),
    "leg_counting": lambda x: str(sum(int(part.split()[0]) * ANIMALS[part.split(maxsplit=1)[1]] for part in x.split(", "))),
    "letter_counting": lambda letter, x: str(x.count(letter)),
    "word_sorting": lambda x, direction: ", ".join(sorted(x.split(", "), reverse=direction == "descending")),
    "number_sorting": lambda x, direction: ", ".join(sorted(x.split(", "), key=int, reverse=direction == "descending")),
    "spell_backward": lambda x: "".join(reversed(x)),
    "word_sequence_reversal": lambda x: ", ".join(reversed(x.split(", "))),
    "number_filtering": filtered,
    "needle_haystack": lambda x, fact: next(s for s in x[:-1].split(". ") if s.endswith(fact)).removesuffix(f" {fact}"),
    "format_constraints": constrained,
    "ransom_note": lambda x, letters: "yes" if Counter(x) <= Counter(letters) else "no",
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_agree_with_an_independent_computation(family):
    for level in range(1, len(FAMILIES[family].levels) + 1):
        for instance in instances(family, level):
            about = {"family": family, "answer": instance.answer, "payload": instance.payload}
            assert world.credit(about, f"Answer: {SOLVERS[family](**instance.slots)}") == 1, instance


# Worked steps

SUM = re.compile(r"(-?\d+) ([-+x]) (\d+) = (-?\d+)")


def value(step):
    """The result of an arithmetic step, after checking every equation in it."""
    equations = SUM.findall(step)
    for a, sign, b, result in equations:
        right = {"+": int(a) + int(b), "-": int(a) - int(b), "x": int(a) * int(b)}[sign]
        assert right == int(result), step
    return equations[-1][-1]


def counted(step, letter):
    letters, count = step.split(": ")
    assert letters.split().count(letter) == int(count), step
    return int(count)


CONCLUSIONS = {  # what worked steps lead to
    "chain_sum": lambda steps, given: [value(step) for step in steps][-1],
    "leg_counting": lambda steps, given: [value(step) for step in steps][-1],
    "letter_counting": lambda steps, given: str(sum(counted(step, given["letter"]) for step in steps)),
    "word_sorting": lambda steps, given: ", ".join(line.split(": ")[1] for line in steps),
    "number_sorting": lambda steps, given: ", ".join(line.split(": ")[1] for line in steps),
    "spell_backward": lambda steps, given: steps[-1].replace(" ", ""),
    "number_filtering": lambda steps, given: ", ".join(s.split()[0] for s in steps if s.endswith("kept")) or "none",
    "needle_haystack": lambda steps, given: steps[0].removesuffix(f" {given['fact']}."),
}  # fmt: skip


@pytest.mark.parametrize("family", STEPPED)
def test_worked_steps_are_right_and_lead_to_the_answer(family):
    for level in range(1, len(FAMILIES[family].levels) + 1):
        for instance in instances(family, level):
            steps = instance.steps.splitlines()
            assert CONCLUSIONS[family](steps, instance.slots) == instance.answer, instance


# Credit

SUM_OF_105 = {"family": "chain_sum", "answer": "105"}
ASKED = "constraints=use upper case, give exactly 2 words, separate the words by commas | x=red blue green"
UPPER = {"family": "format_constraints", "answer": "RED, BLUE", "payload": ASKED}
LISTED = {"family": "format_constraints", "payload": "constraints=begin with the word list: | x=red blue"}


@pytest.mark.parametrize(
    ("about", "response", "credit"),
    [
        (SUM_OF_105, "Answer: 105", 1),
        (SUM_OF_105, "48 + 50 = 98\n98 + 7 = 105\nAnswer: 105", 1),
        (SUM_OF_105, "answer:105", 1),
        (SUM_OF_105, "Answer: 106", 0),
        (SUM_OF_105, "The Answer: 105", 0),
        (SUM_OF_105, "Answer: 105\nAnswer: 106", 0),
        (SUM_OF_105, "", 0),
        ({"family": "decimal_chain_sum", "answer": "7.14"}, "Answer: 7.140", 1),
        ({"family": "chain_sum", "answer": "10"}, "Answer: 1", 0),
        ({"family": "word_sorting", "answer": "blue, red"}, "Answer: Blue,red", 1),
        ({"family": "word_sorting", "answer": "blue, red"}, "Answer: red, blue", 0),
        (UPPER, "Answer: RED, BLUE", 1),
        (UPPER, "Answer: red, blue", 0),
        (UPPER, "Answer: RED BLUE", 0),
        (UPPER, "Answer: RED, GREEN", 1),
        (UPPER, "Answer: GREEN, RED", 0),
        (UPPER, "Answer: RED, BLUE, GREEN", 0),
        (LISTED, "Answer: list: red blue", 1),
        (LISTED, "Answer: List: red, blue", 1),
        (LISTED, "Answer: red blue", 0),
        ({"family": "operations", "answer": "tac"}, "tac", 1),
        ({"family": "operations", "answer": "TAC"}, "tac", 0),
    ],
)
def test_credit_is_one_for_the_right_answer_line_and_else_zero(about, response, credit):
    assert world.credit(about, response) == credit


def test_scores_weigh_taught_cells_alike_and_once_more_as_the_corpus_does():
    rows = [("trained", "chain_sum", 1, "a"), ("trained", "spell_backward", 2, "b")]
    rows += [("unseen_level", "chain_sum", 3, "c")]
    replies = pd.DataFrame(rows, columns=["kind", "family", "level", "id"]).assign(credit=[1.0, 0.0, 1.0])
    table = world.score_table(replies).set_index(["metric", "id"])["weight"]
    assert table["gym.accuracy"].to_dict() == {"a": 1, "b": 1}
    assert table["gym.corpus_mix"].to_dict() == pytest.approx({"a": 0.04 * 0.6, "b": 0.20 * 0.4})
    assert table["gym.unseen_level"].to_dict() == {"c": 1}


# The corpus


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_the_noise_asked_for_is_the_share_of_wrong_corpus_responses(noise):
    rows = world.corpus(1500, seed=3, noise=noise)
    credits = [world.credit(a, text) for a, text in zip(abouts(rows), rows["corpus_response"], strict=True)]
    assert 1 - sum(credits) / len(credits) == pytest.approx(noise, abs=0.035 if noise else 0)


def test_the_corpus_has_the_uneven_mix_and_no_instance_twice(corpus):
    counts = cells_of(corpus)
    assert counts["spell_backward", 1] == 1500 * 0.20 * 0.6
    assert counts["leg_counting", 2] == 1500 * 0.02 * 0.4
    assert len(payloads(corpus)) == len(corpus)


def test_a_left_out_family_is_absent_and_the_others_keep_their_rows(corpus):
    counts = cells_of(world.corpus(1500, seed=0, leave_out=("chain_sum",)))
    full = cells_of(corpus)
    assert counts == {cell: n for cell, n in full.items() if cell[0] != "chain_sum"}


def test_the_failure_rate_stands_beside_the_mfd_of_expected_scores(corpus, tmp_path):
    verdicts = [
        {"order": order, "attempt": 1, "reply": "", "finish": "stop", "expected": expected}
        for order, expected in (("oracle_first", [8.0, 3.0]), ("student_first", [4.0, 8.0]))
    ]
    judged = records.update(corpus, verdicts=[verdicts] * len(corpus), mfd=[4.5] * len(corpus))
    records.write(judged, tmp_path / "rows.parquet")
    evaluated = pd.DataFrame(map(json.loads, corpus["meta"])).assign(kind="trained", credit=0.25)
    table = mfd_by_cell(tmp_path, evaluated)
    assert set(table["mfd"]) == {4.5} and set(table["one_order"]) == {5.0}
    assert set(table["failure"]) == {0.75} and set(table["hard_2"]) == {1.0}


# What is drawn

DRAWN = """
import hashlib
from lib.gym import operations, world
from lib.gym.oracle import ExactOracle
for seed in (5, 6):
    corpus, oracle = world.corpus(300, seed=seed), ExactOracle(oracle_error=0.3, seed=seed)
    drawn = {
        "corpus": [corpus[name][:] for name in ("id", "instruction", "response", "meta")],
        "held out": world.evaluation_set("test", 2, trained_only=True).to_list(),
        "verdicts": oracle.score(oracle.answer(corpus), "corpus_response")["verdicts"][:],
        "expansion": oracle.expand(corpus)[0]["id"][:],
        "ratings": oracle.rate(corpus, "quality"),
        "target task": tuple(operations.load("gym:reverse,upper")),
    }
    for name, rows in drawn.items():
        print(name, hashlib.sha256(repr(rows).encode()).hexdigest()[:16], sep=": ")
"""


RECORDED = {
    "corpus": "38f46966a43876ae",
    "held out": "6f072deabb21645d",
    "verdicts": "0f183b4fc4c07134",
    "expansion": "a7da5df2e752a9e6",
    "ratings": "da62af484e54fbae",
    "target task": "b3b5116a29347943",
}


def test_what_is_drawn_is_the_recorded_in_every_process_and_another_with_another_seed():
    process = subprocess.run([sys.executable, "-c", DRAWN], capture_output=True, text=True, check=True)
    lines = [line.split(": ") for line in process.stdout.splitlines()]
    recorded, other = dict(lines[: len(RECORDED)]), dict(lines[len(RECORDED) :])
    assert recorded == RECORDED
    unchanged = {name for name in RECORDED if other[name] == RECORDED[name]}
    assert unchanged == {"held out", "target task"}
