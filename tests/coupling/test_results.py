"""results.json and matrix.json from records, with numbers worked by hand."""

import dataclasses
import json

import numpy as np
import pytest
from results_records import ANSWERS, E, eight_records, random_records, record, results_of
from row_files import write_lines

from introspection.coupling import metrics, statistics
from introspection.coupling.estimates import Estimate
from introspection.coupling.matrix import coupling_matrix
from introspection.coupling.results import arm_results, control_results, paired_results
from introspection.coupling.run_results import Subset
from introspection.coupling.training_log import read_series
from introspection.errors import InputError
from introspection.runtime.json_values import to_json
from introspection.tasks.items import INVALID, NONE, Decisions


def test_eight_records_worked_by_hand():
    results = results_of(eight_records())
    # Self: items 1, 2, 1', 2', 4'; Orig: 2, 3, 4'.
    assert results["self"]["exact_match"]["mean"] == 5 / 8
    assert results["orig"]["exact_match"]["mean"] == 3 / 8
    assert results["gap"]["exact_match"]["mean"] == 2 / 8
    # `changed` against current: 1, 2, 1', 2', 3', 4' are right; against the teacher 2, 3, 2', 3', 4'.
    assert results["self"]["changed_accuracy"]["mean"] == 6 / 8
    assert results["orig"]["changed_accuracy"]["mean"] == 5 / 8
    # Answers against current: 1, 2, 3, 1', 2', 4'; against the teacher 1, 2, 3, 1', 4'.
    assert results["gap"]["content_match"]["mean"] == pytest.approx(6 / 8 - 5 / 8)
    # Current: changed is true of 2, 3, 2', said of 2, 2', both of two; unchanged true 5, said 5, both 4.
    assert results["self"]["has_changed_f1"]["mean"] == pytest.approx((4 / 5 + 8 / 10) / 2)
    # Teacher: changed is true of 1, 2, 1', 2', both of two; unchanged true 4, said 5, both 3.
    assert results["orig"]["has_changed_f1"]["mean"] == pytest.approx((4 / 6 + 6 / 9) / 2)
    disagreement = results["disagreement"]
    assert disagreement["n"] == 4  # 1, 3, 1', 2'
    assert disagreement["groups"] == 3  # those of 1, 2 and 3
    assert disagreement["self"] == 3 / 4
    assert disagreement["orig"] == 1 / 4
    assert disagreement["current_share"] == 3 / 4
    assert results["drift"] == 4 / 8
    assert results["changed_rate"] == {"teacher": 4 / 8, "current": 3 / 8}
    assert results["none_rate"] == {"teacher": 0, "current": 1 / 16}
    assert results["behavior_accuracy"] == {"teacher": 1.0, "current": 7 / 8}
    assert results["behavior_accuracy_with_cue"] == {"teacher": 4 / 8, "current": 5 / 8}
    assert results["invalid_rate"] == 1 / 8
    # (unchanged, Oslo) is said of 1, 3, 1', 4'; it is true of current in 1, 4, 1', 3', 4', of the teacher in
    # 3, 4, 3', 4'.
    assert results["commonest_explanation"] == {"share": 4 / 8, "self": 5 / 8, "orig": 4 / 8}
    # The means over seeds are 0.95, 0.7 and 0.85.
    assert results["agreement"] == pytest.approx({"start": 0.95, "end": 0.85, "min": 0.7, "mean": 2.5 / 3})
    assert set(results["kept_behavior"].values()) == {None}
    assert "by_shifted" not in results  # no record is
    assert (results["n"], results["seeds"], results["runtime_s"]) == (8, [0, 1], 12.5)
    assert results["by_drift"] == {
        "to_gold": {"n": 2, "self": 1.0, "orig": 0.0},
        "to_cued": {"n": 1, "self": 0.0, "orig": 1.0},
        "to_other": {"n": 1, "self": 1.0, "orig": 0.0},
        "none": {"n": 4, "self": 0.5, "orig": 0.5},
    }
    assert results["by_drift_without_cue"]["to_gold"] == {"n": 0, "self": None, "orig": None}
    guess = results["by_cue_kind"]["guess"]
    assert (guess["n"], guess["self"], guess["orig"]) == (6, 4 / 6, 2 / 6)
    assert guess["changed_rate"] == {"teacher": 4 / 6, "current": 3 / 6}
    assert results["by_cue_kind"]["placebo"]["gap"] == 0
    assert guess["groups"] == len(
        {r.group for r in eight_records() if r.cue_kind == "guess" and metrics.disagrees(r)}
    )
    assert (guess["invalid_rate"], results["by_cue_kind"]["placebo"]["invalid_rate"]) == (0, 1 / 2)


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ({}, Estimate(0.1, (0.05, 0.2))),
        ({"groups": 2}, Estimate(0.1, few=2)),  # 12 items of three seeds
        ({"groups": None}, Estimate(0.1, (0.05, 0.2))),
        ({"groups": None, "drift": 0.1}, Estimate(0.1, few=2)),
        ({"invalid_rate": 1.0}, Estimate()),
    ],
)
def test_a_part_s_gap_needs_groups_and_something_valid(change, shown):
    part = Subset(20, 0.5, 0.4, 0.1, (0.05, 0.2), drift=0.6, groups=9, invalid_rate=0.0)
    assert dataclasses.replace(part, **change).gap_estimate == shown


def test_initial_is_scored_against_the_initial_models_explanation():
    records = [
        record(n, ("Rome", "Oslo"), ("Rome", "Oslo"), E(False, "Bern"), initial=("Bern", "Bern"))
        for n in range(3)
    ]
    results = results_of(records)
    assert results["initial"]["exact_match"]["mean"] == 1.0
    assert results["orig"]["exact_match"]["mean"] == results["self"]["exact_match"]["mean"] == 0.0


CONTRACT = {
    "self",
    "orig",
    "gap",
    "disagreement",
    "drift",
    "agreement",
    "kept_behavior",
    "drift_explained",
    "changed_rate",
    "invalid_rate",
    "seeds",
    "runtime_s",
}


def test_keys_are_those_of_the_contract():
    results = results_of(eight_records())
    assert set(results) >= CONTRACT
    assert set(results["disagreement"]) >= {"n", "self", "orig", "current_share", "sign_flip_p"}
    assert set(results["agreement"]) == set(results["kept_behavior"]) == {"start", "end", "min", "mean"}
    for score in ("self", "orig", "gap", "initial"):
        assert set(results[score]) == {"exact_match", "has_changed_f1", "content_match", "changed_accuracy"}
        for measured in results[score].values():
            low, high = measured["ci95"]
            assert low <= measured["mean"] <= high
    control = to_json(control_results(eight_records()))
    assert set(control) == {"self", "orig", "gap", "invalid_rate", "n", "seeds", "soft"}
    assert control["self"]["exact_match"]["mean"] == 5 / 8


@pytest.mark.parametrize("seed", range(8))
def test_gap_is_drift_times_the_gap_on_the_disagreement_set(seed):
    results = results_of(random_records(seed, coupling=seed / 7))
    disagreement = results["disagreement"]
    expected = results["drift"] * (disagreement["self"] - disagreement["orig"])
    assert results["gap"]["exact_match"]["mean"] == pytest.approx(expected, abs=1e-12)
    assert 0 < results["drift"] < 1


@pytest.mark.parametrize(("coupling", "sign"), [(1.0, 1), (0.5, 0), (0.0, -1)])
def test_planted_coupling_is_found_and_its_absence_too(coupling, sign):
    results = results_of(random_records(1, n=200, coupling=coupling))
    low, high = results["gap"]["exact_match"]["ci95"]
    assert (low > 0) - (high < 0) == sign
    share_low, share_high = results["disagreement"]["current_share_ci95"]
    assert (share_low > 0.5) - (share_high < 0.5) == sign


def test_sign_flips_are_of_the_matches_by_seed_and_group(monkeypatch):
    tables = []

    def seeds_sign_flip_test(cell_sums, rng):
        tables.append(cell_sums.tolist())
        return None, "too few seeds"

    monkeypatch.setattr(statistics, "seeds_sign_flip_test", seeds_sign_flip_test)
    disagreement = results_of(eight_records())["disagreement"]
    # Matches with current minus with the teacher: items 1 and 3 of the first seed, 1 and 2 of the second.
    assert tables == [[[1, 0, -1, 0], [1, 1, 0, 0]]]
    assert (disagreement["sign_flip_p"], disagreement["sign_flip_note"]) == (None, "too few seeds")
    monkeypatch.setattr(statistics, "seeds_sign_flip_test", lambda cell_sums, rng: (0.25, ""))
    disagreement = results_of(eight_records())["disagreement"]
    assert (disagreement["sign_flip_p"], disagreement["sign_flip_note"]) == (0.25, None)


def test_one_seeds_sign_flips_worked_by_hand():
    records = [r for r in eight_records() if r.seed == 1]
    # Items 1 and 2 follow current; of the 4 sign patterns 2 are as extreme.
    assert results_of(records)["disagreement"]["sign_flip_p"] == 2 / 4


def test_intervals_resample_seeds_and_groups():
    # One seed is always right and the other never: two seeds tell nothing of what others would be.
    stays = ("Oslo", "Oslo")
    said = {0: E(False, "Oslo"), 1: INVALID}
    records = [record(n, stays, stays, said[seed], seed=seed) for n in range(9) for seed in said]
    found = results_of(records)["self"]["exact_match"]
    assert found["mean"] == 0.5
    assert found["ci95"][0] <= 0
    assert found["ci95"][1] >= 1
    # All items of one group: nothing tells how groups vary.
    one_group = [record(n, stays, stays, said[n % 2], group="g") for n in range(9)]
    assert results_of(one_group)["self"]["exact_match"]["ci95"] is None


def test_results_do_not_depend_on_the_order_of_records():
    records = random_records(0)
    shuffled = [records[index] for index in np.random.default_rng(1).permutation(len(records))]
    assert results_of(records) == results_of(shuffled)
    one_seed = random_records(0, seeds=1)  # whose groups are resampled
    assert results_of(one_seed) != results_of(one_seed, seed=1)


def test_undefined_values_are_null_in_strict_json():
    same = ("Oslo", "Oslo")
    no_drift = [record(n, same, same, E(False, "Oslo")) for n in range(3)]
    results = results_of(no_drift, {})
    json.dumps(results, allow_nan=False)
    assert results["disagreement"] == {
        "n": 0,
        "self": None,
        "orig": None,
        "current_share": None,
        "current_share_ci95": None,
        "sign_flip_p": None,
        "sign_flip_note": "the behaviours differ on no item",
        "groups": 0,
    }
    assert results["gap"]["exact_match"] == {"mean": 0.0, "ci95": [0.0, 0.0]}
    assert results["agreement"] == {"start": None, "end": None, "min": None, "mean": None}
    single = results_of(no_drift[:1], {0: []})
    json.dumps(single, allow_nan=False)
    assert single["self"]["exact_match"] == {"mean": 1.0, "ci95": None}
    never_right = [record(n, ("Rome", "Oslo"), same, INVALID) for n in range(3)]
    neither = results_of(never_right)["disagreement"]
    shown = [neither[name] for name in ("n", "self", "current_share", "sign_flip_p")]
    assert shown == [3, 0, None, 1]


def test_wrong_records_are_refused():
    records = eight_records()
    with pytest.raises(InputError, match="no prediction records"):
        results_of([])
    with pytest.raises(InputError, match="2 prediction records of item"):
        results_of(records + records[:1])
    other = dataclasses.replace(records[0], arm="no_kl")
    with pytest.raises(InputError, match="several arms in one result: kl, no_kl"):
        control_results([*records, other])


def test_agreement_uses_the_steps_that_every_seed_logged():
    series = {0: [(0, 1.0), (10, 0.1), (20, 0.6)], 1: [(0, 0.8), (20, 0.4), (30, 0.0)]}
    results = results_of(eight_records(), series)
    assert results["agreement"] == pytest.approx({"start": 0.9, "end": 0.5, "min": 0.5, "mean": 0.7})
    assert results_of(eight_records(), {0: [(0, 1.0)], 1: []})["agreement"]["end"] is None


def agreement_series(path, arm, key="agreement"):
    """An arm's logged values as (step, value), ascending, by seed."""
    series = read_series(path, [arm], {key}).get((arm, key), {})
    return {seed: sorted(values.items()) for seed, values in sorted(series.items())}


def test_kept_behavior_is_of_the_clean_labels(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = [
        {"arm": "kl", "seed": seed, "step": step, "agreement": 0.5, "kept_behavior": kept}
        for seed, kept_at in ((0, (1.0, 0.8, 0.3)), (1, (0.8, 0.6, 0.7)))
        for step, kept in enumerate(kept_at)
    ]
    write_lines(path, [*lines, {"arm": "kl", "seed": 0, "step": 9}])
    kept = agreement_series(path, "kl", "kept_behavior")
    assert kept == {0: [(0, 1.0), (1, 0.8), (2, 0.3)], 1: [(0, 0.8), (1, 0.6), (2, 0.7)]}
    trained = agreement_series(path, "kl")
    results = to_json(arm_results(eight_records(), trained, 0.0, np.random.default_rng(0), kept_by_seed=kept))
    assert results["kept_behavior"] == pytest.approx({"start": 0.9, "end": 0.5, "min": 0.5, "mean": 0.7})
    assert results["drift_explained"] == pytest.approx(0.5)
    assert set(results["agreement"].values()) == {0.5}


def test_agreement_series_of_a_resumed_run(tmp_path):
    path = tmp_path / "metrics.jsonl"
    events = [
        {"arm": "kl", "seed": 0, "step": 0, "agreement": 1.0, "explanation_loss": 2.0},
        {"arm": "kl", "seed": 0, "step": 10, "agreement": 0.5},
        {"arm": "kl", "seed": 0, "step": 15, "explanation_loss": 1.0},
        {"arm": "no_kl", "seed": 0, "step": 10, "agreement": 0.1},
        {"event": "resumed"},
        {"arm": "kl", "seed": 0, "step": 10, "agreement": 0.75},
        {"arm": "kl", "seed": 0, "step": 20, "agreement": None},
        {"arm": "kl", "seed": 0, "step": 20, "agreement": float("nan")},
        {"arm": "kl", "seed": 1, "step": 0, "agreement": 0.9},
    ]
    text = write_lines(path, events).read_text()
    assert agreement_series(path, "kl") == {0: [(0, 1.0), (10, 0.75)], 1: [(0, 0.9)]}
    assert agreement_series(path, "other") == {}
    path.write_text(text + '{"arm": "kl", "se')  # being written
    assert agreement_series(path, "kl")[1] == [(0, 0.9)]
    path.write_text(text + '{"arm": "kl", "se\n')
    with pytest.raises(InputError, match=r"metrics.jsonl:10"):
        agreement_series(path, "kl")
    path.write_text('{"arm": "kl", "agreement": 0.5}\n')
    with pytest.raises(InputError, match="seed"):
        agreement_series(path, "kl")


def test_paired_results_of_an_arm_minus_its_control():
    records = eight_records()
    control = [dataclasses.replace(r, arm="foreign", explanation=INVALID) for r in records]
    paired = to_json(paired_results(records, control[::-1], np.random.default_rng(0)))
    exact = paired["self"]["exact_match"]
    assert (exact["arm"], exact["control"], exact["mean"]) == (5 / 8, 0.0, 5 / 8)
    assert paired["gap"]["exact_match"]["mean"] == 2 / 8
    noise = random_records(1)
    backwards, forwards = (
        paired_results(random_records(0), n, np.random.default_rng(0)) for n in (noise[::-1], noise)
    )
    assert backwards == forwards  # items are paired by id and seed, not by place
    itself = to_json(paired_results(records, records, np.random.default_rng(0)))
    assert itself["self"]["has_changed_f1"]["ci95"] == [0.0, 0.0]  # the same resamples on both sides
    with pytest.raises(InputError, match="same items and seeds"):
        paired_results(records, control[1:], np.random.default_rng(0))


def test_matrix_worked_by_hand():
    decisions = {
        "a": [Decisions("Rome", "Oslo"), Decisions("Oslo", "Oslo"), Decisions("Bern", "Rome")],
        "b": [Decisions("Oslo", "Oslo"), Decisions("Oslo", "Oslo"), Decisions("Rome", "Rome")],
        "c": [Decisions("Bern", "Bern")] * 3,
    }
    said = {
        "b": [E(False, "Oslo"), E(False, "Oslo"), INVALID],
        "a": [E(True, "Oslo"), E(False, "Oslo"), E(True, "Bern")],
    }
    matrix = to_json(coupling_matrix(said, decisions, ["g", "h", "i"], np.random.default_rng(0)))
    json.dumps(matrix, allow_nan=False)
    assert (matrix["emitters"], matrix["teachers"], matrix["n"]) == (["b", "a"], ["a", "b", "c"], 3)
    np.testing.assert_allclose(matrix["exact_match"], [[1 / 3, 2 / 3, 0], [2 / 3, 1 / 3, 0]])
    np.testing.assert_allclose(matrix["content_match"], [[2 / 3, 2 / 3, 0], [2 / 3, 2 / 3, 1 / 3]])
    np.testing.assert_allclose(matrix["changed_accuracy"], [[1 / 3, 2 / 3, 2 / 3], [1, 1 / 3, 1 / 3]])
    assert np.shape(matrix["ci95"]) == (2, 3, 2)
    assert matrix["ci95"][0][2] == [0, 0]
    assert matrix["ci95"][1][2] == [0, 0]  # exact match, not content match
    assert matrix["ci95"][1][0] == [0, 1]
    assert matrix["invalid_rate"] == [1 / 3, 0]
    assert matrix["none_rate"] == [0, 0, 0]
    # Names that are both: a and b. With oneself 2/3 and 2/3, with the other 1/3 and 1/3.
    assert matrix["diagonal"]["own"] == pytest.approx(2 / 3)
    assert matrix["diagonal"]["others"] == pytest.approx(1 / 3)
    assert matrix["diagonal"]["difference"]["mean"] == pytest.approx(1 / 3)


def test_matrix_resamples_groups_and_says_what_is_missing():
    rng = np.random.default_rng(0)
    truth = [Decisions("Oslo", ANSWERS[index]) for index in rng.integers(3, size=40)]
    said = [d.explanation if index % 3 else INVALID for index, d in enumerate(truth)]
    groups = [str(index // 2) for index in range(40)]
    matrix = to_json(coupling_matrix({"a": said}, {"a": truth}, groups, np.random.default_rng(0)))
    low, high = matrix["ci95"][0][0]
    assert low < matrix["exact_match"][0][0] < high
    assert matrix["diagonal"] is None
    assert coupling_matrix({"a": said}, {"a": truth}, ["g"] * 40, rng).ci95 == ((None,),)
    silent = coupling_matrix({"a": said[:2]}, {"a": [Decisions(NONE, "Oslo"), truth[1]]}, groups[:2], rng)
    assert (silent.invalid_rate, silent.none_rate_of("a"), silent.none_rate_of("b")) == (
        (1 / 2,),
        1 / 4,
        None,
    )
    with pytest.raises(ValueError, match="a has 39 items"):
        coupling_matrix({"a": said[1:]}, {"a": truth}, groups, rng)
    with pytest.raises(ValueError, match="needs an emitter"):
        coupling_matrix({}, {"a": truth}, groups, rng)


def test_levels_by_cue_kind_are_those_of_the_metrics():
    records = eight_records()
    for kind, entry in results_of(records)["by_cue_kind"].items():
        assert metrics.levels_by_cue_kind(records)[kind].items() <= entry.items()


def test_subsets_have_their_own_levels_and_gap():
    records = [
        dataclasses.replace(r, subset="held_out" if r.id in ("1", "4") else "seen") for r in eight_records()
    ]
    result = to_json(arm_results(records, {}, 0.0, np.random.default_rng(0)))
    assert set(result["by_subset"]) == {"seen", "held_out"}
    # Items 1 and 4 of both seeds: 1 differs and is explained as current twice, 4 is right once.
    held_out = result["by_subset"]["held_out"]
    assert (held_out["n"], held_out["self"], held_out["orig"]) == (4, 0.75, 0.25)
    assert (held_out["gap"], held_out["drift"]) == (0.5, 0.5)
    assert held_out["gap_ci95"][0] <= 0.5 <= held_out["gap_ci95"][1]
    assert "by_subset" not in results_of(eight_records())


def test_no_explanation_is_the_commonest_where_none_can_be_parsed():
    records = [dataclasses.replace(one, explanation=INVALID) for one in eight_records()]
    assert results_of(records)["commonest_explanation"] == {"share": 0.0, "self": 0.0, "orig": 0.0}
