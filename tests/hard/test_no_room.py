"""No room for a file: one error that names it and says so, nothing half-written is taken as whole, and with room the same command ends as ever."""

import resource
import shutil

import equal
import pytest
import small

pytestmark = pytest.mark.slow

KB = 1024
WAY_OUT = "free space there, or lift what limits it"


def limited(size: int):
    """What makes a process, and all that it starts, write no file larger than this."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def refused(place: small.Place, **how) -> str:
    """The file that a run says, in one error, to have no room for; the command ends well as soon as there is some."""
    said = small.the_error(place.go(**how))
    assert said.count(WAY_OUT) == 1, said
    return said.partition(" cannot be ")[0].split()[-1].removeprefix(f"{place.home}/")


def test_under_a_limit_that_rises_one_file_after_the_other_is_named_until_all_fit(judged, server, tmp_path):
    place = small.Place(tmp_path / "limited", server.url, small.JUDGED)
    page = (judged.stage("tapir/1_data_selection@0") / "notebook.html").stat().st_size
    assert page < judged.ledger.stat().st_size  # so that what fits the one does not fit the other
    for size, name in {
        KB: "summary.json",
        page - 10 * KB: "notebook.html",
        page + KB: "ledger.sqlite",
    }.items():
        assert refused(place, preexec_fn=limited(size)).endswith(name)
    place.finish()
    assert equal.differences(judged.folder, place.folder) == []
    assert equal.left_over(place) == []
    assert server.asked.total() <= judged.calls + small.CONCURRENCY


def test_a_report_that_there_is_no_room_for_is_written_once_there_is(judged, tmp_path):
    place = small.copied(judged, tmp_path)
    (place.folder / "report.html").unlink()
    assert refused(place, preexec_fn=limited(64 * KB)).endswith("report.html")
    assert not (place.folder / "report.html").exists()
    place.finish()
    assert (place.folder / "report.html").read_bytes()[-8:].strip() == b"</html>"


def test_a_student_that_there_is_no_room_for_is_taught_to_the_same_weights(server, tmp_path):
    calm = small.Place(tmp_path / "calm", server.url, small.TAUGHT)
    calm.finish()
    place = small.copied(calm, tmp_path / "limited")
    shutil.rmtree(place.stage("tapir/4_training@0"))
    for size in (1000 * KB, 8000 * KB):  # for the weights, and for the optimizer beside them
        assert refused(place, preexec_fn=limited(size)).endswith("work/trainer")
    place.finish()
    assert equal.differences(calm.folder, place.folder) == []


def test_on_a_disk_that_is_full_nothing_is_lost(judged, server, tmp_path, mounts):
    place = small.copied(judged, tmp_path)
    shutil.rmtree(place.stage("tapir/2_oracle_judging@1"))
    place.ledger.unlink()
    mounts.fill(tmp_path, spare=150 * KB)
    assert refused(place, before=mounts.words)
    mounts.widen(tmp_path)
    place.finish(before=mounts.words)
    assert equal.differences(judged.folder, mounts.seen(place.folder)) == []
    assert server.asked.total() <= judged.calls + small.CONCURRENCY
