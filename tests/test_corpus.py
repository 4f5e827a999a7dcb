"""Every format becomes the same rows; what cannot, becomes one error that says where and what to do."""

import gzip
import json
import lzma
import os
import subprocess

import datasets
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lib import corpus, paths, records
from lib.errors import UserError

ROW = {"instruction": "Add the numbers.", "input": "2 and 3", "output": "5"}
TURNS = [{"role": "system", "content": "Be brief."}]
TALK = [("system", "Be brief."), ("human", "Hi."), ("gpt", "Hello."), ("human", "Add 2 and 3."), ("gpt", "5")]


def save(path, content):
    content = content if isinstance(content, str | bytes) else json.dumps(content)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def lines(*rows):
    return "\n".join(json.dumps(row) for row in rows)


def refusal(*args):
    with pytest.raises(corpus.BadInput) as error:
        corpus.load(*args)
    return str(error.value)


def test_an_alpaca_row_keeps_its_texts_and_has_the_content_id(tmp_path):
    row = corpus.load(save(tmp_path / "a.json", [ROW]))[0]
    assert (row["instruction"], row["input"], row["response"]) == ("Add the numbers.", "2 and 3", "5")
    assert (row["corpus_response"], row["response_from"], row["source"]) == ("5", "corpus", "a.json")
    assert row["id"] == records.row_id("Add the numbers.", "2 and 3")


def test_rows_have_the_one_schema(tmp_path):
    assert corpus.load(save(tmp_path / "a.json", [ROW])).features == records.FEATURES


@pytest.mark.parametrize(
    "name", ["a.json", "a.jsonl", "a.json.gz", "a.jsonl.xz", "a.parquet", "a.parquet.gz"]
)
def test_every_container_gives_the_same_rows(tmp_path, name):
    pq.write_table(pa.Table.from_pylist([ROW, ROW]), tmp_path / "plain.parquet")
    plain = {
        "json": json.dumps([ROW, ROW]).encode(),
        "jsonl": lines(ROW, ROW).encode(),
        "parquet": (tmp_path / "plain.parquet").read_bytes(),
    }[name.split(".")[1]]
    packed = (
        gzip.compress(plain)
        if name.endswith("gz")
        else lzma.compress(plain)
        if name.endswith("xz")
        else plain
    )
    rows = corpus.load(save(tmp_path / name, packed))
    assert rows["response"][:] == ["5", "5"]
    assert rows["id"][1] == rows["id"][0] + "-2"


def test_json_lines_under_the_name_json_are_read(tmp_path):
    assert len(corpus.load(save(tmp_path / "a.json", lines(ROW, ROW, ROW)))) == 3


def test_a_folder_is_read_in_path_order_and_each_file_by_its_own_format(tmp_path):
    save(tmp_path / "b.json", [ROW])
    save(tmp_path / "a.jsonl", lines({"messages": [{"role": "user", "content": "Hi."}]}))
    save(tmp_path / "notes.txt", "not data")
    assert corpus.load(str(tmp_path))["instruction"][:] == ["Hi.", "Add the numbers."]
    assert corpus.load(str(tmp_path / "*.json"))["source"][:] == ["b.json"]


def test_variables_in_a_path_are_expanded(tmp_path, monkeypatch):
    save(tmp_path / "a.json", [ROW])
    monkeypatch.setenv("SOMEWHERE", str(tmp_path))
    monkeypatch.setenv("RECORDED_DATA", str(tmp_path))
    assert len(corpus.load("$SOMEWHERE/a.json")) == len(corpus.load("${RECORDED_DATA}/a.json")) == 1


@pytest.mark.parametrize("named", ["data/a.json", "data/*.json", "data"])
def test_a_relative_path_starts_at_the_project_whatever_the_working_directory(tmp_path, monkeypatch, named):
    (tmp_path / "data").mkdir()
    (tmp_path / "elsewhere").mkdir()
    save(tmp_path / "data/a.json", [ROW])
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert len(corpus.load(named)) == 1
    monkeypatch.setattr(paths, "ROOT", tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path)
    assert len(corpus.load(named)) == 1


@pytest.mark.parametrize("names", [("conversations", "from", "value"), ("messages", "role", "content")])
def test_a_conversation_ends_in_instruction_and_response(tmp_path, names):
    whole, who, what = names
    talk = {whole: [{who: role, what: said} for role, said in TALK], "id": "talk_7"}
    row = corpus.load(save(tmp_path / "a.jsonl", lines(talk)), "messages" if who == "role" else "sharegpt")[0]
    assert (row["instruction"], row["response"]) == ("Add 2 and 3.", "5")
    assert [turn["role"] for turn in row["turns"]] == ["system", "user", "assistant"]
    assert row["id"] == records.row_id("Add 2 and 3.", "", row["turns"])
    assert json.loads(row["meta"]) == {"id": "talk_7"}


def test_a_conversation_that_ends_with_the_user_has_no_response(tmp_path):
    row = corpus.load(save(tmp_path / "a.json", [{"messages": [{"role": "user", "content": "Hi."}]}]))[0]
    assert row["response"] is None and row["response_from"] is None


def test_a_task_file_gives_a_row_an_instance_with_all_its_outputs(tmp_path):
    task = {
        "Definition": ["Name a colour of the flag."],
        "Positive Examples": [{"input": "Italy", "output": "green"}],
        "Instances": [
            {"id": "t-1", "input": "France", "output": ["blue", "red"]},
            {"input": "Japan", "output": ["red"]},
        ],
        "Instance License": ["MIT"],
    }
    france, japan = corpus.load(save(tmp_path / "task.json", task))
    assert (france["instruction"], france["input"]) == ("Name a colour of the flag.", "France")
    assert (france["response"], france["references"], japan["references"]) == (
        "blue",
        ["blue", "red"],
        ["red"],
    )
    assert france["licence"] == "MIT"
    assert json.loads(france["meta"])["Positive Examples"] == task["Positive Examples"]


PAIR = {
    "Instruction": "Add 2 and 3.",
    "Answer1": "5",
    "Answer2": "6",
    "review": "9 2\nThe first is right.",
    "review_reverse": "3 8\nThe second is right.",
    "scores_reverse": "[3.0, 8.0]",
}


@pytest.mark.parametrize(("side", "oracle", "orders"), [("first", "5", [0, 1]), ("second", "6", [1, 0])])
def test_a_recorded_pair_says_which_side_is_the_oracle(tmp_path, side, oracle, orders):
    path = save(tmp_path / "pairs.json", {"Meta_Info": {"n": 1}, "data": [PAIR]})
    row = corpus.load(path, f"cherry_llm:{side}")[0]
    assert row["oracle_response"] == row["response"] == oracle
    names = ["oracle_first", "student_first"]
    assert [(v["order"], v["reply"][:3]) for v in row["verdicts"]] == [
        (names[orders[0]], "9 2"),
        (names[orders[1]], "3 8"),
    ]
    assert json.loads(row["meta"]) == {"Meta_Info": {"n": 1}, "scores_reverse": "[3.0, 8.0]"}


def test_a_recorded_pair_without_a_side_is_refused_with_both_names(tmp_path):
    assert "cherry_llm:first, cherry_llm:second" in refusal(save(tmp_path / "pairs.json", [PAIR]))


def test_answers_and_scores_that_a_corpus_carries_are_kept(tmp_path):
    verdict = {"order": "oracle_first", "attempt": 1, "reply": "9 4", "finish": "stop", "expected": None}
    given = {
        "oracle_response": "5",
        "student_response": "6",
        "oracle_score": 9,
        "verdicts": [verdict],
        "origin": "x",
    }
    row = corpus.load(save(tmp_path / "a.json", [ROW | given]))[0]
    assert (row["oracle_response"], row["student_response"], row["oracle_score"]) == ("5", "6", 9.0)
    assert row["verdicts"] == [verdict] and json.loads(row["meta"]) == {"origin": "x"}


def test_rows_of_our_own_come_back_unchanged(tmp_path):
    refined = {
        "instruction": "Add.",
        "response": "5",
        "response_from": "refined",
        "task": "Math",
        "hard": True,
    }
    asked = {
        "instruction": "Add.",
        "input": "2, 3",
        "turns": TURNS,
        "meta": '{"level": 2}',
        "round": 1,
        "mfd": 2.5,
    }
    rows = records.build([refined, refined, asked])
    assert corpus.load(str(records.write(rows, tmp_path / "rows.parquet"))).to_dict() == rows.to_dict()
    assert corpus.load(save(tmp_path / "a.jsonl", lines(*rows))).to_dict() == rows.to_dict()


def test_rows_of_our_own_must_have_the_types_of_their_columns(tmp_path):
    [row] = records.build([{"instruction": "Add."}])
    for wrong in ({"oracle_score": "9"}, {"hard": 1}, {"turns": [{"role": "user"}]}):
        assert f"row 1: `{[*wrong][0]}" in refusal(save(tmp_path / "a.json", [row | wrong]))


def test_null_bytes_and_lone_surrogates_survive_the_hash_and_parquet(tmp_path):
    path = save(
        tmp_path / "a.json", '[{"instruction": "a\\u0000b \\ud800!", "output": "\\udc00", "note": "\\ud800"}]'
    )
    rows = corpus.load(path)
    assert rows[0]["instruction"] == "a\0b \ufffd!" and rows[0]["response"] == "\ufffd"
    assert records.read(records.write(rows, tmp_path / "rows.parquet"))[0] == rows[0]


def test_a_hub_name_is_read_as_a_data_set_and_its_split_chosen(monkeypatch):
    data = datasets.DatasetDict(
        {"train": datasets.Dataset.from_list([ROW, ROW]), "test": datasets.Dataset.from_list([ROW])}
    )
    monkeypatch.setattr("lib.corpus.sources.load_dataset", lambda name, split: data[split] if split else data)
    assert [len(corpus.load(name)) for name in ("someone/sums", "someone/sums:test")] == [2, 1]


def test_an_unreachable_hub_name_says_so(monkeypatch):
    def unreachable(name, split):
        raise ConnectionError("Couldn't reach the Hub\nmore")

    monkeypatch.setattr("lib.corpus.sources.load_dataset", unreachable)
    message = refusal("someone/nothing")
    assert "someone/nothing" in message and "Couldn't reach the Hub" in message and "more" not in message


BROKEN = {
    "a null instruction": ("a.jsonl", {"instruction": None}, "line 1: row without instruction"),
    "broken json": ("a.json", '[\n{"instruction": "x"},\n{"instruct', "line 3 column 2"),
    "a bracket too many": ("a.json", '[\n{"instruction": "x"}\n]\n]', "line 4 column 1"),
    "a broken line": ("a.jsonl", lines(ROW, ROW) + '\n{"instruction": ', "line 3: broken JSON"),
    "an unknown format": (
        "a.json",
        [{"question": "?", "answer": "!"}],
        "its keys are answer, question. Known are",
    ),
    "a bare text": ("a.json", '"x"', "expected an object with named fields"),
    "an empty file": ("a.jsonl", "", "is empty"),
    "an empty list": ("a.json", [], "is empty"),
    "an instance without output": (
        "a.json",
        {"Definition": "x", "Instances": [{"input": "y"}]},
        "instance 1: an instance has",
    ),
    "latin-1": (
        "a.jsonl",
        lines(ROW).encode() + b'\n{"instruction": "caf\xe9"}',
        "line 2: broken JSON ('utf-8' codec",
    ),
    "a truncated gz": (
        "a.json.gz",
        gzip.compress(json.dumps([ROW] * 99).encode())[:-20],
        "cannot be read",
    ),
    "a truncated xz": (
        "a.json.xz",
        lzma.compress(json.dumps([ROW] * 99).encode())[:-20],
        "cannot be read",
    ),
    "a plain file named gz": ("a.json.gz", lines(ROW), "cannot be read"),
    "a broken parquet": ("a.parquet", b"PAR1 nothing", "cannot be read"),
    "another kind of file": ("a.csv", "instruction,output", "no .json, .jsonl or .parquet file"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_bad_input_is_one_error_that_names_file_and_place(tmp_path, case):
    name, content, expected = BROKEN[case]
    message = refusal(save(tmp_path / name, content))
    assert name in message and expected in message and "\n" not in message


def test_a_missing_file_an_unset_variable_and_an_empty_folder_are_named(tmp_path):
    assert "nothing.json does not exist" in refusal(str(tmp_path / "nothing.json"))
    assert "a variable in this path is not set" in refusal("$NOT_SET_ANYWHERE/a.json")
    assert f"{tmp_path}: no .json" in refusal(str(tmp_path))


def test_an_unknown_format_name_lists_the_known_ones(tmp_path):
    assert "Choose one of auto, rows, messages" in refusal(save(tmp_path / "a.json", [ROW]), "alpacca")


def test_bad_input_is_an_error_the_runner_shows_without_a_traceback():
    assert issubclass(corpus.BadInput, ValueError) and issubclass(corpus.BadInput, UserError)


def test_rows_taken_by_position_are_in_the_order_of_the_positions_and_may_be_none():
    rows = records.build({"instruction": f"Count to {i}."} for i in range(25_000))
    order = [*range(24_999, 0, -2), 7]
    assert records.take_rows(rows, order)["instruction"][:] == [f"Count to {i}." for i in order]
    turned = rows.select([4, 3, 2, 1, 0])
    assert records.take_rows(turned, [0, 4])["instruction"][:] == ["Count to 4.", "Count to 0."]
    assert len(records.take_rows(rows, [])) == 0 and records.take_rows(rows, []).features == records.FEATURES


def test_a_column_may_come_as_an_iterator_but_not_too_short():
    rows = records.build({"instruction": f"Count to {i}."} for i in range(12_000))
    numbered = records.update(rows, mfd=(float(i) for i in range(len(rows))))
    assert numbered["mfd"][:] == list(range(12_000))
    with pytest.raises(ValueError):
        records.update(rows, mfd=iter([1.0]))


# Files of ours, and other readers


@pytest.fixture
def written(tmp_path):
    """A file of rows in which most columns are null throughout."""
    verdict = {"order": "oracle_first", "attempt": 1, "reply": "9 4", "finish": "stop", "expected": None}
    rows = records.build(
        [{"instruction": "Add.", "turns": TURNS, "verdicts": [verdict]}, {"instruction": "Say."}]
    )
    return rows, records.write(rows, tmp_path / "pool.parquet")


def test_a_file_of_rows_says_nothing_of_the_library_that_wrote_it(written):
    schema = pq.read_schema(written[1])
    assert not schema.metadata and schema == records.FEATURES.arrow_schema.remove_metadata()


def test_a_file_of_rows_is_read_with_its_types_by_datasets_and_by_pandas(written, tmp_path):
    rows, path = written
    data = datasets.load_dataset("parquet", data_files=str(path), split="train", cache_dir=str(tmp_path))
    assert data.features == records.FEATURES and data.to_dict() == rows.to_dict()
    assert pd.read_parquet(path)["verdicts"][0][0]["reply"] == "9 4"


OLDER = """import sys, datasets
data = datasets.load_dataset("parquet", data_files=sys.argv[1], split="train", cache_dir=sys.argv[2])
print(datasets.__version__, data.features["mfd"].dtype, data[0]["verdicts"][0]["reply"], len(data))"""


@pytest.mark.slow
def test_a_file_of_rows_is_read_by_an_older_datasets(written, tmp_path):
    python = os.environ.get("DATASETS_3_6")
    if not python:
        pytest.skip("DATASETS_3_6 is not set: name the python of an environment with datasets==3.6.0")
    words = [python, "-c", OLDER, str(written[1]), str(tmp_path)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    found = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert found.stdout.split("\n")[-2] == "3.6.0 float64 9 4 2", found.stderr
