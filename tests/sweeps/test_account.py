"""The account of the gap: recovered where it holds, refuted where it does not."""

import csv
import dataclasses
import re

import numpy as np
import pytest
from report_workdir import ARMS
from scipy.optimize import least_squares
from sweep_cases import FOUR, FOUR_MORE, FakeRun, check_arms_and_workdir

from configs import quickstart
from introspection.sweeps.account import (
    Account,
    account_arms,
    account_numbers,
    account_sentence,
    account_table,
    fit_account,
    held_out_sweeps,
)
from introspection.sweeps.arms import SweepArm, arms_of
from introspection.sweeps.summary import read_beside, summarize
from introspection.sweeps.sweep import run_sweep


def arm_of(drift, orig, static_gap, gap, sweep="rates", name="kl"):
    return SweepArm(
        sweep=sweep,
        part="main",
        base="llama-0",
        arm=name,
        tiny=False,
        is_reference=False,
        drift=drift,
        orig=orig,
        gap=gap,
        agreement_mean=None,
        update_norm=None,
        best_static="majority",
        static_gap=static_gap,
        gap_minus_static=None,
        gap_minus_shuffled=None,
        gap_minus_foreign=None,
    )


def simulated(share, static, sweeps=("rates", "noise", "labels"), count=12, noise=0.0, seed=0):
    """Arms whose gaps follow an account, up to noise; by hand from Self and Orig, as the module has them."""
    rng = np.random.default_rng(seed)
    arms = []
    for sweep in sweeps:
        for i in range(count):
            drift, level, still = rng.uniform(0.05, 0.5), rng.uniform(0.5, 1.0), rng.uniform(-0.1, 0.1)
            own = level * (1 - drift * (1 - share))  # Self
            orig = level * (1 - drift * share)
            gap = own - orig + static * still + noise * rng.normal()
            arms.append(arm_of(drift, orig, still, gap, sweep, f"arm{i}"))
    return arms


@pytest.mark.parametrize(("share", "static"), [(0.8, 0.5), (0.3, 0.0), (0.5, 1.0)])
def test_an_account_is_recovered_from_arms_that_follow_it(share, static):
    found = fit_account(simulated(share, static))
    assert found.share == pytest.approx(share, abs=1e-3)
    assert found.static == pytest.approx(static, abs=0.02)


def test_the_fit_is_that_of_scipy():
    arms = simulated(0.7, 0.4, noise=0.05)
    gap = np.array([arm.gap for arm in arms])
    theirs = least_squares(lambda x: Account(*x).gaps(arms) - gap, [0.5, 0.0])
    ours = fit_account(arms)
    np.testing.assert_allclose([ours.share, ours.static], theirs.x, atol=2e-3)


def test_one_arm_by_hand():
    """Orig .6, drift .25, s .8: a = .6 / (1 - .2) = .75, Self = .75 (1 - .25 · .2) = .7125."""
    arm = arm_of(0.25, 0.6, -0.04, 0.0)
    assert Account(0.8, 0.5).gaps([arm]) == pytest.approx([0.7125 - 0.6 - 0.02])


def test_sweeps_that_follow_one_account_are_predicted_from_each_other():
    arms = simulated(0.8, 0.5, noise=0.005)
    held_out = held_out_sweeps(arms)
    assert [one.sweep for one in held_out] == ["rates", "noise", "labels"]
    assert all(one.is_predicted and one.miss < 0.02 for one in held_out)
    assert account_sentence(held_out).startswith("The account predicts every sweep")
    assert len(account_table(held_out).rows) == 3
    numbers = account_numbers(arms, held_out)
    assert len(numbers) == len(arms)
    assert max(abs(row["gap"] - row["predicted"]) for row in numbers) < 0.05


def test_a_sweep_with_its_own_share_refutes_the_account():
    arms = simulated(0.9, 0.5, ("rates", "noise")) + simulated(0.1, 0.5, ("labels",), seed=1)
    held_out = held_out_sweeps(arms)
    assert not next(one for one in held_out if one.sweep == "labels").is_predicted
    assert "No simple account predicts the gap: in " in account_sentence(held_out)


def test_a_summary_holds_the_account_against_the_sweeps_beside(tmp_path, monkeypatch, console):
    """An arm with shuffled labels is none of those that it speaks of."""
    monkeypatch.setattr("introspection.sweeps.sweep.run", FakeRun())
    monkeypatch.setattr("introspection.sweeps.sweep.check_run", check_arms_and_workdir)
    for name, points in {"first": FOUR_MORE, "second": FOUR}.items():
        config = quickstart.get_config("")
        config.name, config.arms.no_kl.shuffle_labels = name, True
        run_sweep(config, points, tmp_path / name, None, console)
    summarize(config, FOUR, tmp_path / "second", console, [tmp_path / "first"])
    with (tmp_path / "second" / "account.csv").open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert {row["sweep"] for row in rows} == {"first", "second"}
    assert {row["arm"] for row in rows} == set(ARMS) - {"no_kl"}
    assert "A simple account" in (tmp_path / "second" / "summary.html").read_text(encoding="utf-8")
    assert re.search("The account predicts|No simple account predicts", console.export_text())


def test_one_sweep_or_few_arms_are_predicted_from_nothing():
    assert held_out_sweeps(simulated(0.8, 0.5, ("rates",))) == []
    assert held_out_sweeps(simulated(0.8, 0.5, count=3)) == []


@pytest.mark.parametrize(("untrained", "static"), [(-0.1, -0.1), (None, -0.3)])
def test_the_best_static_emitter_stands_in_for_an_untrained_model_that_says_nothing(
    untrained, static, tmp_path, monkeypatch, console
):
    monkeypatch.setattr("introspection.sweeps.sweep.run", FakeRun())
    monkeypatch.setattr("introspection.sweeps.sweep.check_run", check_arms_and_workdir)
    run_sweep(quickstart.get_config(""), FOUR, tmp_path, None, console)
    point = read_beside(tmp_path)[0]
    arm = point.arms[0]
    some = arm.references["majority"]
    gaps = {"initial": untrained, "majority": -0.2, "input_only": -0.3}
    references = {
        name: dataclasses.replace(some, gap=gap, usable=gap is not None) for name, gap in gaps.items()
    }
    arm = dataclasses.replace(arm, references=references, best_static="input_only")
    (found,) = account_arms(arms_of([dataclasses.replace(point, arms=(arm,))]))
    assert found.static_gap == static
    assert found.gap == arm.gap.exact_match.mean
