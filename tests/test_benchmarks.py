"""Scores with intervals that can be trusted: right by hand, right on average, and blind to the order of rows."""

import tracemalloc

import numpy as np
import pandas as pd
import pytest

from lib.evaluation import statistics


def table(*strata, metric="gym.accuracy"):
    """Scores from (stratum, weight, [score, …]); ids are "<stratum> <i>"."""
    return pd.DataFrame(
        {"metric": metric, "stratum": name, "weight": weight, "id": f"{name} {i}", "score": float(score)}
        for name, weight, scores in strata
        for i, score in enumerate(scores)
    )


def stored(folder, name, scores):
    (folder / name).mkdir()
    scores.to_parquet(folder / name / "scores.parquet")
    return folder / name


def compared(folder, a_scores, b_scores) -> dict:
    """What a comparison says of two arms with these scores."""
    name = str(len(list(folder.iterdir())))
    arms = [
        stored(folder, end + name, table(("x", 1.0, scores)))
        for end, scores in (("a", a_scores), ("b", b_scores))
    ]
    return statistics.compare([arms[0]], [arms[1]])["gym.accuracy"]


def test_a_metric_is_the_weighted_mean_of_its_strata():
    easy, hard = ("easy", 3.0, [1, 1, 1, 1]), ("hard", 1.0, [0, 1])
    other = table(("a", 1.0, [1] * 9), ("b", 1.0, [0]), metric="other")  # however many rows a stratum has
    means = statistics.means(pd.concat([table(easy, hard), other]))
    assert means == {"gym.accuracy": (3 * 1 + 1 * 0.5) / 4, "other": 0.5}


def test_an_interval_has_the_width_of_theory_and_none_where_no_row_differs_within_its_stratum():
    _, low, high = statistics.intervals(table(("a", 1.0, [0, 1] * 200))).loc["gym.accuracy"]
    assert high - low == pytest.approx(2 * 1.96 * 0.5 / 20, rel=0.1)
    same = table(("a", 1.0, [1] * 5), ("b", 1.0, [0] * 5))
    assert statistics.intervals(same).values.tolist() == [[0.5, 0.5, 0.5]]


def test_rows_are_paired_by_id_so_their_order_does_not_matter(tmp_path):
    rng = np.random.default_rng(0)
    scores = table(("x", 1.0, rng.integers(0, 2, 50)), ("y", 2.0, rng.integers(0, 2, 30)))
    better = scores.assign(score=scores["score"].to_numpy() * 0.5 + 0.5)
    a, b = stored(tmp_path, "a", better), stored(tmp_path, "b", scores)
    shuffled = stored(tmp_path, "shuffled", scores.sample(frac=1, random_state=1, ignore_index=True))
    result = statistics.compare([a], [b])
    assert statistics.compare([a], [shuffled]) == result
    means = statistics.means(better)["gym.accuracy"], statistics.means(scores)["gym.accuracy"]
    assert result["gym.accuracy"]["difference"] == pytest.approx(means[0] - means[1])


def test_pairing_takes_away_what_rows_have_in_common(tmp_path):
    base = np.random.default_rng(0).normal(size=100)
    result = compared(tmp_path, base + 0.01, base)
    assert [result[key] for key in ("difference", "low", "high")] == pytest.approx([0.01] * 3)


def test_seeds_are_averaged(tmp_path):
    arms = [stored(tmp_path, f"s{i}", table(("x", 1.0, [score] * 4))) for i, score in enumerate([1, 0.5, 0])]
    result = statistics.compare([arms[0], arms[1]], [arms[2], arms[2]])["gym.accuracy"]
    assert result["difference"] == 0.75
    assert result["low"] < 0 and result["high"] > 1  # two seeds say little: wider than what they span


def test_the_interval_of_an_arm_ends_where_its_scores_do(tmp_path):
    seeds = [[1] + [0] * 19, [1] * 12 + [0] * 8]
    arms = [stored(tmp_path, f"s{i}", table(("x", 1.0, scores))) for i, scores in enumerate(seeds)]
    result = statistics.across_seeds(arms)["gym.accuracy"]
    # two seeds this far apart say nothing
    assert result == {"mean": pytest.approx(0.325), "low": 0, "high": 1}


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_training_noise_is_taken_for_an_effect_about_one_time_in_twenty(tmp_path, seeds):
    """Arms that differ by their seeds alone: 10 points of training noise, no effect."""
    rng, alarms = np.random.default_rng(seeds), 0
    nothing = [stored(tmp_path, f"b{i}", table(("x", 1.0, [0.0] * 60))) for i in range(seeds)]
    for study in range(100):
        noisy = [table(("x", 1.0, rng.normal(0, 0.1) + rng.normal(0, 0.5, 60))) for _ in range(seeds)]
        arm = [stored(tmp_path, f"{study}-{i}", scores) for i, scores in enumerate(noisy)]
        interval = statistics.compare(arm, nothing)["gym.accuracy"]
        alarms += not interval["low"] <= 0 <= interval["high"]
    assert alarms <= 12  # 5 expected, 3.2 standard errors of 2.2


def test_p_says_how_often_no_difference_would_look_like_this(tmp_path):
    rng, nothing = np.random.default_rng(0), [0.0] * 100
    for effect, low, high in ((1.0, 0.0009, 0.0011), (0.1, 0.1, 0.7)):
        assert low <= compared(tmp_path, rng.normal(effect, 1, 100), nothing)["p"] <= high
    assert compared(tmp_path, nothing, nothing)["p"] == 1


def test_where_no_row_has_a_score_in_both_arms_there_is_no_difference_and_no_p(tmp_path):
    nan = float("nan")
    for i, (a_scores, b_scores) in enumerate([([nan] * 3, [nan] * 3), ([nan, 1, nan], [1, nan, nan])]):
        a = stored(tmp_path, f"a{i}", table(("x", 1.0, a_scores)))
        b = stored(tmp_path, f"b{i}", table(("x", 1.0, b_scores)))
        for folders in (([a], [b]), ([a, a], [b, b])):
            result = statistics.compare(*folders)["gym.accuracy"]
            assert result == {"difference": None, "low": None, "high": None, "n": 0}
        assert not statistics.across_seeds([a, b]) or i
    nothing = table(("x", 1.0, [nan] * 3))
    assert statistics.intervals(nothing).isna().all(axis=None)


@pytest.mark.parametrize(
    ("won", "lost", "equal", "p", "shown"),
    [
        (3, 0, 0, 0.25, False),  # as the sign test has it
        (5, 0, 0, 0.0625, False),
        (6, 0, 0, 0.03125, True),
        (10, 0, 0, 2 / 2**10, True),
        (5, 0, 500, 0.0625, False),
        (0, 3, 0, 0.25, False),
        (0, 0, 3, 1, False),
    ],
)
def test_few_rows_that_differ_claim_no_more_than_a_sign_test(tmp_path, won, lost, equal, p, shown):
    result = compared(tmp_path, [1] * won + [0] * lost + [1] * equal, [0] * won + [1] * lost + [1] * equal)
    assert result["difference"] == pytest.approx((won - lost) / (won + lost + equal))
    assert result["low"] <= result["difference"] <= result["high"]
    assert result["p"] == pytest.approx(p)
    assert (not result["low"] <= 0 <= result["high"]) == shown


def test_a_group_of_rows_counts_once_among_the_few(tmp_path):
    scores = table(("x", 1.0, [1.0] * 9)).assign(group=[str(i // 3) for i in range(9)])
    a, b = stored(tmp_path, "a", scores), stored(tmp_path, "b", scores.assign(score=0.0))
    assert statistics.compare([a], [b])["gym.accuracy"]["p"] == 0.25


@pytest.mark.slow
def test_small_samples_of_no_effect_are_rarely_taken_for_one(tmp_path):
    """Twelve rows, right by chance in both arms: the interval misses zero no more often than it may."""
    rng = np.random.default_rng(0)
    misses = 0
    for scores in (rng.random((200, 12)) < 0.5).astype(float) - (rng.random((200, 12)) < 0.5):
        result = compared(tmp_path, scores, [0] * 12)
        misses += not result["low"] <= 0 <= result["high"]
    assert misses / 200 <= 0.05


@pytest.mark.parametrize("rows", [50, 3001])
def test_draws_do_not_depend_on_how_many_are_made_at_once(monkeypatch, rows):
    scores = table(("x", 1.0, np.random.default_rng(1).normal(size=rows)), ("y", 2.0, range(7)))
    whole = statistics.intervals(scores)
    for most in (1, 10_000, 10**9):
        monkeypatch.setattr(statistics, "MAX_SCORES", most)
        pd.testing.assert_frame_equal(statistics.intervals(scores), whole, check_exact=True)


def test_resampling_50_000_rows_takes_little_memory():
    scores = pd.DataFrame({"metric": "m", "stratum": "", "weight": 1.0, "score": np.arange(50_000.0)})
    tracemalloc.start()
    statistics.intervals(scores)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200e6


def test_holm_multiplies_each_p_by_how_many_are_not_smaller_and_keeps_their_order():
    assert statistics.holm([0.04, 0.01, 0.03, 0.5]) == pytest.approx([0.09, 0.04, 0.09, 0.5])
    assert statistics.holm([0.6, 0.9]) == [1, 1]


def test_arms_scored_on_different_rows_or_one_twice_are_not_compared(tmp_path):
    arms = [stored(tmp_path, str(n), table(("x", 1.0, [1] * n))) for n in (2, 3)]
    with pytest.raises(ValueError, match="1 rows were scored in one arm alone"):
        statistics.compare(arms[:1], arms[1:])
    twice = stored(tmp_path, "twice", pd.concat([table(("x", 1.0, [1, 1]))] * 2))
    with pytest.raises(ValueError, match="(?i)not a one-to-one merge|not unique"):
        statistics.compare([twice], arms[:1])


def test_a_planted_effect_is_detected(tmp_path):
    rng, detected = np.random.default_rng(0), 0
    for _ in range(40):  # 0.15 is 3.3 standard errors of a difference over 240 rows
        detected += compared(tmp_path, rng.random(240) < 0.65, rng.random(240) < 0.5)["low"] > 0
    assert detected / 40 >= 0.75


def test_a_row_counts_where_both_arms_have_a_score_in_all_seeds(tmp_path):
    result = compared(tmp_path, [1, 1, float("nan"), 1], [0, float("nan"), 0, 1])
    assert (result["difference"], result["n"]) == (0.5, 2)  # rows 0 and 3
    arms = [table(("x", 1.0, scores)) for scores in ([1, 1, 1], [1, float("nan"), 0], [0] * 3, [0] * 3)]
    stored_arms = [stored(tmp_path, str(i), scores) for i, scores in enumerate(arms)]
    result = statistics.compare(stored_arms[:2], stored_arms[2:])["gym.accuracy"]
    assert (result["difference"], result["n"]) == (0.75, 2)


def test_rows_that_belong_together_are_resampled_together():
    """Every row twice, in one group: twice the rows know no more."""
    once = table(("x", 1.0, [i % 7 for i in range(60)]))
    twice = pd.concat([once.assign(group=once["id"], id=once["id"] + end) for end in "ab"])
    pd.testing.assert_frame_equal(statistics.intervals(once), statistics.intervals(twice), check_exact=True)
