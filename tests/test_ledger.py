"""The ledger keeps calls, one writer at a time, and says what is wrong with it."""

import json
import sqlite3

import pytest

from lib.errors import UserError
from lib.oracle import ledger as ledgers
from lib.oracle.ledger import Call, Ledger


@pytest.fixture
def ledger(tmp_path):
    opened = Ledger(tmp_path / "ledger.sqlite")
    yield opened
    opened.close()


def call(n: int, **how) -> Call:
    request = {"messages": [{"role": "user", "content": str(n)}]}
    name = ledgers.key("http://x", "m", request)
    made = Call(
        name,
        "http://x",
        "m",
        "judge",
        "demo",
        json.dumps(request),
        "{}",
        "stop",
        10,
        2,
        0.5,
        0.1,
        f"2026-01-01T00:00:{n:02}",
    )
    return made._replace(**how)


def test_what_is_stored_is_found_by_its_key(ledger):
    ledger.store([call(1), call(2)])
    assert dict(ledger.find([call(1).key, call(3).key])) == {call(1).key: "{}"}


def test_a_stored_call_stays_as_it_was(ledger):
    ledger.store([call(1)])
    ledger.store([call(1, response='{"other": 1}')])
    assert [c.response for c in ledger.rows()] == ["{}"]


def test_the_key_follows_all_that_is_sent():
    base = ("http://x", "m", {"messages": [], "attempt": 1})
    others = [("http://y", *base[1:]), (base[0], "n", base[2]), (*base[:2], {"messages": [], "attempt": 2})]
    assert len({ledgers.key(*it) for it in [base, *others]}) == 4


def test_totals_by_model_purpose_and_run_show_no_money_where_a_price_is_unknown(ledger):
    ledger.store([call(1), call(2), call(3, purpose="answer", usd=None)])
    assert ledger.totals() == [("m", "answer", "demo", 1, 10, 2, None), ("m", "judge", "demo", 2, 20, 4, 1.0)]
    assert ledger.spent("demo") == 1.0 and ledger.spent("another") == 0


def test_a_second_writer_is_refused_and_a_reader_is_not(ledger, tmp_path):
    ledger.store([call(1)])
    with pytest.raises(UserError, match="another process writes"):
        Ledger(tmp_path / "ledger.sqlite")
    assert len(list(Ledger(tmp_path / "ledger.sqlite", read_only=True).rows())) == 1


def test_another_file_is_no_ledger(tmp_path):
    (tmp_path / "rows.txt").write_text("These are no calls. " * 100)
    for read_only in (True, False):
        with pytest.raises(UserError, match="is not a ledger"):
            Ledger(tmp_path / "rows.txt", read_only)


def test_a_ledger_that_is_not_there_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        Ledger(tmp_path / "none.sqlite", read_only=True)
    assert not list(tmp_path.iterdir())


def test_a_network_filesystem_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(ledgers, "_filesystem", lambda folder: "nfs4")
    with pytest.raises(UserError, match=r"network filesystem \(nfs4\).*local disk"):
        Ledger(tmp_path / "ledger.sqlite")


def test_a_call_that_was_tampered_with_is_found(ledger):
    ledger.store([call(1), call(2)])
    assert list(ledger.faults()) == []
    with sqlite3.connect(ledger.path) as other:
        other.execute("UPDATE calls SET request = '{}' WHERE key = ?", (call(2).key,))
    assert ["does not fit its key" in fault for fault in ledger.faults()] == [True]
