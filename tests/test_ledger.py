"""The ledger keeps calls, one writer at a time, and says what is wrong with it."""

import json
import shutil
import sqlite3

import pytest

from lib.errors import UserError
from lib.models import ledger as ledgers
from lib.models.__main__ import main
from lib.models.ledger import Call, Ledger


def call(n: int, **changes) -> Call:
    request = {"messages": [{"role": "user", "content": str(n)}]}
    names = ledgers.key("m", request), "http://x", "m", "judge", "demo", "a stage"
    texts = json.dumps(request), "{}", "stop"
    return Call(*names, *texts, 10, 2, 0.5, 0.1, f"2026-01-01T00:00:{n:02}")._replace(**changes)


def test_a_stored_call_stays_as_it_was(ledger):
    ledger.store([call(1)])
    ledger.store([call(1, response='{"other": 1}')])
    assert [c.response for c in ledger.rows()] == ["{}"]


def test_totals_by_model_purpose_and_run_show_no_money_where_a_price_is_unknown(ledger):
    ledger.store([call(1), call(2), call(3, purpose="answer", usd=None)])
    assert ledger.totals() == [("m", "answer", "demo", 1, 10, 2, None), ("m", "judge", "demo", 2, 20, 4, 1.0)]
    assert ledger.spent("demo") == 1.0 and ledger.spent("another") == 0


def test_two_processes_may_write_and_a_third_may_read_at_once(ledger, tmp_path):
    ledger.store([call(1)])
    other = Ledger(tmp_path / "ledger.sqlite")
    other.store([call(1, response='{"late": 1}'), call(2)])
    ledger.store([call(3)])
    assert [each.response for each in Ledger(ledger.path, read_only=True).rows()] == ["{}"] * 3
    other.close()


def test_a_published_ledger_is_read_where_nothing_can_be_written(ledger, tmp_path):
    ledger.store([call(1)])
    ledger.checkpoint()
    folder = tmp_path / "published"
    folder.mkdir()
    shutil.copy(ledger.path, folder)  # the one file is all there is
    folder.chmod(0o500)
    assert len(list(Ledger(folder / "ledger.sqlite", read_only=True).rows())) == 1


def test_a_damaged_ledger_is_one_error_with_the_way_out(tmp_path):
    opened = Ledger(tmp_path / "ledger.sqlite")
    opened.store(call(n) for n in range(200))
    opened.close()
    content = bytearray((tmp_path / "ledger.sqlite").read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    (tmp_path / "ledger.sqlite").write_bytes(content)
    damaged = Ledger(tmp_path / "ledger.sqlite", read_only=True)
    with pytest.raises(UserError, match="cannot be read .*.recover"):
        list(damaged.rows())
    assert main(["check", str(tmp_path / "ledger.sqlite")]) == 1


def test_another_file_is_no_ledger(tmp_path):
    (tmp_path / "rows.txt").write_text("These are no calls. " * 100)
    for read_only in (True, False):
        with pytest.raises(UserError, match="cannot be opened"):
            Ledger(tmp_path / "rows.txt", read_only)


def test_a_ledger_that_is_not_there_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match="there is no such file"):
        Ledger(tmp_path / "none.sqlite", read_only=True)
    assert not list(tmp_path.iterdir())


def test_a_call_that_was_tampered_with_is_found(ledger):
    ledger.store([call(1), call(2)])
    assert list(ledger.faults()) == []
    with sqlite3.connect(ledger.path) as other:
        other.execute("UPDATE calls SET request = '{}' WHERE key = ?", (call(2).key,))
    assert ["does not fit its key" in fault for fault in ledger.faults()] == [True]
