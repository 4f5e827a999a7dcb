"""The table that `make bench` prints, and what it says where something is missed or missing."""

import importlib.util
from importlib import import_module

import pytest
from bench import environments, gpu, lines, scale

bench = import_module("bench.__main__")


def test_every_bench_is_there():
    assert all(importlib.util.find_spec(f"bench.{word}") for word in bench.ALL + bench.APART)


def test_the_tables_of_the_page_on_scale_are_those_of_its_formula():
    page = (environments.ROOT / "docs/scale.md").read_text()
    for table in scale.tables():
        assert table in page


@pytest.mark.slow
def test_what_a_gpu_is_measured_by_runs_without_one():
    table_lines = gpu.measure({"tiny": gpu.TINY}, prompts=8, new=4, many=12, most=150)
    assert len(table_lines) == 7 + 6
    assert not [
        line for line in table_lines if isinstance(line["suite"], str) or isinstance(line["peer"], str)
    ]


def test_a_bound_is_held_against_the_ratio_and_the_number():
    rates = [lines.compared("x", "calls/s", rate, 100, "SDK", 0.9) for rate in (89, 90, 91)]
    assert [line["holds"] for line in rates] == [False, True, True]
    assert [lines.alone("x", "s", seconds, 10)["holds"] for seconds in (9, 10, 11)] == [True, True, False]


def test_a_missed_bound_is_said_and_ends_with_1(monkeypatch, capsys):
    missed, met = (lines.compared("calls", "calls/s", n, 100, "SDK 3", 0.9) for n in (80, 95))
    monkeypatch.setattr(bench.apart, "measured", {"oracle": [missed], "answers": [met]}.get)
    assert bench.main(["answers"]) == 0
    assert "| 95.00 calls/s | 100 calls/s (SDK 3) |" in capsys.readouterr().out
    assert bench.main(["answers", "oracle"]) == 1
    assert "| ≥ 0.9 times as good | **NO** |" in capsys.readouterr().out


def test_a_bench_that_fails_is_a_line_that_misses_and_the_others_go_on(monkeypatch, capfd):
    monkeypatch.setattr(bench, "ALL", ("nowhere", "nowhere_else"))
    assert bench.main([]) == 1
    assert capfd.readouterr().out.count("failed: ModuleNotFoundError") == 2
