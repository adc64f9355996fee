"""Activation patching: what an activation of one run does in another (Vig et al. 2020; Meng et al. 2022).

Exactly, by running the model once for every set of sites, all of them in one program; or to first order, by
one forward and one backward pass for all sites (attribution patching; Nanda 2023; Syed et al. 2023).
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from introspection.errors import InputError
from introspection.models.config import ModelConfig
from introspection.models.decoder import forward
from introspection.models.head import head_matrix
from introspection.models.interventions import Activations, Patch, PatchWeights
from introspection.models.model import Model
from introspection.probes.contrasts import GROUPS, Contrast, ContrastBatch, contrast_batch
from introspection.probes.scoring import exact_products
from introspection.runtime.compiled import Program
from introspection.runtime.config import check_choice, check_choices
from introspection.runtime.mesh import put_rows
from introspection.runtime.processes import gather
from introspection.runtime.session import Session
from introspection.text.buckets import batch_tokens, bucket

AGAINST = ("no_cue", "weaker_cue")
KINDS = ("residual", "attention", "mlp", "head")
ITEMS = 32  # of one call
# Tokens that are patched side by side: on two cores of an AMD EPYC, 64 sites of 32 items took 0.10 s of CPU
# time with 2,048, which stay in its caches, and 0.17 s with 8,192.
PATCHED_TOKENS = 2048


@dataclasses.dataclass(frozen=True)
class PatchingConfig:
    """What `experiments.patch` patches; training does not depend on it."""

    test_items: int = 100  # of a model, whose behaviour the cue changes, evenly spaced; 0: all
    # The other run: "no_cue" is x\C; "weaker_cue" is the same question with a cue that changes nothing.
    against: str = "no_cue"
    kinds: tuple[str, ...] = KINDS  # of sites
    layers: tuple[int, ...] = ()  # () is all
    heads: tuple[int, ...] = ()  # query heads of every layer; () is all
    top: int = 6  # the behaviour's strongest sites that are patched together
    draws: int = 20  # random sets of sites that they are held against
    seed: int = 0  # of random sets, halves of the items and resamples

    def __post_init__(self):
        check_choice("config.patching.against", self.against, AGAINST)
        check_choices("config.patching.kinds", self.kinds, KINDS)
        for name, least in (("test_items", 0), ("top", 1), ("draws", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise InputError(
                    f"config.patching.{name} is {getattr(self, name)}; it must be at least {least}"
                )


class Site(NamedTuple):
    """Where an activation is replaced: after a layer, or in it, at the positions of one group."""

    kind: str  # one of `KINDS`
    layer: int
    group: str  # one of `GROUPS`; "all": at every position
    head: int | None = None

    @property
    def name(self) -> str:
        part = self.kind if self.head is None else f"{self.kind} {self.head}"
        return f"layer {self.layer} {part}" + ("" if self.group == "all" else f", {self.group}")

    @property
    def cell(self) -> str:
        """The name shared by sites of the same layer and kind of block."""
        return f"layer {self.layer} {self.kind}"


class SiteWeights(NamedTuple):
    """How far each site is patched, 0 to 1; several together are one intervention."""

    residual: Float[np.ndarray, "layers groups"]
    attention: Float[np.ndarray, "layers groups"]
    mlp: Float[np.ndarray, "layers groups"]
    head: Float[np.ndarray, "layers heads groups"]


class Differences(NamedTuple):
    """Logit differences (nats) of the unpatched runs, and of one of them with each intervention."""

    base: Float[np.ndarray, " items"]
    source: Float[np.ndarray, " items"]
    patched: Float[np.ndarray, "items sets"]


def all_sites(config: ModelConfig, groups: Sequence[str], chosen: PatchingConfig | None = None) -> list[Site]:
    """Residual stream, attention and MLP of every layer by group, and single heads, as far as chosen.

    Raises:
      InputError: the model has no such layer or head.
    """
    chosen = chosen or PatchingConfig()
    layers, heads = chosen.layers or range(config.layers), chosen.heads or range(config.query_heads)
    for name, asked, count in (("layers", layers, config.layers), ("heads", heads, config.query_heads)):
        if outside := [one for one in asked if not 0 <= one < count]:
            raise InputError(
                f"config.patching.{name} has {outside[0]}; the model has {name} 0 to {count - 1}"
            )
    found = []
    for layer in layers:
        for kind in chosen.kinds:
            if kind == "head":
                found += [Site(kind, layer, "all", head) for head in heads]
            else:
                found += [Site(kind, layer, group) for group in groups]
    return found


def site_weights(config: ModelConfig, sets: Sequence[Sequence[Site]]) -> SiteWeights:
    """Weights of 1 at the sites of each set, stacked along a leading axis.

    Raises:
      InputError: a site lies outside the model.
    """
    blocks = {kind: np.zeros((len(sets), config.layers, len(GROUPS)), np.float32) for kind in KINDS[:3]}
    heads = np.zeros((len(sets), config.layers, config.query_heads, len(GROUPS)), np.float32)
    for index, chosen in enumerate(sets):
        for site in chosen:
            head = 0 if site.head is None else site.head
            if not (0 <= site.layer < config.layers and 0 <= head < config.query_heads):
                raise InputError(
                    f"{site.name} is outside the model, which has {config.layers} layers of "
                    f"{config.query_heads} heads"
                )
            where = slice(None) if site.group == "all" else GROUPS.index(site.group)
            if site.head is None:
                blocks[site.kind][index, site.layer, where] = 1
            else:
                heads[index, site.layer, site.head, where] = 1
    return SiteWeights(**blocks, head=heads)


def logit_differences(
    config: ModelConfig, variables, batch: ContrastBatch, weights: SiteWeights
) -> Float[Array, "sets items"]:
    """Base runs with each set of sites taken from the source runs, all sets in one program.

    Sets are run side by side, as many as fit into a batch.
    """
    values = source_values(config, variables, batch)

    def one_set(own: SiteWeights) -> Float[Array, " items"]:
        by_item = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (len(batch.base), *leaf.shape)), own)
        return patched_differences(config, variables, batch, values, by_item)

    tokens = PATCHED_TOKENS if jax.default_backend() == "cpu" else batch_tokens()
    side_by_side = max(tokens // batch.base.size, 1)
    return jax.lax.map(one_set, weights, batch_size=min(side_by_side, len(weights.mlp)))


def first_order_effects(config: ModelConfig, variables, batch: ContrastBatch) -> SiteWeights:
    """The derivative of each item's logit difference by the weight of every site, at 0: one backward pass.

    It is the gradient by the activation times the activation's change, summed over a site's positions.
    """
    values = source_values(config, variables, batch)
    none = SiteWeights(*(leaf[0] for leaf in site_weights(config, [[]])))
    by_item = jax.tree.map(lambda leaf: jnp.zeros((len(batch.base), *leaf.shape)), none)

    def total(weights: SiteWeights) -> Float[Array, ""]:
        return patched_differences(config, variables, batch, values, weights).sum()

    return jax.grad(total)(by_item)


def unpatched_differences(
    config: ModelConfig, variables, batch: ContrastBatch
) -> tuple[Float[Array, " items"], Float[Array, " items"]]:
    """The logit differences of the base and of the source runs."""
    base = _difference(config, variables, batch, None)
    source = batch._replace(base=batch.source, base_length=batch.source_length)
    return base, _difference(config, variables, source, None)


def source_values(config: ModelConfig, variables, batch: ContrastBatch) -> Activations:
    """The source runs' activations, at the positions of the base runs for which they stand."""
    read = forward(config, variables, *_run(batch.source, batch.source_length), return_activations=True)
    return jax.tree.map(
        lambda leaf: jnp.einsum("rbs,lrs...->lrb...", batch.counterpart, leaf), read.activations
    )


def patched_differences(
    config: ModelConfig, variables, batch: ContrastBatch, values: Activations, weights: SiteWeights
) -> Float[Array, " items"]:
    """The base runs' logit differences with `values` at each item's sites (`weights` have an item axis)."""
    groups = batch.groups.astype(jnp.float32)

    def placed(own: Any) -> Float[Array, "layers items time"]:
        return jnp.einsum("rlg,rtg->lrt", own, groups)

    heads = jnp.einsum("rlhg,rtg->lrth", weights.head, groups)
    places = PatchWeights(placed(weights.residual), placed(weights.attention), placed(weights.mlp), heads)
    return _difference(config, variables, batch, Patch(values, places))


def _run(tokens: Any, lengths: Any) -> tuple[Any, Array, Array]:
    """Tokens, positions and segments of right-padded runs."""
    index = jnp.arange(tokens.shape[1])
    return tokens, jnp.broadcast_to(index, tokens.shape), jnp.where(index < lengths[:, None], 0, -1)


def _difference(
    config: ModelConfig, variables, batch: ContrastBatch, patch: Patch | None
) -> Float[Array, " items"]:
    """The logit of `says` minus that of `denies` after each base run's last token."""
    hidden = forward(config, variables, *_run(batch.base, batch.base_length), patch=patch).hidden
    last = jnp.take_along_axis(hidden, (batch.base_length - 1)[:, None, None], axis=1)[:, 0]
    rows = head_matrix(variables, config)[jnp.stack([batch.says, batch.denies])]
    logits = jnp.einsum("nw,knw->kn", last, rows.astype(last.dtype), preferred_element_type=jnp.float32)
    if config.final_softcap is not None:
        logits = config.final_softcap * jnp.tanh(logits / config.final_softcap)
    return logits[0] - logits[1]


def patch_sites(
    model: Model,
    contrasts: Sequence[Contrast],
    sets: Sequence[Sequence[Site]],
    session: Session,
    progress: Callable[[int], None] = lambda done: None,
) -> Differences:
    """Exact patching: every contrast with each set of sites replaced; `progress` is called with items done.

    Raises:
      InputError: as `site_weights`.
    """
    config = model.config.for_probes()
    weights = site_weights(config, sets)
    unpatched = patching_program("unpatched_differences", config, unpatched_differences, session)
    patched = patching_program("patched_differences", config, logit_differences, session, data=(1, 2))
    found = []
    for batch, count in contrast_batches(contrasts):
        placed = put_rows(batch, session.mesh)
        base, source = unpatched(model.variables, placed)
        sides = (base, source, patched(model.variables, placed, weights).T)
        found.append([gather(side)[:count] for side in sides])
        progress(count)
    return Differences(*map(np.concatenate, zip(*found, strict=True)))


def attribute_sites(
    model: Model, contrasts: Sequence[Contrast], sites: Sequence[Site], session: Session
) -> Float[np.ndarray, "items sites"]:
    """Attribution patching: the first-order change of each contrast's logit difference by each site (nats).

    Raises:
      InputError: as `site_weights`.
    """
    config = model.config.for_probes()
    where = site_weights(config, [[site] for site in sites])
    found = []
    for batch, count in contrast_batches(contrasts):
        effects = patching_program("first_order_effects", config, first_order_effects, session)(
            model.variables, put_rows(batch, session.mesh)
        )
        parts = [
            gather(effect).reshape(ITEMS, -1) @ chosen.reshape(len(sites), -1).T
            for chosen, effect in zip(where, effects, strict=True)
        ]
        found.append(np.sum(parts, axis=0)[:count])
    return np.concatenate(found)


def patching_program(
    name: str, config: ModelConfig, function: Callable, session: Session, data: tuple[int, ...] = (1,)
) -> Program:
    """The program of a function of the config, the variables, a batch and more."""
    return session.programs.program(
        name, config, lambda: exact_products(lambda *arrays: function(config, *arrays)), data=data
    )


def contrast_batches(contrasts: Sequence[Contrast]) -> Iterator[tuple[ContrastBatch, int]]:
    """Batches of one shape, each with the number of contrasts in it."""
    longest = max(len(run.tokens) for one in contrasts for run in (one.with_cue, one.without_cue))
    time = bucket(longest, smallest=8)
    for start in range(0, len(contrasts), ITEMS):
        chosen = contrasts[start : start + ITEMS]
        yield contrast_batch(chosen, time, ITEMS), len(chosen)
