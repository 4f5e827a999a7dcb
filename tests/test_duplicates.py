"""The first of each cluster stays; which rows are dropped follows from true similarity alone."""

import json

import pytest

from lib import records
from lib.corpus import duplicates

LONG = (
    "write a short story about a young sailor who finds an old map and sails away at dawn to the far island"
)


def rows(*instructions, **columns):
    return records.build(
        {"instruction": text} | {name: values[i] for name, values in columns.items()}
        for i, text in enumerate(instructions)
    )


def test_case_width_and_white_space_do_not_make_a_new_row():
    data = rows("Add 2 and 3.", "  add ２  and 3.\n", "Add 2 and 4.")
    kept, dropped = duplicates.drop_exact(data)
    assert kept["instruction"][:] == ["Add 2 and 3.", "Add 2 and 4."]
    assert dropped == [(data["id"][1], data["id"][0])]


def test_the_same_question_after_other_turns_is_no_duplicate():
    turns = [[], [{"role": "user", "content": "Name a river."}], []]
    assert len(duplicates.drop_exact(rows("Go on.", "Go on.", "Go on.", turns=turns))[0]) == 2


def test_a_near_repeat_goes_and_the_first_in_file_order_stays():
    data = rows(LONG + " today", "Name a river.", LONG, LONG.replace("sailor", "boy").replace("map", "key"))
    kept, dropped = duplicates.drop_near(data)
    assert kept["id"][:] == [data["id"][i] for i in (0, 1, 3)]
    assert dropped == [(data["id"][2], data["id"][0], pytest.approx(20 / 21))]


@pytest.mark.parametrize(("shared", "grams", "kept"), [(16, 20, 1), (15, 19, 2)])
def test_similarity_at_the_threshold_drops_and_just_below_it_keeps(shared, grams, kept):
    long, short = (" ".join("abcdefghijklmnopqrstuvw"[: n + 2]) for n in (grams, shared))
    assert len(duplicates.drop_near(rows(long, short))[0]) == kept


def test_a_chain_of_small_changes_is_compared_with_kept_rows_only():
    # neighbours share 9 of 11, the ends 8 of 12
    first, between, last = "a b c d e f g h i j k l", "b c d e f g h i j k l m", "c d e f g h i j k l m n"
    assert duplicates.drop_near(rows(first, between, last))[0]["instruction"][:] == [first, last]


def test_the_index_finds_every_near_pair_that_a_full_comparison_finds():
    texts = [" ".join(str((i * j) % (7 + i % 5)) for j in range(30)) for i in range(60)]
    sets, kept = [duplicates.shingles(text, 3) for text in texts], []
    for i, grams in enumerate(sets):
        if all(len(grams & sets[j]) / len(grams | sets[j]) < 0.8 for j in kept):
            kept.append(i)
    data = rows(*texts)
    assert duplicates.drop_near(data)[0]["id"][:] == [data["id"][i] for i in kept] and 1 < len(kept) < 60


def test_payload_decides_in_the_embedded_world_whatever_the_wording():
    facts = [{"family": family, "payload": [2, 3]} for family in ("sum", "sum", "gcd")]
    data = rows("Add 2 and 3.", "What is 2 plus 3?", "Add 2 and 3.", meta=list(map(json.dumps, facts)))
    kept, _ = duplicates.drop_exact(data, key="payload")
    assert kept["id"][:] == [data["id"][0], data["id"][2]]
