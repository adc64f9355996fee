"""Intervals and tests over a few seeds crossed with groups: hand-worked cases and simulated coverage."""

import dataclasses

import numpy as np
import pytest
import scipy.stats

from experiments.benchmarks import seed_coverage
from introspection.coupling.seed_intervals import half_width, seed_interval, two_way_p, two_way_variances
from introspection.coupling.statistics import hierarchical_bootstrap, seeds_sign_flip_test, sign_flip_test


def mean(sums):
    """Of counts (value, 1)."""
    return sums[:, :1] / sums[:, 1:]


def with_ones(cells):
    return np.stack([cells, np.ones_like(cells)], axis=-1)


def by_items(table, statistic, **options):
    """`hierarchical_bootstrap` of a table's cells, one item a cell."""
    seeds, groups = (axis.ravel() for axis in np.indices(table.shape[:2]))
    counts = table.reshape(len(seeds), -1)
    return hierarchical_bootstrap(counts, groups, statistic, np.random.default_rng(0), seeds=seeds, **options)


def test_two_seeds_and_two_groups_worked_by_hand():
    table = with_ones(np.array([[1.0, 3.0], [5.0, 7.0]]))
    estimate, of_seeds, of_groups = two_way_variances(table, mean)
    # Seeds' means are 2 and 6, groups' 3 and 5: variances 8 / 2 and 2 / 2.
    assert (estimate, of_seeds, of_groups) == (4, 4, 1)
    # 12.706 is Student's 97.5% point of one degree. Of both variances, sqrt(5), there are
    # 25 / (16 + 1) = 1.47 degrees, whose 6.2 times 2.24 is less.
    low, high = by_items(table, mean)[:, 0]
    assert (low, high) == pytest.approx((4 - 2 * 12.7062, 4 + 2 * 12.7062), abs=1e-3)


def test_half_width_worked_by_hand():
    of_seeds, of_groups = np.array([1.0, 1.0, 0.0, 0.0]), np.array([3.0, 1.0, 1.0, 0.0])
    longer, shorter, of_groups_alone, of_nothing = half_width(of_seeds, of_groups, 3, 4)
    # Variances 1 of 2 degrees and 3 of 3: 16 / (1 / 2 + 9 / 3) = 4.57 degrees, longer than the seeds' 4.303.
    assert longer == pytest.approx(2 * scipy.stats.t.ppf(0.975, 32 / 7))
    assert longer > 5.2
    # Variances 1 and 1 have 4.8 degrees: 2.60 times sqrt(2) is shorter than 4.303 times 1.
    assert shorter == pytest.approx(4.3027, abs=1e-3)
    # Without a variance between seeds it is Student's over groups, and nothing where nothing varies.
    assert of_groups_alone == pytest.approx(3.1824, abs=1e-3)
    assert of_nothing == 0


def test_variances_of_means_are_those_of_seeds_and_groups():
    cells = np.random.default_rng(0).normal(size=(3, 20))
    _, of_seeds, of_groups = two_way_variances(with_ones(cells), mean)
    assert of_seeds[0] == pytest.approx(cells.mean(1).var(ddof=1) / 3)
    assert of_groups[0] == pytest.approx(cells.mean(0).var(ddof=1) / 20)


def test_a_statistic_may_divide_by_a_number_of_items_that_it_knows():
    table = with_ones(np.random.default_rng(0).normal(size=(3, 20)))
    known = seed_interval(table, lambda sums: sums[:, :1] / 60)
    np.testing.assert_allclose(known, seed_interval(table, mean))


def test_order_of_items_resamples_and_random_numbers_do_not_matter():
    rng = np.random.default_rng(0)
    counts = np.column_stack([rng.integers(0, 9, 80), np.ones(80)])
    groups, seeds, order = rng.integers(0, 9, 80), rng.integers(0, 3, 80), rng.permutation(80)
    one, other = (
        hierarchical_bootstrap(
            counts[o], groups[o], mean, np.random.default_rng(n), seeds=seeds[o], resamples=n
        )
        for n, o in ((5, np.arange(80)), (500, order))
    )
    np.testing.assert_array_equal(one, other)
    wider = hierarchical_bootstrap(counts, groups, mean, rng, seeds=seeds, confidence=0.99)
    assert wider[0, 0] < one[0, 0] < one[1, 0] < wider[1, 0]


def test_nothing_that_varies_is_an_interval_without_length():
    table = with_ones(np.full((3, 5), 0.5))
    np.testing.assert_array_equal(by_items(table, mean), [[0.5], [0.5]])


def test_an_output_that_rests_on_one_seed_or_group_is_undefined():
    # Columns: matches and items of three outputs, of which the second holds items of one seed alone, the
    # third of one group alone.
    cells = np.random.default_rng(0).random((3, 4))
    one_seed, one_group = np.zeros((3, 4)), np.zeros((3, 4))
    one_seed[1], one_group[:, 2] = 1, 1
    table = np.stack([cells, np.ones((3, 4)), cells * one_seed, one_seed, cells * one_group, one_group], -1)

    def shares(sums):
        with np.errstate(invalid="ignore"):
            return sums[:, ::2] / sums[:, 1::2]

    undefined = np.isnan(by_items(table, shares))
    np.testing.assert_array_equal(undefined, [[False, True, True]] * 2)
    assert np.isnan(by_items(table[:, :1], shares)).all()  # one group in all
    for few in (table[:1], table[:, :1]):
        with pytest.raises(ValueError, match="two seeds and two groups"):
            seed_interval(few, shares)


SMALL = dataclasses.replace(seed_coverage.SeedSize(), runs=1_000)


@pytest.mark.parametrize("name", ["gap", "current_share", "f1"])
@pytest.mark.parametrize(("seeds", "spread"), [(3, 0.0), (3, 10.0), (2, 10.0)])
def test_intervals_over_few_seeds_cover(name, seeds, spread):
    covered = seed_coverage.coverage_measure(SMALL, name, seeds, 60, spread)
    assert covered.value >= 0.93
    assert covered.extra["undefined"] == 0
    if spread and name != "f1":
        assert covered.extra["groups_alone_covered"] < 0.7


def test_intervals_cover_where_seeds_agree_by_chance():
    # Nine tenths of the variance is the seeds', where Satterthwaite's degrees alone would cover 92%.
    rng = np.random.default_rng(0)
    seeds, groups = rng.normal(size=(8_000, 3, 1)), rng.normal(size=(8_000, 1, 40))
    cells = seeds * np.sqrt(0.9 * 3) + groups * np.sqrt(0.1 * 40)
    table = cells.transpose(1, 2, 0)
    low, high = seed_interval(table, lambda sums: sums / 120)
    assert np.mean((low <= 0) & (high >= 0)) == pytest.approx(0.95, abs=0.01)


def test_p_value_over_seeds_and_groups_worked_by_hand():
    # The mean is 4 and its variance 4 + 1, of 25 / (16 + 1) degrees.
    cells = np.array([[1.0, 3.0], [5.0, 7.0]])
    assert two_way_p(cells) == pytest.approx(2 * scipy.stats.t.sf(4 / np.sqrt(5), 25 / 17))
    assert two_way_p(np.zeros((3, 4))) == 1
    assert two_way_p(np.ones((3, 4))) == 0  # nothing varies
    assert two_way_p(np.array([[1.0, -1.0], [-1.0, 1.0]])) == 1


def test_sign_flips_of_one_seed_are_those_of_groups():
    sums = np.array([[3.0, 2.0, 1.0]])
    assert seeds_sign_flip_test(sums, np.random.default_rng(0)) == (2 / 8, "")


@pytest.mark.parametrize(("seeds", "least"), [(2, "0.5"), (3, "0.25"), (5, "0.0625")])
def test_two_to_five_seeds_have_no_sign_flip_test(seeds, least):
    p, note = seeds_sign_flip_test(np.ones((seeds, 40)), np.random.default_rng(0))
    assert p is None
    assert f"{seeds} seeds a sign-flip test can't go below {least}," in note
    assert "6 seeds" in note
    with pytest.raises(ValueError, match="at least one seed"):
        seeds_sign_flip_test(np.ones((0, 40)), np.random.default_rng(0))


def test_sign_flips_of_six_seeds_worked_by_hand():
    rng = np.random.default_rng(0)
    # All 72 sums are 1: 2 of 64 patterns of seeds are as extreme, 2 of 4,096 of groups.
    assert seeds_sign_flip_test(np.ones((6, 12)), rng) == (2 / 64, "")
    # Of two groups 2 of 4, however many seeds.
    assert seeds_sign_flip_test(np.ones((6, 2)), rng) == (2 / 4, "")
    assert seeds_sign_flip_test(np.ones((6, 1)), rng) == (1.0, "")
    assert seeds_sign_flip_test(np.zeros((6, 12)), rng) == (1.0, "")


@pytest.mark.parametrize(("seeds", "of_seeds"), [(6, 10.0), (8, 1.0), (12, 1.0), (12, 0.0)])
def test_sign_flips_over_seeds_reject_seldom(seeds, of_seeds):
    """`of_seeds`: variance of the mean that comes from seeds, where that from groups is 1."""
    rng = np.random.default_rng(0)
    rejected = over_groups = 0
    for _ in range(600):
        cells = np.sqrt(of_seeds * seeds) * rng.normal(size=(seeds, 1)) + np.sqrt(30) * rng.normal(size=30)
        p, _ = seeds_sign_flip_test(cells, rng, resamples=200)
        rejected += p <= 0.05
        over_groups += sign_flip_test(cells.sum(0), rng, resamples=200) <= 0.05
    assert rejected / 600 <= 0.07
    assert (over_groups / 600 > 0.12) == (of_seeds > 0)


def test_sign_flips_over_seeds_see_an_effect():
    rng = np.random.default_rng(0)
    found = [
        seeds_sign_flip_test(1 + rng.normal(size=(8, 1)) / 2 + rng.normal(size=(8, 40)), rng, resamples=200)[
            0
        ]
        for _ in range(100)
    ]
    assert np.mean(np.array(found) <= 0.05) > 0.9
