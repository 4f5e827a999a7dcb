"""Whatever stands in a file: its rows, all of them, or one error that names it; and what was read can be written."""

import contextlib
import copy
import gzip
import io
import json
import lzma
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from generated import always, plain, scalars, texts, values
from hypothesis import strategies as st

from lib import corpus, records
from lib.corpus import contamination
from lib.errors import UserError
from lib.evaluation import alpaca, ifeval, mt_bench
from lib.self_guide import target
from lib.text import clean

fields = st.fixed_dictionaries
roles = st.sampled_from(["user", "assistant", "system"])
turns = st.lists(fields({"role": roles, "content": plain}))
verdicts = fields({"order": st.just("oracle_first"), "attempt": st.just(1), "reply": texts, "finish": plain})
own_columns = {
    "oracle_score": st.floats(1, 10),
    "verdicts": st.lists(verdicts, max_size=2),
    "turns": turns,
    "round": st.integers(0, 3),
    "licence": plain,
    "meta": values,
    "id": plain,
}
alpaca_rows = fields({"instruction": plain, "input": texts, "output": texts}, optional=own_columns)
talks = st.builds(
    lambda earlier, last, names: {
        names[0]: [{names[1]: role, names[2]: text} for role, text in [*earlier, ("user", last)]]
    },
    st.lists(st.tuples(roles, plain), max_size=3),
    plain,
    st.sampled_from([("messages", "role", "content"), ("conversations", "from", "value")]),
)
instances = fields({"input": plain, "output": st.lists(plain, min_size=1, max_size=2)})
task = {"Definition": st.lists(plain, min_size=1, max_size=1)}
task |= {"Positive Examples": st.lists(fields({"input": plain, "output": plain}), max_size=3)}
tasks = fields(task | {"Instances": st.lists(instances, min_size=1, max_size=4)})
pair = {"prompt": plain} | dict.fromkeys(["Answer1", "Answer2", "review", "review_reverse"], texts)
KINDS = {"alpaca": alpaca_rows, "prompt_completion": fields({"prompt": plain, "completion": texts})}
KINDS |= {"auto": alpaca_rows | talks, "messages": talks, "cherry_llm:first": fields(pair)}
KINDS |= {"natural_instructions": tasks}


@st.composite
def mangled(draw, record):
    """The record with a field gone, of another type, or one more: at the top or further down."""
    record = copy.deepcopy(draw(record))
    for _ in range(draw(st.integers(0, 2))):
        part = record
        while isinstance(part, dict | list) and part and draw(st.booleans()):
            part = draw(st.sampled_from(list(part.values()) if isinstance(part, dict) else part))
        if isinstance(part, dict):
            name = draw(st.sampled_from([*part, "instruction", "turns", "meta"]) | texts)
            part[name] = draw(values)
            if draw(st.booleans()):
                del part[name]
        elif isinstance(part, list):
            part.append(draw(values))
    return record


containers = st.sampled_from(["a.json", "a.jsonl", "a.data.json", "a.json.gz", "a.jsonl.xz"])
ends = st.sampled_from(["\n", "\r\n", "\n\n \n"])


def packed(name: str, rows: list, end: str, mark: bool) -> bytes:
    if ".jsonl" in name:
        text = "".join(json.dumps(row) + end for row in rows)
    else:
        text = json.dumps({"data": rows, "about": {}} if ".data" in name else rows)
    content = text.encode("utf-8-sig" if mark else "utf-8")
    pack = {".gz": gzip.compress, ".xz": lzma.compress}.get(Path(name).suffix, bytes)
    return pack(content)


@contextlib.contextmanager
def saved(name: str, content: bytes):
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        yield path


def outcome(read, path: Path, *args):
    """What was read; None where one clear error names the file."""
    try:
        return read(str(path), *args)
    except UserError as error:
        message = str(error)
        assert path.name in message and message.isprintable() and len(message) < 1000
        return None


def check_whole(rows, many: int) -> None:
    """As many rows as records, which can be written and are read again as they were."""
    assert len(rows) == many and len(set(rows["id"])) == many
    with TemporaryDirectory() as folder:
        again = records.read(records.write(rows, Path(folder) / "rows.parquet"))
    assert json.dumps(again[:]) == json.dumps(rows[:])  # nan equals itself here


file = {"name": containers, "end": ends, "mark": st.booleans()}


@always(50, 1000, rows=st.lists(alpaca_rows, min_size=1, max_size=4), **file)
def test_every_record_of_a_valid_file_becomes_a_row(rows, name, end, mark):
    with saved(name, packed(name, rows, end, mark)) as path:
        loaded = corpus.load(str(path))
    check_whole(loaded, len(rows))
    assert loaded["instruction"][:] == [row["instruction"] for row in rows]
    assert loaded["response"][:] == [clean(row["output"]) for row in rows]


kinds_and_rows = st.sampled_from(list(KINDS)).flatmap(
    lambda kind: st.tuples(st.just(kind), st.lists(mangled(KINDS[kind]), min_size=1, max_size=4))
)


@always(150, 3000, kind_and_rows=kinds_and_rows, skip=st.booleans(), **file)
def test_of_half_valid_records_each_is_a_row_or_counted_or_the_file_refused(
    kind_and_rows, skip, name, end, mark
):
    kind, rows = kind_and_rows
    with saved(name, packed(name, rows, end, mark)) as path:
        result = outcome(corpus.load_with_account, path, kind, "skip" if skip else "refuse")
    if result is not None:
        loaded, account = result
        many = len(rows)
        if kind == "natural_instructions":
            listed = [row.get("Instances") if "Definition" in row else None for row in rows]
            many = sum(
                len(instances) if isinstance(instances, list) and instances else 1 for instances in listed
            )
        check_whole(loaded, many - account.skipped.total())
        assert account.rows == len(loaded) and "\n".join(account.sentences()).encode()


any_rows = st.lists(alpaca_rows | values, min_size=1, max_size=3)


@always(100, 1000, rows=any_rows, pack=st.sampled_from(["", ".gz"]))
def test_a_parquet_file_of_any_columns_is_read_whole_or_refused(rows, pack):
    try:
        table = pa.Table.from_pylist([row if isinstance(row, dict) else {"instruction": row} for row in rows])
        pq.write_table(table, stream := io.BytesIO())
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        return  # no such file can be written
    content = gzip.compress(stream.getvalue()) if pack else stream.getvalue()
    with saved(f"a.parquet{pack}", content) as path:
        loaded = outcome(corpus.load, path)
    if loaded is not None:
        check_whole(loaded, len(rows))


kinds_of_injury, some_bytes = st.sampled_from(["cut", "flip", "put"]), st.binary(min_size=1, max_size=4)
injuries = st.tuples(kinds_of_injury, st.floats(0, 1), some_bytes)


def injured(content: bytes, kind: str, share: float, new: bytes) -> bytes:
    at = int(share * len(content))
    rest = {"cut": b"", "flip": new + content[at + len(new) :], "put": new + content[at:]}
    return content[:at] + rest[kind]


few_rows = st.lists(alpaca_rows, min_size=1, max_size=3)


@always(150, 3000, rows=few_rows, injury=injuries, parquet=st.booleans(), **file)
def test_a_file_with_damaged_bytes_is_read_or_refused(rows, injury, parquet, name, end, mark):
    content, stream = packed(name, rows, end, mark), io.BytesIO()
    if parquet:
        pq.write_table(pa.Table.from_pylist([{"instruction": row["instruction"]} for row in rows]), stream)
        name, content = "a.parquet", stream.getvalue()
    with saved(name, injured(content, *injury)) as path:
        outcome(corpus.load, path)


@always(100, 1000, task=mangled(tasks))
def test_a_task_is_read_with_all_its_instances_or_refused(task):
    with saved("a.json", json.dumps(task).encode()) as path:
        loaded = outcome(target.load, path)
    if loaded is not None:
        assert len(loaded.validation) + len(loaded.test) + loaded.blank == len(task["Instances"])


number = st.integers(0, 99)
two = st.lists(plain, min_size=2, max_size=2)
choices = two.map(lambda turns: [{"turns": turns}])
rules = {"instruction_id_list": st.just(["punctuation:no_comma"]), "kwargs": st.just([{}])}
QUESTIONS = [{"question_id": n, "category": "writing", "turns": ["a", "b"]} for n in range(100)]
PROMPTS = [{"key": 1, "prompt": "a", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}]
ROWS = records.build([{"instruction": "a"}])
judgments = {"question_id": number, "turn": st.sampled_from([1, 2]), "judgment": texts}
judgments["score"] = st.integers(-1, 10)
prompts = {"instruction": plain, "turns": two}
answers = {"question_id": number, "choices": choices}
outputs = {"instruction": plain, "output": texts, "generator": scalars}
READERS = {  # each with the fields of its records
    "questions": (mt_bench.questions, {"question_id": number, "category": plain, "turns": two}),
    "answers": (lambda path: mt_bench.answers(path, "answers", QUESTIONS), answers),
    "judgments": (lambda path: mt_bench.recorded(QUESTIONS, path), judgments),
    "outputs": (lambda path: alpaca.outputs(path, "model_outputs"), outputs),
    "prompts": (ifeval.prompts, {"key": number, "prompt": plain, **rules}),
    "responses": (lambda path: ifeval.responses(path, PROMPTS), {"prompt": st.just("a"), "response": texts}),
    "contamination": (lambda path: contamination.find(ROWS, contamination.load([path])), prompts),
}
readers_and_rows = st.sampled_from(list(READERS)).flatmap(
    lambda name: st.tuples(st.just(name), st.lists(mangled(fields(READERS[name][1])) | values, max_size=3))
)


@always(200, 2000, reader_and_rows=readers_and_rows, **file)
def test_a_benchmark_file_is_read_or_refused(reader_and_rows, name, end, mark):
    reader, rows = reader_and_rows
    with saved(name, packed(name, rows, end, mark)) as path:
        result = outcome(READERS[reader][0], path)
    if result is not None and reader in ("questions", "answers", "outputs", "prompts", "responses"):
        assert len(result) == len(rows)


KEYS = '{"\\n\\u001b[31m": 1}'


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
@pytest.mark.parametrize(("text", "expected"), [(f'{{"a": {"1" * 5000}}}', "limit"), (KEYS, "\\n\\x1b[31m")])
def test_what_python_cannot_hold_or_print_is_named(text, expected, name):
    with saved(name, text.encode()) as path, pytest.raises(UserError) as error:
        corpus.load(str(path))
    assert name in str(error.value) and expected in str(error.value) and str(error.value).isprintable()


def test_a_line_separator_inside_a_text_ends_no_record(tmp_path):
    rows = [{"instruction": "a\u2028b\x85c"}, {"instruction": "d"}]
    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (tmp_path / "a.json").write_text(text, encoding="utf-8")
    assert corpus.load(str(tmp_path / "a.json"))["instruction"][:] == ["a\u2028b\x85c", "d"]


@pytest.mark.parametrize(
    "record", [{"instruction": None}, {"prompt": 5}, {"turns": []}, {"turns": ["a", None]}, 7]
)
def test_a_benchmark_to_keep_clear_of_has_prompts_of_text(tmp_path, record):
    (tmp_path / "a.jsonl").write_text(json.dumps(record))
    with pytest.raises(UserError, match="a.jsonl, line 1: no benchmark prompt"):
        contamination.prompts(str(tmp_path / "a.jsonl"))
