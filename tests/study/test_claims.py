"""Claims: the verdict rule at its edges, what each claim estimates, and claims that were not run."""

import dataclasses
import json
import math

import numpy as np
import pytest
from study_workdirs import STATIC, STUDY_AGREEMENT, STUDY_ARMS, random_records, static_records, study_arm

from introspection.coupling.training_log import LivePoint, TrainingLog
from introspection.study import slopes
from introspection.study.base_bootstrap import Resamples
from introspection.study.claims import FEWEST_BASES, evaluate, evaluate_claims, interval_verdict
from introspection.study.counts import count_records, emitter_counts, explanations_of
from introspection.study.panels import held_against
from introspection.study.parts import StudyPart, part_results
from introspection.study.slopes import MATCHED
from introspection.study.verdicts import CLAIMS, KNEE_ARMS, SHIFTS, Claim

QUICK = Resamples(2_000, 200)
ASKABLE = {"askable": True, "words": "askable"}


def make_part(leans, bases=5, *, name="main", agreement=None, groups=100, right=None):
    """A part whose arms lean to current as given; `foreign_X` is the foreign explainer of X.

    `right` is the share of an arm's explanations that say what current or teacher do.
    """
    arms, references, training = ({arm: {} for arm in leans} for _ in range(3))
    for i in range(bases):
        records = {}
        for j, (arm, lean) in enumerate(leans.items()):
            r = np.random.default_rng([i, j])
            share = (right or {}).get(arm)
            if share is None:
                records[arm] = study_arm(r, arm, lean, groups=groups)
            else:
                records[arm] = random_records(r, lean, arm=arm, groups=groups, right=share)
        for arm, own in records.items():
            arms[arm][f"b{i}"] = count_records(own)
            emitters = {
                emitter: count_records(static_records(np.random.default_rng([i, 99]), own, orig))
                for emitter, orig in STATIC.items()
            }
            for emitter, other in (("shuffled", "shuffled"), ("foreign", f"foreign_{arm}")):
                if other in records and other != arm:
                    emitters[emitter] = emitter_counts(own, explanations_of(records[other]), other)
            for emitter, counts in emitters.items():
                references[arm].setdefault(emitter, {})[f"b{i}"] = counts
    for arm, value in (agreement or {}).items():
        for i in range(bases):
            mean = value + 0.01 * math.sin(9 * i + 5 * value)
            levels = {"start": 1.0, "end": 0.1, "min": 0.1, "mean": mean}
            training[arm][f"b{i}"] = TrainingLog(levels, levels, (LivePoint(0, 0.3, 0.2, 0.1),))
    return StudyPart(name, arms, references, training)


def of_part(part):
    """Its results; always askable, since few of these parts have an arm with shuffled labels."""
    return part_results(part, resamples=QUICK) | {"askable": ASKABLE}


def only(part: StudyPart, *arms: str) -> StudyPart:
    """The part of these arms alone."""
    return dataclasses.replace(part, arms={name: part.arms[name] for name in arms})


@pytest.fixture(scope="module")
def part():
    return make_part(STUDY_ARMS, agreement=STUDY_AGREEMENT)


@pytest.fixture(scope="module")
def results(part):
    return of_part(part)


def judged(claim, part, results, conditions=()):
    return evaluate(claim, part, results, 0, conditions, resamples=QUICK)


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
    assert len({claim.name for claim in CLAIMS}) == len(CLAIMS) == 10
    assert len(SHIFTS) == 4
    for claim in CLAIMS:
        assert claim.other_explanation.endswith(".")
        assert claim.shown


def test_a_contrast_is_of_gaps_minus_references(part, results):
    found = judged(claim_named("KL"), part, results)
    contrast = held_against((part.panel("kl"), part.panel("no_kl")), 0, QUICK)
    assert found["reference"] == "bayes_optimal"
    for name, entry in found["references"].items():
        assert entry["mean"] == contrast[name]["gap"]["exact_match"]["mean"]
        assert entry["ci95"] == contrast[name]["gap"]["exact_match"]["ci95"]
        assert len(entry["levels"]) == 2
    assert sorted(found["references"]) == ["bayes_optimal", "majority", "shuffled"]  # foreign: kl's alone
    kl, no_kl = (
        results["controls"]["majority"][arm]["gap"]["exact_match"]["mean"] for arm in ("kl", "no_kl")
    )
    assert found["references"]["majority"]["mean"] == pytest.approx(kl - no_kl)
    raw = [results["arms"][arm]["gap"]["exact_match"]["mean"] for arm in ("kl", "no_kl")]
    assert found["raw"]["mean"] == pytest.approx(raw[0] - raw[1])
    assert (found["mean"], found["verdict"]) == (found["references"]["bayes_optimal"]["mean"], "confirmed")
    assert [entry["arm"] for entry in found["shown"]] == ["kl", "no_kl"]
    for entry in found["shown"]:
        held = results["controls"]["bayes_optimal"][entry["arm"]]["gap"]["exact_match"]
        assert entry["mean"] == held["mean"]
    assert sorted(found["by_base"]) == [f"b{i}" for i in range(5)]
    # The claim's own, five bases', two more references' and two arms'.
    assert found["intervals"] == 10


def test_the_opposite_of_a_confirmed_claim_is_refuted(part, results):
    claim = claim_named("KL")
    turned = dataclasses.replace(claim, arm=claim.other, other=claim.arm)
    assert judged(turned, part, results)["verdict"] == "refuted"
    against = dataclasses.replace(claim, direction=-1)
    assert judged(against, part, results)["verdict"] == "refuted"


def test_a_level_is_the_arms_gap_minus_its_best_static_emitters(part, results):
    found = judged(claim_named("Noise"), part, results)
    gap = results["arms"]["noise30"]["gap"]["exact_match"]["mean"]
    static = results["controls"]["bayes_optimal"]["noise30"]["gap"]["exact_match"]["second"]
    assert found["mean"] == pytest.approx(gap - static)
    assert found["raw"]["mean"] == gap
    by_arm = {entry["arm"]: entry["verdict"] for entry in found["shown"]}
    assert by_arm["noise15"] == by_arm["noise45"] == by_arm["noise60"] == "not run"
    assert by_arm["kl"] == "confirmed"


def test_a_raw_gap_below_0_is_not_a_verdict():
    # An explainer that says what the teacher does on two items in three, whatever its model does now. All
    # items drift half the time, so its gap is far below 0, and would be of anyone who says as much.
    still = make_part({"noise30": 0.0}, right={"noise30": 0.66})
    results = of_part(still)
    raw = results["arms"]["noise30"]["gap"]["exact_match"]
    assert interval_verdict(raw["ci95"]) == "refuted"  # what was said until claims had references
    found = judged(claim_named("Noise"), still, results)
    assert found["verdict"] == "undecided"
    assert found["references"]["bayes_optimal"]["ci95"][0] > 0 > found["references"]["majority"]["ci95"][1]


def test_references_on_one_side_of_the_level_decide_nothing(part, results):
    few = {name: by_arm for name, by_arm in results["controls"].items() if name != "bayes_optimal"}
    found = judged(claim_named("Noise"), part, results | {"controls": few})
    assert found["verdict"] == "undecided"
    assert "no reference is at or above its level" in found["reason"]


def test_a_claim_about_an_emitter_has_it_as_its_headline_and_needs_the_static_ones_too(part, results):
    for start, emitter in (("It is not shared", "foreign"), ("It is not the training", "shuffled")):
        found = judged(claim_named(start), part, results)
        held = results["controls"][emitter]["kl"]["gap"]["exact_match"]
        assert (found["reference"], found["mean"], found["ci95"]) == (emitter, held["mean"], held["ci95"])
        assert found["verdict"] == "confirmed"
        decides = {name for name, entry in found["references"].items() if entry["decides"]}
        assert decides == {emitter, "bayes_optimal", "majority"}
    foreign = judged(claim_named("It is not shared"), part, results)
    assert [entry["verdict"] for entry in foreign["shown"]] == ["confirmed", "not run", "not run", "not run"]


def test_shifts_are_shifted_minus_unshifted_groups(part, results):
    found = judged(claim_named("Shifts"), part, results)
    difference = results["arms"]["shift_less"]["by_shifted"]["difference"]
    assert found["mean"] == difference["bayes_optimal"]["gap"]["exact_match"]["mean"]
    assert found["raw"]["mean"] == difference[""]["gap"]["exact_match"]["mean"]
    assert found["verdict"] == "confirmed"
    assert [entry["verdict"] for entry in found["shown"]] == ["confirmed", "not run", "not run", "not run"]
    unshifted = dataclasses.replace(claim_named("Shifts"), arm="kl")
    assert "has shifted and unshifted groups" in judged(unshifted, part, results)["reason"]


def test_the_knee_is_fitted_to_mean_agreement_of_arms_and_bases(part, results):
    found = judged(claim_named("Coupling needs"), part, results)
    ran = [arm for arm in KNEE_ARMS if arm in part.arms]
    assert [point["arm"] for point in found["points"]] == [arm for arm in ran for _ in range(5)]
    for point in found["points"]:
        held = results["controls"]["bayes_optimal"][point["arm"]]["by_base"][point["base"]]
        assert point["gap"] == held["gap"]["exact_match"]["mean"]
        assert point["agreement"] == part.training[point["arm"]][point["base"]].agreement["mean"]
    assert found["fit"]["n"] == len(found["points"]) == 5 * len(ran)
    assert found["ci95"] == list(found["fit"]["slope_change_ci95"])
    # Five arms can't reject a straight line: the test of arms has 2^4 patterns.
    assert found["fit"]["line_p_arms"] >= 1 / 16
    assert (found["verdict"], found["reason"]) == ("undecided", found["fit"]["reason"])


def test_a_knee_of_one_arm_is_not_run_and_nothing_is_drawn_of_it():
    alone = make_part({"kl": 0.2}, agreement={"kl": 0.9})
    found = judged(claim_named("Coupling needs"), alone, of_part(alone))
    assert (found["verdict"], found["fit"], found["points"]) == ("not run", None, [])
    assert "fewer than 2" in found["reason"]


@pytest.mark.slow
def test_a_knee_that_stands_is_confirmed():
    # Nothing couples below 0.7; above it the gap rises with agreement.
    agreements = np.linspace(0.45, 0.95, len(KNEE_ARMS))
    leans = {arm: 0.5 + 1.8 * max(a - 0.7, 0) for arm, a in zip(KNEE_ARMS, agreements, strict=True)}
    agreement = dict(zip(KNEE_ARMS, agreements.tolist(), strict=True))
    bent = make_part(leans, bases=6, agreement=agreement)  # five bases can't reject a straight line
    results = of_part(bent)
    found = judged(claim_named("Coupling needs"), bent, results)
    assert found["verdict"] == "confirmed"
    assert found["fit"]["knot"] == pytest.approx(0.7, abs=0.08)
    turned = dataclasses.replace(claim_named("Coupling needs"), direction=-1)
    assert judged(turned, bent, results)["verdict"] == "refuted"


def explained_conditions(couples):
    """Parts that explain better and better; they couple the more too, or all are static."""
    found = []
    for name, right in (("explained-150", 0.6), ("explained-600", 0.75), ("explained-2400", 0.9)):
        lean = right - 0.2 if couples else 0.0
        part = make_part({"kl": lean}, name=name, right={"kl": right})
        found.append((part, of_part(part)))
    return found


def test_the_slope_on_orig_is_one_a_base_over_conditions():
    conditions = explained_conditions(couples=False)
    main = make_part({"kl": 0.0}, right={"kl": 0.8}, agreement={"kl": 0.8})
    claim = claim_named("Coupling comes")
    found = judged(claim, main, of_part(main), conditions)
    names = ["kl", "explained-150", "explained-600", "explained-2400"]
    assert list(dict.fromkeys(point["condition"] for point in found["points"])) == names
    own = [point for point in found["points"] if point["base"] == "b2"]
    expected = np.polyfit([p["orig"] for p in own], [p["minus"]["bayes_optimal"] for p in own], 1)[0]
    assert found["reference"] == "bayes_optimal"
    assert found["by_base"]["b2"]["mean"] == pytest.approx(expected)
    assert found["mean"] == pytest.approx(np.mean([value["mean"] for value in found["by_base"].values()]))
    # Static explainers lose the more, the more they say: against a fixed emitter that looks like a slope.
    assert found["ci95"][1] < 0
    low, high = found["references"][MATCHED]["ci95"]
    assert low < 0 < high
    assert found["verdict"] == "undecided"
    assert found["lines"] == {"kl": [{"step": 0, "orig": 0.2, "gap": pytest.approx(0.1)}]}


def test_the_matched_gap_is_interpolated_between_emitters():
    levels, gaps = np.array([[0.8, 0.4]] * 5), np.array([[-0.4, 0.2]] * 5)
    found = slopes._matched(np.array([0.2, 0.4, 0.5, 0.81, 0.9]), levels, gaps)
    # The lowest emitter says nothing valid: level and gap 0. None is as high as 90%.
    np.testing.assert_allclose(found, [0.1, 0.2, 0.05, -0.4, np.nan])


def test_a_slope_that_stands_against_every_reference_is_confirmed():
    conditions = explained_conditions(couples=True)
    main = make_part({"kl": 0.6}, right={"kl": 0.8})
    found = judged(claim_named("Coupling comes"), main, of_part(main), conditions)
    assert found["verdict"] == "confirmed"
    alone = judged(claim_named("Coupling comes"), main, of_part(main))
    assert (alone["verdict"], alone["mean"]) == ("not run", None)


def test_what_was_not_run_is_said():
    nothing = evaluate_claims([])
    assert [outcome["name"] for outcome in nothing] == [claim.name for claim in CLAIMS]
    assert {outcome["verdict"] for outcome in nothing} == {"not run"}
    assert all(outcome["reason"] and outcome["part"] is None for outcome in nothing)
    lonely = make_part({"kl": 0.7})
    found = {outcome["name"]: outcome for outcome in evaluate_claims([(lonely, of_part(lonely))])}
    assert found["KL is needed"]["reason"] == "no_kl did not run"
    assert found["It is not shared drift"]["reason"] == "a foreign explainer of kl did not run"
    assert found["It is not the training as such"]["reason"] == "shuffled did not run"
    assert found["KL is needed"]["shown"][0]["mean"] is not None
    assert {outcome["verdict"] for outcome in found.values()} == {"not run"}
    json.dumps(nothing, allow_nan=False)


def test_no_verdict_where_labels_did_not_teach(part, results):
    words = "not askable: labels did not teach (kl: ...)"
    for askable in (False, None):
        withheld = results | {"askable": {"askable": askable, "words": words}}
        outcomes = [judged(claim, part, withheld) for claim in CLAIMS]
        ran = [outcome for outcome in outcomes if outcome["verdict"] != "not run"]
        assert len(ran) == 8
        assert {(outcome["verdict"], outcome["reason"]) for outcome in ran} == {("not askable", words)}
        assert all(outcome["mean"] is not None for outcome in ran)
        shown = {entry["verdict"] for outcome in outcomes for entry in outcome["shown"]}
        assert shown == {"not askable", "not run"}


def test_labels_that_teach_are_seen_to(part):
    found = part_results(part, resamples=QUICK)["askable"]
    assert found["askable"] is True
    kl = found["criteria"]
    assert (kl["orig_above_shuffled"]["against"], kl["orig_above_blind"]["against"]) == (
        "shuffled",
        "majority",
    )
    # Two explainers alike: one of them is called shuffled.
    same = make_part({"kl": 0.7, "shuffled": 0.7}, right={"shuffled": 1.0})
    kl, references = same.arms["kl"], same.references["kl"]
    alike = dataclasses.replace(same, references={"kl": references | {"shuffled": kl}})
    found = part_results(alike, resamples=QUICK)["askable"]
    assert found["askable"] is False
    assert found["words"].startswith("not askable: labels did not teach")


def test_arms_that_share_no_base_are_not_compared(part):
    def elsewhere(by_base):
        return {f"other {base}": counts for base, counts in by_base.items()}

    references = {name: elsewhere(by_base) for name, by_base in part.references["no_kl"].items()}
    apart = dataclasses.replace(
        part,
        arms=part.arms | {"no_kl": elsewhere(part.arms["no_kl"])},
        references=part.references | {"no_kl": references},
    )
    found = judged(claim_named("KL"), apart, of_part(only(apart, "kl", "no_kl")))
    assert (found["verdict"], found["reason"]) == ("not run", "no base ran both arms")


def test_few_bases_decide_nothing():
    few = only(make_part(STUDY_ARMS, bases=FEWEST_BASES - 1), "kl", "no_kl")
    found = judged(claim_named("KL"), few, of_part(few))
    assert found["ci95"][0] > 0
    assert found["verdict"] == "undecided"
    assert f"needs at least {FEWEST_BASES}" in found["reason"]
    assert {entry["verdict"] for entry in found["shown"]} == {"undecided"}


def test_a_reference_of_few_bases_does_not_decide(part, results):
    foreign = {"kl": {**results["controls"]["foreign"]["kl"], "bases": ["b0", "b1"]}}
    lacking = results | {"controls": results["controls"] | {"foreign": foreign}}
    found = judged(claim_named("It is not the"), part, lacking)
    assert (found["verdict"], found["references"]["foreign"]["decides"]) == ("confirmed", False)
    about = judged(claim_named("It is not shared"), part, lacking)
    assert about["verdict"] == "undecided"


def test_each_part_that_ran_a_claim_has_its_own_verdict(part, results):
    other = dataclasses.replace(part, name="second world")
    empty = make_part({"shuffled": 0.5}, name="empty")
    explained = dataclasses.replace(part, name="explained-600")
    parts = [(part, results), (other, results), (empty, of_part(empty)), (explained, results)]
    outcomes = evaluate_claims(parts, claims=[claim_named("KL"), claim_named("Another")], resamples=QUICK)
    assert [(o["name"], o["part"], o["verdict"]) for o in outcomes] == [
        ("KL is needed", "main", "confirmed"),
        ("KL is needed", "second world", "confirmed"),
        ("Another base's labels still couple", None, "not run"),
    ]
