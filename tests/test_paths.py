"""What a path means: on the command line, from the shell's folder; elsewhere, from the project's root."""

import gzip
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from lib import corpus, paths
from lib.errors import UserError
from lib.runner import preflight


@pytest.fixture
def shell(tmp_path, monkeypatch):
    """A folder outside the project, with files and folders."""
    (tmp_path / "project/params").mkdir(parents=True)
    (tmp_path / "project/params/gym.yaml").touch()
    folder = tmp_path / "a [b]"
    for name in ("rows.jsonl", "data/a.jsonl", "gym/a.jsonl", "test/a.jsonl"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    monkeypatch.setattr(paths, "ROOT", tmp_path / "project")
    monkeypatch.chdir(folder)
    return folder


PRESENT = [("source", "rows.jsonl"), ("gold", "./rows.jsonl"), ("tapir.source", "data/a.jsonl")]
PRESENT += [("source", "data")]


@pytest.mark.parametrize(("name", "text"), PRESENT)
def test_what_lies_in_the_shells_folder_becomes_absolute(shell, name, text):
    assert paths.from_shell(name, text) == os.path.abspath(text)


def test_each_part_of_a_list_does(shell):
    absolute = paths.from_shell("benchmarks", "[rows.jsonl, 'data/a.jsonl', other.jsonl]")
    assert absolute == f"[{shell}/rows.jsonl, '{shell}/data/a.jsonl', other.jsonl]"


def test_a_pattern_finds_the_files_of_the_shells_folder(shell):
    pattern = paths.from_shell("source", "data/*.jsonl")
    assert paths.matching(pattern) == [shell / "data/a.jsonl"]


ELSEWHERE = ["gym", "tatsu-lab/alpaca", "nowhere/*.jsonl", "/rows.jsonl", ""]  # gym: the embedded world
OTHERS = [("split", "test"), ("instruction", "Sort the rows.\nThen add them."), ("labels", "[yes, no]")]
OTHERS += [("temperature", "0.2"), ("pool_from", "tapir/3_refinement/pool.parquet?")]


@pytest.mark.parametrize(("name", "text"), [*(("source", text) for text in ELSEWHERE), *OTHERS])
def test_what_is_no_path_there_stays_as_it_is(shell, name, text):
    assert paths.from_shell(name, text) == text


def test_a_path_below_the_root_starts_there_so_that_a_stage_is_the_same_from_everywhere(shell, monkeypatch):
    monkeypatch.chdir(paths.ROOT / "params")
    for text in ("gym.yaml", "./gym.yaml"):
        assert paths.from_shell("tasks", text) == "params/gym.yaml"


# addresses

ROWS = b'[{"instruction": "Add 2 and 3.", "output": "5"}]'


@pytest.mark.parametrize("query", ["", "?download=true"])
def test_the_file_of_an_address_is_fetched_once_and_read_by_its_suffix(project, site, query):
    (site.folder / "rows.json.gz").write_bytes(gzip.compress(ROWS))
    address = f"{site.url}/rows.json.gz{query}"
    with ThreadPoolExecutor() as pool:
        for rows in pool.map(corpus.load, [address] * 4):
            assert rows["response"][:] == ["5"] and rows["source"][:] == ["rows.json.gz"]
    sent = len(site.requests)
    assert sent and corpus.load(address) and len(site.requests) == sent
    assert [path.name for path in paths.downloads().rglob("*.*")] == ["rows.json.gz"]
    assert paths.from_shell("benchmarks", f"[{address}]") == f"[{address}]"


def test_a_checksum_is_compared_and_what_differs_is_not_kept(project, site):
    (site.folder / "rows.json").write_bytes(ROWS)
    right, wrong = hashlib.sha256(ROWS).hexdigest(), "0" * 64
    assert paths.local(f"{site.url}/rows.json#sha256={right}").read_bytes() == ROWS
    with pytest.raises(UserError, match=f"it has sha256={right}, not sha256={wrong}"):
        paths.local(f"{site.url}/rows.json#sha256={wrong}")
    assert len(list(paths.downloads().rglob("rows.json"))) == 1


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("URL/nowhere.json", "no such file .404.. Correct the address"),
        ("http://127.0.0.1:9/rows.json", "cannot be fetched .Cannot connect.*Download the file yourself, and name it"),
        ("URL/page.json", "this is a web page. Name the address of the raw file"),
        ("URL/rows?format=json", "ends in no .json, .jsonl or .parquet .*Download the file yourself"),
        ("http://me:hush@127.0.0.1/rows.json", "the address of rows.json at 127.0.0.1 holds a password"),
        ("URL/rows.json?token=hush", "holds a password or key"),
    ],
)  # fmt: skip
def test_an_address_without_a_file_is_refused_before_a_run(project, site, address, words):
    (site.folder / "page.json").write_text("\n<!DOCTYPE html>")
    with pytest.raises(UserError, match=f"questions: .*{words}") as refusal:
        preflight.check("evaluation/mt_bench", {"questions": address.replace("URL", site.url)})
    assert "hush" not in str(refusal.value)
