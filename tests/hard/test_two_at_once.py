"""Two commands at once: one of them is refused and told by whom, both end whole in the end, and nothing is paid twice."""

import equal
import pytest
import small

pytestmark = pytest.mark.slow


@pytest.fixture
def pair(judged, tmp_path):
    """Two studies that have loaded their rows, but asked nothing yet, with one ledger."""
    made = [small.copied(judged, tmp_path / name) for name in ("one", "other")]
    for place in made:
        place.forget("tapir/2_oracle_judging@1")
        place.keep_calls_in(tmp_path / "ledger.sqlite")
    return made


def test_of_two_runs_with_one_ledger_the_second_is_refused_and_later_pays_nothing(pair, judged, server):
    first, second = pair
    server.held = True
    running = first.start()
    small.wait(lambda: server.waiting)
    again = small.the_error(first.go())
    assert again.startswith(
        f"the run {small.RUN} is in use by process {running.pid}: wait for it, or stop it"
    )
    said = small.the_error(second.go())
    assert f"ledger.sqlite is in use by process {small.kernel(running).pid}: wait for it, or stop it" in said
    server.held = False
    assert running.wait(small.LONGEST_S) == 0, running.communicate()
    second.finish()
    assert server.asked.total() == judged.calls
    for place in pair:
        assert equal.differences(judged.folder, place.folder) == []
