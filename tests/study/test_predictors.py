"""What in a base goes with its gap: correlations over bases, against scipy and by hand."""

import itertools

import numpy as np
import pytest
import scipy.stats

from introspection.study.predictors import base_predictors, rank_correlation


def part_of(gaps, untrained, drift=0.2):
    """A part of study.json as far as predictors read it, with one arm."""
    level = {"mean": 0.5}
    by_base = {
        base: {
            "gap": {"exact_match": {"mean": gap}},
            "orig": {"exact_match": level},
            "behavior_accuracy": {"teacher": 0.9},
            "changed_rate": {"teacher": 0.3},
            "drift": drift,
        }
        for base, gap in gaps.items()
    }
    control = {base: {"orig": {"exact_match": {"second": value}}} for base, value in untrained.items()}
    agreement = {"by_base": dict.fromkeys(gaps, 0.9)}
    return {
        "arms": {"kl": {"by_base": by_base, "agreement": agreement}},
        "controls": {"initial": {"kl": {"by_base": control}}},
    }


GAPS = {"a": 0.03, "b": -0.02, "c": 0.05, "d": 0.01, "e": -0.04}


def test_a_predictor_in_the_order_of_the_gaps_is_found_whatever_the_order_of_the_bases():
    untrained = {base: 0.5 + gap**3 for base, gap in GAPS.items()}
    shuffled = {base: untrained[base] for base in "dbeac"}
    found = base_predictors(part_of(GAPS, shuffled))[0]
    assert found["name"].startswith("untrained explanations")
    assert found["correlation"] == pytest.approx(1)
    assert found["p"] == pytest.approx(2 / 120)  # of all orders, this one and its reverse
    assert found["values"] == untrained
    assert found["gaps"] == GAPS


def test_a_predictor_that_is_the_same_in_all_bases_has_no_correlation():
    found = {entry["name"]: entry for entry in base_predictors(part_of(GAPS, {}))}
    assert "untrained explanations that match the base" not in found  # no such control
    assert found["drift"]["correlation"] is None
    assert found["drift"]["p"] is None


def test_too_few_bases_tell_nothing():
    three = {base: GAPS[base] for base in "abc"}
    assert base_predictors(part_of(three, three)) == []
    assert base_predictors({"arms": {}, "controls": {}}) == []


def test_the_correlation_and_its_p_value_are_those_of_all_pairings():
    first, second = [3.0, 1.0, 4.0, 1.5, 9.0], [2.0, 7.0, 1.0, 8.0, 2.5]
    observed = scipy.stats.spearmanr(first, second).statistic
    others = [scipy.stats.spearmanr(first, order).statistic for order in itertools.permutations(second)]
    correlation, p = rank_correlation(first, second)
    assert correlation == pytest.approx(observed)
    extreme = min(np.mean(np.array(others) <= observed + 1e-9), np.mean(np.array(others) >= observed - 1e-9))
    assert p == pytest.approx(min(1.0, 2 * extreme))
