"""The report on target tasks: a line a task, and what a gain goes with."""

import numpy as np
import pandas as pd
import pytest

from lib.report import targets

GAIN = "ni.gain_over.few_shot.exact_match"
METRICS = {"ni.exact_match": 0.7, "ni.few_shot.exact_match": 0.6, "ni.few_shot.exact_match_low": 0.5}
METRICS |= {"ni.gold.exact_match": 0.9, "ni.gold.rouge_l": 0.95, "self_guide.pairs.kept": 80}
METRICS |= {GAIN: 0.1, f"{GAIN}_low": 0.02, f"{GAIN}_high": 0.18}
KNOWN = {"metric": "exact_match", "few_shot": 0.5, "self_guide": 0.6, "before": 0.5, "after": 0.1}
KNOWN |= {"labels": np.nan, "pairs": 9}


def table(n, **columns):
    return pd.DataFrame(KNOWN | columns, [f"t{i}" for i in range(n)])


def test_a_line_holds_the_scores_of_one_metric_and_leaves_unknown_labels_open():
    line = targets.line(METRICS, "exact_match")
    assert (line["self_guide"], line["few_shot"], line["gold"], line["pairs"]) == (0.7, 0.6, 0.9, 80)
    assert (line["gain"], line["gain_low"], line["gain_high"]) == (0.1, 0.02, 0.18)
    assert np.isnan(line["labels"])


def test_means_over_tasks_have_the_lead_with_an_interval_and_too_few_have_none():
    few_shot = [0.1, 0.3, 0.5, 0.7, 0.9]
    own, tapir = [score + 0.1 for score in few_shot], [1, 1, np.nan, 1, 1]
    means = targets.means(table(5, few_shot=few_shot, self_guide=own, tapir=tapir))
    assert list(means.index) == ["few_shot"]  # four tasks have tapir
    columns = ["mean", "self_guide", "lead", "low", "high", "tasks"]
    assert list(means.loc["few_shot", columns]) == pytest.approx([0.5, 0.6, 0.1, 0.1, 0.1, 5])
    assert not len(targets.means(table(4)))


def test_a_gain_that_rises_with_the_start_is_found_to_go_with_it():
    correlations = targets.gain_correlations(table(6, before=np.arange(6) / 10, after=np.arange(6) / 20))
    assert correlations.loc["accuracy before", "rank correlation"] == pytest.approx(1)
    assert "accuracy of its own labels" not in correlations.index  # not known
    assert "pairs" not in correlations.index  # all alike


def test_a_start_and_a_gain_are_measured_on_different_instances():
    parts = [("few_shot", [1, 0, 1, 0]), ("", [1, 1, 1, 1])]
    long = [
        {
            "metric": f"ni.{name}.exact_match" if name else "ni.exact_match",
            "id": str(i),
            "score": float(score),
        }
        for name, scores in parts
        for i, score in enumerate(scores)
    ]
    assert targets.halves(pd.DataFrame(long), "exact_match") == {"before": 1.0, "after": 1.0}


def test_a_gain_over_few_shot_is_said_beside_the_ways_without_training_that_do_as_well():
    run = {"arms": {"main": {"seeds": [0]}}}
    gained = {"gain": 0.1, "gain_low": 0.02, "gain_high": 0.18}
    assert "without training" not in targets.summarise(table(2, zero_shot=0.5, gold=0.9, **gained), run)
    says = targets.summarise(table(2, zero_shot=[0.7, 0.1], majority=[np.nan, 0.6], **gained), run)
    assert says.endswith("In 2, a way without training is as good or better: majority, zero_shot.")
    says = targets.summarise(table(2, zero_shot=0.7, **gained), run)
    assert says.endswith("as good or better: zero_shot.")
