"""kill -9 in every stage of a study, of its runner, its kernel or all of it: the same command goes on, and ends where it would have ended."""

import os
import subprocess
import time
from collections import Counter
from itertools import cycle
from pathlib import Path
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
    before = Counter(server.counts)
    stages = calm.finish()["stages"]
    needed = server.counts - before
    kills = kill_in_each(hit, stages, Random(SEED))
    hit.finish()
    assert equal.differences(calm.folder, hit.folder) == []
    assert equal.left_over(hit) == []
    small.wait(lambda: not small.alive(hit.seen), DEAD_S)
    extra = server.counts - before - needed
    assert not needed - extra and (extra - needed).total() <= kills * small.CONCURRENCY


def kill_in_each(trial: small.Place, stages: list[dict], rng: Random) -> int:
    """One kill at some moment of every stage, the kinds in turn, and one while the report is written; returns how many they were."""
    kinds, kills = cycle(rng.sample(KINDS, len(KINDS))), 1
    for line, kind in zip(stages, kinds, strict=False):
        moment, hit = rng.uniform(0.02, 0.9) * line["seconds"], False
        while not hit:
            hit = kill_in(trial, line, kind, moment)
            kills, moment = kills + 1, moment / 2  # it was faster this time: sooner
    runner = trial.start()
    small.wait(lambda: trial.summary()["status"] == "complete" or ended(runner))
    assert finish_off(trial, runner, "runner")[0] == -9
    return kills


def kill_in(trial: small.Place, line: dict, kind: str, moment: float) -> bool:
    """Start the command, and kill a part of it so many seconds into this stage. Where that was over, all is killed and the stage undone."""
    final, runner = trial.stage(line["name"], line["arm"]), trial.start()
    small.wait(lambda: trial.part(line["name"]) or ended(runner))
    until = time.monotonic() + moment
    small.wait(lambda: time.monotonic() > until or final.exists() or ended(runner))
    code, complained = finish_off(trial, runner, kind, final)
    print(f"{line['name']}: {kind} killed after {moment:.1f} s{' (too late)' * final.exists()}", flush=True)
    if final.exists():
        trial.forget(line["name"], line["arm"])
        return False
    expected = (1, 1) if kind == "kernel" else (-9, 0)
    assert (code, complained.count("failed in")) == expected, complained
    return True


def finish_off(
    trial: small.Place, runner: subprocess.Popen, kind: str, final: Path | None = None
) -> tuple[int, str]:
    """Kill a part of what runs, and all of it where it goes on nevertheless: a kernel may be done with its work."""
    trial.seen |= set(small.family(runner))
    small.kill(victims(kind, runner))
    small.wait(lambda: ended(runner) or (final and final.exists()))
    if not ended(runner):
        small.kill(small.family(runner))
    _, complained = runner.communicate()
    return runner.returncode, complained


def ended(runner: subprocess.Popen) -> bool:
    return runner.poll() is not None


def victims(kind: str, runner: subprocess.Popen) -> list[psutil.Process]:
    if kind == "all":
        return small.family(runner)
    if kind == "runner":
        return small.family(runner)[:1]
    small.wait(lambda: small.kernel(runner) or ended(runner))
    return list(filter(None, [small.kernel(runner)]))
