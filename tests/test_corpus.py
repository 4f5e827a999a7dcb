"""Every container and format becomes the same rows; what cannot, becomes one error that names the place."""

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
VERDICT = {"order": "oracle_first", "attempt": 1, "reply": "9 4", "finish": "stop", "expected": None}


def save(path, content):
    content = content if isinstance(content, str | bytes) else json.dumps(content)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def lines(*rows):
    return "\n".join(json.dumps(row) for row in rows)


def refusal(*args):
    with pytest.raises(UserError) as error:
        corpus.load(*args)
    return str(error.value)


def test_an_alpaca_row_keeps_its_texts_and_has_the_content_id(tmp_path):
    rows = corpus.load(save(tmp_path / "a.json", [ROW, ROW]))
    row = rows[0]
    assert (row["instruction"], row["input"], row["response"]) == ("Add the numbers.", "2 and 3", "5")
    assert (row["corpus_response"], row["response_from"], row["source"]) == ("5", "corpus", "a.json")
    assert row["id"] == records.row_id("Add the numbers.", "2 and 3") and rows["id"][1] == row["id"] + "-2"
    assert rows.features == records.FEATURES


def test_every_container_gives_the_same_rows(tmp_path):  # and those of test_properties_formats.py
    pq.write_table(pa.Table.from_pylist([ROW, ROW]), tmp_path / "a.parquet")
    save(tmp_path / "b.parquet.gz", gzip.compress((tmp_path / "a.parquet").read_bytes()))
    save(tmp_path / "c.json", lines(ROW, ROW))
    rows = corpus.load(str(tmp_path))
    assert rows["instruction"][:] == ["Add the numbers."] * 6 and rows["response"][:] == ["5"] * 6


def test_a_folder_is_read_in_path_order_and_each_file_by_its_own_format(tmp_path, monkeypatch):
    save(tmp_path / "b.json", [ROW])
    save(tmp_path / "a.jsonl", lines({"messages": [{"role": "user", "content": "Hi."}]}))
    save(tmp_path / "notes.txt", "not data")
    rows = corpus.load(str(tmp_path))
    assert rows["instruction"][:] == ["Hi.", "Add the numbers."] and rows["response"][:] == [None, "5"]
    monkeypatch.setenv("SOMEWHERE", str(tmp_path))
    assert corpus.load("$SOMEWHERE/*.json")["source"][:] == ["b.json"]


@pytest.mark.parametrize("name", ["data/a.json", "data/*.json", "data"])
def test_a_relative_path_starts_at_the_project_else_at_the_working_directory(tmp_path, monkeypatch, name):
    (tmp_path / "data").mkdir()
    (tmp_path / "elsewhere").mkdir()
    save(tmp_path / "data/a.json", [ROW])
    for root, folder in ((".", "elsewhere"), ("elsewhere", ".")):
        monkeypatch.setattr(paths, "ROOT", tmp_path / root)
        monkeypatch.chdir(tmp_path / folder)
        assert len(corpus.load(name)) == 1


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
    assert (france["response"], france["references"]) == ("blue", ["blue", "red"])
    assert (japan["references"], france["licence"]) == (["red"], "MIT")
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
    names = [("oracle_first", "student_first")[i] for i in orders]
    verdicts = [(verdict["order"], verdict["reply"][:3]) for verdict in row["verdicts"]]
    assert verdicts == list(zip(names, ["9 2", "3 8"], strict=True))
    assert json.loads(row["meta"]) == {"Meta_Info": {"n": 1}, "scores_reverse": "[3.0, 8.0]"}
    assert "cherry_llm:first, cherry_llm:second" in refusal(path)


def test_answers_and_scores_that_a_corpus_carries_are_kept(tmp_path):
    given = {"oracle_response": "5", "student_response": "6", "oracle_score": 9, "verdicts": [VERDICT]}
    row = corpus.load(save(tmp_path / "a.json", [ROW | given | {"origin": "x"}]))[0]
    assert {name: row[name] for name in given} == given and json.loads(row["meta"]) == {"origin": "x"}


def test_rows_of_our_own_come_back_unchanged(tmp_path):
    refined = {"instruction": "Add.", "response": "5", "response_from": "refined"}
    refined |= {"task": "Math", "hard": True}
    pending = {"instruction": "Add.", "input": "2, 3", "turns": TURNS, "meta": '{"level": 2}', "mfd": 2.5}
    rows = records.build([refined, refined, pending | {"round": 1}])
    assert corpus.load(str(records.write(rows, tmp_path / "rows.parquet"))).to_dict() == rows.to_dict()
    assert corpus.load(save(tmp_path / "a.jsonl", lines(*rows))).to_dict() == rows.to_dict()


def test_null_bytes_and_lone_surrogates_survive_the_hash_and_parquet(tmp_path):
    text = '[{"instruction": "a\\u0000b \\ud800!", "output": "\\udc00", "note": "\\ud800"}]'
    rows = corpus.load(save(tmp_path / "a.json", text))
    assert rows[0]["instruction"] == "a\0b \ufffd!" and rows[0]["response"] == "\ufffd"
    assert records.read(records.write(rows, tmp_path / "rows.parquet"))[0] == rows[0]


def test_a_hub_name_is_read_as_a_data_set_and_its_split_chosen(monkeypatch):
    splits = {"train": datasets.Dataset.from_list([ROW, ROW]), "test": datasets.Dataset.from_list([ROW])}
    monkeypatch.setattr("lib.corpus.sources.load_dataset", lambda name, split: splits[split])
    assert [len(corpus.load(name)) for name in ("someone/sums", "someone/sums:test")] == [2, 1]


def test_an_unreachable_hub_name_says_so(monkeypatch):
    def unreachable(name, split):
        raise ConnectionError("Couldn't reach the Hub\nmore")

    monkeypatch.setattr("lib.corpus.sources.load_dataset", unreachable)
    message = refusal("someone/nothing")
    assert "someone/nothing" in message and "Couldn't reach the Hub" in message and "more" not in message


LATIN = lines(ROW).encode() + b'\n{"instruction": "caf\xe9"}'
PACKED = json.dumps([ROW] * 99).encode()
BROKEN = {
    "broken json": ("a.json", '[\n{"instruction": "x"},\n{"instruct', "line 3 column 2"),
    "a bracket too many": ("a.json", '[\n{"instruction": "x"}\n]\n]', "line 4 column 1"),
    "a broken line": ("a.jsonl", lines(ROW, ROW) + '\n{"instruction": ', "line 3: broken JSON"),
    "a bare text": ("a.json", '"x"', "expected an object with named fields"),
    "an empty file": ("a.jsonl", "", "holds no record"),
    "an empty list": ("a.json", [], "holds no record"),
    "no output": ("a.json", {"Definition": "x", "Instances": [{"input": "y"}]}, "instance 1: an instance"),
    "latin-1": ("a.jsonl", LATIN, "line 2: broken JSON ('utf-8' codec"),
    "a truncated gz": ("a.json.gz", gzip.compress(PACKED)[:-20], "cannot be read"),
    "a truncated xz": ("a.json.xz", lzma.compress(PACKED)[:-20], "cannot be read"),
    "a plain file named gz": ("a.json.gz", lines(ROW), "cannot be read"),
    "a broken parquet": ("a.parquet", b"PAR1 nothing", "cannot be read"),
    "another kind of file": ("a.csv", "instruction,output", "no .json, .jsonl or .parquet file"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_bad_input_is_one_error_that_names_file_and_place(tmp_path, case):
    name, content, expected = BROKEN[case]
    message = refusal(save(tmp_path / name, content))
    assert name in message and expected in message and "\n" not in message


def test_what_names_no_data_is_refused_with_the_way_out(tmp_path):
    assert "nothing.json does not exist" in refusal(str(tmp_path / "nothing.json"))
    assert "a variable in this path is not set" in refusal("$NOT_SET_ANYWHERE/a.json")
    assert f"{tmp_path}: no .json" in refusal(str(tmp_path))
    path = save(tmp_path / "a.json", [ROW])
    assert "Choose one of auto, rows, messages" in refusal(path, "alpacca")
    assert "bad_rows='drop': unknown value. Choose refuse or skip" in refusal(path, "auto", "drop")


# Rows


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


@pytest.fixture
def written(tmp_path):
    """A file of rows in which most columns are null throughout."""
    first = {"instruction": "Add.", "turns": TURNS, "verdicts": [VERDICT]}
    rows = records.build([first, {"instruction": "Say."}])
    return rows, records.write(rows, tmp_path / "pool.parquet")


def test_a_file_of_rows_is_read_with_its_types_by_datasets_and_by_pandas(written, tmp_path):
    rows, path = written
    schema = pq.read_schema(path)  # metadata of a new datasets is an error to an old one
    assert not schema.metadata and schema == records.FEATURES.arrow_schema.remove_metadata()
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
    result = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert result.stdout.split("\n")[-2] == "3.6.0 float64 9 4 2", result.stderr
