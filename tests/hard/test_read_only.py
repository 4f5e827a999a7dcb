"""Folders that may not be written to: one error that names the file, nothing asked and nothing lost, and later the same command goes on."""

import shutil

import equal
import pytest
import small

pytestmark = pytest.mark.slow


@pytest.fixture
def place(judged, tmp_path):
    """A study that was stopped before it asked anything."""
    twin = small.copied(judged, tmp_path)
    shutil.rmtree(twin.stage("tapir/2_oracle_judging@1"))
    return twin


def test_outputs_that_are_read_only_are_one_error(judged, place, mounts, server):
    before = equal.contents(place.folder)
    mounts.protect(place.outputs)
    said = small.the_error(place.go(before=mounts.words))
    assert (
        said.startswith(str(place.folder)) and "Read-only file system" in said and len(said.splitlines()) == 1
    )
    assert equal.contents(place.folder) == before
    mounts.release(place.outputs)
    place.finish(before=mounts.words)
    assert equal.differences(judged.folder, place.folder) == []
    assert server.asked.total() == 0


def test_a_ledger_that_is_read_only_is_one_error_before_anything_is_asked(
    judged, place, mounts, server, tmp_path
):
    folder = tmp_path / "ledgers"
    folder.mkdir()
    place.ledger.rename(folder / place.ledger.name)
    place.keep_calls_in(folder / place.ledger.name)
    mounts.protect(folder)
    said = small.the_error(place.go(before=mounts.words))
    assert str(place.ledger) in said and "a read-only mount" in said
    assert server.asked.total() == 0
    mounts.release(folder)
    place.finish(before=mounts.words)
    assert equal.differences(judged.folder, place.folder) == []
