"""Simulated studies: what the rule for verdicts says where nothing couples, and where something does."""

from collections import Counter

import numpy as np
import pytest
from study_simulation import COUPLED, STATIC, simulated_study

from introspection.study.base_bootstrap import Resamples
from introspection.study.claims import evaluate_claims, interval_verdict
from introspection.study.parts import part_results
from introspection.study.verdicts import CLAIMS

QUICK = Resamples(1_000, 0)
SOME = ("kl", "no_kl", "lr_low", "lr_high", "noise30", "shift_less", "shuffled")  # a study in two seconds
WORLDS = {"forgetting": False, "towards the truth": True}


def verdicts(arms, towards_truth, studies, seed=0):
    """How often each claim got each verdict, and how often a raw gap against 0 would have decided one."""
    found = {claim.name: Counter() for claim in CLAIMS}
    by_raw_gap = Counter()
    for number in range(studies):
        rng = np.random.default_rng([seed, towards_truth, number])
        parts = [(part, part_results(part, 0, QUICK)) for part in simulated_study(arms, towards_truth, rng)]
        assert parts[0][1]["askable"]["askable"]
        for outcome in evaluate_claims(parts, resamples=QUICK):
            found[outcome["name"]][outcome["verdict"]] += 1
        by_raw_gap[interval_verdict(parts[0][1]["arms"]["noise30"]["gap"]["exact_match"]["ci95"])] += 1
    return found, by_raw_gap


def some(arms):
    return {name: arms[name] for name in SOME}


def decided(counts):
    return counts["confirmed"] + counts["refuted"]


@pytest.mark.slow
@pytest.mark.parametrize("world", WORLDS)
def test_static_emitters_are_decided_about_in_at_most_5_percent(world):
    studies = 20
    found, by_raw_gap = verdicts(STATIC, WORLDS[world], studies)
    assert decided(by_raw_gap) == studies
    for name, counts in found.items():
        assert decided(counts) <= 0.05 * studies, name


def coupled_verdicts(arms, studies):
    """Of the claims that are planted: no knee is, and the rates' drift hides what explaining well does."""
    found, _ = verdicts(arms, False, studies)
    planted = [claim.name for claim in CLAIMS if claim.estimand not in ("slope", "slope_change")]
    return {name: found[name] for name in planted}


def test_coupled_explainers_are_confirmed():
    found = coupled_verdicts(some(COUPLED), 1)
    ran = {name: counts for name, counts in found.items() if not counts["not run"]}
    assert len(ran) == 6
    assert all(counts["confirmed"] for counts in ran.values())


@pytest.mark.slow
def test_coupled_explainers_are_confirmed_mostly():
    for name, counts in coupled_verdicts(COUPLED, 10).items():
        assert counts["confirmed"] >= 8, name
