"""Labels: read as a whole, kept in balance, never lost in silence."""

import pytest

from lib import records
from lib.errors import UserError
from lib.self_guide import labels

NLI = ("entailment", "not_entailment")
LETTERS = ("A", "B", "Neither")


@pytest.mark.parametrize(
    ("text", "among", "read"),
    [
        ("not_entailment", NLI, "not_entailment"),
        ("The answer is not entailment.", NLI, "not_entailment"),
        ("NOT-ENTAILMENT", NLI, "not_entailment"),
        ("not_entailment", ("entailment", "neutral"), None),  # a part of a word is no label
        ("not_entailment? No: entailment", NLI, "entailment"),  # the last one counts
        ("It is B, a man of the sea", LETTERS, "B"),  # "a" is an article
        ("neither", LETTERS, "Neither"),
        ("Entails at first, but then: NEUTRAL", ("entails", "neutral"), "neutral"),
        ("", LETTERS, None),
        ("答案是否", ("是", "否"), "否"),
        ("C++ or C?", ("C", "C++"), "C"),
        ("yes", ("Yes", "yes"), "yes"),
        ("-1", ("-1", "0", "1"), "-1"),
        ("1", ("-1", "0"), None),
        ("pos\u0131tive", ("positive", "negative"), None),
        ("not\u2011entailment", NLI, "not_entailment"),  # a hyphen that does not break
        ("non-entailment", NLI, None),  # said in words that are no label: not the opposite
        ("It is not neutral", ("neutral", "entails"), None),
        ("Answer:-yes", ("yes", "no"), "yes"),
        ("\u0938\u0939\u0940\u0902", ("\u0938\u0939\u0940", "\u0917\u0932\u0924"), None),  # a vowel sign more
    ],
)
def test_the_last_whole_label_is_read(text, among, read):
    assert labels.read(text, among) == read


def test_the_authors_rule_takes_a_part_of_a_word_for_a_label():
    assert labels.read_substring("not_entailment", ("entailment", "neutral")) == "entailment"
    assert labels.read_substring("nothing", ("entailment", "neutral")) is None


def rows(*responses):
    return records.build({"instruction": f"Is it {i}?", "response": text} for i, text in enumerate(responses))


def test_every_label_is_cut_down_to_the_rarest_that_is_there():
    kept = labels.balance(rows("A", "A", "A", "B", "A", "B"), LETTERS, seed=0)
    assert sorted(kept["response"]) == ["A", "A", "B", "B"]
    assert labels.balance(rows("A", "A", "A", "B", "A", "B"), LETTERS, seed=0)["id"] == kept["id"]


def test_pairs_of_one_label_alone_are_refused():
    with pytest.raises(UserError, match="labels=A, B, Neither: all 3 pairs have the label A"):
        labels.balance(rows("A", "A", "A"), LETTERS, seed=0)
