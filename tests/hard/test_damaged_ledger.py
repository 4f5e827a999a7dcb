"""A ledger that is damaged is refused before anything is asked or taught, and what can be read of it goes on as a new one."""

import shutil
from pathlib import Path

import equal
import pytest
import small

from lib.oracle.__main__ import main
from lib.oracle.ledger import Ledger

pytestmark = pytest.mark.slow


def overwritten(content: bytes) -> bytes:
    third = len(content) // 3
    return content[:third] + b"\xff" * third + content[2 * third :]


def truncated(content: bytes) -> bytes:
    return content[: 2 * len(content) // 3]


def another_file(content: bytes) -> bytes:
    return b"These are no calls. " * 1000


@pytest.fixture
def place(judged, tmp_path):
    """A study that is about to judge, and whose calls are all in its ledger."""
    twin = small.copied(judged, tmp_path)
    shutil.rmtree(twin.stage("tapir/2_oracle_judging@1"))
    return twin


def damage(ledger: Path, how) -> None:
    ledger.write_bytes(how(ledger.read_bytes()))


def calls(ledger: Path) -> int:
    return len(list(Ledger(ledger, read_only=True).rows()))


@pytest.mark.parametrize("how", [overwritten, truncated])
def test_a_damaged_ledger_is_refused_and_what_it_can_save_fits_its_keys(how, place, server, capsys):
    held, new = calls(place.ledger), place.ledger.with_name("new.sqlite")
    damage(place.ledger, how)
    said = small.the_error(place.go())
    assert f"python -m lib.oracle save {place.ledger} NEW" in said and not place.parts()
    assert main(["save", str(place.ledger), str(new)]) == 0
    assert 0 < calls(new) < held and f"{calls(new)} calls saved" in capsys.readouterr().out
    assert list(Ledger(new, read_only=True).faults()) == []
    assert server.asked.total() == 0


def test_what_was_saved_of_a_damaged_ledger_is_not_asked_again(judged, place, server):
    damaged = place.ledger.rename(place.ledger.with_name("damaged.sqlite"))
    damage(damaged, overwritten)
    main(["save", str(damaged), str(place.ledger)])
    saved = calls(place.ledger)
    place.finish()
    assert equal.differences(judged.folder, place.folder) == []
    assert server.asked.total() == judged.calls - saved > 0


def test_a_file_that_is_no_ledger_is_refused_and_cannot_be_saved(place, server, tmp_path, capsys):
    damage(place.ledger, another_file)
    assert "cannot be opened as a ledger (file is not a database)" in small.the_error(place.go())
    assert main(["save", str(place.ledger), str(tmp_path / "new.sqlite")]) == 1
    assert "nothing can be saved" in capsys.readouterr().err and not (tmp_path / "new.sqlite").exists()
    assert server.asked.total() == 0
