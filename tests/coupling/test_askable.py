"""Whether labels taught: the main arm, and each criterion on records worked by hand."""

import dataclasses
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
from results_records import E, record

from introspection.coupling.askable import (
    NO_SHUFFLED_ARM,
    AskableThresholds,
    accuracy_difference,
    arm_criteria,
    criteria_of,
    is_askable,
    main_arm,
    run_askable,
    shuffled_arm,
)
from introspection.coupling.estimates import Estimate
from introspection.coupling.references import reference_entry
from introspection.coupling.results import paired_results
from introspection.runtime.json_values import to_json
from introspection.tasks.items import INVALID

PLAIN = {"kl_weight": 1.0, "shuffle_labels": False, "label_noise": 0.0, "labels": "", "foreign_to": ""}


def arm(kind="none", **fields):
    return SimpleNamespace(**PLAIN | fields, shift=SimpleNamespace(kind=kind))


@pytest.mark.parametrize(
    "broken",
    [
        arm(kl_weight=0.0),
        arm(shuffle_labels=True),
        arm(label_noise=0.1),
        arm(foreign_to="kl"),
        arm(foreign_labels=0.5),
        arm(labels="labels/clean"),
        arm(refresh_labels=True),
        arm(refresh_steps=10),
        arm(kind="new_facts"),
    ],
)
def test_the_main_arm_is_the_first_that_breaks_nothing(broken):
    assert main_arm({"broken": broken, "kl": arm(refresh_steps=0, foreign_labels=0.0), "kl2": arm()}) == "kl"
    assert main_arm({"broken": broken}) is None


def test_the_shuffled_arm_is_otherwise_plain():
    shuffled = arm(shuffle_labels=True)
    broken = {"a": arm(shuffle_labels=True, label_noise=0.1), "b": arm(shuffle_labels=True, foreign_to="c")}
    broken |= {"c": arm(), "d": arm("new_facts", shuffle_labels=True)}
    assert shuffled_arm({**broken, "e": shuffled, "f": shuffled}) == "e"
    assert shuffled_arm(broken) is None


def test_an_emitter_without_an_orig_counts_as_not_scored():
    """In a run and, pooled over bases, in a study."""
    orig = {
        "shuffled": (None, Estimate()),
        "majority": (None, Estimate()),
        "input_only": (0.2, Estimate(0.5)),
    }
    found = criteria_of(orig, Estimate(0.0), AskableThresholds())
    assert found["orig_above_shuffled"].note == NO_SHUFFLED_ARM
    assert found["orig_above_blind"].against == "input_only"


def test_an_arm_is_held_against_shuffled_labels_of_its_own_recipe_where_they_ran():
    arms = {"kl": arm(), "noisy": arm(label_noise=0.3), "no_kl": arm(kl_weight=0.0), "fast": arm(rate=2.0)}
    arms |= {"shuffled": arm(shuffle_labels=True), "moved": arm("new_facts")}
    arms |= {"shuffled_no_kl": arm(kl_weight=0.0, shuffle_labels=True)}
    found = {name: shuffled_arm(arms, name) for name in ("kl", "noisy", "no_kl", "fast", "moved")}
    assert found == dict.fromkeys(found, "shuffled") | {"no_kl": "shuffled_no_kl"}


STAYS = ("Oslo", "Oslo")
RIGHT, WRONG = E(False, "Oslo"), E(True, "Bern")


def taught(shares, *, wrong=0, gold="Oslo"):
    """An arm of 20 items a seed that is right on a share, and its references; `wrong` items are forgotten."""
    own = [
        dataclasses.replace(
            record(number, STAYS, ("Bern", "Bern") if number < wrong else STAYS, INVALID, seed=seed),
            gold=gold,
        )
        for seed in (0, 1)
        for number in range(20)
    ]

    def saying(share):
        return [dataclasses.replace(r, explanation=RIGHT if int(r.id) < 20 * share else WRONG) for r in own]

    emitters = {name: saying(share) for name, share in shares.items()}
    arm_records = emitters.pop("arm")
    references = {
        name: reference_entry(paired_results(arm_records, said, np.random.default_rng(0)), said)
        for name, said in emitters.items()
    }
    return arm_criteria(arm_records, references, np.random.default_rng(0))


LEVELS = {"arm": 0.9, "shuffled": 0.5, "majority": 0.4, "input_only": 0.6, "initial": 0.9, "foreign": 0.95}


def test_criteria_worked_by_hand():
    criteria = taught(LEVELS, wrong=1)
    json.dumps(to_json(criteria), allow_nan=False)
    shuffled, blind, kept = (
        criteria[name] for name in ("orig_above_shuffled", "orig_above_blind", "behavior_kept")
    )
    assert (shuffled.against, shuffled.threshold, shuffled.met) == ("shuffled", 0.1, True)
    assert shuffled.mean == pytest.approx(0.4)
    assert 0 < shuffled.ci95[0] < 0.4 < shuffled.ci95[1]
    assert (blind.against, blind.met) == ("input_only", True)  # not the static one with more
    assert blind.mean == pytest.approx(0.3)
    assert (kept.mean, kept.met) == (-1 / 20, True)  # 5 points are allowed
    assert kept.ci95[0] < -1 / 20 < kept.ci95[1]
    found = run_askable("kl", {"kl": criteria})
    assert found.askable is True
    assert (found.arm, found.criteria) == ("kl", criteria)
    assert found.words.startswith("askable: labels teach (kl: Orig +40.0 points [")
    assert re.search(r"right without the cue -5\.0 points \[-\S+, \+\S+\] against the base", found.words)


@pytest.mark.parametrize(
    ("changed", "wrong", "failed", "said"),
    [
        ({"shuffled": 0.85}, 0, "orig_above_shuffled", "Orig +5.0 points"),
        ({"input_only": 0.85}, 0, "orig_above_blind", "above input_only, needs at least +10"),
        ({"majority": 0.95}, 0, "orig_above_blind", "above majority"),
        ({}, 2, "behavior_kept", "right without the cue -10.0 points"),
    ],
)
def test_what_is_missed_is_named(changed, wrong, failed, said):
    criteria = taught(LEVELS | changed, wrong=wrong)
    assert [name for name, entry in criteria.items() if not entry.met] == [failed]
    found = run_askable("kl", {"kl": criteria})
    assert found.askable is False
    assert found.words.startswith("not askable: labels did not teach (kl: ")
    assert said in found.words


def test_ten_points_with_an_interval_that_reaches_0_leave_it_open():
    criteria = taught(LEVELS | {"shuffled": 0.8})
    assert criteria["orig_above_shuffled"].mean == pytest.approx(0.1)
    assert criteria["orig_above_shuffled"].ci95[0] <= 0
    assert criteria["orig_above_shuffled"].met is None
    found = run_askable("kl", {"kl": criteria})
    assert found.askable is None
    assert re.fullmatch(
        r"askable: not known: Orig \+10\.0 points \[\S+, \+\S+\] above shuffled, an interval that holds 0: "
        "more seeds or facts would tell",
        found.words,
    )


def test_what_is_not_known_is_said():
    criteria = taught({name: level for name, level in LEVELS.items() if name != "shuffled"})
    found = run_askable("kl", {"kl": criteria})
    assert found.askable is None
    assert found.words == "askable: not known: no arm with shuffled labels ran"
    missed = taught({"arm": 0.9, "majority": 0.9})
    assert is_askable(missed) is False  # whatever a shuffled arm would say
    nobody = run_askable(None, {})
    assert (nobody.arm, nobody.askable) == (None, None)
    assert nobody.words.startswith("askable: not known")


def test_accuracy_is_left_out_where_no_answer_is_known_to_be_right():
    criteria = taught(LEVELS, gold="")
    kept = criteria["behavior_kept"]
    assert (kept.mean, kept.ci95, kept.met) == (None, None, None)
    found = run_askable("kl", {"kl": criteria})
    assert found.askable is True
    assert "accuracy skipped: no right answers are known" in found.words


def test_accuracy_is_held_against_the_initial_models():
    records = [
        record(n, STAYS, STAYS, RIGHT, initial=("Oslo", "Rome" if n < 3 else "Oslo")) for n in range(4)
    ]
    found = accuracy_difference(
        [*records, dataclasses.replace(records[0], id="9", gold="")], np.random.default_rng(0)
    )
    assert found.mean == 3 / 4
