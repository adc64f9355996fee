"""Intervals and tests for what is measured on items that come in groups, seeds and bases."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy  # loads scipy.stats, which takes a second, at its first use
from jaxtyping import Float, Shaped

from introspection.coupling.seed_intervals import Statistic, seed_interval, two_way_p

# Numbers held at once in one array of a chunk; a handful of such arrays (16 MB each) exist at a time.
CHUNK_SIZE = 2_000_000
# The fewest seeds of which a sign-flip test can reach 5%: all of one sign have p = 2 / 2**6.
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
    """Intervals of functions of summed counts: of one base with several seeds `seed_interval`'s, otherwise
    percentile intervals (Efron, 1979), resampled level by level.

    A few seeds are too few to resample: 95% intervals of 3 covered as little as 77%, of 2 60%. One base's
    intervals over seeds and groups are therefore Student's, and take neither `rng` nor resamples.

    A resample draws, with replacement, as many bases as there are; for each one drawn, as many of its seeds
    and as many of its groups as it has. Groups are crossed with seeds: one draw of groups serves all seeds of
    a base (the pigeonhole bootstrap; Owen, 2007), so what is common to a group in all seeds isn't averaged
    away. A level with one unit is left as it is. Outputs of one call are paired: they come from the same
    resamples. Results don't depend on the order of the items.

    With several bases the percentiles are moved outwards for their number (see `expanded_tail`). Groups are
    redrawn for each base, or once for all of them if they are the same in every base (`crossed_groups`):
    the bases agree on what is peculiar to a common group, so neither their spread nor draws that differ from
    base to base show that another set of groups would have given another mean. The bases' spread holds that
    of their seeds already, which are drawn once more; so few seeds make these intervals wide, not narrow.

    Args:
        counts: what each item adds to the sums that `statistic` takes.
        groups, seeds, bases: of each item; without seeds or bases there is one.
        statistic: from sums (one row a resample) to outputs; NaN where an output is undefined.
        crossed_groups: whether a group's name means the same in all bases; without effect on one base.
        expand_for_bases: whether to expand; without effect on one base.
        resamples: how many; if not given 2,000 with one base and, for the farther tail, 10,000 with more.
            Without effect on one base with several seeds.
        confidence: of the central interval, in (0, 1).

    Returns:
        Lower and upper ends. An output is NaN where no base has two groups, since nothing tells how it would
        vary, or where it is undefined in more than half of the resamples; fewer are left out. Of one base
        with several seeds it is NaN where it is undefined without some one seed or group.

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
    """Each output as strict JSON: its `mean` and its `ci95` [low, high], None where undefined."""
    return [
        {"mean": null(mean), "ci95": None if np.isnan(low) else [float(low), float(high)]}
        for mean, (low, high) in zip(means, interval.T, strict=True)
    ]


def null(value: Any) -> float | None:
    """A number for strict JSON: NaN is None."""
    return None if np.isnan(value) else float(value)


def expanded_tail(confidence: float, units: int) -> float:
    """The share that a percentile interval leaves on each side, smaller the fewer units are resampled.

    A mean's bootstrap distribution is too narrow by sqrt((n - 1) / n), and its percentiles are a normal
    distribution's where Student's belong. Hesterberg (2015, "What Teachers Should Know About the Bootstrap",
    The American Statistician 69, expanded percentile interval) corrects both:
    Phi(-sqrt(n / (n - 1)) t), with t the n - 1 degrees' critical value. For 8 units and 95% it is 0.0057 in
    place of 0.025. With fewer than 5 units it reaches beyond the resamples' range, which is then the
    interval, and too short. One unit is left as it is: it isn't resampled.
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
    """Summed counts of each base's (seed, group) cells, a cell without items being 0.

    A base's table holds its own groups, or `all_groups` (ascending).
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
    """Sums of counts of every resample, in chunks."""
    widest = max(max(t.shape[1], t.shape[0] * t.shape[2]) for t in tables)
    chunk = max(1, CHUNK_SIZE // widest)
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        sums = np.zeros((size, tables[0].shape[2]))
        # One slot for each base drawn: a base drawn twice gets two draws of seeds and groups.
        for drawn in rng.integers(len(tables), size=(len(tables), size)):
            for base, table in enumerate(tables):
                rows = np.flatnonzero(drawn == base)
                sums[rows] += _resample_table(table, len(rows), rng)
        yield sums


def _crossed_sums(
    tables: list[Float[np.ndarray, "_seeds _groups statistics"]], resamples: int, rng: np.random.Generator
) -> Iterator[Float[np.ndarray, "chunk statistics"]]:
    """Sums of counts of every resample, in chunks, where one draw of groups serves all bases.

    The tables hold the same groups. A base drawn twice gets two draws of its seeds.
    """
    n_bases, (_, n_groups, n_statistics) = len(tables), tables[0].shape
    chunk = max(1, CHUNK_SIZE // max(n_groups, max(table.shape[0] for table in tables) * n_statistics))
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        group_weights = _multinomial_weights(n_groups, size, rng)
        base_weights = _multinomial_weights(n_bases, size, rng)
        sums = np.zeros((size, n_statistics))
        for table, draws in zip(tables, base_weights.T.astype(int), strict=True):
            rows, n_seeds = np.flatnonzero(draws), table.shape[0]  # only resamples that hold the base
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
    """Sums over one base's cells, seeds and groups both redrawn, in every resample."""
    n_seeds, n_groups, n_statistics = table.shape
    group_weights = _multinomial_weights(n_groups, resamples, rng)
    by_group = table.transpose(1, 0, 2).reshape(n_groups, n_seeds * n_statistics)
    by_seed = (group_weights @ by_group).reshape(resamples, n_seeds, n_statistics)
    return np.einsum("rs,rsk->rk", _multinomial_weights(n_seeds, resamples, rng), by_seed)


def _multinomial_weights(
    units: int, resamples: int, rng: np.random.Generator
) -> Float[np.ndarray, "resamples units"]:
    """How often each unit is drawn in every resample of as many units; each row sums to `units`."""
    if units == 1:
        return np.ones((resamples, 1))
    # Counting drawn indices is several times as fast as Generator.multinomial with many units.
    drawn = rng.integers(units, size=(resamples, units))
    drawn += units * np.arange(resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=resamples * units).reshape(resamples, units).astype(float)


def sign_flip_test(
    group_sums: Float[np.ndarray, " groups"], rng: np.random.Generator, *, resamples: int = 10_000
) -> float:
    """Two-sided p-value of the groups' summed differences against symmetry about 0 (Fisher, 1935).

    Signs are flipped by whole groups, so items of a group may depend on each other in any way, but seeds are
    taken as they are: the test speaks of these seeds (of any: `seeds_sign_flip_test`). All sign patterns are
    enumerated where at most 14 groups differ from 0; otherwise the p-value is (1 + count) / (1 + resamples)
    (Phipson and Smyth, 2010). It is 1 where no group differs from 0.
    """
    sums = np.asarray(group_sums, dtype=float)
    sums = sums[sums != 0]
    # A pattern that only rounding keeps from the observed sum is as extreme as it.
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
    """Two-sided p-value of summed differences against symmetry about 0 for new seeds and groups, if any.

    Of one seed it is `sign_flip_test`'s over groups, and speaks of that seed alone. Of `FEWEST_SEEDS` or more
    it is the largest of three: that over groups (which takes the seeds as given), the same over the seeds'
    sums (which takes the groups as given), and `two_way_p`, without which both others would reject up to 12%
    of the time where seeds and groups differ as much. All three reject at most 6% for 5% in simulations
    (`benchmarks.seed_coverage`). Between, signs of so few seeds can't reach 5% and there is no p-value.

    Args:
        cell_sums: differences summed over a cell's items; 0 without items.
        rng: for flips where there are too many to enumerate.
        resamples: how many flips are then drawn.

    Returns:
        The p-value and "", or None and why there is none.

    Raises:
        ValueError: there are no seeds.
    """
    n_seeds, n_groups = cell_sums.shape
    if n_seeds == 0:
        raise ValueError("the sign-flip test needs at least one seed")
    if 1 < n_seeds < FEWEST_SEEDS:
        return None, (
            f"no p-value: the signs of {n_seeds} seeds can't show less than {2 / 2**n_seeds:g}, and a test"
            f" over groups would take the seeds as given; it takes {FEWEST_SEEDS} seeds, or one, of which"
            " alone it then speaks"
        )
    p = sign_flip_test(cell_sums.sum(0), rng, resamples=resamples)
    if n_seeds > 1 and n_groups > 1:
        over_seeds = sign_flip_test(cell_sums.sum(1), rng, resamples=resamples)
        p = max(p, over_seeds, two_way_p(cell_sums))
    return p, ""


def wilson_interval(successes: int, trials: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Score interval of a share of independent trials (Wilson, 1927); (0, 1) without a trial."""
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes in {trials} trials")
    if trials == 0:
        return 0.0, 1.0
    z = scipy.stats.norm.ppf((1 + confidence) / 2)
    share = successes / trials
    center = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * np.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    # The ends at 0 and `trials` successes are exactly 0 and 1; rounding must not move them.
    return (
        0.0 if successes == 0 else float(center - half),
        1.0 if successes == trials else float(center + half),
    )
