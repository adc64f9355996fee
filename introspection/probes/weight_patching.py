"""Which weights a logit difference depends on: gradients by matrix, and matrices of another model put in."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from introspection.models.config import ModelConfig
from introspection.models.model import Model
from introspection.probes.contrasts import Contrast, ContrastBatch
from introspection.probes.patching import contrast_batches, patching_program, unpatched_differences
from introspection.runtime.mesh import put_rows
from introspection.runtime.processes import gather
from introspection.runtime.session import Session

REST = "rest"  # embedding, head (or its adapter) and final norm


class WeightPart(NamedTuple):
    """The weights of one module of a layer; what is in no layer is one part, `REST` of no layer."""

    layer: int | None
    module: str

    @property
    def name(self) -> str:
        return self.module if self.layer is None else f"layer {self.layer} {self.module}"


def trained_collection(model: Model) -> str:
    """The variables that explanation training changes: adapters, if there are any, else all parameters."""
    return "lora" if "lora" in model.variables else "params"


def weight_parts(trained: dict[str, Any]) -> list[WeightPart]:
    """Every module of every layer, and the rest."""
    layers = trained["layers"]
    count = jax.tree.leaves(layers)[0].shape[0]
    found = [WeightPart(layer, module) for layer in range(count) for module in layers]
    return found + ([WeightPart(None, REST)] if len(trained) > 1 else [])


def by_part(trained: dict[str, Any]) -> dict[WeightPart, Float[np.ndarray, " numbers"]]:
    """All numbers of each part as one vector."""
    leaves = {
        module: [gather(leaf).astype(np.float64) for leaf in jax.tree.leaves(tree)]
        for module, tree in trained["layers"].items()
    }
    rest = [
        gather(leaf).astype(np.float64)
        for name in sorted(trained.keys() - {"layers"})
        for leaf in jax.tree.leaves(trained[name])
    ]
    return {
        part: np.concatenate(
            [leaf.ravel() for leaf in rest]
            if part.layer is None
            else [leaf[part.layer].ravel() for leaf in leaves[part.module]]
        )
        for part in weight_parts(trained)
    }


def difference_gradients(
    model: Model, contrasts: Sequence[Contrast], session: Session
) -> dict[WeightPart, Float[np.ndarray, " numbers"]]:
    """The gradient of the summed logit differences on x, by part of the weights that training changes."""
    config, collection = model.config.for_probes(), trained_collection(model)

    def summed(config: ModelConfig, variables, batch: ContrastBatch, counted) -> dict[str, Any]:
        def total(trained: dict[str, Any]) -> Float[Array, ""]:
            base, _ = unpatched_differences(config, {**variables, collection: trained}, batch)
            return jnp.sum(base * counted)

        # By float32 numbers: gradients of bfloat16 ones would be summed in bfloat16.
        return jax.grad(total)(jax.tree.map(lambda leaf: leaf.astype(jnp.float32), variables[collection]))

    program = patching_program(f"difference_gradients of {collection}", config, summed, session)
    total = None
    for batch, count in contrast_batches(contrasts):
        counted = np.float32(np.arange(len(batch.base)) < count)
        found = program(model.variables, put_rows(batch, session.mesh), counted)
        total = found if total is None else jax.tree.map(jnp.add, total, found)
    assert total is not None  # there is a contrast
    return by_part(total)


def patch_weights(
    model: Model,
    donor: Model,
    contrasts: Sequence[Contrast],
    parts: Sequence[Sequence[WeightPart]],
    session: Session,
    progress: Callable[[int], None] = lambda done: None,
) -> Float[np.ndarray, "items sets"]:
    """The logit differences on x with each set of parts taken from a donor of the same shape.

    One set after another inside one program, so that a single copy of the weights is made at a time.
    """
    config, collection = model.config.for_probes(), trained_collection(model)
    shares = part_shares(model.variables[collection], parts)

    def swapped(config: ModelConfig, variables, batch: ContrastBatch, other, shares) -> Float[Array, "s i"]:
        def one_set(own: dict[str, Any]) -> Float[Array, " items"]:
            def mixed(share: Array, here: Array, there: Array) -> Array:
                return here + share.reshape(-1, *[1] * (here.ndim - 1)) * (there - here)

            trained = jax.tree.map(mixed, own, variables[collection], other)
            return unpatched_differences(config, {**variables, collection: trained}, batch)[0]

        return jax.lax.map(one_set, shares)

    program = patching_program(f"patched_weights of {collection}", config, swapped, session)
    found = []
    for batch, count in contrast_batches(contrasts):
        placed = put_rows(batch, session.mesh)
        found.append(gather(program(model.variables, placed, donor.variables[collection], shares)).T[:count])
        progress(count)
    return np.concatenate(found)


def part_shares(trained: dict[str, Any], sets: Sequence[Sequence[WeightPart]]) -> dict[str, Any]:
    """1 where a set has a part, else 0, shaped as the leaves: one number a layer, or one in all."""

    def share(path, leaf) -> Float[np.ndarray, "sets layers_or_one"]:
        names = [key.key for key in path]
        own = [WeightPart(None, REST)]
        if names[0] == "layers":
            own = [WeightPart(layer, names[1]) for layer in range(leaf.shape[0])]
        return np.array([[part in chosen for part in own] for chosen in sets], np.float32)

    return jax.tree_util.tree_map_with_path(share, trained)


def cosine(one: Float[np.ndarray, " numbers"], other: Float[np.ndarray, " numbers"]) -> float | None:
    """The cosine of the angle between two vectors; None if one is 0."""
    size = np.linalg.norm(one) * np.linalg.norm(other)
    return float(one @ other / size) if size else None
