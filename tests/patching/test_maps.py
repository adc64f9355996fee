"""What maps and flips say, on numbers whose answer is known."""

import dataclasses

import numpy as np
import pytest

from introspection.patching.causal import Causal, causal_share, patch_strongest, random_sites
from introspection.patching.maps import (
    Maps,
    correlation,
    is_fixed,
    joined,
    map_similarity,
    other_groups,
    site_effects,
)
from introspection.probes.patching import Differences, PatchingConfig, Site

GROUPS = ("cue", "cued_answer", "answer")
SITES = [Site(kind, layer, group) for layer in range(4) for kind in ("attention", "mlp") for group in GROUPS]
ITEMS = 40


def differences(changes, total=-2.0):
    base = np.ones(len(changes))
    return Differences(base, base + total, base[:, None] + changes)


def maps(behavior, explanation, seed=0):
    groups = [f"fact{i // 2}" for i in range(len(behavior))]
    fixed = np.zeros(len(SITES), bool)
    return Maps(SITES, fixed, differences(behavior), differences(explanation), groups, [seed] * len(behavior))


def draws(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def similarity(behavior, explanation):
    return map_similarity(maps(behavior, explanation), np.random.default_rng(0))


def test_equal_maps_that_differ_between_items_count_in_every_way():
    own = draws(0, ITEMS, len(SITES)) + 2 * draws(1, len(SITES))
    found = similarity(own, 3 * own)
    assert found.correlation.mean == pytest.approx(1)
    assert found.within_cells.mean == pytest.approx(1)
    assert found.same_item.mean == pytest.approx(1)
    assert found.same_minus_other.low > 0.05


def test_maps_that_agree_in_layer_and_kind_alone_do_not_count_within_them():
    """Also: maps that are the same for all items are no more alike within an item than across items."""
    cells = np.repeat(draws(0, len(SITES) // 3) * 3, 3)
    behavior = cells + draws(1, len(SITES)) * 0.3 + draws(2, ITEMS, len(SITES)) * 0.2
    explanation = cells + draws(3, len(SITES)) * 0.3 + draws(4, ITEMS, len(SITES)) * 0.2
    found = similarity(behavior, explanation)
    assert found.correlation.low > 0.9
    assert abs(found.within_cells.mean) < 0.6
    means = (values.mean(axis=0).reshape(-1, 3) for values in (behavior, explanation))
    by_hand = np.corrcoef(*((rows - rows.mean(axis=1, keepdims=True)).ravel() for rows in means))
    assert found.within_cells.mean == pytest.approx(by_hand[0, 1])
    assert found.same_minus_other.low < 0 < found.same_minus_other.high


def test_other_items_are_of_other_facts_and_the_same_seed():
    groups, seeds = ["a", "a", "b", "b", "b"], [0, 0, 0, 1, 1]
    for places in other_groups(groups, seeds, np.random.default_rng(0)):
        assert places[:2].tolist() == [2, 2]
        assert places[2] in (0, 1)
        assert places[3:].tolist() == [3, 4]  # there is no other fact


def test_a_total_near_zero_gives_the_correlation_no_sign():
    own = draws(0, ITEMS, len(SITES))
    tiny = [Maps(**{**vars(maps(own, own)), "explanation": differences(own, end)}) for end in (1e-6, -1e-6)]
    for one in tiny:
        found = map_similarity(one, np.random.default_rng(0)).correlation
        assert found.mean == pytest.approx(1)
        assert found.low > 0.9


def test_fixed_sites_are_in_no_correlation():
    own = draws(0, ITEMS, len(SITES))
    other = np.where(np.arange(len(SITES)) < 6, -5 * own, own)
    partly = maps(own, other)
    fixed = np.arange(len(SITES)) < 6
    found = map_similarity(Maps(**{**vars(partly), "fixed": fixed}), np.random.default_rng(0))
    assert found.correlation.mean == pytest.approx(1)
    assert map_similarity(partly, np.random.default_rng(0)).correlation.mean < 0.5


def test_what_is_fixed_by_form():
    expected = {
        Site("residual", 3, "answer"): True,
        Site("mlp", 3, "cue"): True,
        Site("mlp", 3, "answer"): False,
        Site("head", 3, "all", 0): False,
        Site("residual", 2, "cue"): False,
        Site("attention", 0, "ask"): True,
    }
    assert {site: is_fixed(site, 4) for site in expected} == expected


def test_an_effect_is_its_share_of_the_whole_runs():
    changes = np.zeros((ITEMS, len(SITES)))
    changes[:, 0], changes[:, 1] = -2, -0.5
    effects = site_effects(maps(changes, changes), np.random.default_rng(0))
    assert [effect.behavior.mean for effect in effects[:3]] == [1, 0.25, 0]
    both = joined([maps(changes, changes), maps(3 * changes, changes, seed=1)])
    assert site_effects(both, np.random.default_rng(0))[1].behavior.mean == pytest.approx(0.5)
    others = dataclasses.replace(maps(changes, changes), sites=[*SITES[1:], SITES[0]])
    with pytest.raises(ValueError, match="different sites"):
        joined([maps(changes, changes), others])


def test_correlations_are_undefined_for_constant_rows():
    rows = np.array([[1.0, 2.0, 3.0], [0.1, 0.1, 0.1]])
    assert correlation(rows, rows)[0] == pytest.approx(1)
    assert np.isnan(correlation(rows, rows)[1])


def test_the_strongest_sites_are_chosen_on_other_facts_than_they_are_patched_on():
    """Half of the facts are strong at one site, half at another: each is patched at the other's."""
    config = PatchingConfig(top=1, draws=3)
    changes = np.zeros((ITEMS, len(SITES)))
    whole = maps(changes, changes)
    calls = []

    def patch(places, sets):
        calls.append((set(places.tolist()), sets))
        empty = Differences(np.zeros(0), np.zeros(0), np.zeros((len(places), len(sets))))
        return empty, empty

    patch_strongest(whole, patch, config, np.random.default_rng(0))
    first, second = (places for places, _ in calls)
    assert first | second == set(range(ITEMS))
    assert not {whole.groups[i] for i in first} & {whole.groups[i] for i in second}
    changes[list(first), 4], changes[list(second), 8] = 5, 5
    calls.clear()
    patch_strongest(maps(changes, changes), patch, config, np.random.default_rng(0))
    assert [sets[0] for _, sets in calls] == [[SITES[8]], [SITES[4]]]
    for _, sets in calls:
        assert len(sets) == 1 + config.draws
        for (drawn,) in sets[1:]:
            assert drawn.cell == sets[0][0].cell
            assert drawn != sets[0][0]


def test_random_sites_are_others_of_the_same_cells():
    changes = draws(0, ITEMS, len(SITES))
    whole = maps(changes, changes)
    chosen = SITES[::3]  # one of each cell
    drawn = random_sites(whole, chosen, np.random.default_rng(0))
    assert [site.cell for site in drawn] == [site.cell for site in chosen]
    assert len(set(drawn)) == len(chosen)
    assert not set(drawn) & set(chosen)
    # Where a cell is taken whole, others of its kind stand for it, and no chosen one is drawn again.
    cell = [site for site in SITES if site.cell == SITES[0].cell]
    beside = random_sites(whole, cell, np.random.default_rng(0))
    assert not set(beside) & set(cell)
    assert {site.kind for site in beside} == {cell[0].kind}
    every = random_sites(whole, SITES, np.random.default_rng(0))
    assert sorted(every) == sorted(SITES)  # nothing else is left


def test_the_causal_share_counts_explanations_that_flip_where_behaviour_flips():
    changes = np.zeros((4, len(SITES)))
    whole = maps(changes, changes)
    behavior = np.array([[-1, 1], [-1, -1], [1, 1], [-1, -1]], float)  # the chosen sites, a random set
    explanation = np.array([[-1, 1], [-1, 1], [1, 1], [0.5, -1]], float)
    found = causal_share(whole, [Causal([SITES[0]], behavior, explanation)], np.random.default_rng(0))
    assert found.behavior_flips.mean == 0.75
    assert found.explanation_flips.mean == 0.5
    assert found.follow.mean == pytest.approx(2 / 3)
    assert found.random_follow.mean == 0.5
    assert found.restored.mean == pytest.approx((2 + 2 + 0 + 0.5) / 8)
    assert found.restored_minus_random.mean == pytest.approx((4.5 - 2) / 8)
    assert found.flips_minus_random.mean == 0.25
    assert found.follow_minus_random.mean == pytest.approx(2 / 3 - 1 / 2)
    assert (found.says_changed, found.at_most) == (4, 1)
    assert found.sites == ("layer 0 attention, cue",)
