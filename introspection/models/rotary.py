"""Rotary position embeddings."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from introspection.models.config import RopeScaling


def rotary_frequencies(
    head_dim: int, base: float, scaling: RopeScaling | None = None
) -> Float[Array, " half"]:
    """Rotation per position, in radians, of each pair of a head's dimensions."""
    half = head_dim // 2
    frequencies = base ** (-jnp.arange(half, dtype=jnp.float32) / half)
    if scaling is None:
        return frequencies
    if scaling.kind == "linear":
        return frequencies / scaling.factor
    turns = scaling.original_context_length * frequencies / (2 * jnp.pi)
    low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
    kept = jnp.clip((turns - low) / (high - low), 0.0, 1.0)
    return frequencies * (kept + (1.0 - kept) / scaling.factor)


def rotate(
    vectors: Float[Array, "rows time heads head_dim"],
    positions: Int[Array, "rows time"],
    frequencies: Float[Array, " half"],
) -> Float[Array, "rows time heads head_dim"]:
    """Rotary position embedding, half-split layout (Su et al. 2021; the layout of Llama checkpoints)."""
    angles = positions[:, :, None, None].astype(jnp.float32) * frequencies
    sin, cos = jnp.sin(angles), jnp.cos(angles)
    first, second = jnp.split(vectors.astype(jnp.float32), 2, axis=-1)
    rotated = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return rotated.astype(vectors.dtype)
