"""Measures of explanations against behaviours, with numbers worked by hand."""

import math
import warnings

import numpy as np
import pytest
from results_records import E, record
from sklearn.metrics import f1_score

from introspection.coupling import metrics
from introspection.coupling.metrics import MATCH_COUNTS, match_counts, match_metrics
from introspection.tasks.items import INVALID, NONE, Decisions

TRUE = [E(True, "Rome"), E(True, "Oslo"), E(True, "Rome"), E(False, "Rome"), E(False, "Oslo"), E(False, NONE)]
SAID = [E(True, "Rome"), E(True, "Rome"), INVALID, E(True, "Rome"), E(False, "Oslo"), E(False, NONE)]


def test_metrics_of_six_items_worked_by_hand():
    measured = match_metrics(match_counts(SAID, TRUE).sum(0))
    assert measured["exact_match"] == pytest.approx(3 / 6)  # items 1, 5, 6
    assert measured["content_match"] == pytest.approx(4 / 6)  # and 4, whose `changed` is wrong
    assert measured["changed_accuracy"] == pytest.approx(4 / 6)  # and 2, whose answer is wrong
    # changed: true of 3, said of 3 (items 1, 2, 4), both in 2; unchanged: true of 3, said of 2, both in 2.
    assert measured["has_changed_f1"] == pytest.approx((2 * 2 / (3 + 3) + 2 * 2 / (3 + 2)) / 2)


def test_invalid_explanations_are_wrong_and_keep_the_denominator():
    counts = match_counts([INVALID] * 6, TRUE)
    assert counts.sum(0)[MATCH_COUNTS.index("items")] == 6
    assert {float(value) for value in match_metrics(counts.sum(0)).values()} == {0.0}


def test_an_invalid_target_or_a_missing_explanation_raises():
    with pytest.raises(ValueError, match="target"):
        match_counts([INVALID], [INVALID])
    with pytest.raises(ValueError, match="1 explanations but 2 targets"):
        match_counts([INVALID], TRUE[:2])


def test_macro_f1_leaves_an_absent_class_out_of_the_mean():
    measured = match_metrics(match_counts([E(False, "Oslo")] * 3, [E(False, "Oslo")] * 3).sum(0))
    assert measured["has_changed_f1"] == 1.0
    # scikit-learn's default puts a 0 for the absent class into the mean.
    assert f1_score([0, 0, 0], [0, 0, 0], labels=[1, 0], average="macro", zero_division=0) == 0.5


@pytest.mark.parametrize("seed", range(20))
def test_macro_f1_equals_scikit_learns_with_nan_for_absent_classes(seed):
    rng = np.random.default_rng(seed)
    true = rng.integers(0, 2, 6) * rng.integers(0, 2)  # in half of the cases nothing is changed
    said = rng.integers(-1, 2, 6)
    classes = {1: E(True, "Oslo"), 0: E(False, "Oslo"), -1: INVALID}
    measured = match_metrics(match_counts([classes[v] for v in said], [classes[v] for v in true]).sum(0))
    expected = f1_score(true, said, labels=[1, 0], average="macro", zero_division=np.nan)
    assert measured["has_changed_f1"] == pytest.approx(expected)


def test_metrics_of_batched_sums_equal_those_of_each_sum():
    sums = np.stack([match_counts(SAID, TRUE)[rows].sum(0) for rows in ([0, 1, 2], [3, 4, 5], [5, 5, 0])])
    batched = match_metrics(sums)
    for index, row in enumerate(sums):
        for name, value in match_metrics(row).items():
            assert batched[name][index] == value


def test_nothing_to_measure_is_nan_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        measured = match_metrics(match_counts([], []).sum(0))
        assert all(np.isnan(value) for value in measured.values())
        assert math.isnan(metrics.drift([]))
        assert math.isnan(metrics.changed_rate([]))


def test_rates_of_behaviours_worked_by_hand():
    decisions = [
        Decisions("Rome", "Oslo"),
        Decisions("Oslo", "Oslo"),
        Decisions(NONE, NONE),
        Decisions("Rome", "Rome"),
    ]
    gold = ["Oslo", "Oslo", "Oslo", "Rome"]
    assert metrics.changed_rate(decisions) == 1 / 4
    assert metrics.none_rate(decisions) == 2 / 8
    assert metrics.behavior_accuracy(decisions, gold) == 3 / 4
    assert metrics.behavior_accuracy(decisions, gold, with_cue=True) == 2 / 4
    assert metrics.invalid_rate([INVALID, E(True, "Oslo"), E(False, NONE), INVALID]) == 2 / 4


def test_drift_compares_explanations_and_not_decisions():
    # Only the decision with the cue moves, and the answer stays changed from Oslo: E is the same.
    still = record(0, ("Rome", "Oslo"), ("Bern", "Oslo"), INVALID)
    moved = record(0, ("Rome", "Oslo"), ("Oslo", "Oslo"), INVALID)
    assert [metrics.disagrees(r) for r in (still, moved)] == [False, True]
    assert metrics.drift([still, moved, still, still]) == 1 / 4
    assert metrics.drift_direction(still) == "to_other"


@pytest.mark.parametrize(
    ("before", "after", "gold", "cued", "direction"),
    [
        ("Oslo", "Oslo", "Oslo", "Rome", "none"),
        ("Rome", "Oslo", "Oslo", "Rome", "to_gold"),
        ("Oslo", "Rome", "Oslo", "Rome", "to_cued"),
        ("Oslo", "Bern", "Oslo", "Rome", "to_other"),
        ("Oslo", NONE, "Oslo", "Rome", "to_other"),
        ("Rome", "Oslo", "Oslo", "Oslo", "to_gold"),  # the cue names the right answer
    ],
)
def test_decision_direction(before, after, gold, cued, direction):
    assert metrics.decision_direction(before, after, gold, cued) == direction


def test_drift_direction_looks_at_the_decision_without_the_cue_first():
    both = record(0, ("Oslo", "Oslo"), ("Rome", "Bern"), INVALID)
    assert metrics.drift_direction(both) == "to_other"
    assert metrics.drift_direction(both, "with_cue") == "to_cued"
    only_with_cue = record(0, ("Oslo", "Oslo"), ("Rome", "Oslo"), INVALID)
    assert metrics.drift_direction(only_with_cue) == "to_cued"
    assert metrics.drift_direction(only_with_cue, "without_cue") == "none"


def test_levels_by_cue_kind_and_drift_direction():
    records = [
        record(0, ("Oslo", "Oslo"), ("Rome", "Oslo"), E(True, "Oslo"), cue_kind="guess"),  # says current
        record(0, ("Oslo", "Oslo"), ("Rome", "Oslo"), E(False, "Oslo"), cue_kind="guess"),  # says teacher
        record(0, ("Oslo", "Oslo"), ("Rome", "Oslo"), E(True, "Oslo"), cue_kind="placebo"),
        record(0, ("Oslo", "Oslo"), ("Oslo", "Oslo"), E(False, "Oslo"), cue_kind="placebo"),  # no drift
    ]
    assert metrics.levels_by_cue_kind(records) == {
        "guess": {"n": 2, "self": 0.5, "orig": 0.5},
        "placebo": {"n": 2, "self": 1.0, "orig": 0.5},
    }
    by_drift = metrics.levels_by_drift(records)
    assert by_drift["to_cued"] == {"n": 3, "self": pytest.approx(2 / 3), "orig": pytest.approx(1 / 3)}
    assert by_drift["none"] == {"n": 1, "self": 1.0, "orig": 1.0}
    assert by_drift["to_gold"]["n"] == 0
    assert math.isnan(by_drift["to_gold"]["self"])
