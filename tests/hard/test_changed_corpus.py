"""A corpus file that changes between two starts: what came from it is made anew and that is said, and the result is that of the new file."""

import json

import equal
import pytest
import small

pytestmark = pytest.mark.slow


def test_a_corpus_that_changes_between_two_starts_is_read_anew_and_what_was_made_of_it_kept_aside(
    judged, server, tmp_path
):
    trial = small.Place(tmp_path, server.url, small.JUDGED)
    trial.source.write_text(json.dumps(small.corpus(shift=1)))
    server.held = True
    running = trial.start()
    small.wait(lambda: server.waiting)
    small.kill(small.family(running))
    running.communicate()
    [part] = trial.parts()
    assert part.parent.name == "2_oracle_judging"
    trial.source.write_text(json.dumps(small.corpus()))
    server.held = False
    ended = trial.go()
    assert ended.returncode == 0, ended.stderr
    assert equal.differences(judged.folder, trial.folder) == []
    assert trial.parts() == [part]  # of the other corpus: kept until `--clean=yes`
    assert len(trial.find("tapir/1_data_selection/*")) == 2
