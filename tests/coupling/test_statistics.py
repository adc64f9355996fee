"""Intervals and tests against hand-worked cases, scipy, and simulations."""

import json

import numpy as np
import pytest
import scipy.stats

from experiments.benchmarks import interval_coverage
from introspection.coupling import statistics
from introspection.coupling.statistics import (
    expanded_tail,
    hierarchical_bootstrap,
    sign_flip_test,
    wilson_interval,
)


def mean(sums):
    """Of counts (value, 1)."""
    return sums[:, :1] / sums[:, 1:]


def with_ones(values):
    return np.column_stack([values, np.ones(len(values))])


def test_bootstrap_of_single_items_equals_scipys():
    values = np.random.default_rng(0).gamma(2.0, size=40)
    ours = hierarchical_bootstrap(
        with_ones(values), np.arange(40), mean, np.random.default_rng(1), resamples=20_000
    )
    theirs = scipy.stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=20_000, rng=np.random.default_rng(2)
    ).confidence_interval
    np.testing.assert_allclose(ours[:, 0], theirs, atol=0.02)  # the interval is about 0.8 wide


def test_bootstrap_resamples_groups_and_not_items():
    # Each group's ten items are equal, so its mean is one observation: the interval is that of 40 values.
    values = np.random.default_rng(0).gamma(2.0, size=40)
    ours, grouped = (
        hierarchical_bootstrap(with_ones(v), g, mean, np.random.default_rng(1), resamples=4_000)[:, 0]
        for v, g in ((values, np.arange(40)), (np.repeat(values, 10), np.repeat(np.arange(40), 10)))
    )
    np.testing.assert_allclose(ours, grouped)


def test_two_groups_worked_by_hand():
    # Groups 0 and 1: a resample has mean 0 or 1 with probability 1/4 each, and 1/2 otherwise.
    distribution = []

    def keep(sums):
        distribution.append(mean(sums))
        return mean(sums)

    interval = hierarchical_bootstrap(
        with_ones(np.array([0.0, 1.0])), np.array(["a", "b"]), keep, np.random.default_rng(0)
    )
    np.testing.assert_array_equal(interval[:, 0], [0, 1])
    values, counts = np.unique(np.concatenate(distribution), return_counts=True)
    np.testing.assert_array_equal(values, [0, 0.5, 1])
    np.testing.assert_allclose(counts / 2_000, [0.25, 0.5, 0.25], atol=0.04)


def collect_resamples(counts, groups, **levels):
    kept = []

    def keep(sums):
        kept.append(sums)
        return sums

    hierarchical_bootstrap(counts, groups, keep, np.random.default_rng(0), **levels)
    return np.concatenate(kept)


def test_groups_are_crossed_with_seeds():
    # Column s * 2 + g counts cell (seed s, group g) of the first base, so a resample shows its weights. A
    # weight of a cell must be the product of a seed's and a group's, so where the base is drawn once the
    # 2 x 2 table has rank one. The second base holds nothing: of one base, seeds are not resampled.
    seeds, groups, bases = np.array([0, 0, 1, 1, 0]), np.array([0, 1, 0, 1, 0]), np.array([0, 0, 0, 0, 1])
    counts = np.vstack([np.eye(4), np.zeros(4)])
    tables = collect_resamples(counts, groups, seeds=seeds, bases=bases).reshape(-1, 2, 2)
    tables = tables[tables.sum((1, 2)) == 4]
    assert len(tables) == pytest.approx(5_000, abs=200)
    np.testing.assert_allclose(np.linalg.det(tables), 0, atol=1e-9)
    seed_weights = tables.sum(2)[:, 0] / 2
    assert set(np.unique(seed_weights)) == {0, 1, 2}
    assert np.mean(seed_weights == 1) == pytest.approx(0.5, abs=0.04)


def test_each_drawn_base_draws_its_own_groups():
    bases, groups = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    weights = collect_resamples(np.eye(4), groups, bases=bases)
    np.testing.assert_allclose(weights.sum(1), 4)
    # Base 0 is drawn not at all, once or twice; once it has groups (2, 0), (1, 1) or (0, 2), twice it has
    # 4 draws in all, in two independent pairs: so also (3, 1), which one pair counted twice can't give.
    assert set(np.unique(weights[:, :2].sum(1))) == {0, 2, 4}
    twice = weights[weights[:, :2].sum(1) == 4]
    assert np.mean(twice[:, 0] == 3) == pytest.approx(1 / 4, abs=0.07)
    # Groups of the two bases are drawn independently of each other.
    once = weights[weights[:, :2].sum(1) == 2]
    assert np.mean(once[:, 0] == once[:, 2]) == pytest.approx(1 / 16 + 1 / 4 + 1 / 16, abs=0.05)


def test_outputs_of_one_call_are_paired():
    values = np.random.default_rng(0).random(30)
    counts = np.column_stack([values, values + 0.1])
    interval = hierarchical_bootstrap(
        counts, np.arange(30), lambda sums: sums[:, 1:] - sums[:, :1], np.random.default_rng(1)
    )
    np.testing.assert_allclose(interval, 3.0)  # the difference is the same in every resample


def test_order_of_items_and_chunks_do_not_matter(monkeypatch):
    rng = np.random.default_rng(0)
    counts, groups, seeds = with_ones(rng.integers(0, 9, 60)), rng.integers(0, 9, 60), rng.integers(0, 3, 60)
    bases, order = np.repeat([0, 1, 2], 20), rng.permutation(60)

    def interval(o):
        levels = {"seeds": seeds[o], "bases": bases[o], "expand_for_bases": False}
        return hierarchical_bootstrap(counts[o], groups[o], mean, np.random.default_rng(1), **levels)

    one = interval(np.arange(60))
    np.testing.assert_array_equal(one, interval(order))
    monkeypatch.setattr(statistics, "CHUNK_SIZE", 700)
    chunked = interval(np.arange(60))
    np.testing.assert_allclose(one, chunked, atol=0.15)
    assert len(collect_resamples(counts, groups, resamples=999)) == 999


def test_interval_is_undefined_for_one_group_and_for_mostly_undefined_outputs():
    one_group = hierarchical_bootstrap(np.ones((5, 1)), np.zeros(5), lambda s: s, np.random.default_rng(0))
    assert np.isnan(one_group).all()

    def undefined_below(share):
        return lambda sums: np.where(np.linspace(0, 1, len(sums)) < share, np.nan, 1.0)[:, None]

    for share, undefined in ((0.3, False), (0.7, True)):
        interval = hierarchical_bootstrap(
            np.ones((5, 1)), np.arange(5), undefined_below(share), np.random.default_rng(0)
        )
        assert np.isnan(interval).all() == undefined
    with pytest.raises(ValueError, match="at least one item"):
        hierarchical_bootstrap(np.ones((0, 1)), np.arange(0), lambda s: s, np.random.default_rng(0))


def simulate_gap_interval(rng, n_groups, n_seeds, seed_deviation):
    """Interval of Self - Orig without coupling: an explanation matches current or teacher equally often."""
    leaning = rng.normal(0, 1, n_groups) + rng.normal(0, seed_deviation, n_seeds)[:, None]
    shape = (3, n_seeds, n_groups)  # three items a group
    matches_one = rng.random(shape) < 0.35  # in the disagreement set, and one of the two is matched
    current = rng.random(shape) < 1 / (1 + np.exp(-leaning))
    counts = np.column_stack([(matches_one * np.where(current, 1, -1)).ravel(), np.ones(current.size)])
    seeds = np.broadcast_to(np.arange(n_seeds)[:, None], shape).ravel()
    groups = np.broadcast_to(np.arange(n_groups), shape).ravel()
    return hierarchical_bootstrap(counts, groups, mean, rng, seeds=seeds, resamples=500)[:, 0]


@pytest.mark.parametrize(("n_seeds", "seed_deviation", "most"), [(1, 0.0, 0.975), (8, 0.4, 1.0)])
def test_interval_covers_zero_in_about_95_percent_without_coupling(n_seeds, seed_deviation, most):
    rng = np.random.default_rng(0)
    intervals = [simulate_gap_interval(rng, 100, n_seeds, seed_deviation) for _ in range(600)]
    covered = np.mean([low <= 0 <= high for low, high in intervals])
    assert 0.925 <= covered <= most


def test_resampling_items_instead_of_groups_would_not_cover():
    # What the grouping is for: the items of a group agree completely here.
    rng = np.random.default_rng(0)
    covered = {"items": 0, "groups": 0}
    for _ in range(200):
        values = np.repeat(rng.choice([-1.0, 1.0], 40), 8)
        for name, groups in (("items", np.arange(320)), ("groups", np.repeat(np.arange(40), 8))):
            low, high = hierarchical_bootstrap(with_ones(values), groups, mean, rng, resamples=300)[:, 0]
            covered[name] += low <= 0 <= high
    assert covered["groups"] / 200 > 0.9
    assert covered["items"] / 200 < 0.65


def test_expanded_tail_worked_by_hand():
    # t of 7 degrees and 97.5% is 2.3646; times sqrt(8/7) it is 2.5279, and Phi(-2.5279) is 0.00574.
    assert expanded_tail(0.95, 8) == pytest.approx(0.00574, abs=1e-5)
    assert expanded_tail(0.95, 1) == pytest.approx(0.025)
    assert expanded_tail(0.95, 100_000) == pytest.approx(0.025, rel=1e-3)
    tails = [expanded_tail(0.95, n) for n in range(2, 40)]
    assert tails == sorted(tails)


def many_means(values, **options):
    """Intervals of each column's mean, a row a base: bases are all that varies."""
    n_bases = len(values)
    counts, bases = np.repeat(values, 2, axis=0), np.repeat(np.arange(n_bases), 2)
    groups = np.tile(["a", "b"], n_bases)  # alike, so that drawing them changes nothing
    rng = np.random.default_rng(1)
    return hierarchical_bootstrap(
        counts, groups, lambda sums: sums / (2 * n_bases), rng, bases=bases, **options
    )


def test_expanded_interval_of_bases_is_about_students():
    values = np.random.default_rng(0).normal(size=(8, 400))
    low, high = many_means(values)
    half = scipy.stats.t.ppf(0.975, 7) * values.std(0, ddof=1) / np.sqrt(8)
    assert np.median((high - low) / 2 / half) == pytest.approx(1, abs=0.05)
    covered = np.mean((low <= 0) & (high >= 0))
    assert covered == pytest.approx(np.mean(abs(values.mean(0)) <= half), abs=0.03)
    low, high = many_means(values, expand_for_bases=False)
    # Too narrow by 1.96 / 2.36 * sqrt(7 / 8).
    assert np.median((high - low) / 2 / half) == pytest.approx(0.776, abs=0.04)


def test_one_base_is_neither_expanded_nor_crossed():
    rng = np.random.default_rng(0)
    counts, groups = with_ones(rng.integers(0, 9, 60)), rng.integers(0, 9, 60)
    plain, one_base = (
        hierarchical_bootstrap(counts, groups, mean, np.random.default_rng(1), **options)
        for options in ({}, {"bases": np.zeros(60, int), "crossed_groups": True, "resamples": 2_000})
    )
    np.testing.assert_array_equal(plain, one_base)


def test_several_bases_take_more_resamples():
    assert len(collect_resamples(np.eye(4), np.array([0, 1, 0, 1]), bases=np.array([0, 0, 1, 1]))) == 10_000
    assert len(collect_resamples(np.eye(4), np.arange(4))) == 2_000


def test_crossed_groups_are_drawn_once_for_all_bases():
    bases, groups = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    weights = collect_resamples(np.eye(4), groups, bases=bases, crossed_groups=True)
    np.testing.assert_allclose(weights.sum(1), 4)
    once = weights[weights[:, :2].sum(1) == 2]
    np.testing.assert_array_equal(once[:, :2], once[:, 2:])
    assert np.mean(once[:, 0] == 2) == pytest.approx(1 / 4, abs=0.03)
    # A base drawn twice keeps the one draw of groups: 4, 2 or 0 of group 0, never 3 or 1.
    twice = weights[weights[:, :2].sum(1) == 4]
    assert set(np.unique(twice[:, 0])) == {0, 2, 4}


def test_crossed_groups_leave_seeds_to_each_base():
    # One group of two seeds in each of two bases (another group holds nothing that counts).
    bases, seeds = np.array([0, 0, 1, 1, 0]), np.array([0, 1, 0, 1, 0])
    groups = np.array([0, 0, 0, 0, 1])
    counts = np.vstack([np.eye(4), np.zeros(4)])
    weights = collect_resamples(counts, groups, bases=bases, seeds=seeds, crossed_groups=True)
    once = weights[np.isin(weights[:, :2].sum(1), [2, 4]) & (weights[:, :2].sum(1) == weights[:, 2:].sum(1))]
    shares = once[:, [0, 2]] / once[:, :2].sum(1, keepdims=True)
    assert np.corrcoef(shares.T)[0, 1] == pytest.approx(0, abs=0.05)
    assert set(np.unique(shares)) == {0, 0.5, 1}


def test_crossed_groups_that_some_bases_lack_and_the_order_of_items():
    rng = np.random.default_rng(0)
    bases, groups = np.repeat([0, 1, 2], 20), rng.integers(0, 12, 60)
    groups[:20] += 6  # base 0 has groups of its own and lacks others
    counts = with_ones(rng.integers(0, 9, 60))
    order = rng.permutation(60)
    one, other = (
        hierarchical_bootstrap(
            counts[o], groups[o], mean, np.random.default_rng(1), bases=bases[o], crossed_groups=True
        )
        for o in (np.arange(60), order)
    )
    np.testing.assert_array_equal(one, other)
    assert one[0, 0] < counts[:, 0].mean() < one[1, 0]


def test_facts_that_all_bases_share_need_crossed_groups():
    # A fact's effect is the same in 8 bases, so there are 100 observations, not 800.
    rng = np.random.default_rng(0)
    effects = rng.normal(size=(100, 400))  # groups, runs
    counts = np.tile(effects, (8, 1)) + 0.1 * rng.normal(size=(800, 400))
    groups, bases = np.tile(np.arange(100), 8), np.repeat(np.arange(8), 100)
    covered = {}
    for crossed in (True, False):
        low, high = hierarchical_bootstrap(
            counts, groups, lambda sums: sums / 800, rng, bases=bases, crossed_groups=crossed, resamples=2_000
        )
        covered[crossed] = np.mean((low <= 0) & (high >= 0))
    assert covered[True] > 0.93
    assert covered[False] < 0.7


def test_coverage_simulation_at_a_small_size():
    measures = interval_coverage.run(interval_coverage.TINY)
    for measure in measures:
        line = json.loads(json.dumps(measure.line(), allow_nan=False))
        assert line["name"].startswith("interval_coverage.")
        low, high = line["wilson95"]
        assert 0 <= low <= line["value"] <= high <= 1
    by_name = {measure.name.removeprefix("interval_coverage."): measure.value for measure in measures}
    assert by_name["coverage.4_bases.spread_2"] > 0.8


def test_simulated_studies_have_what_was_planted():
    size = interval_coverage.Size(bases=4, groups=200)
    cells = interval_coverage.simulate(size, 4, 0.0, 5.0, 60, np.random.default_rng(0))
    gap = cells.mean((1, 2, 3)) / size.items
    assert gap.mean() == pytest.approx(0.05, abs=0.005)
    spread = interval_coverage.simulate(size, 4, 4.5, 0.0, 200, np.random.default_rng(0)).mean((2, 3)) / 7
    # Beside 4.5 points: seeds' 1.5 / sqrt(3), groups' 15 / sqrt(200) and items' noise.
    assert spread.std() == pytest.approx(0.048, abs=0.005)


@pytest.mark.slow
@pytest.mark.parametrize("spread", [0.0, 2.0, 4.5])
def test_a_study_of_eight_bases_covers_0_without_coupling(spread):
    size = interval_coverage.Size(runs=400, resamples=2_000)
    covered = interval_coverage.coverage_measure(size, 8, spread)
    # Conservative where bases hardly differ, as what differs from group to group counts twice.
    assert covered.extra["wilson95"][1] > 0.95
    assert covered.value < (0.99 if spread > 4 else 1.01)
    assert covered.value > covered.extra["plain_covered"]


def test_sign_flip_of_three_groups_worked_by_hand():
    # Sums over the 8 sign patterns of (3, 2, 1): ±6, ±4, ±2, 0, 0; as extreme as 6 are two of them.
    rng = np.random.default_rng(0)
    assert sign_flip_test(np.array([3.0, 2.0, 1.0]), rng) == 2 / 8
    assert sign_flip_test(np.array([3.0, 0.0, 2.0, -1.0, 0.0]), rng) == 4 / 8  # as extreme as 4
    assert sign_flip_test(np.array([2.0, -2.0]), rng) == 1.0
    assert sign_flip_test(np.array([0.0, 0.0]), rng) == 1.0
    assert sign_flip_test(np.array([]), rng) == 1.0


def test_sign_flip_is_exact_up_to_14_groups_and_equals_scipys_and_mcnemars():
    sums = np.array([1.0] * 11 + [-1.0] * 3)
    exact = sign_flip_test(sums, np.random.default_rng(0), resamples=1)
    theirs = scipy.stats.permutation_test(
        (sums,), np.sum, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
    ).pvalue
    assert exact == pytest.approx(theirs)
    assert exact == pytest.approx(scipy.stats.binomtest(11, 14).pvalue)  # McNemar's
    # 2 * (C(14,0) + C(14,1) + C(14,2) + C(14,3)) / 2^14
    assert exact == pytest.approx(2 * (1 + 14 + 91 + 364) / 2**14)
    zeros = np.zeros(20)  # they are not groups that count
    assert sign_flip_test(np.concatenate([zeros, sums]), np.random.default_rng(0), resamples=1) == exact
    # |±1 ±3 ±1| >= 3 in six patterns of eight, whose tenths differ by rounding.
    assert sign_flip_test(np.array([0.1, 0.3, -0.1]), np.random.default_rng(0)) == 6 / 8


def test_sign_flip_by_sampling_adds_the_observed_pattern():
    # 50 groups that all lean one way: no sampled pattern is as extreme.
    assert sign_flip_test(np.ones(50), np.random.default_rng(0), resamples=99) == 1 / 100
    sums = np.random.default_rng(3).normal(0.25, 1, 30)
    ours = sign_flip_test(sums, np.random.default_rng(0), resamples=20_000)
    theirs = scipy.stats.permutation_test(
        (sums,), np.sum, permutation_type="samples", n_resamples=20_000, rng=np.random.default_rng(1)
    ).pvalue
    assert ours == pytest.approx(theirs, abs=0.015)
    assert 0.02 < ours < 0.9


def test_sign_flip_rejects_as_often_as_it_says():
    rng = np.random.default_rng(0)
    p = [sign_flip_test(rng.normal(size=30), rng, resamples=400) for _ in range(600)]
    assert np.mean(np.array(p) <= 0.05) == pytest.approx(0.05, abs=0.025)


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (3, 10), (10, 10), (811, 1400), (1, 1)])
def test_wilson_interval_equals_scipys(successes, trials):
    theirs = scipy.stats.binomtest(successes, trials).proportion_ci(method="wilson")
    assert wilson_interval(successes, trials) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_wilson_interval_edges():
    assert wilson_interval(0, 0) == (0.0, 1.0)
    assert wilson_interval(0, 5)[0] == 0.0
    assert wilson_interval(5, 5)[1] == 1.0
    with pytest.raises(ValueError, match="6 successes in 5 trials"):
        wilson_interval(6, 5)
