"""An arm's results by whether its shift trains the group, worked by hand."""

import dataclasses
import json

import numpy as np
import pytest
from results_records import eight_records, random_records, results_of

from introspection.coupling.by_shifted import shifted_differences
from introspection.coupling.results import arm_results
from introspection.runtime.json_values import to_json
from introspection.tasks.items import INVALID


def shifted_records():
    """Items 1 and 2 are of shifted groups."""
    return [dataclasses.replace(r, shifted=r.id in ("1", "2")) for r in eight_records()]


def test_parts_worked_by_hand():
    found = results_of(shifted_records())["by_shifted"]
    json.dumps(found, allow_nan=False)
    assert set(found) == {"shifted", "unshifted", "shifted_minus_unshifted"}
    shifted, unshifted = found["shifted"], found["unshifted"]
    # Shifted are 1, 2, 1', 2': Self is all of them, Orig only 2.
    assert shifted["self"]["exact_match"]["mean"] == 1
    assert shifted["orig"]["exact_match"]["mean"] == 1 / 4
    assert shifted["gap"]["exact_match"]["mean"] == 3 / 4
    # Current's `changed` is true of 2, 2' and said so; the teacher's is true of all.
    assert shifted["self"]["has_changed_f1"]["mean"] == 1
    assert shifted["orig"]["changed_accuracy"]["mean"] == 2 / 4
    assert shifted["drift"] == 3 / 4
    shown = {name: shifted["disagreement"][name] for name in ("n", "self", "orig", "current_share")}
    assert shown == {"n": 3, "self": 1, "orig": 0, "current_share": 1}
    assert shifted["behavior_accuracy"] == {"teacher": 1, "current": 3 / 4}
    assert shifted["changed_rate"] == {"teacher": 1, "current": 2 / 4}
    assert (shifted["invalid_rate"], shifted["n"]) == (0, 4)
    # Unshifted are 3, 4, 3', 4': Self is 4' alone, Orig 3 and 4'.
    assert unshifted["gap"]["exact_match"]["mean"] == 1 / 4 - 2 / 4
    assert (unshifted["drift"], unshifted["invalid_rate"], unshifted["n"]) == (1 / 4, 1 / 4, 4)
    assert unshifted["disagreement"]["current_share"] == 0
    difference = found["shifted_minus_unshifted"]["gap"]["exact_match"]
    assert difference["mean"] == 3 / 4 + 1 / 4
    assert difference["ci95"][0] <= 1 <= difference["ci95"][1]
    for part in (shifted, unshifted):
        for metric in part["gap"].values():
            assert metric["ci95"][0] <= metric["mean"] <= metric["ci95"][1]


def test_the_difference_is_told_from_0_where_only_shifted_groups_are_coupled():
    def records(coupling, *, shifted):
        return [
            dataclasses.replace(r, id=f"{r.id} {shifted}", group=f"{r.group} {shifted}", shifted=shifted)
            for r in random_records(3, n=150, coupling=coupling)
        ]

    both = [*records(0.9, shifted=True), *records(0.3, shifted=False)]
    difference = results_of(both)["by_shifted"]["shifted_minus_unshifted"]["gap"]["exact_match"]
    assert 0 < difference["ci95"][0] < difference["mean"]
    equal = [*records(0.5, shifted=True), *records(0.5, shifted=False)]
    difference = results_of(equal)["by_shifted"]["shifted_minus_unshifted"]["gap"]["exact_match"]
    assert difference["mean"] == pytest.approx(0)
    assert difference["ci95"][0] < 0 < difference["ci95"][1]


def test_differences_from_a_reference_worked_by_hand():
    records = shifted_records()
    # The reference says what the arm does of shifted items, and nothing of the others; so the arm's gap of
    # the others, 1/4 - 2/4, is what it differs by.
    replaced = [r if r.shifted else dataclasses.replace(r, explanation=INVALID) for r in records]
    found = to_json(shifted_differences(records, replaced, np.random.default_rng(0)))
    assert found["shifted"] == {"mean": 0, "ci95": [0, 0]}
    assert found["unshifted"]["mean"] == -1 / 4
    assert found["shifted_minus_unshifted"]["mean"] == 1 / 4
    assert found["shifted_minus_unshifted"]["ci95"][0] <= 1 / 4 <= found["shifted_minus_unshifted"]["ci95"][1]


def test_where_all_groups_are_shifted_nothing_is_left_to_compare():
    records = [dataclasses.replace(r, shifted=True) for r in eight_records()]
    found = to_json(arm_results(records, {}, 0.0, np.random.default_rng(0)).by_shifted)
    assert found["unshifted"] is None
    assert found["shifted"]["n"] == 8
    assert found["shifted_minus_unshifted"]["gap"]["exact_match"] == {"mean": None, "ci95": None}
