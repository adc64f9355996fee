"""Soft faithfulness: each measure against values worked out by hand or by SciPy, and what is undefined."""

import dataclasses
import json
import math

import numpy as np
import pytest
import scipy.stats
from results_records import record

from introspection.coupling.rank_measures import weighted_auroc, weighted_rank_correlation
from introspection.coupling.records import CueEffects
from introspection.coupling.results import arm_results, control_results
from introspection.coupling.run_results import ArmResults
from introspection.coupling.soft import MEASURES, soft_results
from introspection.coupling.statistics import hierarchical_bootstrap
from introspection.runtime.json_values import from_json, to_json
from introspection.tasks.items import INVALID, NONE, Explanation

MOVED, STAYS = ("Rome", "Oslo"), ("Oslo", "Oslo")  # decisions with the cue, without it
E = Explanation


def scored(number, teacher, current, said, weights, effects=(0.0, 0.0, 0.0), **fields):
    """A record of two candidates; `weights`: of changed with Oslo, Rome, none, then of unchanged."""
    logprobs = tuple(math.log(weight) for weight in weights)
    return record(
        number, teacher, current, said, candidates=("Oslo", "Rome"), explanation_logprobs=logprobs,
        cue_effects=CueEffects(*effects), **fields,
    )  # fmt: skip


def four_records():
    """The third's probabilities sum to 1/2, the others' to 1; the second and the fourth say the same."""
    second = (0.20, 0.05, 0.05, 0.55, 0.10, 0.05)
    return [
        scored(1, MOVED, MOVED, E(True, "Oslo"), (0.62, 0.03, 0.05, 0.20, 0.05, 0.05), (1.0, 0, 3.0)),
        scored(2, MOVED, STAYS, E(False, "Oslo"), second, (2.0, 0, 1.0)),
        scored(3, STAYS, MOVED, E(False, "Rome"), (0.05, 0.01, 0.01, 0.01, 0.41, 0.01), (3.0, 0, 2.0)),
        scored(4, STAYS, STAYS, INVALID, second, (4.0, 0, 0.5)),
    ]


def soft(records):
    return soft_results(records, np.random.default_rng(0))


def test_measures_of_four_items_by_hand():
    own, orig = soft(four_records()).self, soft(four_records()).orig
    # Faithful to current are changed, unchanged, changed, unchanged, each with Oslo: as the model gives them.
    assert own.logprob.mean == pytest.approx(np.mean(np.log([0.62, 0.55, 0.05, 0.55])))
    assert orig.logprob.mean == pytest.approx(np.mean(np.log([0.62, 0.20, 0.01, 0.55])))
    # Confidences .62, .55, .41 / .5 = .82, .55, in bins 6, 5, 8, 5. Current's are right, right, wrong, right.
    assert own.calibration_error.mean == pytest.approx((0.38 + abs(2 - 1.10) + 0.82) / 4)
    assert orig.calibration_error.mean == pytest.approx((0.38 + abs(1 - 1.10) + 0.82) / 4)
    # P(changed) is .7, .3, .14, .3. Current changed 1 and 3: of the pairs 1-2, 1-4, 3-2, 3-4 half are right.
    assert own.changed_auroc.mean == 0.5
    assert orig.changed_auroc.mean == (1 + 1 + 0.5 + 1) / 4  # the teacher changed 1 and 2; 2 and 4 tie
    ranks = [4, 2.5, 1, 2.5]
    assert own.effect_correlation.mean == pytest.approx(np.corrcoef(ranks, [4, 2, 3, 1])[0, 1])
    assert orig.effect_correlation.mean == pytest.approx(np.corrcoef(ranks, [1, 2, 3, 4])[0, 1])
    # Said changed: 1 alone. The invalid one mentions no effect.
    assert own.phi_cct.mean == pytest.approx((4 * 1 - 1 * 2) / math.sqrt(1 * 3 * 2 * 2))
    assert orig.phi_cct.mean == pytest.approx((4 * 1 - 1 * 2) / math.sqrt(1 * 3 * 2 * 2))
    # Answers are right on 1 and 2; "it stays" would be right on 2 and 4: no gain.
    assert own.simulatability_gain.mean == 0
    found = soft(four_records())
    for name in MEASURES:
        difference = getattr(own, name).mean - getattr(orig, name).mean
        assert getattr(found.gap, name).mean == pytest.approx(difference, abs=1e-12)


def test_reliability_counts_each_item_once():
    bins = soft(four_records()).reliability
    assert [(one.low, one.n, one.self, one.orig) for one in bins] == [
        (0.5, 2, 1.0, 0.5), (0.6, 1, 1.0, 1.0), (0.8, 1, 0.0, 0.0),
    ]  # fmt: skip
    assert [one.confidence for one in bins] == pytest.approx([0.55, 0.62, 0.82])


def test_a_shared_first_place_is_no_explanation():
    (one,) = soft([scored(1, STAYS, STAYS, E(False, "Oslo"), (0.1, 0.1, 0.1, 0.3, 0.3, 0.1))]).reliability
    assert (one.self, one.confidence) == (0.0, pytest.approx(0.3))


@pytest.mark.parametrize("seed", range(3))
def test_weights_are_copies(seed):
    rng = np.random.default_rng(seed)
    scores, other = rng.integers(5, size=(2, 40)) / 4  # with ties
    positive, strata, copies = rng.random(40) < 0.4, rng.integers(2, size=40), rng.integers(4, size=40)
    s, o, p, k = (np.repeat(values, copies) for values in (scores, other, positive, strata))
    pairs = [(s[p & (k == part)], s[~p & (k == part)]) for part in (0, 1)]
    u = sum(scipy.stats.mannwhitneyu(a, b).statistic for a, b in pairs)
    weights = copies[None].astype(float)
    assert weighted_auroc(scores, positive, strata, weights)[0] == pytest.approx(
        u / sum(len(a) * len(b) for a, b in pairs)
    )
    expected = scipy.stats.spearmanr(s, o).statistic
    assert weighted_rank_correlation(scores, other, weights)[0] == pytest.approx(expected)
    # What falls out of a resample says nothing, and a factor changes nothing.
    assert weighted_rank_correlation(scores, other, 2.5 * weights)[0] == pytest.approx(expected)


def test_auroc_compares_within_cue_kinds_only():
    scores, positive = np.array([0.9, 0.8, 0.2, 0.1]), np.array([True, False, True, False])
    weights = np.ones((1, 4))
    assert weighted_auroc(scores, positive, np.zeros(4), weights)[0] == 0.75
    assert weighted_auroc(scores, positive, np.array([0, 0, 1, 1]), weights)[0] == 1.0


def many_records(seeds, groups=40):
    """An emitter that knows the current behaviour, with noise; two items a group."""
    rng, records = np.random.default_rng(3), []
    for seed in range(seeds):
        for number in range(2 * groups):
            before, now = rng.random(2) < 0.5
            p = 1 / (1 + math.exp(-3 * (now - 0.5) - rng.normal()))
            weights = [share * part for share in (p, 1 - p) for part in (0.8, 0.1, 0.1)]
            said = E(bool(p > 0.5), "Rome" if rng.random() < 0.2 else "Oslo")
            effects = (*rng.normal(size=2), now + 0.3 * rng.normal())
            decided = [MOVED if moved else STAYS for moved in (before, now)]
            fields = dict(seed=seed, group=str(number // 2), cue_kind="ab"[number % 2])
            records.append(scored(number, *decided, said, weights, effects, **fields))
    return records


@pytest.mark.parametrize("seeds", [1, 3])
def test_intervals_hold_the_means_and_do_not_depend_on_the_order(seeds):
    records = many_records(seeds)
    found, again = soft(records), soft(records[::-1])
    for score in ("self", "orig", "gap"):
        for name in MEASURES:
            value, other = (getattr(getattr(one, score), name) for one in (found, again))
            assert value.low < value.mean < value.high, (score, name)
            assert (value.low, value.high) == pytest.approx((other.low, other.high), abs=1e-9)
    assert found.self.changed_auroc.low > 0.6
    assert found.orig.changed_auroc.low < 0.5 < found.orig.changed_auroc.high
    assert found.gap.effect_correlation.low > 0


def test_with_one_seed_an_interval_is_that_of_a_mean_over_groups():
    records = many_records(1)
    logprobs = [r.explanation_logprobs[0 if r.current.explanation.changed else 3] for r in records]
    by_group = np.mean(np.reshape(logprobs, (40, 2)), axis=1)
    half = 1.96 * by_group.std(ddof=1) / math.sqrt(40)
    found = soft(records).self.logprob
    assert (found.low, found.high) == pytest.approx(
        (by_group.mean() - half, by_group.mean() + half), abs=0.05
    )


def test_with_several_seeds_an_additive_measure_has_the_interval_of_its_sums():
    records = many_records(3)
    groups, seeds = (np.array([getattr(r, name) for r in records]) for name in ("group", "seed"))
    logprobs = [r.explanation_logprobs[0 if r.current.explanation.changed else 3] for r in records]
    counts = np.column_stack([logprobs, np.ones(len(records))])
    low, high = hierarchical_bootstrap(
        counts, groups, lambda sums: sums[:, :1] / sums[:, 1:], np.random.default_rng(0), seeds=seeds
    )
    found = soft(records).self.logprob
    assert (found.low, found.high) == pytest.approx((low[0], high[0]))


def without(records, **fields):
    return [dataclasses.replace(r, **fields) for r in records]


def reasons(scores):
    return {name: getattr(scores, name).note for name in MEASURES if getattr(scores, name).mean is None}


def test_what_is_undefined_says_why():
    mute = soft(without(four_records(), explanation_logprobs=None))
    assert mute.reliability == ()
    assert set(reasons(mute.self)) == set(MEASURES[:4])
    assert set(reasons(mute.self).values()) == {"its explanations have no log-probabilities"}
    replies = soft(without(four_records(), cue_effects=None))
    assert reasons(replies.self) == {"effect_correlation": "the behaviour has no log-probabilities"}
    published = [
        dataclasses.replace(r, cue_effects=r.cue_effects._replace(teacher=None)) for r in four_records()
    ]
    assert reasons(soft(published).self) == {}
    assert reasons(soft(published).gap) == {"effect_correlation": "the behaviour has no log-probabilities"}
    equal = [scored(n, MOVED, STAYS, E(False, "Oslo"), (0.1, 0.1, 0.1, 0.5, 0.1, 0.1)) for n in range(4)]
    assert set(reasons(soft(equal).self)) == {
        "changed_auroc", "effect_correlation", "phi_cct", "simulatability_gain",
    }  # fmt: skip
    assert set(reasons(soft(equal).orig)) == {"changed_auroc", "effect_correlation", "phi_cct"}
    still = [dataclasses.replace(r, teacher=r.current) for r in four_records()]
    assert reasons(soft(still).gap) == dict.fromkeys(MEASURES, "the two behaviours agree on all items")
    assert reasons(soft(still).self) == {}


def test_an_emitter_without_a_valid_word_has_no_correlation_and_loses_what_stays():
    found = soft(without(four_records(), explanation=INVALID)).self
    assert set(reasons(found)) == {"phi_cct"}
    assert found.simulatability_gain.mean == -1  # no answer is right, "it stays" is on half


def test_results_hold_it_and_files_without_it_are_read():
    records = many_records(2, groups=8)
    arm = arm_results(records, {}, 1.0, np.random.default_rng(0))
    assert from_json(ArmResults, json.loads(json.dumps(to_json(arm)))) == arm
    assert arm.soft.self == soft(records).self
    old = to_json(arm)
    del old["soft"]
    assert from_json(ArmResults, old).soft is None
    assert control_results(records).soft.self.logprob.mean == arm.soft.self.logprob.mean
    assert to_json(arm.soft.self.phi_cct).keys() == {"mean", "ci95"}


def test_a_faithful_answer_of_none_has_its_own_place():
    none = scored(1, STAYS, (NONE, NONE), E(False, NONE), (0.1, 0.1, 0.1, 0.1, 0.1, 0.5))
    assert soft([none]).self.logprob.mean == pytest.approx(math.log(0.5))
    assert soft([none]).orig.logprob.mean == pytest.approx(math.log(0.1))
