"""kill -9 in every stage of a study, of its runner, its kernel or all of it: the same command goes on, and ends where it would have ended."""

import os
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from itertools import cycle
from random import Random, SystemRandom

import equal
import psutil
import pytest
import small

pytestmark = pytest.mark.slow

SEED = int(os.environ.get("KILL_SEED") or SystemRandom().randrange(10_000))
KINDS = ("runner", "kernel", "all")
ANSWER_S = 0.1  # so that kills come upon calls in flight
DEAD_S = 30  # until all that a kill left behind has noticed


def test_a_study_that_is_killed_in_every_stage_ends_as_an_undisturbed_one(server, tmp_path):
    print(f"KILL_SEED={SEED}")
    server.delay_s = ANSWER_S
    calm, hit = (small.Place(tmp_path / name, server.url) for name in ("calm", "hit"))
    before = Counter(server.asked)
    stages = calm.finish()["stages"]
    needed = server.asked - before
    kills = kill_in_each(hit, stages, Random(SEED))
    hit.finish()
    assert equal.differences(calm.folder, hit.folder) == []
    assert equal.left_over(hit) == []
    small.wait(lambda: not small.alive(hit.seen), DEAD_S)
    asked = server.asked - before - needed
    assert not needed - asked and (asked - needed).total() <= kills * small.CONCURRENCY


def kill_in_each(place: small.Place, stages: list[dict], rng: Random) -> int:
    """One kill at some moment of every stage, the kinds in turn, and one while the report is written; returns how many they were."""
    kinds, kills = cycle(rng.sample(KINDS, len(KINDS))), 0
    for line, kind in zip(stages, kinds, strict=False):
        final, moment = place.stage(line["name"], line["arm"]), rng.uniform(0.02, 0.9) * line["seconds"]
        kill_when(place, lambda name=line["name"]: place.part(name), kind, moment)
        while final.exists():  # it was faster this time: once more, and sooner
            shutil.rmtree(final)
            kills, moment = kills + 1, moment / 2
            kill_when(place, lambda name=line["name"]: place.part(name), kind, moment)
    kill_when(place, final.exists, "runner", rng.uniform(0, 0.5))
    return kills + len(stages) + 1


def kill_when(place: small.Place, begun: Callable[[], object], kind: str, moment: float) -> None:
    """Start the command, and kill a part of it so many seconds after something had begun."""
    runner = place.start()
    small.wait(lambda: begun() or runner.poll() is not None)
    time.sleep(moment)
    place.seen |= set(small.family(runner))
    small.kill(victims(kind, runner))
    said, complained = runner.communicate(timeout=small.LONGEST_S)
    print(f"{kind} killed {moment:.1f} s into {said.splitlines()[-1]}")
    if kind == "kernel":
        assert (runner.returncode, complained.count("failed in")) == (1, 1), complained
    else:
        assert runner.returncode == -9, said + complained


def victims(kind: str, runner: subprocess.Popen) -> list[psutil.Process]:
    if kind == "all":
        return small.family(runner)
    if kind == "runner":
        return [psutil.Process(runner.pid)]
    return [small.wait(lambda: small.kernel(runner))]
