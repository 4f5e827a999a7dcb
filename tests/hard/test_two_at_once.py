"""Two commands at once: the same run is refused and told by whom; two runs share a ledger, and both end whole."""

import equal
import pytest
import small

pytestmark = pytest.mark.slow


@pytest.fixture
def pair(judged, tmp_path):
    """Two studies that have loaded their rows, but asked nothing yet, with one ledger."""
    places = [small.copied(judged, tmp_path / name) for name in ("one", "other")]
    for copy in places:
        copy.forget("tapir/2_oracle_judging@1")
        copy.keep_calls_in(tmp_path / "ledger.sqlite")
    return places


def test_two_runs_write_to_one_ledger_and_a_run_is_started_once(pair, judged, server):
    first, second = pair
    server.held = True
    running = first.start()
    small.wait(lambda: server.waiting)
    refusal = small.the_error(first.go())
    assert refusal.startswith(
        f"the run {small.RUN} is in use by process {running.pid}: wait for it, or stop it"
    )
    other = second.start()
    server.held = False
    for process in (running, other):
        assert process.wait(small.LONGEST_S) == 0, process.communicate()
    for copy in pair:
        assert equal.differences(judged.folder, copy.folder) == []
    sent = server.counts.total()
    assert judged.calls <= sent <= 2 * judged.calls
    second.forget("tapir/2_oracle_judging@1")
    second.finish()
    assert server.counts.total() == sent  # every call is stored
