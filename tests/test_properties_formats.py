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

turns = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "system"]), "content": plain})
)
verdicts = st.fixed_dictionaries(
    {"order": st.just("oracle_first"), "attempt": st.just(1), "reply": texts, "finish": st.just("stop")}
)
ours = st.fixed_dictionaries(
    {},
    optional={
        "oracle_score": st.floats(1, 10),
        "verdicts": st.lists(verdicts, max_size=2),
        "turns": turns,
        "round": st.integers(0, 3),
        "licence": plain,
        "meta": values,
        "id": plain,
    },
)
alpaca_rows = st.builds(
    dict.__or__, st.fixed_dictionaries({"instruction": plain, "input": texts, "output": texts}), ours
)
pairs = st.fixed_dictionaries({"prompt": plain, "response": plain})
said = st.builds(
    lambda before, names: {names[0]: [{names[1]: role, names[2]: text} for role, text in before]},
    st.lists(st.tuples(st.just("user"), plain), min_size=1, max_size=1).flatmap(
        lambda last: st.lists(
            st.tuples(st.sampled_from(["user", "assistant", "system"]), plain), max_size=3
        ).map(lambda first: first + last)
    ),
    st.sampled_from([("messages", "role", "content"), ("conversations", "from", "value")]),
)
recorded = st.fixed_dictionaries(
    {"prompt": plain, "Answer1": texts, "Answer2": texts, "review": texts, "review_reverse": texts}
)
demos = st.lists(st.fixed_dictionaries({"input": plain, "output": plain}), max_size=3)
instances = st.fixed_dictionaries({"input": plain, "output": st.lists(plain, min_size=1, max_size=2)})
tasks = st.fixed_dictionaries(
    {
        "Definition": st.lists(plain, min_size=1, max_size=1),
        "Positive Examples": demos,
        "Instances": st.lists(instances, min_size=1, max_size=4),
    }
)
turned = st.fixed_dictionaries({"prompt": plain, "completion": texts})
KINDS = {
    "alpaca": alpaca_rows,
    "prompt_completion": turned,
    "auto": alpaca_rows | said,
    "messages": said,
    "cherry_llm:first": recorded,
    "natural_instructions": tasks,
}


@st.composite
def mangled(draw, record):
    """The record with a field gone, of another type, or one more: at the top or further down."""
    record = copy.deepcopy(draw(record))
    for _ in range(draw(st.integers(0, 2))):
        place = record
        while isinstance(place, dict | list) and place and draw(st.booleans()):
            inside = list(place.values()) if isinstance(place, dict) else place
            place = draw(st.sampled_from(inside))
        if isinstance(place, dict):
            name = draw(st.sampled_from([*place, "instruction", "turns", "meta"]) | texts)
            place[name] = draw(values)
            if draw(st.booleans()):
                del place[name]
        elif isinstance(place, list):
            place.append(draw(values))
    return record


def written(record: object) -> str:
    """As JSON writers do it, with what is no Unicode as an escape, and an integer of any size."""
    return json.dumps(record)


containers = st.sampled_from(["a.json", "a.jsonl", "a.data.json", "a.json.gz", "a.jsonl.xz"])
ends = st.sampled_from(["\n", "\r\n", "\n\n \n"])


def packed(name: str, rows: list, end: str, mark: bool) -> bytes:
    if ".jsonl" in name:
        text = "".join(written(row) + end for row in rows)
    else:
        text = written({"data": rows, "about": {}} if ".data" in name else rows)
    content = text.encode("utf-8-sig" if mark else "utf-8")
    pack = {".gz": gzip.compress, ".xz": lzma.compress}.get(Path(name).suffix, bytes)
    return pack(content)


@contextlib.contextmanager
def saved(name: str, content: bytes):
    with TemporaryDirectory() as folder:
        place = Path(folder) / name
        place.write_bytes(content)
        yield place


def outcome(read, place: Path, *args):
    """What was read; None where one clear error names the file."""
    try:
        return read(str(place), *args)
    except UserError as error:
        told = str(error)
        assert place.name in told and told.isprintable() and len(told) < 1000
        assert told.encode()
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
    with saved(name, packed(name, rows, end, mark)) as place:
        found = corpus.load(str(place))
    check_whole(found, len(rows))
    assert found["instruction"][:] == [row["instruction"] for row in rows]
    assert found["response"][:] == [clean(row["output"]) for row in rows]


kinds_and_rows = st.sampled_from(list(KINDS)).flatmap(
    lambda kind: st.tuples(st.just(kind), st.lists(mangled(KINDS[kind]), min_size=1, max_size=4))
)


@always(200, 3000, kind_and_rows=kinds_and_rows, **file)
def test_a_file_of_half_valid_records_is_read_whole_or_refused(kind_and_rows, name, end, mark):
    kind, rows = kind_and_rows
    with saved(name, packed(name, rows, end, mark)) as place:
        found = outcome(corpus.load, place, kind)
    if found is not None:
        check_whole(
            found, sum(len(r["Instances"]) for r in rows) if kind == "natural_instructions" else len(rows)
        )


@always(150, 1500, kind_and_rows=kinds_and_rows, name=st.just("a.jsonl"), end=ends, mark=st.just(False))
def test_with_skip_every_record_is_a_row_or_counted(kind_and_rows, name, end, mark):
    kind, rows = kind_and_rows
    with saved(name, packed(name, rows, end, mark)) as place:
        found = outcome(corpus.load_with_account, place, kind, "skip")
    if found is not None and kind != "natural_instructions":
        read, account = found
        assert len(read) + account.skipped.total() == len(rows)
        assert account.rows == len(read) and "\n".join(account.sentences()).encode()


@always(
    100, 1000, rows=st.lists(alpaca_rows | values, min_size=1, max_size=3), pack=st.sampled_from(["", ".gz"])
)
def test_a_parquet_file_of_any_columns_is_read_whole_or_refused(rows, pack):
    try:
        table = pa.Table.from_pylist([row if isinstance(row, dict) else {"instruction": row} for row in rows])
        pq.write_table(table, stream := io.BytesIO())
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        return  # no such file can be written
    content = gzip.compress(stream.getvalue()) if pack else stream.getvalue()
    with saved(f"a.parquet{pack}", content) as place:
        found = outcome(corpus.load, place)
    if found is not None:
        check_whole(found, len(rows))


hurt = st.tuples(st.sampled_from(["cut", "flip", "put"]), st.floats(0, 1), st.binary(min_size=1, max_size=4))


def injured(content: bytes, how: str, where: float, bytes_: bytes) -> bytes:
    at = int(where * len(content))
    rest = {"cut": b"", "flip": bytes_ + content[at + len(bytes_) :], "put": bytes_ + content[at:]}
    return content[:at] + rest[how]


@always(100, 2500, rows=st.lists(alpaca_rows, min_size=1, max_size=3), injury=hurt, **file)
def test_a_file_with_damaged_bytes_is_read_or_refused(rows, injury, name, end, mark):
    with saved(name, injured(packed(name, rows, end, mark), *injury)) as place:
        found = outcome(corpus.load, place)
    if found is not None:
        check_whole(found, len(found))


@always(50, 500, rows=st.lists(alpaca_rows, min_size=1, max_size=3), injury=hurt)
def test_a_parquet_file_with_damaged_bytes_is_read_or_refused(rows, injury):
    pq.write_table(
        pa.Table.from_pylist([{"instruction": row["instruction"]} for row in rows]), stream := io.BytesIO()
    )
    with saved("a.parquet", injured(stream.getvalue(), *injury)) as place:
        outcome(corpus.load, place)


@always(100, 1000, task=mangled(tasks))
def test_a_task_is_read_with_all_its_instances_or_refused(task):
    with saved("a.json", written(task).encode()) as place:
        found = outcome(target.load, place)
    if found is not None:
        assert len(found.validation) + len(found.test) + found.blank == len(task["Instances"])


number = st.integers(0, 99)
two = st.lists(plain, min_size=2, max_size=2)
ASKED = [{"question_id": n, "category": "writing", "turns": ["a", "b"]} for n in range(100)]
PROMPTS = [{"key": 1, "prompt": "a", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}]
READERS = {
    "questions": (
        lambda place: mt_bench.questions(place),
        st.fixed_dictionaries({"question_id": number, "category": plain, "turns": two}),
    ),
    "answers": (
        lambda place: mt_bench.answers(place, "answers", ASKED),
        st.fixed_dictionaries({"question_id": number, "choices": two.map(lambda said: [{"turns": said}])}),
    ),
    "judge_prompts": (
        lambda place: mt_bench.judge_prompts(place),
        st.fixed_dictionaries({"name": plain, "system_prompt": texts, "prompt_template": texts}),
    ),
    "judgments": (
        lambda place: mt_bench.recorded(ASKED, place),
        st.fixed_dictionaries(
            {"question_id": number, "turn": st.sampled_from([1, 2]), "judgment": texts},
            optional={"score": st.integers(-1, 10), "model": plain, "judge": values, "user_prompt": texts},
        ),
    ),
    "outputs": (
        lambda place: alpaca.outputs(place, "model_outputs"),
        st.fixed_dictionaries({"instruction": plain, "output": texts}, optional={"generator": scalars}),
    ),
    "prompts": (
        lambda place: ifeval.prompts(place),
        st.fixed_dictionaries(
            {
                "key": number,
                "prompt": plain,
                "instruction_id_list": st.just(["punctuation:no_comma"]),
                "kwargs": st.just([{}]),
            }
        ),
    ),
    "responses": (
        lambda place: ifeval.responses(place, PROMPTS),
        st.fixed_dictionaries({"prompt": st.just("a"), "response": texts}),
    ),
    "contamination": (
        lambda place: contamination.find(records.build([{"instruction": "a"}]), contamination.load([place])),
        st.fixed_dictionaries({"instruction": plain}) | st.fixed_dictionaries({"turns": two}),
    ),
}
readers_and_rows = st.sampled_from(list(READERS)).flatmap(
    lambda name: st.tuples(st.just(name), st.lists(mangled(READERS[name][1]) | values, max_size=3))
)


@always(200, 2000, reader_and_rows=readers_and_rows, **file)
def test_a_benchmark_file_is_read_or_refused(reader_and_rows, name, end, mark):
    reader, rows = reader_and_rows
    with saved(name, packed(name, rows, end, mark)) as place:
        found = outcome(READERS[reader][0], place)
    if found is not None and reader in ("questions", "answers", "outputs", "prompts", "responses"):
        assert len(found) == len(rows)


KEYS = '{"\\n\\u001b[31m": 1}'


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
@pytest.mark.parametrize(("text", "expected"), [(f'{{"a": {"1" * 5000}}}', "limit"), (KEYS, "\\n\\x1b[31m")])
def test_what_python_cannot_hold_or_print_is_named(text, expected, name):
    with saved(name, text.encode()) as place, pytest.raises(UserError) as error:
        corpus.load(str(place))
    assert name in str(error.value) and expected in str(error.value) and str(error.value).isprintable()


def test_a_line_separator_inside_a_text_ends_no_record(tmp_path):
    rows = [{"instruction": "a\u2028b\x85c"}, {"instruction": "d"}]
    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (tmp_path / "a.json").write_text(text, encoding="utf-8")
    assert corpus.load(str(tmp_path / "a.json"))["instruction"][:] == ["a\u2028b\x85c", "d"]


def test_a_task_whose_file_holds_no_example_and_nothing_else_is_one_error(tmp_path):
    task = {"Definition": ["Add."], "Instances": [{"input": "1", "output": ["1"]}]}
    (tmp_path / "a.json").write_text(json.dumps(task))
    with pytest.raises(UserError, match="there is no demonstration"):
        target.load(str(tmp_path / "a.json"))


@pytest.mark.parametrize(
    "record", [{"instruction": None}, {"prompt": 5}, {"turns": []}, {"turns": ["a", None]}, 7]
)
def test_a_benchmark_to_keep_clear_of_has_prompts_of_text(tmp_path, record):
    (tmp_path / "a.jsonl").write_text(json.dumps(record))
    with pytest.raises(UserError, match="a.jsonl, line 1: no benchmark prompt"):
        contamination.prompts(str(tmp_path / "a.jsonl"))
    (tmp_path / "a.jsonl").write_text("")
    with pytest.raises(UserError, match="holds no prompt"):
        contamination.prompts(str(tmp_path / "a.jsonl"))
