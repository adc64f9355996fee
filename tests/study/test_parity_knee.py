"""The knee's fit is that of `piecewise-regression` on the same simulated points."""

import json

import numpy as np
import pytest
from peers_environment import run_peer

from introspection.study.knee import KneeSettings, fit_knee

pytestmark = pytest.mark.parity


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
