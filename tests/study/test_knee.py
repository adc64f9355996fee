"""The knee: fits worked by hand and by numpy, and simulations with and without one."""

import dataclasses
import json

import numpy as np
import pytest

from introspection.errors import InputError
from introspection.study import knee
from introspection.study.knee import KneeSettings, fit_knee

QUICK = KneeSettings(resamples=500)


def rng(seed=0):
    return np.random.default_rng(seed)


def points(change, *, noise=0.01, of_base=0.04, of_arm=0.0, slope=0.2, bases=8, arms=7, seed=0):
    """A gap that bends at an agreement of 0.7, with deviations of bases, arms and points."""
    r = rng(seed)
    x = np.linspace(0.5, 0.92, arms) + r.normal(0, 0.02, (bases, arms))
    y = slope * x + change * np.maximum(x - 0.7, 0) + noise * r.normal(size=x.shape)
    y = y + of_base * r.normal(size=(bases, 1)) + of_arm * r.normal(size=(1, arms))
    names = [f"base {i}" for i in range(bases) for _ in range(arms)]
    return (
        x.ravel().tolist(),
        y.ravel().tolist(),
        names,
        [f"arm {i}" for _ in range(bases) for i in range(arms)],
    )


def test_a_hinge_without_noise_is_found():
    x = np.linspace(0, 1, 21)
    y = 0.1 + 0.2 * x + 3.0 * np.maximum(x - 0.5, 0)
    names = [f"{i % 3}" for i in range(21)]
    fit = fit_knee(x.tolist(), y.tolist(), names, names, rng(), KneeSettings(points_beyond=3, grid=81))
    assert fit.searched == pytest.approx((0.1, 0.9))
    assert fit.knot == pytest.approx(0.5)
    assert (fit.intercept, fit.slope, fit.slope_change) == pytest.approx((0.1, 0.2, 3.0))
    assert fit.residual_ratio == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(fit.at(x), y, atol=1e-9)
    assert fit.line == pytest.approx(np.polyfit(x, y, 1)[::-1])


def test_five_points_worked_by_hand():
    # y is 0 0 0 1 2: flat, then a slope of 1 from x = 2 on, so the best knot is 2.
    x, y = [0.0, 1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 0.0, 1.0, 2.0]
    settings = KneeSettings(points_beyond=2, grid=3)  # knots 1, 2, 3
    fit = fit_knee(x, y, ["a"] * 5, ["b"] * 5, rng(), settings)
    assert (fit.searched, fit.knot) == ((1.0, 3.0), 2.0)
    assert (fit.intercept, fit.slope, fit.slope_change) == pytest.approx((0, 0, 1))
    # The line: slope 0.5, intercept -0.4; residuals 0.4 -0.1 -0.6 -0.1 0.4, squares 0.7.
    assert fit.line == pytest.approx((-0.4, 0.5))
    assert fit.residual_ratio == pytest.approx(0, abs=1e-12)
    assert fit.slope_change_ci95 is None
    assert not fit.identified
    assert "one base" in fit.reason


def test_weighted_fits_equal_numpys_least_squares():
    x, y, *_ = map(np.array, points(0.5))
    weights = rng(1).integers(0, 4, (3, len(x))).astype(float)
    knots = np.linspace(0.55, 0.85, 7)
    fits = knee._fit(x, y[None], weights, knots)
    for row in range(3):
        found = []
        for knot in knots:
            design = np.column_stack([np.ones(len(x)), x, np.maximum(x - knot, 0)])
            root = np.sqrt(weights[row])
            solution = np.linalg.lstsq(design * root[:, None], y * root, rcond=None)[0]
            found.append((np.sum(weights[row] * (y - design @ solution) ** 2), knot, solution))
        residual, knot, solution = min(found, key=lambda entry: entry[0])
        assert fits.knot[row] == knot
        assert (fits.intercept[row], fits.slope[row], fits.slope_change[row]) == pytest.approx(solution)
        assert fits.line_residual[row] - fits.gain[row] == pytest.approx(residual)


def test_the_order_of_points_does_not_matter():
    columns = points(0.5)
    order = rng(3).permutation(len(columns[0]))
    shuffled = [[column[i] for i in order] for column in columns]
    assert fit_knee(*columns, rng(1), QUICK) == fit_knee(*shuffled, rng(1), QUICK)


def test_a_clear_knee_is_identified():
    fit = fit_knee(*points(1.5), rng(), QUICK)
    assert fit.identified
    assert fit.reason == ""
    assert fit.knot_ci95[0] <= 0.7 <= fit.knot_ci95[1]
    assert fit.slope_change_ci95[0] > 0
    assert fit.line_p == max(fit.line_p_bases, fit.line_p_arms)
    assert fit.line_p_bases == 1 / 2**7  # no other of the 128 patterns of signs bends as much
    assert fit.line_p_arms == 1 / 2**6


def test_a_straight_line_is_seldom_said_to_bend():
    fits = [fit_knee(*points(0.0, seed=seed), rng(seed), QUICK) for seed in range(60)]
    assert np.mean([fit.line_p_bases < 0.05 for fit in fits]) < 0.15
    assert np.mean([fit.identified for fit in fits]) < 0.1
    assert np.mean([fit.slope_change_ci95[0] <= 0 <= fit.slope_change_ci95[1] for fit in fits]) > 0.85


def test_arms_that_differ_for_other_reasons_are_not_a_knee():
    # Intervals over bases alone would see a bend in many: each arm stands off the line in every base.
    fits = [fit_knee(*points(0.0, of_arm=0.04, seed=seed), rng(seed), QUICK) for seed in range(60)]
    over_bases = [not fit.slope_change_ci95[0] <= 0 <= fit.slope_change_ci95[1] for fit in fits]
    assert np.mean(over_bases) > 0.3
    assert np.mean([fit.identified for fit in fits]) < 0.15


def test_three_bases_cannot_tell_a_bend_from_a_line():
    few = [
        values for values in zip(*points(1.5), strict=True) if values[2] in sorted(set(points(1.5)[2]))[:3]
    ]
    fit = fit_knee(*map(list, zip(*few, strict=True)), rng(), QUICK)
    assert fit.line_p == 0.25  # the least that there is
    assert fit.reason == "3 bases are too few to reject a straight line: p can't be below 0.25"


def test_a_wide_knot_is_not_identified():
    fit = fit_knee(*points(1.5), rng(), KneeSettings(resamples=500, widest=0.0))
    assert not fit.identified
    assert "knot's interval covers" in fit.reason


def test_a_bend_that_one_arm_makes_is_not_identified():
    fit = dataclasses.replace(fit_knee(*points(1.5), rng(), QUICK), slope_change_without_one_arm=(-0.1, 2.0))
    assert "if one arm is left out" in knee._doubt(fit, QUICK)
    found = fit_knee(*points(1.5), rng(), QUICK).slope_change_without_one_arm
    x, y, bases, arms = points(1.5)
    kept = [[values[i] for i in range(len(x)) if arms[i] != "arm 6"] for values in (x, y, bases, arms)]
    # The grid of knots is that of all arms, so the two differ a little.
    alone = fit_knee(*kept, rng(), QUICK).slope_change
    assert found[0] - 0.2 <= alone <= found[1] + 0.2


def test_points_without_spread_allow_no_knot():
    names = [f"{i % 3}" for i in range(12)]
    fit = fit_knee([0.8] * 12, np.linspace(0, 1, 12).tolist(), names, names, rng())
    assert (fit.knot, fit.searched, fit.identified) == (None, None, False)
    assert "too few different agreements" in fit.reason
    assert fit_knee([], [], [], [], rng()).reason == fit.reason


def test_a_gap_that_is_constant_has_no_knee():
    x, _, bases, arms = points(0.0)
    fit = fit_knee(x, [0.0] * len(x), bases, arms, rng(), QUICK)
    assert not fit.identified
    assert fit.line_p == 1.0


def test_bad_points_are_refused():
    with pytest.raises(InputError, match="differ"):
        fit_knee([0.5], [0.1, 0.2], ["a"], ["b"], rng())
    with pytest.raises(InputError, match="finite"):
        fit_knee([float("nan")], [0.1], ["a"], ["b"], rng())


@pytest.mark.filterwarnings("error")
def test_two_arms_far_apart_bend_nowhere():
    places = [(base, arm) for base in "abcd" for arm in ("kl", "no_kl")]
    agreement = [{"kl": 0.93, "no_kl": 0.4}[arm] + 0.001 * ord(base) for base, arm in places]
    gap = [0.01 * index for index in range(len(places))]
    bases, arms = zip(*places, strict=True)
    fit = fit_knee(agreement, gap, bases, arms, rng(), QUICK)
    json.dumps(dataclasses.asdict(fit), allow_nan=False)
    assert not fit.identified
    assert fit.reason == "without one of its arms there is no bend"
