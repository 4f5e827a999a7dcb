"""Loading loses nothing in silence: fields are used or named, bad rows refused or counted."""

import json

import pytest

from lib import corpus, records
from lib.errors import UserError

ROW = {"instruction": "Add the numbers.", "input": "2 and 3", "output": "5"}
PASSAGE = "Ada wrote it in 1843."


def save(folder, *rows, name="a.jsonl"):
    path = folder / name
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return str(path)


def load(folder, *records, bad_rows="refuse"):
    """The rows, what their meta holds, and the account."""
    rows, account = corpus.load_with_account(save(folder, *records), bad_rows=bad_rows)
    return rows, [json.loads(text) if text else {} for text in rows["meta"]], account


def talk(*turns, **row):
    """messages, each (role, content) or (role, content, other fields)."""
    return {"messages": [{"role": r, "content": c} | dict(*more) for r, c, *more in turns]} | row


def text_of(row):
    """A row in one line: its turns, then instruction, input and response."""
    turns = [f"{turn['role']}: {turn['content']}" for turn in row["turns"]]
    return " | ".join([*turns, row["instruction"], row["input"], str(row["response"])])


Q, A = ("user", "Hi."), ("assistant", "Hello.")
SHAREGPT = [{"from": "human", "value": "Hi."}, {"from": "gpt", "value": "Hello."}]
PARTS = [{"type": "text", "text": "Say "}, {"type": "text", "text": "hi."}]
FORMATS = {
    "Dolly": ({"instruction": "Who?", "context": PASSAGE, "response": "Ada"}, f"Who? | {PASSAGE} | Ada"),
    "Alpaca with a context": (ROW | {"context": "Sums"}, "Add the numbers. | Sums\n\n2 and 3 | 5"),
    "passages": ({"instruction": "Who?", "context": ["a", "b"], "response": "A"}, "Who? | a\n\nb | A"),
    "an answer": ({"instruction": "Q", "answer": "A"}, "Q |  | A"),
    "LLaMA-Factory": (
        ROW | {"system": "Be brief.", "history": [["a", "b"], ["c", "d"]]},
        "system: Be brief. | user: a | assistant: b | user: c | assistant: d | Add the numbers. | 2 and 3 | 5",
    ),
    "LLaMA-Factory without either": (ROW | {"system": "", "history": []}, "Add the numbers. | 2 and 3 | 5"),
    "ShareGPT": ({"conversations": SHAREGPT, "system": "Be brief."}, "system: Be brief. | Hi. |  | Hello."),
    "several turns": (talk(Q, A, Q, A), "user: Hi. | assistant: Hello. | Hi. |  | Hello."),
    "two different system messages": (
        talk(("system", "Be kind."), Q, A, system="Be brief."),
        "system: Be brief.\n\nBe kind. | Hi. |  | Hello.",
    ),
    "one system message twice": (talk(("system", "S."), Q, A, system="S."), "system: S. | Hi. |  | Hello."),
    "a list of system messages": (talk(Q, A, system=["S", "T"]), "system: S\n\nT | Hi. |  | Hello."),
    "both names of a conversation": (talk(Q, A, conversations=None), "Hi. |  | Hello."),
    "both names in a turn": (talk(("user", "Hi.", {"from": None, "value": None})), "Hi. |  | None"),
    "prompt and completion": ({"prompt": "The sky is", "completion": " blue."}, "The sky is |  |  blue."),
    "with a context": ({"prompt": "Q", "context": PASSAGE, "completion": "A"}, f"Q | {PASSAGE} | A"),
    "with an input": ({"prompt": "Q", "input": PASSAGE, "completion": "A"}, f"Q | {PASSAGE} | A"),
    "a question and its answer": ({"question": "Q", "answer": "A"}, "Q |  | A"),
    "a query": ({"query": "Q", "context": PASSAGE, "output": "A"}, f"Q | {PASSAGE} | A"),
    "OpenOrca": ({"system_prompt": "S.", "question": "Q", "response": "A"}, "system: S. | Q |  | A"),
    "as messages": (
        {"prompt": talk(("system", "S."), Q)["messages"], "completion": talk(A)["messages"]},
        "system: S. | Hi. |  | Hello.",
    ),
    "roles of others": (
        talk(("developer", "S."), ("Human", "a"), ("model", "b"), ("prompter", "c"), ("AI", "d")),
        "system: S. | user: a | assistant: b | c |  | d",
    ),
    "content in parts": (talk(("user", PARTS), A), "Say hi. |  | Hello."),
}


@pytest.mark.parametrize("case", FORMATS)
def test_every_part_of_a_known_format_is_used(tmp_path, case):
    record, expected = FORMATS[case]
    [row], [meta], _ = load(tmp_path, record)
    assert text_of(row) == expected and meta == {}
    assert row["id"] == records.row_id(row["instruction"], row["input"], row["turns"])


def test_a_file_may_hold_several_formats(tmp_path):
    rows, _, _ = load(tmp_path, ROW, talk(Q, A), {"prompt": "a", "completion": "b"})
    assert rows["response"][:] == ["5", "Hello.", "b"]


@pytest.mark.parametrize("name", ["output", "response"])
@pytest.mark.parametrize("missing", ["null", "NaN"])
def test_a_missing_response_is_none_and_the_row_stays(tmp_path, name, missing):
    rows, _, account = load(tmp_path, f'{{"instruction": "a", "{name}": {missing}}}', ROW)
    assert rows["response"][:] == [None, "5"] and rows["response_from"][:] == [None, "corpus"]
    assert "Rows without a response: 1." in account.sentences()


NAMES = ("weight", "train", "trainable", "training", "train_on_turn")
MARKS = [{name: flag} for name in NAMES for flag in (0, 0.0, False)]
MARKS += [{"weight": "0"}, {"loss": "false"}, {"kto_tag": False}, {"label": False}]


@pytest.mark.parametrize("mark", MARKS, ids=str)
def test_a_response_that_is_marked_is_not_taught(tmp_path, mark):
    allowed = dict.fromkeys(mark, True)
    marked = [ROW | mark, talk(Q, (*A, mark))]
    rows, metas, account = load(tmp_path, *marked, ROW | allowed, talk(Q, (*A, allowed)))
    assert rows["response"][:] == rows["corpus_response"][:] == [None, None, "5", "Hello."]
    assert metas == [{"response_not_trained": "5"}, {"response_not_trained": "Hello."}, {}, {}]
    assert account.metrics()["corpus.not_trained"] == 2


NO_MARKS = [{"weight": 0.5}, {"weight": 70}, {"weight": "no"}, {"train": [0]}, {"label": 0}]


@pytest.mark.parametrize("other", NO_MARKS)
def test_a_weight_that_is_neither_0_nor_1_or_a_label_that_is_a_class_is_no_mark(tmp_path, other):
    [row], [meta], _ = load(tmp_path, ROW | other)
    assert row["response"] == "5" and meta == other


def test_an_earlier_response_is_context_whatever_its_weight(tmp_path):
    talks = talk(Q, (*A, {"weight": 0}), ("user", "And?"), ("assistant", "So."))
    [row], [meta], account = load(tmp_path, talks)
    assert row["response"] == "So." and row["turns"][1]["content"] == "Hello." and meta == {}
    assert account.metrics()["corpus.earlier_responses"] == 1


@pytest.mark.parametrize("record", [ROW, talk(Q, A)], ids=["alpaca", "messages"])
def test_a_licence_is_the_rows_and_a_second_or_one_that_is_no_text_is_kept(tmp_path, record):
    given = [{"license": "MIT"}, {"licence": "MIT"}, {"license": ["MIT", "CC0-1.0"]}]
    given += [{"licence": "MIT", "license": "GPL"}, {"license": 3}]
    rows, metas, _ = load(tmp_path, *(record | licence for licence in given))
    assert rows["licence"][:] == ["MIT", "MIT", "MIT, CC0-1.0", "MIT", ""]
    assert metas == [{}, {}, {}, {"license": "GPL"}, {"license": 3}]


THINKING = [
    (talk(Q, (*A, {"reasoning_content": "Hm."})), "Hi. |  | Hello."),
    (talk(Q, ("assistant", [{"type": "thinking", "thinking": "Hm."}, "Hello."])), "Hi. |  | Hello."),
    (ROW | {"reasoning_content": "Hm."}, "Add the numbers. | 2 and 3 | 5"),
    ({"instruction": "Q", "output": "<think>hm</think>A"}, "Q |  | A"),
    ({"instruction": "Q", "output": "hm\n</think>\n\nA"}, "Q |  | A"),
    (talk(Q, ("assistant", "<think>hm</think>A")), "Hi. |  | A"),
    (talk(Q, ("assistant", "<think>hm</think>A"), Q, A), "user: Hi. | assistant: A | Hi. |  | Hello."),
    ({"instruction": "Q", "output": "<think>never ends"}, "Q |  | None"),
]


@pytest.mark.parametrize(("record", "text"), THINKING)
def test_thoughts_are_dropped_and_counted(tmp_path, record, text):
    rows, [meta], account = load(tmp_path, record)
    assert text_of(rows[0]) == text and meta == {} and account.metrics()["corpus.thoughts"] == 1


def test_nulls_are_not_kept_at_any_depth(tmp_path):
    extra = {"name": None, "tool_calls": None}
    turns = talk((*Q, extra), (*A, extra), origin=None)
    rows, metas, _ = load(tmp_path, turns, ROW | {"about": {"a": None, "b": [{"c": None}]}})
    assert rows["meta"][0] == "" and metas[1] == {"about": {"b": [{}]}}


def test_a_field_that_is_not_known_is_kept_in_meta_and_named_with_its_count(tmp_path):
    odd = ROW | {"<b>`x`\n# y": "z"}
    rows, metas, account = load(tmp_path, ROW | {"origin": "x"}, odd, talk((*Q, {"name": "Bob"}), A))
    assert metas == [{"origin": "x"}, {"<b>`x`\n# y": "z"}, {"turn_fields": [{"name": "Bob"}, {}]}]
    line = "Not used, kept in `meta`: `<b>'x' # y` (1), `name of a turn` (1), `origin` (1)."
    assert line in account.sentences() and account.metrics()["corpus.fields_in_meta"] == 3


def test_a_meta_of_the_sources_own_loses_nothing_to_a_field_of_the_same_name(tmp_path):
    _, metas, _ = load(tmp_path, ROW | {"meta": {"a": 1}, "b": 2}, ROW | {"meta": {"b": 1}, "b": 2})
    assert metas == [{"a": 1, "b": 2}, {"meta": {"b": 1}, "b": 2}]


STRANGE = {"task": 3, "round": "one", "hard": "yes", "turns": 7, "id": "x", "mfd": 2.0, "response_from": 1}
STRANGE |= {"verdicts": ["good"], "oracle_score": 87, "references": "see 1"}
STRANGE |= {"source": ["a"], "license": [None]}


@pytest.mark.parametrize("record", [ROW, talk(Q, A)], ids=["alpaca", "messages"])
def test_columns_named_like_ours_that_are_not_are_kept_in_meta(tmp_path, record):
    [row], [meta], account = load(tmp_path, record | STRANGE | {"task_id": None})
    assert meta == STRANGE and account.metrics()["corpus.fields_in_meta"] == len(meta)
    assert row["task"] is row["hard"] is row["mfd"] is row["oracle_score"] is None
    assert (row["round"], row["turns"], row["references"], row["source"]) == (0, [], [], "a.jsonl")


def test_source_and_references_of_a_record_are_its_own(tmp_path):
    [row], [meta], account = load(tmp_path, ROW | {"source": "flan", "references": ["5", "five"]})
    assert (row["source"], row["references"], meta) == ("flan", ["5", "five"], {})
    line = "Read: `references` as the row's `references` (1), `source` as the row's `source` (1)."
    assert line in account.sentences()


@pytest.mark.parametrize("record", [ROW, records.EMPTY | ROW], ids=["another's", "ours"])
def test_a_verdict_needs_no_expected_scores(tmp_path, record):
    verdict = {"order": "oracle_first", "attempt": 1, "reply": "9 8", "finish": "stop"}
    [row], [meta], _ = load(tmp_path, record | {"verdicts": [verdict]})
    assert row["verdicts"] == [verdict | {"expected": None}] and "verdicts" not in meta


def test_a_file_whose_name_is_no_text_is_read(tmp_path):
    name = b"caf\xe9.jsonl".decode("utf-8", "surrogateescape")
    [row] = corpus.load(save(tmp_path, ROW, name=name))
    assert row["source"] == "caf\ufffd.jsonl"


# A column that repeats prompt and response

FRAME = "Below is an instruction.\n\n### Instruction:\n{}\n\n### Input:\n{}\n\n### Response:\n{}"
SHORT = "Below is an instruction.\n\n### Instruction:\n{}\n\n### Response:\n{}"


def alpaca(instruction, input, output):
    """A row of tatsu-lab/alpaca, with its fourth column."""
    text = FRAME.format(instruction, input, output) if input else SHORT.format(instruction, output)
    return {"instruction": instruction, "input": input, "output": output, "text": text}


SUMS = [alpaca("Write a song.", "", "Do."), alpaca("Add.", "2, 3", "5"), alpaca("Say nothing.", "", "")]


@pytest.mark.parametrize("rows", [SUMS, SUMS[:1], SUMS * 100], ids=["three", "one", "many"])
def test_a_column_that_repeats_prompt_and_response_is_dropped_and_named(tmp_path, rows):
    loaded, metas, account = load(tmp_path, *rows)
    assert not any(metas) and loaded["response"][:] == [row["output"] for row in rows]
    line = f"Dropped, because it repeats prompt and response: `text` ({len(rows)})."
    assert line in account.sentences()


def test_a_repeating_column_of_a_conversation_has_any_name(tmp_path):
    first = [(("user", f"Count to {i}."), ("assistant", f"1 to {i}.")) for i in range(3)]
    talks = [talk(*turns, *more) for turns in first for more in ((), (Q, A))]
    for record in talks:
        record["rendered"] = "".join(f"<{turn['role']}>{turn['content']}</s>" for turn in record["messages"])
    _, metas, _ = load(tmp_path, *talks)
    assert not any(metas)


@pytest.mark.parametrize("n", [2, 3, 50])
def test_a_column_that_says_more_than_prompt_and_response_is_kept(tmp_path, n):
    rows = [ROW | {"note": f"{i}: Add the numbers. 2 and 3 5, seen on day {i}"} for i in range(n)]
    _, metas, _ = load(tmp_path, *rows)
    assert metas == [{"note": row["note"]} for row in rows]


def test_the_one_row_in_which_a_repeating_column_says_something_else_keeps_it(tmp_path):
    rows = [alpaca(f"Add {i}.", "", f"It is {i}.") for i in range(200)]
    rows[150]["text"] += "\nNo, it is not."
    _, metas, account = load(tmp_path, *rows)
    assert metas[150] == {"text": rows[150]["text"]} and metas.count({}) == 199
    assert "Not used, kept in `meta`: `text` (1)." in account.sentences()


# Rows that cannot be used

TOOL = {"tool_calls": [{"function": {"name": "add"}}]}
IMAGE = [{"type": "image_url", "image_url": {"url": "a.png"}}, {"type": "text", "text": "What is it?"}]
OURS = records.EMPTY | ROW | {"response": "5"}
SILENT = {"role": "assistant", "content": None}
TWICE = {"instruction": "I", "prompt": "Q", "completion": "A"}
NO_TEXT, NO_PLACE = "must be a text", "holds a text that this format has no place for"
NO_INSTRUCTION, TOOLS = "row without instruction", "tool calls are not trained"
PART, END = "`content` has a part that is no text", "a conversation ends with the user or one turn"
BAD = {
    "a number for a response": (ROW | {"output": 4}, f"`output` {NO_TEXT}"),
    "a list for an input": (ROW | {"input": ["b", "a"]}, f"`input` {NO_TEXT}"),
    "an object for a context": (ROW | {"context": {"a": 1}}, f"`context` {NO_TEXT}"),
    "a list for a response": (ROW | {"output": ["5", "6"]}, f"`output` {NO_TEXT}"),
    "an empty instruction": (ROW | {"instruction": " "}, NO_INSTRUCTION),
    "a null instruction": (ROW | {"instruction": None}, NO_INSTRUCTION),
    "NaN for an instruction": ('{"instruction": NaN, "output": "5"}', NO_INSTRUCTION),
    "no user turn": (talk(("system", "S.")), NO_INSTRUCTION),
    "no turns": (talk(), NO_INSTRUCTION),
    "no list of turns": ({"messages": "Hi."}, "`messages` must be a list of turns"),
    "a number for a content": (talk(("user", 5)), f"`content` {NO_TEXT}"),
    "a user turn without content": (talk(("user", None), A), "a turn without content"),
    "a call of a tool": (talk(Q, ("assistant", None, TOOL)), TOOLS),
    "an earlier call of a tool": (talk(Q, ("assistant", "", TOOL), ("tool", "5"), A), TOOLS),
    "tools": (ROW | {"tools": [{"name": "add"}]}, f"`tools`: {TOOLS}"),
    "an image": (talk(("user", IMAGE), A), PART),
    "images": (ROW | {"images": ["a.png"]}, "`images`: only texts are trained"),
    "two last responses": (talk(Q, A, A), END),
    "a system turn at the end": (talk(Q, ("system", "S.")), END),
    "an assistant who begins": (talk(A, Q, A), "the conversation begins with the assistant"),
    "an unknown role": (talk(("narrator", "x"), Q, A), "unknown role"),
    "a list for a role": (talk((["user"], "x")), f"`role` {NO_TEXT}"),
    "a part that is markup": (talk(("user", [{"type": "<b>"}])), PART),
    "a history that is no pairs": (ROW | {"history": [["a"]]}, "`history` must be pairs of texts"),
    "a history that is a text": (ROW | {"history": "q\na"}, f"`history` {NO_PLACE}"),
    "an instruction beside a prompt": (TWICE, f"`prompt` {NO_PLACE}"),
    "a context beside messages": (talk(Q, A, context=PASSAGE), f"`context` {NO_PLACE}"),
    "an input of another name": (ROW | {"inputs": "I"}, f"`inputs` {NO_PLACE}"),
    "a row of ours with a turn of nothing": (OURS | {"turns": [None]}, "`turns` must have the type"),
    "a row of ours with a silent turn": (OURS | {"turns": [SILENT]}, "`turns` must have the type"),
    "a row of ours with nothing for a reference": (OURS | {"references": [None]}, "`references` must have"),
    "a row of ours with nothing for a verdict": (OURS | {"verdicts": [None]}, "`verdicts` must have"),
    "a row of ours with a text for a score": (
        OURS | {"oracle_score": "9"},
        "`oracle_score` must have the type",
    ),
    "a row of ours with a number for a flag": (OURS | {"hard": 1}, "`hard` must have the type"),
    "a row of ours with half a turn": (OURS | {"turns": [{"role": "user"}]}, "`turns` must have the type"),
    "a list": ('["x"]', "expected an object with named fields"),
    "half a line": ('{"instruction": "a"', "broken JSON"),
    "unknown keys": ({"question": "?"}, "unknown format"),
    "a preference": ({"prompt": "?", "chosen": "a", "rejected": "b"}, "unknown format"),
    "two questions": ({"prompt": "a", "query": "b", "answer": "c"}, f"`query` {NO_PLACE}"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_row_that_cannot_be_used_refuses_the_file_or_is_counted_by_its_cause(tmp_path, case):
    record, cause = BAD[case]
    with pytest.raises(UserError) as error:
        corpus.load(save(tmp_path, ROW, record, ROW))
    message = str(error.value)
    assert "a.jsonl, line 2" in message and cause in message and "bad_rows: skip" in message
    rows, _, account = load(tmp_path, record, ROW, record, ROW, bad_rows="skip")
    [(counted, n)] = account.skipped.items()
    assert cause in counted and n == account.metrics()["corpus.bad_rows"] == 2
    assert rows["response"][:] == ["5", "5"] and account.places == ["a.jsonl, line 1", "a.jsonl, line 3"]


def test_a_cause_is_one_whatever_the_values_are_and_the_rows_fields_are_not_counted(tmp_path):
    bad = [ROW | {"output": i, "origin": "x"} for i in range(9)]
    _, _, account = load(tmp_path, *bad, ROW, bad_rows="skip")
    assert account.skipped == {"`output` must be a text": 9} and len(account.places) == 5
    last = account.sentences()[-1]
    assert last.startswith("Bad rows left out: 9: `output` must be a text (9). The first: `a.jsonl, line 1`")
    assert not account.by_kind("meta")


def test_an_instance_without_an_output_is_skipped_and_the_others_of_its_task_stay(tmp_path):
    instances = [{"input": "1", "output": ["odd"]}, {"input": "2"}, {"input": "3", "output": ["odd"]}]
    rows, _, account = load(tmp_path, {"Definition": ["Odd?"], "Instances": instances}, bad_rows="skip")
    assert rows["input"][:] == ["1", "3"] and account.places == ["a.jsonl, line 1, instance 2"]


def test_a_file_without_a_row_that_can_be_used_is_refused_with_its_causes(tmp_path):
    reason = r"none of its records can be used \(`output` must be a text: 2\)"
    with pytest.raises(UserError, match=reason):
        load(tmp_path, ROW | {"output": 4}, ROW | {"output": 5}, bad_rows="skip")


def test_a_text_that_stands_elsewhere_in_the_row_needs_no_place(tmp_path):
    [row], [meta], _ = load(tmp_path, talk(Q, A, prompt="Hi."))
    assert text_of(row) == "Hi. |  | Hello." and meta == {"prompt": "Hi."}
