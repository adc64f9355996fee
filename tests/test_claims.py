"""Claims: the verdict rule at its edges, what each claim estimates, and claims that were not run."""

import dataclasses
import json
import math

import numpy as np
import pytest
from study_workdirs import STUDY_AGREEMENT, STUDY_ARMS, random_records

from introspection.coupling.arm_counts import count_records, foreign_counts
from introspection.coupling.claims import (
    CLAIMS,
    FEWEST_BASES,
    KNEE_ARMS,
    SHIFTS,
    Claim,
    evaluate,
    evaluate_claims,
    interval_verdict,
)
from introspection.coupling.pooling import StudyPart, paired_contrast, part_results


def make_part(leans, bases=5, *, name="main", agreement=None, groups=100):
    """A part whose arms lean to current as given; `foreign_X` is the foreign explainer of X."""
    records = {
        arm: {
            f"b{i}": random_records(np.random.default_rng([i, j]), lean, arm=arm, groups=groups)
            for i in range(bases)
        }
        for j, (arm, lean) in enumerate(leans.items())
    }
    foreign = {
        arm.removeprefix("foreign_"): {
            base: foreign_counts(records[arm.removeprefix("foreign_")][base], said)
            for base, said in by_base.items()
        }
        for arm, by_base in records.items()
        if arm.startswith("foreign_")
    }
    arms = {
        arm: {base: count_records(said) for base, said in by_base.items()} for arm, by_base in records.items()
    }
    agreement = {
        arm: {f"b{i}": value + 0.01 * math.sin(9 * i + 5 * value) for i in range(bases)}
        for arm, value in (agreement or {}).items()
    }
    return StudyPart(name, arms, foreign, agreement)


@pytest.fixture(scope="module")
def part():
    return make_part(STUDY_ARMS, agreement=STUDY_AGREEMENT)


@pytest.fixture(scope="module")
def results(part):
    return part_results(part)


def claim_named(start) -> Claim:
    return next(claim for claim in CLAIMS if claim.name.startswith(start))


@pytest.mark.parametrize(
    ("ci95", "direction", "verdict"),
    [
        ([0.001, 0.2], 1, "confirmed"),
        ([-0.2, -0.001], 1, "refuted"),
        ([-0.1, 0.1], 1, "undecided"),
        ([0.0, 0.2], 1, "undecided"),
        ([-0.2, 0.0], 1, "undecided"),
        ([0.0, 0.0], 1, "undecided"),
        ([-0.2, -0.001], -1, "confirmed"),
        ([0.001, 0.2], -1, "refuted"),
        ([0.0, 0.2], -1, "undecided"),
        (None, 1, "undecided"),
    ],
)
def test_the_verdict_rule(ci95, direction, verdict):
    assert interval_verdict(ci95, direction) == verdict


def test_every_claim_says_what_else_could_explain_it():
    assert len({claim.name for claim in CLAIMS}) == len(CLAIMS) == 6
    assert len(SHIFTS) == 8
    for claim in CLAIMS:
        assert claim.other_explanation.endswith(".")
        assert claim.shown


def test_a_difference_is_the_paired_contrast(part, results):
    found = evaluate(claim_named("KL"), part, results)
    contrast = paired_contrast(part.arms["kl"], part.arms["no_kl"], np.random.default_rng(0))
    assert found["mean"] == contrast["gap"]["exact_match"]["mean"]
    assert found["ci95"] == contrast["gap"]["exact_match"]["ci95"]
    assert found["verdict"] == "confirmed"
    assert [entry["arm"] for entry in found["shown"]] == ["kl", "no_kl"]
    for entry in found["shown"]:
        assert entry["mean"] == results[entry["arm"]]["gap"]["exact_match"]["mean"]
    assert sorted(found["by_base"]) == [f"b{i}" for i in range(5)]
    # The claim's own, five bases' and two arms'.
    assert found["intervals"] == 8


def test_the_opposite_of_a_confirmed_claim_is_refuted(part, results):
    claim = claim_named("KL")
    turned = dataclasses.replace(claim, arm=claim.other, other=claim.arm)
    assert evaluate(turned, part, results)["verdict"] == "refuted"
    against = dataclasses.replace(claim, direction=-1)
    assert evaluate(against, part, results)["verdict"] == "refuted"


def test_a_level_is_the_arms_gap(part, results):
    found = evaluate(claim_named("Noise"), part, results)
    assert found["mean"] == results["noise30"]["gap"]["exact_match"]["mean"]
    by_arm = {entry["arm"]: entry["verdict"] for entry in found["shown"]}
    assert by_arm["noise15"] == by_arm["noise45"] == "not run"
    assert by_arm["kl"] == "confirmed"


def test_shared_drift_is_the_gap_minus_the_foreign_explainers(part, results):
    found = evaluate(claim_named("It is not"), part, results)
    foreign = paired_contrast(part.arms["kl"], part.foreign["kl"], np.random.default_rng(0))
    assert found["mean"] == foreign["gap"]["exact_match"]["mean"]
    assert found["verdict"] == "confirmed"
    assert [entry["verdict"] for entry in found["shown"]] == ["confirmed", "not run", "not run", "not run"]


def test_the_knee_is_fitted_to_arms_and_bases(part, results):
    found = evaluate(claim_named("Coupling"), part, results)
    ran = [arm for arm in KNEE_ARMS if arm in part.arms]
    assert [point["arm"] for point in found["points"]] == [arm for arm in ran for _ in range(5)]
    assert found["fit"]["n"] == len(found["points"]) == 5 * len(ran)
    assert found["ci95"] == list(found["fit"]["slope_change_ci95"])
    # Five arms can't reject a straight line: the test of arms has 2^4 patterns.
    assert found["fit"]["line_p_arms"] >= 1 / 16
    assert (found["verdict"], found["reason"]) == ("undecided", found["fit"]["reason"])


def test_a_knee_that_stands_is_confirmed():
    # Nothing couples below 0.7; above it the gap rises with agreement.
    agreements = np.linspace(0.45, 0.95, len(KNEE_ARMS))
    leans = {arm: 0.5 + 1.8 * max(a - 0.7, 0) for arm, a in zip(KNEE_ARMS, agreements, strict=True)}
    agreement = dict(zip(KNEE_ARMS, agreements.tolist(), strict=True))
    bent = make_part(leans, bases=6, agreement=agreement)  # five bases can't reject a straight line
    results = part_results(bent)
    found = evaluate(claim_named("Coupling"), bent, results)
    assert found["verdict"] == "confirmed"
    assert found["fit"]["knot"] == pytest.approx(0.7, abs=0.08)
    turned = dataclasses.replace(claim_named("Coupling"), direction=-1)
    assert evaluate(turned, bent, results)["verdict"] == "refuted"


def test_what_was_not_run_is_said():
    nothing = evaluate_claims([])
    assert [outcome["name"] for outcome in nothing] == [claim.name for claim in CLAIMS]
    assert {outcome["verdict"] for outcome in nothing} == {"not run"}
    assert all(outcome["reason"] and outcome["part"] is None for outcome in nothing)
    lonely = make_part({"kl": 0.7})
    found = {outcome["name"]: outcome for outcome in evaluate_claims([(lonely, part_results(lonely))])}
    assert found["KL is needed"]["reason"] == "no_kl did not run"
    assert found["It is not shared drift"]["reason"] == "a foreign explainer of kl did not run"
    assert found["KL is needed"]["shown"][0]["mean"] is not None
    assert {outcome["verdict"] for outcome in found.values()} == {"not run"}
    json.dumps(nothing, allow_nan=False)


def test_arms_that_share_no_base_are_not_compared(part):
    apart = dataclasses.replace(
        part, arms=part.arms | {"no_kl": {f"other {b}": c for b, c in part.arms["no_kl"].items()}}
    )
    found = evaluate(claim_named("KL"), apart, part_results(apart))
    assert (found["verdict"], found["reason"]) == ("not run", "no base ran both arms")


def test_few_bases_decide_nothing():
    few = make_part(STUDY_ARMS, bases=FEWEST_BASES - 1)
    found = evaluate(claim_named("KL"), few, part_results(few))
    assert found["ci95"][0] > 0
    assert found["verdict"] == "undecided"
    assert f"takes at least {FEWEST_BASES}" in found["reason"]
    assert {entry["verdict"] for entry in found["shown"]} == {"undecided"}


def test_each_part_that_ran_a_claim_has_its_own_verdict(part, results):
    other = dataclasses.replace(part, name="second world")
    empty = make_part({"shuffled": 0.5}, name="empty")
    parts = [(part, results), (other, results), (empty, part_results(empty))]
    kl = [o["part"] for o in evaluate_claims(parts) if o["name"] == "KL is needed"]
    assert kl == ["main", "second world"]
    shifts = [o for o in evaluate_claims(parts) if o["name"] == "Shifts are tracked"]
    assert [(o["part"], o["verdict"]) for o in shifts] == [(None, "not run")]
