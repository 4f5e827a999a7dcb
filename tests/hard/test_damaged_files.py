"""Parquet and JSON files that were cut or overwritten in a stage under way: they are found, and made again as they were."""

import shutil
from pathlib import Path

import equal
import pytest
import small


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def overwrite(path: Path) -> None:
    """As many bytes, but others in the middle."""
    content = bytearray(path.read_bytes())
    middle = slice(len(content) // 3, len(content) // 2)
    content[middle] = bytes(255 - byte for byte in content[middle])
    path.write_bytes(content)


@pytest.mark.slow
def test_damaged_files_of_a_stage_under_way_are_written_anew(server, tmp_path):
    calm, hit = (small.Place(tmp_path / name, server.url, small.JUDGED) for name in ("calm", "hit"))
    calm.finish()
    needed = server.counts.total()
    server.delay_s = 0.2
    running = hit.start()
    [replies] = small.wait(lambda: hit.find("**/*.part/work/completions-*.json"))
    small.kill(small.family(running))
    running.communicate()
    [part] = hit.find("**/*.part")
    overwrite(replies)
    shutil.copy(hit.stage("tapir/1_data_selection@0") / "rows.parquet", part)
    for path in (part / "rows.parquet", part / "notebook.ipynb", part / "plan.json"):
        cut(path)
    hit.finish()
    assert equal.differences(calm.folder, hit.folder) == []
    assert equal.left_over(hit) == []
    assert server.counts.total() <= 2 * needed + small.CONCURRENCY
