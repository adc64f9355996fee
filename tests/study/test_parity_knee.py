"""The knee's fit is that of `piecewise-regression` on the same points."""

import json
from pathlib import Path

import numpy as np
import pytest
from peers_environment import run_peer

from introspection.study.knee import KneeSettings, fit_knee
from introspection.sweeps.arms import distinct, read_arms
from introspection.sweeps.figures import knee_points

pytestmark = pytest.mark.parity
FIGURES = Path(__file__).parents[2] / "experiments" / "figures"
SWEEPS = (
    "lora_rank",
    "learning_rate",
    "label_noise",
    "supervision",
    "regularization",
    "generalization",
    "concurrent",
)
PUBLISHED = tuple(FIGURES / f"{name}.csv" for name in SWEEPS)


def simulated(seed):
    """Agreements and gaps of eight bases and nine arms, bent at .65, with noise."""
    rng = np.random.default_rng(seed)
    x = np.tile(np.linspace(0.3, 0.95, 9), 8) + rng.normal(0, 0.01, 72)
    y = -0.05 + 0.1 * x + 0.6 * np.maximum(x - 0.65, 0) + rng.normal(0, 0.01, 72)
    return x, y


def test_the_knot_and_the_slopes_are_the_packages(tmp_path):
    points = [[values.tolist() for values in simulated(seed)] for seed in range(5)]
    (tmp_path / "points.json").write_text(json.dumps(points))
    fits = json.loads((run_peer("knee.py", tmp_path) / "fits.json").read_text(encoding="utf-8"))
    bases, arms = [f"b{i // 9}" for i in range(72)], [f"a{i % 9}" for i in range(72)]
    settings = KneeSettings(grid=2001, resamples=10, flips=16)  # as fine as the package's continuous knot
    for (x, y), peer in zip(points, fits, strict=True):
        own = fit_knee(x, y, bases, arms, np.random.default_rng(0), settings)
        assert own.knot == pytest.approx(peer["breakpoint1"], abs=1e-3)
        assert own.intercept == pytest.approx(peer["const"], abs=1e-3)
        assert own.slope == pytest.approx(peer["alpha1"], abs=2e-3)
        assert own.slope_change == pytest.approx(peer["beta1"], abs=1e-2)
        assert abs(own.knot - 0.65) < 0.05


def test_on_the_published_sweeps_the_package_finds_no_better_fit(tmp_path):
    """No knee is identified there: the package's iteration stops at one bend of several."""
    arms = distinct(arm for path in PUBLISHED for arm in read_arms(path))
    points = knee_points(arms, "static")
    x, y = ([point[name] for point in points] for name in ("agreement", "gap"))
    (tmp_path / "points.json").write_text(json.dumps([[x, y]]))
    (peer,) = json.loads((run_peer("knee.py", tmp_path) / "fits.json").read_text(encoding="utf-8"))
    settings = KneeSettings(grid=2001, points_beyond=1, resamples=10, flips=16)
    bases, names = ([point[name] for point in points] for name in ("base", "arm"))
    own = fit_knee(x, y, bases, names, np.random.default_rng(0), settings)
    assert not own.identified
    assert np.sum((np.array(y) - own.at(np.array(x))) ** 2) <= peer["rss"] * (1 + 1e-4)
