"""Pooling over bases: numbers worked by hand, pairing, subsets, intervals."""

import dataclasses
import json

import numpy as np
import pytest
from results_records import record
from study_workdirs import (
    MOVED,
    SAYS_MOVED,
    SAYS_STAYS,
    STAYS,
    random_records,
    static_records,
)

from introspection.coupling.results import arm_results, paired_results
from introspection.coupling.training_log import TrainingLog
from introspection.errors import InputError
from introspection.runtime.json_values import to_json
from introspection.study.counts import (
    count_records,
    emitter_counts,
    explanations_of,
    shifted_counts,
    subset_counts,
)
from introspection.study.panels import Panel, held_against
from introspection.study.parts import StudyPart, part_results
from introspection.study.pooling import pooled_results
from introspection.tasks.items import INVALID, Explanation


def rng(seed=0):
    return np.random.default_rng(seed)


def two_bases():
    """Base a: three items of which two follow current; base b: one item in two seeds, said as the teacher."""
    return {
        "a": [
            record(1, MOVED, STAYS, SAYS_STAYS),  # drift, follows current
            record(2, MOVED, STAYS, SAYS_STAYS),  # drift, follows current
            record(3, STAYS, STAYS, INVALID),
        ],
        "b": [
            record(1, STAYS, MOVED, SAYS_STAYS, seed=0),  # drift, follows the teacher
            record(1, STAYS, ("Rome", "Rome"), Explanation(False, "Rome"), seed=1),  # drift, current
        ],
    }


def counted(by_base):
    return {base: count_records(records) for base, records in by_base.items()}


def contrast(first, second):
    """One arm minus another emitter, of the same items."""
    return held_against((Panel(first, {"other": second}),), 0)["other"]


def test_two_bases_worked_by_hand():
    found = pooled_results(counted(two_bases()), rng())
    # Self: a1, a2, b1'; Orig: b1; a3 is invalid.
    assert found["self"]["exact_match"]["mean"] == 3 / 5
    assert found["orig"]["exact_match"]["mean"] == 1 / 5
    assert found["gap"]["exact_match"]["mean"] == pytest.approx(2 / 5)
    disagreement = found["disagreement"]
    assert (disagreement["n"], disagreement["current_share"]) == (4, 3 / 4)
    assert (disagreement["self"], disagreement["orig"]) == (3 / 4, 1 / 4)
    assert (found["drift"], found["invalid_rate"], found["n"]) == (4 / 5, 1 / 5, 5)
    assert found["behavior_accuracy"] == {"initial": 1.0, "teacher": 1.0, "current": 4 / 5}
    assert found["changed_rate"] == {"teacher": 2 / 5, "current": 1 / 5}
    assert found["bases"] == ["a", "b"]
    assert found["seeds"] == {"a": [0], "b": [0, 1]}
    assert found["by_base"]["a"]["gap"]["exact_match"]["mean"] == pytest.approx(2 / 3)
    assert found["by_base"]["b"]["gap"]["exact_match"]["mean"] == 0
    assert found["by_base"]["b"]["gap"]["exact_match"]["ci95"] is None  # one group
    assert found["over_bases"]["n"] == 2
    assert found["over_bases"]["above_0"] == 1
    assert found["over_bases"]["standard_deviation"] == pytest.approx(np.std([2 / 3, 0], ddof=1))
    assert found["over_bases"]["sign_flip_p"] == 1.0
    json.dumps(found, allow_nan=False)


def test_behavior_is_right_on_a_share_of_the_items_whose_right_answer_is_known():
    known = [record(i, STAYS, STAYS if i else ("Rome", "Rome"), SAYS_STAYS) for i in range(4)]
    unknown = [record(4 + i, STAYS, STAYS, SAYS_STAYS, gold="") for i in range(4)]
    found = pooled_results(counted({"a": [*known, *unknown]}), rng())
    assert found["behavior_accuracy"] == {"initial": 1.0, "teacher": 1.0, "current": 0.75}
    assert found["n"] == 8
    none = pooled_results(counted({"a": unknown}), rng())
    assert none["behavior_accuracy"] == dict.fromkeys(("initial", "teacher", "current"))


def test_one_base_is_what_a_run_reports():
    records = random_records(rng(3), 0.7)
    pooled = pooled_results(counted({"a": records}), rng(1))
    alone = to_json(arm_results(records, {}, 0.0, rng(1)))
    for score in ("self", "orig", "gap"):
        for metric, value in alone[score].items():
            assert pooled[score][metric]["mean"] == pytest.approx(value["mean"])
            # Resampled from the same numbers, so equal but for rounding.
            assert pooled[score][metric]["ci95"] == pytest.approx(value["ci95"])
    for name in ("drift", "invalid_rate", "changed_rate", "n"):
        assert pooled[name] == pytest.approx(alone[name])
    for who, share in alone["behavior_accuracy"].items():
        assert pooled["behavior_accuracy"][who] == pytest.approx(share)
    kept = ("n", "self", "orig", "current_share", "current_share_ci95")
    for name in kept:
        assert pooled["disagreement"][name] == pytest.approx(alone["disagreement"][name])


def test_means_are_over_the_items_of_all_bases():
    by_base = {f"b{i}": random_records(rng(i), 0.2 + 0.1 * i, groups=5 + 3 * i) for i in range(5)}
    found = pooled_results(counted(by_base), rng())
    follows = [r.explanation == r.current.explanation for records in by_base.values() for r in records]
    assert found["self"]["exact_match"]["mean"] == pytest.approx(np.mean(follows))
    low, high = found["self"]["exact_match"]["ci95"]
    assert low < np.mean(follows) < high


def test_the_order_of_records_and_bases_does_not_matter():
    by_base = {f"b{i}": random_records(rng(i), 0.6) for i in range(3)}
    shuffled = {
        base: [by_base[base][i] for i in rng(9).permutation(len(by_base[base]))] for base in reversed(by_base)
    }
    one, other = counted(by_base), counted(shuffled)
    assert pooled_results(one, rng()) == pooled_results(other, rng())
    assert contrast(one, other)["gap"]["exact_match"]["ci95"] == [0.0, 0.0]


def test_the_interval_holds_the_spread_between_bases():
    def width(leans):
        by_base = {f"b{i}": random_records(rng(i), lean, groups=40) for i, lean in enumerate(leans)}
        low, high = pooled_results(counted(by_base), rng())["gap"]["exact_match"]["ci95"]
        return high - low

    assert width([0.1, 0.9] * 3) > 2 * width([0.5] * 6)


def test_what_all_bases_share_in_a_fact_widens_the_interval():
    # Six bases that do the same: one base's twelve facts are all there is to learn from.
    same = {f"b{i}": random_records(rng(1), 0.5, seeds=(0,)) for i in range(6)}
    shared = pooled_results(counted(same), rng())["gap"]["exact_match"]["ci95"]
    alone = pooled_results(counted({"b0": same["b0"]}), rng())["gap"]["exact_match"]["ci95"]
    assert shared[1] - shared[0] > 0.9 * (alone[1] - alone[0])


def test_subsets_are_pooled_by_themselves():
    by_base = {f"b{i}": random_records(rng(i), 0.6, subsets=("seen", "held_out")) for i in range(2)}
    found = pooled_results(counted(by_base), rng())
    assert sorted(found["by_subset"]) == ["held_out", "seen"]
    held_out = {b: [r for r in records if r.subset == "held_out"] for b, records in by_base.items()}
    expected = pooled_results(counted(held_out), rng())["gap"]["exact_match"]["mean"]
    assert found["by_subset"]["held_out"]["gap"]["exact_match"]["mean"] == pytest.approx(expected)
    assert sum(part["n"] for part in found["by_subset"].values()) == found["n"]
    assert pooled_results(counted({"b": random_records(rng(), 0.6)}), rng())["by_subset"] == {}
    counts = counted({"a": by_base["b0"], "b": [r for r in by_base["b1"] if r.subset == "seen"]})
    assert list(subset_counts(counts, "held_out")) == ["a"]


def test_a_contrast_of_two_arms_worked_by_hand():
    first = {
        "a": [record(1, MOVED, STAYS, SAYS_STAYS), record(2, MOVED, MOVED, SAYS_MOVED)],
        "b": [record(1, MOVED, STAYS, SAYS_STAYS), record(2, MOVED, STAYS, SAYS_MOVED)],
    }
    second = {
        base: [dataclasses.replace(r, arm="no_kl", explanation=SAYS_MOVED) for r in records]
        for base, records in first.items()
    }
    found = contrast(counted(first), counted(second))
    # First: Self a1, a2, b1, Orig a2, b2. Second says what the teacher does: Self a2, Orig all.
    assert {k: found["self"]["exact_match"][k] for k in ("first", "second", "mean")} == {
        "first": 3 / 4, "second": 1 / 4, "mean": 2 / 4,
    }  # fmt: skip
    assert found["orig"]["exact_match"]["mean"] == 2 / 4 - 1
    assert found["gap"]["exact_match"]["mean"] == pytest.approx((3 / 4 - 2 / 4) - (1 / 4 - 1))
    assert found["by_base"]["a"]["gap"]["exact_match"]["mean"] == pytest.approx((1 - 1 / 2) - (1 / 2 - 1))
    assert found["over_bases"]["above_0"] == 2
    json.dumps(found, allow_nan=False)


def test_a_contrast_in_one_base_is_what_a_run_reports():
    first, second = random_records(rng(1), 0.8), random_records(rng(1), 0.3, arm="no_kl")
    found = contrast(counted({"a": first}), counted({"a": second}))
    alone = to_json(paired_results(first, second, rng(0)))
    for score in ("self", "orig", "gap"):
        value = alone[score]["exact_match"]
        assert found[score]["exact_match"]["mean"] == pytest.approx(value["mean"])
        assert found[score]["exact_match"]["ci95"] == pytest.approx(value["ci95"])


def test_a_contrast_takes_the_bases_that_have_both():
    first = counted({f"b{i}": random_records(rng(i), 0.8) for i in range(3)})
    second = counted({f"b{i}": random_records(rng(i), 0.3) for i in range(1, 5)})
    found = contrast(first, second)
    assert found["bases"] == ["b1", "b2"]
    assert sorted(found["by_base"]) == ["b1", "b2"]
    panel = Panel({"b0": first["b0"]}, {"other": second})
    assert list(held_against((panel,), 0)) == [""]  # the arm alone


def test_shifted_groups_are_counted_by_themselves():
    by_base = {f"b{i}": random_records(rng(i), 0.3, toward_shifted=0.9) for i in range(3)}
    counts = counted(by_base)
    found = pooled_results(counts, rng())["by_shifted"]
    for half, shifted in (("shifted", True), ("unshifted", False)):
        own = {b: [r for r in records if r.shifted == shifted] for b, records in by_base.items()}
        expected = pooled_results(counted(own), rng())
        for score in ("self", "orig", "gap"):
            for metric, value in expected[score].items():
                assert found[half][score][metric]["mean"] == pytest.approx(value["mean"])
        assert found[half]["drift"] == pytest.approx(expected["drift"])
        assert found[half]["n"] == sum(map(len, own.values()))
    assert pooled_results(counted({"b": random_records(rng(), 0.5)}), rng())["by_shifted"] == {}
    one = counted({"a": random_records(rng(), 0.5), "b": by_base["b0"]})
    assert list(shifted_counts(one, True)) == ["b"]


def test_shifted_minus_unshifted_worked_by_hand():
    # On the shifted fact the arm follows both of its drifted items, its reference none; on the other neither.
    records = [
        record(1, MOVED, STAYS, SAYS_STAYS, group="x", shifted=True),
        record(2, MOVED, STAYS, SAYS_STAYS, group="x", shifted=True),
        record(3, MOVED, STAYS, SAYS_MOVED, group="y"),
        record(4, MOVED, MOVED, SAYS_MOVED, group="y"),
    ]
    own = counted({"a": records})
    said = dict.fromkeys(explanations_of(records), SAYS_MOVED)
    panel = Panel(own, {"moved": {"a": emitter_counts(records, said, "moved")}})
    halves = [dataclasses.replace(panel, shifted=shifted) for shifted in (True, False)]
    found = held_against(halves, 0)
    # Gaps: the arm's 1 and -1/2; the reference's -1 and -1/2.
    assert found[""]["gap"]["exact_match"]["mean"] == pytest.approx(3 / 2)
    assert found["moved"]["gap"]["exact_match"]["mean"] == pytest.approx((1 - -1) - (-1 / 2 - -1 / 2))
    assert found["moved"]["levels"] == [[0.0, 1.0], [1.0, 1.0]]


def test_a_contrast_of_two_arms_has_each_ones_reference_on_its_own_items():
    def panel(lean, seed):
        records = {f"b{i}": random_records(rng([seed, i]), lean, groups=30) for i in range(3)}
        static = {base: static_records(rng(9), own, 0.9) for base, own in records.items()}
        return Panel(counted(records), {"static": counted(static)})

    one, other = panel(0.8, 1), panel(0.3, 2)
    found = held_against((one, other), 0)["static"]
    alone = [held_against((each,), 0)["static"]["gap"]["exact_match"]["mean"] for each in (one, other)]
    assert found["gap"]["exact_match"]["mean"] == pytest.approx(alone[0] - alone[1])
    levels = [
        pooled_results(each.references["static"], rng())["orig"]["exact_match"] for each in (one, other)
    ]
    assert [level for _, level in found["levels"]] == pytest.approx([level["mean"] for level in levels])


@pytest.mark.parametrize("change", [{"id": "another"}, {"seed": 7}, {"group": "another"}])
def test_other_items_or_seeds_can_not_be_paired(change):
    records = random_records(rng(), 0.5)
    other = [dataclasses.replace(records[0], **change), *records[1:]]
    with pytest.raises(InputError, match=r"base a.*different items or seeds"):
        contrast(counted({"a": records}), counted({"a": other}))
    if "group" not in change:
        with pytest.raises(InputError, match="different items or"):
            emitter_counts(records, explanations_of(other), "foreign_kl")
    with pytest.raises(InputError, match="emitter foreign_kl have different items or"):
        emitter_counts(records, explanations_of(records[1:]), "foreign_kl")


def test_foreign_explanations_are_scored_against_the_arms_own_behaviour():
    own = [record(1, MOVED, STAYS, SAYS_MOVED), record(2, STAYS, MOVED, SAYS_MOVED)]
    # The foreign explainer behaves otherwise, which must not count, and its items come in another order.
    foreign = [
        record(2, MOVED, MOVED, SAYS_MOVED, arm="foreign_kl"),
        record(1, STAYS, MOVED, SAYS_STAYS, arm="foreign_kl"),
    ]
    found = pooled_results({"a": emitter_counts(own, explanations_of(foreign), "foreign_kl")}, rng())
    assert found["self"]["exact_match"]["mean"] == 1.0
    assert found["orig"]["exact_match"]["mean"] == 0.0
    own_score = pooled_results({"a": count_records(own)}, rng())["self"]["exact_match"]["mean"]
    assert own_score == 1 / 2


def test_bad_records_are_refused():
    records = random_records(rng(), 0.5)
    with pytest.raises(InputError, match="no prediction records"):
        count_records([])
    with pytest.raises(InputError, match="2 prediction records of item"):
        count_records([*records, records[0]])
    with pytest.raises(InputError, match="several arms"):
        count_records([*records, dataclasses.replace(records[0], arm="no_kl", id="x")])


def log(mean, end):
    levels = {"start": 1.0, "end": end, "min": end, "mean": mean}
    return TrainingLog(levels, dict.fromkeys(levels))


def test_results_of_a_part_do_not_depend_on_its_other_arms():
    records = {
        arm: {f"b{i}": random_records(rng(i), lean, arm=arm) for i in range(2)}
        for arm, lean in (("kl", 0.8), ("no_kl", 0.4))
    }
    arms = {arm: counted(by_base) for arm, by_base in records.items()}
    majority = {b: count_records(static_records(rng(7), own, 0.5)) for b, own in records["kl"].items()}
    references = {"kl": {"foreign": arms["no_kl"], "majority": majority}}
    training = {"kl": {"b1": log(0.7, 0.6), "b0": log(0.9, 0.8)}}
    both = part_results(StudyPart("main", arms, references, training))
    alone = part_results(StudyPart("main", {"kl": arms["kl"]}, references, training))
    assert both["arms"]["kl"] == alone["arms"]["kl"]
    assert both["controls"] == alone["controls"]
    kl = both["arms"]["kl"]
    assert kl["agreement"] == {
        "start": 1.0,
        "end": pytest.approx(0.7),
        "min": pytest.approx(0.7),
        "mean": pytest.approx(0.8),
        "by_base": {"b0": 0.9, "b1": 0.7},
    }
    assert kl["kept_behavior"] == {**dict.fromkeys(("start", "end", "min", "mean")), "by_base": {}}
    assert both["arms"]["no_kl"]["agreement"]["mean"] is None
    assert (kl["best_static"], both["arms"]["no_kl"]["best_static"]) == ("majority", None)
    foreign = both["controls"]["foreign"]["kl"]["gap"]["exact_match"]
    gaps = [both["arms"][arm]["gap"]["exact_match"]["mean"] for arm in ("kl", "no_kl")]
    assert foreign["mean"] == pytest.approx(gaps[0] - gaps[1])
    json.dumps(both, allow_nan=False)


def test_an_emitter_that_is_mostly_invalid_is_listed_and_not_used():
    records = {f"b{i}": random_records(rng(i), 0.6) for i in range(2)}
    says_nothing = {
        base: count_records([dataclasses.replace(r, explanation=INVALID) for r in own])
        for base, own in records.items()
    }
    part = StudyPart("main", {"kl": counted(records)}, {"kl": {"initial": says_nothing}}, {})
    found = part_results(part)
    assert found["controls"]["initial"]["kl"]["invalid_rate"] == 1.0
    assert found["controls"]["initial"]["kl"]["used"] is False
    assert found["arms"]["kl"]["best_static"] is None
