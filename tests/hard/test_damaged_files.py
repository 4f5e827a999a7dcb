"""Parquet and JSON files that were cut or overwritten, in finished stages and in one under way: they are found, and made again as they were."""

import shutil
from pathlib import Path

import equal
import pytest
import small

pytestmark = pytest.mark.slow


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def overwrite(path: Path) -> None:
    """As many bytes, but others in the middle."""
    content = bytearray(path.read_bytes())
    middle = slice(len(content) // 3, len(content) // 2)
    content[middle] = bytes(255 - byte for byte in content[middle])
    path.write_bytes(content)


def test_a_damaged_file_of_a_finished_stage_is_found_and_its_stage_run_again(judged, server, tmp_path):
    study = small.copied(judged, tmp_path)
    cut(study.stage("tapir/2_oracle_judging@1") / "rows.parquet")
    overwrite(study.stage("tapir/1_data_selection@0") / "rows.parquet")
    ended = study.go()
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("rows.parquet is not as it was written, so it is not reused") == 2
    assert equal.differences(judged.folder, study.folder) == []
    assert server.counts.total() == 0


def test_damaged_files_of_a_stage_under_way_are_written_anew(judged, server, tmp_path):
    study = small.copied(judged, tmp_path)
    study.forget("tapir/2_oracle_judging@1")
    study.ledger.unlink()
    server.delay_s = 0.2
    running = study.start()
    [replies] = small.wait(lambda: study.find("**/*.part/work/completions-*.parquet"))
    small.kill(small.family(running))
    running.communicate()
    [part] = study.parts()
    overwrite(replies)
    shutil.copy(study.stage("tapir/1_data_selection@0") / "rows.parquet", part)
    for path in (part / "rows.parquet", part / "notebook.ipynb", part / "plan.json"):
        cut(path)
    study.finish()
    assert equal.differences(judged.folder, study.folder) == []
    assert equal.left_over(study) == []
    assert server.counts.total() <= judged.calls + small.CONCURRENCY
