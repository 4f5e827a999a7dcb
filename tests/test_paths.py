"""What a path means: on the command line, from the shell's folder; elsewhere, from the project's root."""

import os

import pytest

from lib import paths


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
