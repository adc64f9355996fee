"""Does the explanation follow where the behaviour's strongest sites are patched?"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from introspection.coupling.metrics import divide
from introspection.patching.maps import Maps, changes, estimates, totals
from introspection.patching.results import CausalShare
from introspection.probes.patching import Differences, PatchingConfig, Site

# The residual stream holds all that was computed before, so patching it would say where, not what.
COMPONENTS = ("attention", "mlp", "head")
# Patches sets of sites in some items (by place) and returns behaviour's and the explanation's differences.
PatchSets = Callable[[np.ndarray, Sequence[Sequence[Site]]], tuple[Differences, Differences]]


class Causal(NamedTuple):
    """Of one seed's items, in the order of its maps: the chosen sites, then each of the random sets."""

    chosen: list[Site]  # of both halves
    behavior: Float[np.ndarray, "items sets"]
    explanation: Float[np.ndarray, "items sets"]


def patch_strongest(maps: Maps, patch: PatchSets, config: PatchingConfig, rng: np.random.Generator) -> Causal:
    """Patches the behaviour's strongest sites, chosen on one half of the groups, on the other half."""
    names, numbers = np.unique(np.asarray(maps.groups), return_inverse=True)
    first = np.isin(numbers, rng.permutation(len(names))[: len(names) // 2])
    shape = len(maps.groups), 1 + config.draws
    found = Causal([], np.zeros(shape), np.zeros(shape))
    for half in (first, ~first):
        if not half.any():
            continue
        chooses = ~half if (~half).any() else half  # with one group there is no other half
        sites = strongest_sites(maps, chooses, config.top)
        sets = [sites, *(random_sites(maps, sites, rng) for _ in range(config.draws))]
        behavior, explanation = patch(np.flatnonzero(half), sets)
        found.chosen.extend(sites)
        found.behavior[half], found.explanation[half] = behavior.patched, explanation.patched
    return found


def strongest_sites(maps: Maps, items: np.ndarray, top: int) -> list[Site]:
    """The `top` attention outputs, MLPs and heads with the largest effect on behaviour in some items."""
    effect = np.abs(changes(maps.behavior)[items].mean(axis=0))
    usable = [i for i, site in enumerate(maps.sites) if maps.open[i] and site.kind in COMPONENTS]
    return [maps.sites[i] for i in sorted(usable, key=lambda i: -effect[i])[:top]]


def random_sites(maps: Maps, chosen: Sequence[Site], rng: np.random.Generator) -> list[Site]:
    """For each site another of the same layer and kind; where all of these are taken, of the same kind, and
    a chosen one only where there are no others."""
    drawn: list[Site] = []
    usable = [site for i, site in enumerate(maps.sites) if maps.open[i]]
    for site in chosen:
        left = [one for one in usable if one.kind == site.kind and one not in drawn]
        others = [one for one in left if one not in chosen]
        pool = [one for one in others if one.cell == site.cell] or others or left
        drawn.append(pool[rng.integers(len(pool))])
    return drawn


def causal_share(maps: Maps, found: Sequence[Causal], rng: np.random.Generator) -> CausalShare:
    """What patching did, over all seeds' items (`maps` joined in the order of `found`)."""
    after_behavior = np.concatenate([one.behavior for one in found])
    after_explanation = np.concatenate([one.explanation for one in found])
    acts, says = maps.behavior.base > 0, maps.explanation.base > 0
    flips = after_behavior < 0
    denies = after_explanation < 0
    restored = (after_explanation - maps.explanation.base[:, None]), totals(maps.explanation)

    def pair(values: Shaped[np.ndarray, "items sets"]) -> list[np.ndarray]:
        """Each item's value with the chosen sites, and the mean with random ones."""
        return [values[:, 0], values[:, 1:].mean(axis=1)]

    both = flips & acts[:, None] & says[:, None]
    counts = np.column_stack(
        [
            acts,
            pair(flips & acts[:, None])[0],
            says,
            *pair(denies & says[:, None]),
            *pair(both),
            *pair(both & denies),
            restored[1],
            *pair(restored[0]),
        ]
    ).astype(np.float64)

    def statistic(sums: Float[np.ndarray, "resamples s"]) -> Float[np.ndarray, "resamples 9"]:
        acted, flipped, said, denied, denied_random, both, both_random, follow, follow_random = sums.T[:9]
        whole, part, part_random = sums.T[9:]
        return np.column_stack(
            [
                divide(flipped, acted),
                divide(denied, said),
                divide(follow, both),
                divide(follow_random, both_random),
                divide(part, whole),
                divide(part_random, whole),
                divide(part - part_random, whole),
                divide(denied - denied_random, said),
                divide(follow, both) - divide(follow_random, both_random),
            ]
        )

    values = estimates(counts, statistic, maps, rng)
    chosen = Counter(site.name for one in found for site in one.chosen)
    return CausalShare(
        tuple(name for name, _ in chosen.most_common()),
        *values,
        says_changed=int(says.sum()),
        at_most=float((maps.explanation.source < 0)[says].mean()) if says.any() else None,
    )
