"""Intervals and tests for metrics of items that are clustered in groups, seeds and bases."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy  # loads scipy.stats, which takes a second, at its first use
from jaxtyping import Float, Shaped

from introspection.coupling.seed_intervals import Statistic, seed_interval, two_way_p

# Numbers in one array of a chunk; a handful of such arrays (16 MB each) exist at a time.
CHUNK_SIZE = 2_000_000
# The fewest seeds with which a sign-flip test can reach 5%: if all signs agree, p = 2 / 2**6.
FEWEST_SEEDS = 6


def hierarchical_bootstrap(
    counts: Float[np.ndarray, "items statistics"],
    groups: Shaped[np.ndarray, " items"],
    statistic: Statistic,
    rng: np.random.Generator,
    *,
    seeds: Shaped[np.ndarray, " items"] | None = None,
    bases: Shaped[np.ndarray, " items"] | None = None,
    crossed_groups: bool = False,
    expand_for_bases: bool = True,
    resamples: int | None = None,
    confidence: float = 0.95,
) -> Float[np.ndarray, "2 outputs"]:
    """Intervals of functions of summed counts.

    One base with several seeds gets `seed_interval`'s Student intervals, which use neither `rng` nor
    resamples: a few seeds are too few to resample (95% percentile intervals of 3 seeds covered as little as
    77%, of 2 seeds 60%). Everything else gets percentile intervals (Efron, 1979), resampled level by level.

    A resample draws bases with replacement, and then the seeds and the groups of each drawn base, each as
    many as there are. Groups are crossed with seeds: all seeds of a base share one draw of groups (the
    pigeonhole bootstrap; Owen, 2007), so a group's effect that all seeds share isn't averaged away. A level
    with a single unit isn't resampled. All outputs of one call use the same resamples, so they are paired.
    Results don't depend on the order of the items.

    With several bases the percentiles are moved outwards to correct for their number (see `expanded_tail`).
    Groups are redrawn for each base, or once for all bases if every base has the same ones
    (`crossed_groups`). Bases share the effect of a common group, so neither the spread between bases nor
    independent draws per base would show that other groups give another mean. The spread between bases
    already includes the spread between seeds, and seeds are resampled as well; so few seeds make these
    intervals too wide, not too narrow.

    Args:
        counts: each item's contribution to the sums that `statistic` takes.
        groups, seeds, bases: one value per item; by default there is one seed and one base.
        statistic: maps sums (one row per resample) to outputs; NaN where an output is undefined.
        crossed_groups: whether a group's name means the same in all bases; no effect with one base.
        expand_for_bases: whether to use `expanded_tail`; no effect with one base.
        resamples: default 2,000 with one base, 10,000 with several (whose tails are farther out); no effect
            with one base and several seeds.
        confidence: of the central interval, in (0, 1).

    Returns:
        Lower and upper ends. An output is NaN if no base has two groups, because its variation can't be
        estimated, or if it is undefined in more than half of the resamples; up to half are left out. With
        one base and several seeds it is NaN if leaving out some seed or group makes it undefined.

    Raises:
        ValueError: there are no items.
    """
    if len(counts) == 0:
        raise ValueError("the bootstrap needs at least one item")
    one = np.zeros(len(counts), dtype=int)
    bases, seeds = one if bases is None else bases, one if seeds is None else seeds
    n_bases = len(np.unique(bases))
    if resamples is None:
        resamples = 2_000 if n_bases == 1 else 10_000
    if crossed_groups and n_bases > 1:
        names, group_index = np.unique(groups, return_inverse=True)
        tables = _cell_tables(counts, group_index, seeds, bases, all_groups=np.arange(len(names)))
        all_sums = _crossed_sums(tables, resamples, rng)
    else:
        tables = _cell_tables(counts, groups, seeds, bases)
        if n_bases == 1 and min(tables[0].shape[:2]) > 1:
            return seed_interval(tables[0], statistic, confidence=confidence)
        all_sums = _resampled_sums(tables, resamples, rng)
    outputs = np.concatenate([statistic(sums) for sums in all_sums])
    interval = np.full((2, outputs.shape[1]), np.nan)
    if max(table.shape[1] for table in tables) < 2:
        return interval
    tail = expanded_tail(confidence, n_bases) if expand_for_bases else (1 - confidence) / 2
    for column, values in enumerate(outputs.T):
        defined = values[~np.isnan(values)]
        if 2 * len(defined) >= len(values):
            interval[:, column] = np.quantile(defined, [tail, 1 - tail])
    return interval


def as_estimates(
    means: Float[np.ndarray, " outputs"], interval: Float[np.ndarray, "2 outputs"]
) -> list[dict[str, Any]]:
    """Each output as strict JSON: its `mean` and `ci95` [low, high], None if undefined."""
    return [
        {"mean": null(mean), "ci95": None if np.isnan(low) else [float(low), float(high)]}
        for mean, (low, high) in zip(means, interval.T, strict=True)
    ]


def null(value: Any) -> float | None:
    """A number as strict JSON: NaN becomes None."""
    return None if np.isnan(value) else float(value)


def expanded_tail(confidence: float, units: int) -> float:
    """The tail probability on each side of a percentile interval; the fewer the units, the smaller.

    The bootstrap distribution of a mean of n units is too narrow by sqrt((n - 1) / n), and its percentiles
    are normal where Student's are needed. The expanded percentile interval (Hesterberg, 2015, "What Teachers
    Should Know About the Bootstrap", The American Statistician 69) corrects both: the tail is
    Phi(-sqrt(n / (n - 1)) t), with t the critical value at n - 1 degrees of freedom. For 8 units at 95% it is
    0.0057 instead of 0.025. With fewer than 5 units the tail is beyond the range of the resamples, so the
    interval is that range, which is too short. A single unit isn't resampled, and its tail isn't expanded.
    """
    tail = (1 - confidence) / 2
    if units < 2:
        return tail
    critical = scipy.stats.t.ppf(1 - tail, units - 1)
    return float(scipy.stats.norm.cdf(-np.sqrt(units / (units - 1)) * critical))


def _cell_tables(
    counts: Float[np.ndarray, "items statistics"],
    groups: Shaped[np.ndarray, " items"],
    seeds: Shaped[np.ndarray, " items"],
    bases: Shaped[np.ndarray, " items"],
    all_groups: Shaped[np.ndarray, " all_groups"] | None = None,
) -> list[Float[np.ndarray, "_seeds _groups statistics"]]:
    """Each base's counts summed by (seed, group) cell; 0 in a cell without items.

    The columns are the base's own groups, or `all_groups` (ascending) if given.
    """
    tables = []
    for base in np.unique(bases):
        rows = np.flatnonzero(bases == base)
        seed_names, seed_index = np.unique(seeds[rows], return_inverse=True)
        if all_groups is None:
            group_names, group_index = np.unique(groups[rows], return_inverse=True)
        else:
            group_names, group_index = all_groups, np.searchsorted(all_groups, groups[rows])
        table = np.zeros((len(seed_names), len(group_names), counts.shape[1]))
        np.add.at(table, (seed_index, group_index), counts[rows])
        tables.append(table)
    return tables


def _resampled_sums(
    tables: list[Float[np.ndarray, "_seeds _groups statistics"]], resamples: int, rng: np.random.Generator
) -> Iterator[Float[np.ndarray, "chunk statistics"]]:
    """Summed counts of every resample, in chunks."""
    widest = max(max(t.shape[1], t.shape[0] * t.shape[2]) for t in tables)
    chunk = max(1, CHUNK_SIZE // widest)
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        sums = np.zeros((size, tables[0].shape[2]))
        # One slot per drawn base: a base drawn twice gets two draws of seeds and groups.
        for drawn in rng.integers(len(tables), size=(len(tables), size)):
            for base, table in enumerate(tables):
                rows = np.flatnonzero(drawn == base)
                sums[rows] += _resample_table(table, len(rows), rng)
        yield sums


def _crossed_sums(
    tables: list[Float[np.ndarray, "_seeds _groups statistics"]], resamples: int, rng: np.random.Generator
) -> Iterator[Float[np.ndarray, "chunk statistics"]]:
    """Summed counts of every resample, in chunks, with one draw of groups for all bases.

    All tables have the same groups. A base drawn twice gets two draws of its seeds.
    """
    n_bases, (_, n_groups, n_statistics) = len(tables), tables[0].shape
    chunk = max(1, CHUNK_SIZE // max(n_groups, max(table.shape[0] for table in tables) * n_statistics))
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        group_weights = _multinomial_weights(n_groups, size, rng)
        base_weights = _multinomial_weights(n_bases, size, rng)
        sums = np.zeros((size, n_statistics))
        for table, draws in zip(tables, base_weights.T.astype(int), strict=True):
            rows, n_seeds = np.flatnonzero(draws), table.shape[0]  # only resamples that drew the base
            by_group = table.transpose(1, 0, 2).reshape(n_groups, n_seeds * n_statistics)
            by_seed = (group_weights[rows] @ by_group).reshape(len(rows), n_seeds, n_statistics)
            seed_weights = np.zeros((len(rows), n_seeds))
            for draw in range(draws.max(initial=0)):
                drawn = np.flatnonzero(draws[rows] > draw)
                seed_weights[drawn] += _multinomial_weights(n_seeds, len(drawn), rng)
            sums[rows] += np.einsum("rs,rsk->rk", seed_weights, by_seed)
        yield sums


def _resample_table(
    table: Float[np.ndarray, "seeds groups statistics"], resamples: int, rng: np.random.Generator
) -> Float[np.ndarray, "resamples statistics"]:
    """One base's summed counts in every resample, with seeds and groups both redrawn."""
    n_seeds, n_groups, n_statistics = table.shape
    group_weights = _multinomial_weights(n_groups, resamples, rng)
    by_group = table.transpose(1, 0, 2).reshape(n_groups, n_seeds * n_statistics)
    by_seed = (group_weights @ by_group).reshape(resamples, n_seeds, n_statistics)
    return np.einsum("rs,rsk->rk", _multinomial_weights(n_seeds, resamples, rng), by_seed)


def _multinomial_weights(
    units: int, resamples: int, rng: np.random.Generator
) -> Float[np.ndarray, "resamples units"]:
    """How often each unit is drawn in each resample; every row sums to `units`."""
    if units == 1:
        return np.ones((resamples, 1))
    # With many units, counting drawn indices is several times as fast as Generator.multinomial.
    drawn = rng.integers(units, size=(resamples, units))
    drawn += units * np.arange(resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=resamples * units).reshape(resamples, units).astype(float)


def sign_flip_test(
    group_sums: Float[np.ndarray, " groups"], rng: np.random.Generator, *, resamples: int = 10_000
) -> float:
    """Two-sided p-value of the null that the groups' summed differences are symmetric about 0 (Fisher, 1935).

    Signs are flipped for whole groups, so items of a group may be dependent. Seeds are taken as given: the
    result holds for these seeds only (for new seeds, see `seeds_sign_flip_test`). If at most 14 groups differ
    from 0 all sign patterns are enumerated; otherwise the p-value is (1 + count) / (1 + resamples) (Phipson
    and Smyth, 2010). It is 1 if no group differs from 0.
    """
    sums = np.asarray(group_sums, dtype=float)
    sums = sums[sums != 0]
    # A pattern that differs from the observed sum only by rounding counts as equally extreme.
    threshold = abs(sums.sum()) - 1e-9 * np.abs(sums).sum()
    if len(sums) <= 14:
        patterns = (np.arange(2 ** len(sums))[:, None] >> np.arange(len(sums))) & 1
        return float(np.mean(np.abs((1 - 2 * patterns) @ sums) >= threshold))
    chunk = max(1, CHUNK_SIZE // len(sums))
    count = 0
    for start in range(0, resamples, chunk):
        flips = rng.integers(2, size=(min(chunk, resamples - start), len(sums)), dtype=np.int8)
        count += int(np.sum(np.abs(sums.sum() - 2 * (flips @ sums)) >= threshold))
    return (1 + count) / (1 + resamples)


def seeds_sign_flip_test(
    cell_sums: Float[np.ndarray, "seeds groups"], rng: np.random.Generator, *, resamples: int = 10_000
) -> tuple[float | None, str]:
    """Two-sided p-value of the null that summed differences are symmetric about 0, for new seeds and groups.

    With one seed it is `sign_flip_test` over groups, and holds for that seed only. With `FEWEST_SEEDS` or
    more it is the largest of three: `sign_flip_test` over groups (seeds as given), the same over seeds
    (groups as given), and `two_way_p`. Without the third, the first two reject up to 12% of the time if seeds
    and groups vary equally; the three together reject at most 6% at a nominal 5% in simulations
    (`benchmarks.seed_coverage`). With 2 to 5 seeds the signs can't reach 5%, so there is no p-value.

    Args:
        cell_sums: differences summed over a cell's items; 0 without items.
        rng: for random flips, if there are too many to enumerate.
        resamples: number of random flips.

    Returns:
        The p-value and "", or None and the reason.

    Raises:
        ValueError: there are no seeds.
    """
    n_seeds, n_groups = cell_sums.shape
    if n_seeds == 0:
        raise ValueError("the sign-flip test needs at least one seed")
    if 1 < n_seeds < FEWEST_SEEDS:
        return None, (
            f"no p-value: with {n_seeds} seeds a sign-flip test can't go below {2 / 2**n_seeds:g}, and a test"
            f" over groups would ignore variation between seeds; use at least {FEWEST_SEEDS} seeds, or one"
            " for a result about that seed only"
        )
    p = sign_flip_test(cell_sums.sum(0), rng, resamples=resamples)
    if n_seeds > 1 and n_groups > 1:
        over_seeds = sign_flip_test(cell_sums.sum(1), rng, resamples=resamples)
        p = max(p, over_seeds, two_way_p(cell_sums))
    return p, ""


def wilson_interval(successes: int, trials: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Score interval of a proportion (Wilson, 1927); (0, 1) without trials."""
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes in {trials} trials: give 0 to {trials}")
    if trials == 0:
        return 0.0, 1.0
    z = scipy.stats.norm.ppf((1 + confidence) / 2)
    share = successes / trials
    center = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * np.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    # With 0 or `trials` successes an end is exactly 0 or 1; rounding must not move it.
    return (
        0.0 if successes == 0 else float(center - half),
        1.0 if successes == trials else float(center + half),
    )
