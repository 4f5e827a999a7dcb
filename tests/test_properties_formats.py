"""Whatever stands in a file: its rows, all of them, or one error that names it; and what was read can be written."""

import contextlib
import copy
import gzip
import json
import lzma
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from generated import always, plain, texts, values
from hypothesis import strategies as st

from lib import corpus, records
from lib.corpus import contamination
from lib.errors import UserError
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
tasks = fields(
    {
        "Definition": st.lists(plain, min_size=1, max_size=1),
        "Positive Examples": st.lists(fields({"input": plain, "output": plain}), max_size=3),
        "Instances": st.lists(
            fields({"input": plain, "output": st.lists(plain, min_size=1, max_size=2)}),
            min_size=1,
            max_size=4,
        ),
    }
)
KINDS = {
    "alpaca": alpaca_rows,
    "prompt_completion": fields({"prompt": plain, "completion": texts}),
    "auto": alpaca_rows | talks,
    "messages": talks,
    "cherry_llm:first": fields(
        {"prompt": plain} | dict.fromkeys(["Answer1", "Answer2", "review", "review_reverse"], texts)
    ),
    "natural_instructions": tasks,
}


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


@always(250, 3000, kind_and_rows=kinds_and_rows, skip=st.booleans(), **file)
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
            many = sum(len(instances) if isinstance(instances, list) else 1 for instances in listed)
        check_whole(loaded, many - account.skipped.total())
        assert account.rows == len(loaded) and "\n".join(account.sentences()).encode()


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
