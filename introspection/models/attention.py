"""Attention over several blocks of keys, merged by log-sum-exp.

A query attends to its own row and, when scoring or decoding, to blocks of keys computed earlier (a prompt,
the tokens generated so far). Each block has its own softmax; weighting the blocks' outputs by the
exponentials of their log normalisers gives exactly the softmax over all of them. K continuations of a prompt
share its block without copies.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from introspection.models.config import RopeScaling

# Finite, so that a fully masked block gets a weight of exactly 0 in the merge instead of NaN.
MASKED = -1e30


class PrefixBlock(NamedTuple):
    """Keys and values of tokens before the row, for every layer.

    `rows // prefixes` consecutive rows share each prefix. `positions`, for windows, count from the start of
    the prompt, like those of the rows.
    """

    keys: Float[Array, "layers prefixes source kv_heads head_dim"]
    values: Float[Array, "layers prefixes source kv_heads head_dim"]
    mask: Bool[Array, "prefixes source"]
    positions: Int[Array, "prefixes source"]


def row_mask(segments: Int[Array, "rows time"]) -> Bool[Array, "rows time time"]:
    """Which tokens of a row each token sees: segment 0 is the shared prompt, each later segment is a
    continuation that sees the prompt and itself; -1 is padding.

    Prompt p, continuations a and b, padding _      p p a a b _
    The second token of a sees                      1 1 1 1 0 0
    The token of b sees                             1 1 0 0 1 0
    """
    time = segments.shape[-1]
    query, key = segments[:, :, None], segments[:, None, :]
    causal = jnp.tril(jnp.ones((time, time), bool))
    return causal & (key >= 0) & ((key == 0) | (key == query))


def span_mask(ends: Int[Array, "rows time"]) -> Bool[Array, "rows time time"]:
    """Which tokens each token of packed rows sees: those before it, up to itself, in whose spans it is.

    The span of a token reaches to `ends`, the place after the last token that goes on from it (0: padding).
    So a row holds several trees of tokens, each laid out depth first: starts p that texts have in common, and
    what differs, a, b and c. Of a second tree q, and padding _:

                                                    p p a a b b c q q _
    Ends                                            7 7 4 4 7 7 7 9 9 0
    The second token of a sees                      1 1 1 1 0 0 0 0 0 0
    The token of c, which goes on from b, sees      1 1 0 0 1 1 1 0 0 0
    The second token of q sees                      0 0 0 0 0 0 0 1 1 0
    """
    places = jnp.arange(ends.shape[-1])
    return (places <= places[:, None]) & (places[:, None] < ends[:, None, :])


def window_mask(
    positions: Int[Array, "rows time"], key_positions: Int[Array, "prefixes source"], window: int
) -> Bool[Array, "prefixes queries source"]:
    """Which keys are within the `window` tokens that end with a query, for rows that share prefixes.

    Distances are between positions, not places in a row, since continuations of a prompt lie side by side.
    """
    queries = positions.reshape(key_positions.shape[0], -1)
    return queries[:, :, None] - key_positions[:, None, :] < window


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


def attend_block(
    queries: Float[Array, "rows time heads head_dim"],
    keys: Float[Array, "rows source kv_heads head_dim"],
    values: Float[Array, "rows source kv_heads head_dim"],
    mask: Bool[Array, "rows #time source"],  # noqa: F821
    scale: float | None = None,
    softcap: float | None = None,
) -> tuple[Float[Array, "rows time heads head_dim"], Float[Array, "rows time heads"]]:
    """Softmax attention over one block; returns the float32 output and the log normaliser.

    Logits are scaled by `scale` (None: head_dim^-1/2) and squashed into ±`softcap`, if given, by a tanh.
    """
    rows, time, heads, head_dim = queries.shape
    kv_heads = keys.shape[2]
    grouped = queries.reshape(rows, time, kv_heads, heads // kv_heads, head_dim)
    logits = jnp.einsum("rtkgd,rskd->rkgts", grouped, keys, preferred_element_type=jnp.float32)
    logits = logits * (head_dim**-0.5 if scale is None else scale)
    if softcap is not None:
        logits = softcap * jnp.tanh(logits / softcap)
    logits = jnp.where(mask[:, None, None], logits, MASKED)
    maximum = jax.lax.stop_gradient(logits.max(axis=-1, keepdims=True))
    weights = jnp.exp(logits - maximum)
    total = weights.sum(axis=-1, keepdims=True)
    weights = (weights / total).astype(values.dtype)
    output = jnp.einsum("rkgts,rskd->rtkgd", weights, values, preferred_element_type=jnp.float32)
    log_normaliser = (maximum + jnp.log(total))[..., 0]  # rows kv_heads group time
    return (
        output.reshape(rows, time, heads, head_dim),
        log_normaliser.transpose(0, 3, 1, 2).reshape(rows, time, heads),
    )


def attend(
    queries: Float[Array, "rows time heads head_dim"],
    keys: Float[Array, "rows time kv_heads head_dim"],
    values: Float[Array, "rows time kv_heads head_dim"],
    mask: Bool[Array, "rows time time"],
    prefixes: tuple[PrefixBlock, ...] = (),
    windows: tuple[Bool[Array, "_ _ _"], ...] | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    recomputed: bool = False,
) -> Float[Array, "rows time heads head_dim"]:
    """Attention of a row to itself and to `prefixes` (here one layer's keys and values).

    `windows` are the `window_mask`s of the row's own keys, then of each prefix; None means no window. If
    `recomputed`, the backward pass computes a row's weights once more: those of long rows take more time to
    store.
    """
    masks = (mask, *(block.mask[:, None] for block in prefixes))
    if windows is not None:
        masks = tuple(seen & near for seen, near in zip(masks, windows, strict=True))
    own = functools.partial(attend_block, scale=scale, softcap=softcap)
    own = jax.checkpoint(own, prevent_cse=False) if recomputed else own
    output, normaliser = own(queries, keys, values, masks[0])
    rows, time, heads, head_dim = queries.shape
    for block, seen in zip(prefixes, masks[1:], strict=True):
        groups = block.keys.shape[0]
        # Rows that share a prefix become more queries to it: one matrix product, no copied keys.
        shared = queries.reshape(groups, rows // groups * time, heads, head_dim)
        block_output, block_normaliser = attend_block(shared, block.keys, block.values, seen, scale, softcap)
        block_output = block_output.reshape(output.shape)
        block_normaliser = block_normaliser.reshape(normaliser.shape)
        merged = jnp.logaddexp(normaliser, block_normaliser)
        output = (
            output * jnp.exp(normaliser - merged)[..., None]
            + block_output * jnp.exp(block_normaliser - merged)[..., None]
        )
        normaliser = merged
    return output.astype(queries.dtype)
