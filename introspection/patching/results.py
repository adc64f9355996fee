"""What `patching.json` holds, as frozen values: a field is a key."""

import dataclasses
from collections.abc import Mapping

from introspection.coupling.estimates import Estimate
from introspection.probes.patching import PatchingConfig


@dataclasses.dataclass(frozen=True)
class SiteEffects:
    """One site: what share of the other run's logit difference it restores; 1 is all."""

    kind: str  # residual, attention, mlp or head
    layer: int
    group: str  # of positions; "all" for heads
    head: int | None
    behavior: Estimate
    explanation: Estimate
    fixed: bool  # by construction, so it is left out of correlations and choices


@dataclasses.dataclass(frozen=True)
class MapSimilarity:
    """Correlations of behaviour's map and the explanation's over the sites that both have (Pearson's)."""

    correlation: Estimate = Estimate()  # of the mean maps
    within_cells: Estimate = Estimate()  # after the mean of every layer × kind of block is taken out
    same_item: Estimate = Estimate()  # mean over items, of an item's two maps
    other_item: Estimate = Estimate()  # the same, with the explanation's map of another fact
    same_minus_other: Estimate = Estimate()


@dataclasses.dataclass(frozen=True)
class CausalShare:
    """The behaviour's strongest sites patched together, chosen on other facts than they are patched on."""

    sites: tuple[str, ...] = ()  # as chosen by any seed and half, the most frequent first
    behavior_flips: Estimate = Estimate()  # share of items whose behaviour becomes that on x\C
    explanation_flips: Estimate = Estimate()  # of those that say "changed", share that then deny it
    follow: Estimate = Estimate()  # of those whose behaviour flips, share whose explanation flips, too
    random_follow: Estimate = Estimate()  # the same with random sites of the same layers and kinds
    restored: Estimate = Estimate()  # of the explanation's logit difference, as in the maps
    random_restored: Estimate = Estimate()
    restored_minus_random: Estimate = Estimate()
    flips_minus_random: Estimate = Estimate()  # explanation_flips, minus the same with random sites
    follow_minus_random: Estimate = Estimate()  # in files since 2026-12-01
    says_changed: int = 0  # items whose explanation says "changed" before
    at_most: float | None = None  # share of these that deny it if the whole run is the other one


@dataclasses.dataclass(frozen=True)
class PartSimilarity:
    """One matrix: cosines between gradients of behaviour's and the explanation's logit difference."""

    layer: int | None  # null: in no layer
    module: str
    same_items: float | None  # means over seeds
    other_items: float | None  # of two halves of the facts
    behavior_halves: float | None  # of behaviour with itself: what noise allows
    explanation_halves: float | None


@dataclasses.dataclass(frozen=True)
class PartEffect:
    """One matrix of the donor put in: its share of what all of them do."""

    layer: int | None
    module: str
    behavior: float | None
    explanation: float | None


@dataclasses.dataclass(frozen=True)
class WeightSwap:
    """Matrices of another model put into an arm, one at a time."""

    donor: str
    behavior_change: float  # nats: what all of the donor's weights do to the logit difference on x
    explanation_change: float
    correlation: float | None  # of the two columns over parts
    parts: tuple[PartEffect, ...]


@dataclasses.dataclass(frozen=True)
class PatchedModel:
    """An arm after training, or a model before it."""

    n: int  # items, over seeds
    seeds: tuple[int, ...]
    # Logit differences in nats, means on x and on x\C.
    behavior_difference: tuple[float, float]
    explanation_difference: tuple[float, float]
    similarity: MapSimilarity
    causal: CausalShare
    sites: tuple[SiteEffects, ...]
    reverse: tuple[SiteEffects, ...]  # the cue put into the run without it
    # The correlation of first-order effects with exact ones: behaviour's, the explanation's.
    attribution: tuple[float | None, float | None]
    gradients: tuple[PartSimilarity, ...] = ()
    swaps: tuple[WeightSwap, ...] = ()
    gap_minus_reference: Estimate = Estimate()  # of results.json: against the best static emitter
    gap: Estimate = Estimate()


@dataclasses.dataclass(frozen=True)
class PatchingResults:
    """A workdir's `patching.json`."""

    models: Mapping[str, PatchedModel]  # arms by name, and the models before training: initial, foreign
    skipped: Mapping[str, str]  # models that could not be patched, and why
    settings: PatchingConfig
    tiny: bool = False  # no evidence
    fingerprints: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)  # by model, seed
