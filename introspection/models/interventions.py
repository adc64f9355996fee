"""Activations of a decoder as arguments and results: what is read, and what replaces it."""

from typing import NamedTuple

from jaxtyping import Array, Float


class Activations(NamedTuple):
    """What a decoder computes in every layer, from the first to the last."""

    residual: Float[Array, "layers rows time width"]  # the residual stream after the layer
    attention: Float[Array, "layers rows time width"]  # what attention adds to it
    mlp: Float[Array, "layers rows time width"]  # what the MLP adds to it
    heads: Float[Array, "layers rows time heads head_dim"]  # each head's output before the output projection


class PatchWeights(NamedTuple):
    """How far each activation moves to its replacement: 0 leaves it, 1 replaces it."""

    residual: Float[Array, "layers rows time"]
    attention: Float[Array, "layers rows time"]
    mlp: Float[Array, "layers rows time"]
    heads: Float[Array, "layers rows time heads"]


class Patch(NamedTuple):
    """Replacements of activations: `a + weight (value - a)`, in the order in which they are computed.

    So weights of 0 change nothing, exactly, and the derivative by a weight at 0 is the first-order effect of
    the whole replacement.
    """

    values: Activations
    weights: PatchWeights


def replaced(name: str, activation: Array, patch: Patch | None) -> Array:
    """One layer's activation after a patch, of which `patch` has that layer alone."""
    if patch is None:
        return activation
    weight, value = getattr(patch.weights, name)[..., None], getattr(patch.values, name)
    return (activation + weight * (value - activation)).astype(activation.dtype)
