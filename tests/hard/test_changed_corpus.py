"""A corpus file that changes between two starts: what came from it is made anew and that is said, and the result is that of the new file."""

import json

import equal
import pytest
import small

pytestmark = pytest.mark.slow


def test_a_corpus_that_changes_between_two_starts_is_read_anew_and_what_was_made_of_it_kept_aside(
    judged, server, tmp_path
):
    place = small.Place(tmp_path, server.url, small.JUDGED)
    place.source.write_text(json.dumps(small.corpus(shift=1)))
    server.held = True
    running = place.start()
    small.wait(lambda: server.waiting)
    small.kill(small.family(running))
    running.communicate()
    [part] = place.parts()
    assert part.parent.name == "2_oracle_judging"
    place.source.write_text(json.dumps(small.corpus()))
    server.held = False
    ended = place.go()
    assert ended.returncode == 0, ended.stderr
    assert equal.differences(judged.folder, place.folder) == []
    assert place.parts() == [part]  # of the other corpus: kept until `--clean=yes`
    assert len(place.find("tapir/1_data_selection/*")) == 2
