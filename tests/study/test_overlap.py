"""How far two uses of a model's parts overlap: by hand, against scipy, and where sharing is planted."""

import itertools

import numpy as np
import pytest
import scipy.stats

from introspection.study.circuits import (
    effect_overlap,
    exchanged_spearman,
    random_halves,
    shared_effect,
    spearman,
)


def test_the_correlation_by_hand_and_against_scipy():
    assert spearman(np.array([1.0, 2, 3, 4]), np.array([1.0, 3, 2, 4])) == pytest.approx(1 - 6 * 2 / 60)
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 5, 12).astype(float), rng.normal(size=12)  # with ties
    assert spearman(first, second) == pytest.approx(scipy.stats.spearmanr(first, second).statistic)
    assert spearman(np.zeros(4), second[:4]) is None


def test_what_blocks_alone_give_is_the_mean_over_all_exchanges():
    first, second = np.array([5.0, 4, 7, 1, 2, 6]), np.array([9.0, 3, 4, 1, 0, 5])
    blocks = ["a", "a", "a", "b", "b", "c"]
    found = [
        scipy.stats.spearmanr(first, second[[*heads, *others, 5]]).statistic
        for heads in itertools.permutations(range(3))
        for others in itertools.permutations((3, 4))
    ]
    assert exchanged_spearman(first, second, blocks) == pytest.approx(np.mean(found))
    assert exchanged_spearman(first, second, list("abcdef")) == pytest.approx(spearman(first, second))


def test_shared_effect_by_hand():
    # Shares .5 .5 0 0 and .25 0 .75 0: a part whose absence helps has none.
    assert shared_effect(np.array([2.0, 2, 0, -8]), np.array([1.0, 0, 3, -1])) == pytest.approx(0.25)
    assert shared_effect(np.array([2.0, 6]), np.array([1.0, 3])) == pytest.approx(1)
    assert shared_effect(np.array([-1.0, 0]), np.array([1.0, 3])) is None


def test_halves_keep_a_group_whole():
    groups = [f"fact {i // 3}" for i in range(21)]
    halves = random_halves(groups, np.random.default_rng(0))
    for one, other in halves:
        assert sorted([*one, *other]) == list(range(21))
        assert len(one) == 9
        assert not {groups[i] for i in one} & {groups[i] for i in other}
    assert len({tuple(one) for one, _ in halves}) > 10
    assert random_halves(["a", "a"], np.random.default_rng(0)) == []


def planted(shared, noise, parts=30, groups=40, seed=0):
    """Effects with the same part-wise means, or means of their own, and noise that both have in common."""
    rng = np.random.default_rng(seed)
    first, other = rng.normal(size=(parts, 1)), rng.normal(size=(parts, 1))
    common = noise * rng.normal(size=(parts, groups))
    names = [str(i) for i in range(groups)]
    return effect_overlap(
        first + common, (first if shared else other) + common, names[:parts], names, np.random.default_rng(0)
    )


def test_planted_sharing_is_found_and_nothing_else():
    alike, apart = planted(True, 0.5), planted(False, 0.5)
    assert alike.across_halves > 0.95
    assert alike.ceiling > 0.95
    assert abs(apart.across_halves) < 0.4
    assert apart.ceiling > 0.95  # measured as well as the other, so its low overlap is no noise


def test_noise_that_both_sides_share_does_not_pass_for_overlap():
    noisy = planted(False, 30.0)
    assert noisy.overlap > 0.9  # the same items' noise
    assert noisy.across_halves < 0.4
    assert noisy.ceiling < 0.4
    one_group = effect_overlap(np.eye(3), np.eye(3), list("abc"), ["g"] * 3, np.random.default_rng(0))
    assert one_group.across_halves is None
    assert one_group.ceiling is None
