"""Intervals of functions of summed counts on items that come in groups, each of which several seeds answered.

Few seeds can't be bootstrapped: resampling three of them shows a third too little variance and none of the
doubt about it. So the variance is split by what it comes from, and a Student quantile accounts for how little
a few seeds tell.
"""

from collections.abc import Callable

import numpy as np
import scipy  # loads scipy.stats, which takes a second, at its first use
from jaxtyping import Float

Statistic = Callable[[Float[np.ndarray, "resamples statistics"]], Float[np.ndarray, "resamples outputs"]]


def seed_interval(
    table: Float[np.ndarray, "seeds groups statistics"], statistic: Statistic, *, confidence: float = 0.95
) -> Float[np.ndarray, "2 outputs"]:
    """Student intervals of functions of summed counts over seeds crossed with groups, both drawn at random.

    The variance is that of `two_way_variances`, its degrees of freedom are Satterthwaite's (1946). These are
    too many whenever the seeds happen to agree (95% intervals of 3 seeds then cover as little as 92%, those
    of 2 seeds 87%), so no interval is shorter than the one that takes the groups as given and Student's
    quantile for the seeds. With both, 95% intervals of 2 seeds or more cover 94% to 99%, whatever the seeds'
    share of the variance (`benchmarks.seed_coverage`). Those of 2 seeds are wide: the quantile is 12.7.

    Args:
        table: the sums of the counts of each cell; 0 without items.
        statistic: from sums (one row a sum) to outputs; NaN where an output is undefined.
        confidence: of the central interval, in (0, 1).

    Returns:
        Lower and upper ends, as far below as above the output of all cells, in its unit; not clipped to
        what is possible, and equal where nothing varies. An output is NaN where it is undefined, or is so
        without some one seed or group: then all of it rests on that one, and nothing tells how it varies.

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
    """The outputs of all cells, and the two parts of their variance: between seeds, and between groups.

    Each part is a jackknife's (Tukey, 1958), leaving out one seed, or one group, at a time. The variance is
    the parts' sum, as with standard errors clustered in two crossed ways (Cameron, Gelbach and Miller, 2011).
    What is peculiar to a (seed, group) cell is in both parts and so counted twice, which is left so: the
    sum can't be negative, and without a difference between seeds intervals are only somewhat too wide.

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
    """Half the length of `seed_interval`'s, from the two parts of the variance; 0 where both are 0."""
    upper = (1 + confidence) / 2
    degrees = _satterthwaite(of_seeds, of_groups, n_seeds, n_groups)
    by_both = scipy.stats.t.ppf(upper, degrees) * np.sqrt(of_seeds + of_groups)
    by_seeds = scipy.stats.t.ppf(upper, n_seeds - 1) * np.sqrt(of_seeds)
    return np.maximum(by_both, by_seeds)


def two_way_p(cell_sums: Float[np.ndarray, "seeds groups"]) -> float:
    """Two-sided p-value of Student's test that the cells' sum is 0 but for seeds and groups drawn at random.

    By `two_way_variances` and Satterthwaite's degrees of freedom; 1 where all cells are 0.

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
    # Only the seeds' share counts, and squares of tiny variances would be 0.
    share = np.divide(of_seeds, both, out=np.zeros_like(both), where=both > 0)
    return 1 / (share**2 / (n_seeds - 1) + (1 - share) ** 2 / (n_groups - 1))


def _jackknife_variance(
    parts: Float[np.ndarray, "units statistics"],
    statistic: Statistic,
    estimate: Float[np.ndarray, " outputs"],
) -> Float[np.ndarray, " outputs"]:
    """An estimate's variance between units, whose sums are the parts; NaN if it is undefined without one.

    Deviations are from the estimate of all, from which they are never smaller than from their mean.
    """
    n_units = len(parts)
    # Scaled up to as many units as there are: a statistic may divide by a number of items that it knows.
    left = (parts.sum(0) - parts) * n_units / (n_units - 1)
    return (n_units - 1) / n_units * np.sum((statistic(left) - estimate) ** 2, axis=0)
