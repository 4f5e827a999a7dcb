"""Really trained arms tell whether the study finds no effect where there is none, and one where there is one."""

from pathlib import Path

import pytest

from lib.run import run_study

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def contrasts(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OUTPUTS", str(tmp_path_factory.mktemp("outputs")))
        return run_study(Path(__file__).parent / "params/instrument.yaml")["comparisons"]


def test_two_arms_that_differ_by_chance_alone_do_not_differ(contrasts):
    difference = contrasts["again_vs_random"]["gym.accuracy"]
    assert difference["low"] <= 0 <= difference["high"]


def test_an_arm_given_the_families_that_another_lacks_is_found_to_be_better(contrasts):
    assert contrasts["random_vs_lacking"]["gym.accuracy"]["low"] > 0
