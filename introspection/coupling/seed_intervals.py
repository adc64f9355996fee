"""Intervals of functions of summed counts when several seeds answered the same groups of items.

A few seeds can't be bootstrapped: resampling three of them understates the variance by a third and ignores
the uncertainty of that estimate. So the variance is split into components for seeds and for groups, and
Student's quantile accounts for the few degrees of freedom.
"""

from collections.abc import Callable

import numpy as np
import scipy  # loads scipy.stats, which takes a second, at its first use
from jaxtyping import Float

Statistic = Callable[[Float[np.ndarray, "resamples statistics"]], Float[np.ndarray, "resamples outputs"]]


def seed_interval(
    table: Float[np.ndarray, "seeds groups statistics"], statistic: Statistic, *, confidence: float = 0.95
) -> Float[np.ndarray, "2 outputs"]:
    """Student intervals of functions of summed counts, with seeds and groups as crossed random factors.

    The variance is from `two_way_variances`, with Satterthwaite's (1946) degrees of freedom. These are too
    many if the seeds happen to agree (95% intervals of 3 seeds then cover as little as 92%, of 2 seeds 87%),
    so an interval is never shorter than the one from the seeds' variance with n_seeds - 1 degrees of freedom.
    Together, 95% intervals of 2 or more seeds cover 94% to 99%, for any share of variance between seeds
    (`benchmarks.seed_coverage`). With 2 seeds they are wide: the quantile is 12.7.

    Args:
        table: summed counts of each cell; 0 without items.
        statistic: maps sums (one row per sum) to outputs; NaN where an output is undefined.
        confidence: of the central interval, in (0, 1).

    Returns:
        Lower and upper ends, symmetric about the output of all cells and in its unit. They are not clipped
        to possible values, and coincide if nothing varies. NaN if the output is undefined, or becomes
        undefined when some seed or group is left out, since its variation can't be estimated then.

    Raises:
        ValueError: there are fewer than two seeds or two groups.
    """
    estimate, of_seeds, of_groups = two_way_variances(table, statistic)
    n_seeds, n_groups, _ = table.shape
    half = half_width(of_seeds, of_groups, n_seeds, n_groups, confidence=confidence)
    return np.stack([estimate - half, estimate + half])


def two_way_variances(
    table: Float[np.ndarray, "seeds groups statistics"], statistic: Statistic
) -> tuple[
    Float[np.ndarray, " outputs"],
    Float[np.ndarray, " outputs"],
    Float[np.ndarray, " outputs"],
]:
    """The outputs of all cells, and two components of their variance: between seeds and between groups.

    Each component is a jackknife variance (Tukey, 1958) that leaves out one seed, or one group, at a time.
    The total variance is their sum, as for two-way clustered standard errors (Cameron, Gelbach and Miller,
    2011). Variation of single (seed, group) cells is counted in both. We do not subtract it: this way the
    sum can't be negative, and if seeds don't differ the intervals are only somewhat too wide.

    Raises:
        ValueError: there are fewer than two seeds or two groups.
    """
    n_seeds, n_groups, _ = table.shape
    if min(n_seeds, n_groups) < 2:
        raise ValueError(f"two-way variances need two seeds and two groups, not {n_seeds} and {n_groups}")
    estimate = statistic(table.sum((0, 1))[None])[0]
    of_seeds, of_groups = (
        _jackknife_variance(parts, statistic, estimate) for parts in (table.sum(1), table.sum(0))
    )
    return estimate, of_seeds, of_groups


def half_width(
    of_seeds: Float[np.ndarray, " outputs"],
    of_groups: Float[np.ndarray, " outputs"],
    n_seeds: int,
    n_groups: int,
    *,
    confidence: float = 0.95,
) -> Float[np.ndarray, " outputs"]:
    """Half the length of `seed_interval`'s interval, from the variance components; 0 if both are 0."""
    upper = (1 + confidence) / 2
    degrees = _satterthwaite(of_seeds, of_groups, n_seeds, n_groups)
    by_both = scipy.stats.t.ppf(upper, degrees) * np.sqrt(of_seeds + of_groups)
    by_seeds = scipy.stats.t.ppf(upper, n_seeds - 1) * np.sqrt(of_seeds)
    return np.maximum(by_both, by_seeds)


def two_way_p(cell_sums: Float[np.ndarray, "seeds groups"]) -> float:
    """Two-sided p-value of Student's test that the expected sum of cells is 0, for random seeds and groups.

    Uses `two_way_variances` and Satterthwaite's degrees of freedom; 1 if the sum is 0.

    Raises:
        ValueError: there are fewer than two seeds or two groups.
    """
    total, of_seeds, of_groups = two_way_variances(cell_sums[..., None], lambda sums: sums)
    if total[0] == 0:
        return 1.0
    deviation = np.sqrt(of_seeds + of_groups)[0]
    n_seeds, n_groups = cell_sums.shape
    degrees = _satterthwaite(of_seeds, of_groups, n_seeds, n_groups)[0]
    return float(2 * scipy.stats.t.sf(abs(total[0]) / deviation, degrees)) if deviation > 0 else 0.0


def _satterthwaite(
    of_seeds: Float[np.ndarray, " outputs"],
    of_groups: Float[np.ndarray, " outputs"],
    n_seeds: int,
    n_groups: int,
) -> Float[np.ndarray, " outputs"]:
    """Degrees of freedom of the sum of two estimated variances."""
    both = of_seeds + of_groups
    # Computed from the seeds' share: squares of tiny variances would underflow to 0.
    share = np.divide(of_seeds, both, out=np.zeros_like(both), where=both > 0)
    return 1 / (share**2 / (n_seeds - 1) + (1 - share) ** 2 / (n_groups - 1))


def _jackknife_variance(
    parts: Float[np.ndarray, "units statistics"],
    statistic: Statistic,
    estimate: Float[np.ndarray, " outputs"],
) -> Float[np.ndarray, " outputs"]:
    """Jackknife variance of an estimate over units; NaN if leaving one out makes the estimate undefined.

    Deviations are from the full estimate, which never gives less variance than deviations from their mean.
    """
    n_units = len(parts)
    # Scaled back up to n_units units, since a statistic may divide by a fixed number of items.
    left = (parts.sum(0) - parts) * n_units / (n_units - 1)
    return (n_units - 1) / n_units * np.sum((statistic(left) - estimate) ** 2, axis=0)
