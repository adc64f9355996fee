"""Maps over sites: effects, their correlation, and what is left of it beyond trivial reasons."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from introspection.coupling.estimates import Estimate
from introspection.coupling.metrics import divide
from introspection.coupling.statistics import hierarchical_bootstrap
from introspection.patching.results import MapSimilarity, SiteEffects
from introspection.probes.patching import Differences, Site

UNRELATED = 10  # other items that each item is compared with


@dataclasses.dataclass(frozen=True)
class Maps:
    """What patching each site does to both logit differences of the same items, of one or several seeds."""

    sites: Sequence[Site]
    fixed: Bool[np.ndarray, " sites"]
    behavior: Differences  # patched: one column a site
    explanation: Differences
    groups: Sequence[str]  # of items
    seeds: Sequence[int]

    @property
    def open(self) -> Bool[np.ndarray, " sites"]:
        """Sites that correlations and choices are made from."""
        return ~self.fixed


def joined(maps: Sequence[Maps]) -> Maps:
    """The maps of several seeds as one. Raises ValueError if they are not of the same sites."""
    first = maps[0]
    if any(one.sites != first.sites for one in maps):
        raise ValueError("maps of different sites")

    def together(name: str) -> Differences:
        return Differences(*map(np.concatenate, zip(*(getattr(one, name) for one in maps), strict=True)))

    return dataclasses.replace(
        first,
        behavior=together("behavior"),
        explanation=together("explanation"),
        groups=[group for one in maps for group in one.groups],
        seeds=[seed for one in maps for seed in one.seeds],
    )


def is_fixed(site: Site, layers: int) -> bool:
    """Whether a site's effect on one of the two follows from the runs' form alone.

    Nothing after the last layer reads other positions than the answer's, whose residual stream is there all
    that decides the reply. The explanation question stands in one of the two runs alone. (Groups before the
    first difference of the runs are no sites at all.)
    """
    last = site.layer == layers - 1
    return site.group == "ask" or (last and (site.kind == "residual" or site.group not in ("answer", "all")))


def changes(found: Differences) -> Float[np.ndarray, "items sites"]:
    """The change of each item's logit difference by each site (nats)."""
    return found.patched - found.base[:, None]


def totals(found: Differences) -> Float[np.ndarray, " items"]:
    """The change (nats) if the whole base run were the source run."""
    return found.source - found.base


def site_effects(maps: Maps, rng: np.random.Generator) -> tuple[SiteEffects, ...]:
    """Both maps with intervals over seeds and groups."""
    behavior, explanation = (
        _ratios(changes(found), totals(found), maps, rng) for found in (maps.behavior, maps.explanation)
    )
    return tuple(
        SiteEffects(site.kind, site.layer, site.group, site.head, *effects, fixed=bool(fixed))
        for site, fixed, *effects in zip(maps.sites, maps.fixed, behavior, explanation, strict=True)
    )


def _ratios(
    parts: Float[np.ndarray, "items outputs"],
    wholes: Float[np.ndarray, " items"],
    maps: Maps,
    rng: np.random.Generator,
) -> list[Estimate]:
    return estimates(
        np.column_stack([parts, wholes]), lambda sums: divide(sums[:, :-1], sums[:, -1:]), maps, rng
    )


def estimates(counts: Float[np.ndarray, "items statistics"], statistic, maps: Maps, rng) -> list[Estimate]:
    """A statistic of sums over items, each output with its interval."""
    means = statistic(counts.sum(axis=0, keepdims=True))[0]
    low, high = hierarchical_bootstrap(
        counts, np.asarray(maps.groups), statistic, rng, seeds=np.asarray(maps.seeds)
    )
    return [
        Estimate(
            None if np.isnan(mean) else float(mean),
            None if np.isnan(ends).any() else (float(ends[0]), float(ends[1])),
        )
        for mean, ends in zip(means, np.stack([low, high], axis=1), strict=True)
    ]


def map_similarity(maps: Maps, rng: np.random.Generator) -> MapSimilarity:
    """How alike both maps are, beyond layer and kind of block, and beyond other items' maps."""
    sites = np.flatnonzero(maps.open).tolist()
    behavior, explanation = changes(maps.behavior)[:, sites], changes(maps.explanation)[:, sites]
    cells = without_cell_means([maps.sites[i].cell for i in sites])
    count = len(sites)

    def statistic(sums: Float[np.ndarray, "resamples s"]) -> Float[np.ndarray, "resamples 2"]:
        # In nats: as shares of a total near 0 they would have an arbitrary sign.
        first, second = sums[:, :count], sums[:, count:]
        return np.column_stack([correlation(first, second), correlation(first @ cells, second @ cells)])

    counts = np.column_stack([behavior, explanation])
    whole, within = estimates(counts, statistic, maps, rng)
    own = correlation(behavior, explanation)
    other = np.stack(
        [correlation(behavior, explanation[places]) for places in other_groups(maps.groups, maps.seeds, rng)]
    ).mean(axis=0)
    known = ~np.isnan(own) & ~np.isnan(other)
    paired = np.where(known, [own, other, own - other], 0.0)

    def means(sums: Float[np.ndarray, "resamples 4"]) -> Float[np.ndarray, "resamples 3"]:
        return divide(sums[:, :3], sums[:, 3:])

    same, others, difference = estimates(np.column_stack([*paired, known]), means, maps, rng)
    return MapSimilarity(whole, within, same, others, difference)


def other_groups(groups: Sequence[str], seeds: Sequence[int], rng: np.random.Generator) -> list[np.ndarray]:
    """For each item the place of an item of another group and the same seed, `UNRELATED` times; its own
    place where there is none."""
    names, own = np.asarray(groups), np.asarray(seeds)
    choices = [np.flatnonzero((names != names[i]) & (own == own[i])) for i in range(len(names))]
    return [
        np.array([rng.choice(found) if len(found) else i for i, found in enumerate(choices)])
        for _ in range(UNRELATED)
    ]


def correlation(
    first: Float[np.ndarray, "rows sites"], second: Float[np.ndarray, "rows sites"]
) -> Float[np.ndarray, " rows"]:
    """Pearson's correlation of each pair of rows; NaN where a row is constant."""
    one, other = (values - values.mean(axis=1, keepdims=True) for values in (first, second))
    sizes = np.sqrt((one**2).sum(axis=1) * (other**2).sum(axis=1))
    # A row that should be constant has deviations of rounding alone.
    noise = 1e-6 * np.sqrt((first**2).sum(axis=1) * (second**2).sum(axis=1))
    return divide((one * other).sum(axis=1), np.where(sizes > noise, sizes, 0.0))


def without_cell_means(cells: Sequence[str]) -> Float[np.ndarray, "sites sites"]:
    """The projection that takes the mean of its cell out of every site."""
    names = np.asarray(cells)
    same = (names[:, None] == names[None, :]).astype(np.float64)
    return np.eye(len(names)) - same / same.sum(axis=1, keepdims=True)


def attribution_quality(
    exact: Differences, first_order: Float[np.ndarray, "items sites"], used: Bool[np.ndarray, " sites"]
) -> float | None:
    """The correlation over sites of mean exact and mean first-order changes; None if it is undefined."""
    pair = [values.mean(axis=0)[None, used] for values in (changes(exact), first_order)]
    value = float(correlation(*pair)[0])
    return None if np.isnan(value) else value
