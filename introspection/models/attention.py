"""Attention over several blocks of keys, merged by log-sum-exp, and the kernels that compute it.

A query attends to its own row and, when scoring or decoding, to blocks of keys computed earlier (a prompt,
the tokens generated so far). Each block has its own softmax; weighting the blocks' outputs by the
exponentials of their log normalisers gives exactly the softmax over all of them. K continuations of a prompt
share its block without copies.

What a token sees is told by a few numbers a token (`RowView`), so that no kernel needs a time × time array.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from introspection.models import splash

# Finite, so that a fully masked block gets a weight of exactly 0 in the merge instead of NaN.
MASKED = -1e30
# Plain attention computes longer rows for so many queries at a time, and their logits again in the backward
# pass: it never holds those of a whole row.
QUERY_BLOCK, LONGEST_WHOLE = 512, 1024  # tokens
CUDNN_HEAD_DIM = 128  # the largest on every GPU; it must be a multiple of 8


class PrefixBlock(NamedTuple):
    """Keys and values of tokens before the row, for every layer.

    `rows // prefixes` consecutive rows share each prefix. `positions`, for windows, count from the start of
    the prompt, like those of the rows.
    """

    keys: Float[Array, "layers prefixes source kv_heads head_dim"]
    values: Float[Array, "layers prefixes source kv_heads head_dim"]
    mask: Bool[Array, "prefixes source"]
    positions: Int[Array, "prefixes source"]


class RowView(NamedTuple):
    """What each token of a row sees of it (`span_mask`), and where it is in its own text."""

    ends: Int[Array, "rows time"]
    positions: Int[Array, "rows time"]  # from the start of the prompt; distances in windows


class Masks(NamedTuple):
    """A `RowView` in full, for so many queries."""

    own: Bool[Array, "rows queries time"]  # keys of the row that are seen
    # Keys of the row, then of each prefix, that are near enough; None: no layer is windowed.
    windows: tuple[Bool[Array, "_ _ _"], ...] | None


def row_ends(segments: Int[Array, "rows time"]) -> Int[Array, "rows time"]:
    """The `ends` of rows of one prompt each: segment 0 is the prompt, each later segment, of tokens side by
    side, is a continuation that sees the prompt and itself; -1 is padding.

    Prompt p, continuations a and b, padding _      p p a a b _
    Segments                                        0 0 1 1 2 -1
    Ends                                            6 6 4 4 5 0
    """
    time = segments.shape[-1]
    last = jnp.pad(segments[:, 1:] != segments[:, :-1], ((0, 0), (0, 1)), constant_values=True)
    own = jax.lax.cummin(jnp.where(last, jnp.arange(1, time + 1), time), axis=1, reverse=True)
    return jnp.where(segments > 0, own, jnp.where(segments == 0, time, 0))


def span_mask(
    ends: Int[Array, "rows time"], queries: Int[Array, " queries"] | None = None
) -> Bool[Array, "rows queries time"]:
    """Which tokens of a row the tokens at the places `queries` (None: all) see: those before it, up to
    itself, in whose spans it is.

    The span of a token reaches to `ends`, the place after the last token that goes on from it (0: padding).
    So a row can hold several trees of tokens, each laid out depth first: starts p that texts have in common,
    and what differs, a, b and c. Of a second tree q, and padding _:

                                                    p p a a b b c q q _
    Ends                                            7 7 4 4 7 7 7 9 9 0
    The second token of a sees                      1 1 1 1 0 0 0 0 0 0
    The token of c, which goes on from b, sees      1 1 0 0 1 1 1 0 0 0
    The second token of q sees                      0 0 0 0 0 0 0 1 1 0
    """
    places = jnp.arange(ends.shape[-1])
    at = (places if queries is None else queries)[:, None]
    return (places <= at) & (at < ends[:, None, :])


def window_mask(
    positions: Int[Array, "rows time"], key_positions: Int[Array, "prefixes source"], window: int
) -> Bool[Array, "prefixes queries source"]:
    """Which keys are within the `window` tokens that end with a query, for rows that share prefixes.

    Distances are between positions, not places in a row, since continuations of a prompt lie side by side.
    """
    queries = positions.reshape(key_positions.shape[0], -1)
    return queries[:, :, None] - key_positions[:, None, :] < window


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
    queries: Float[Array, "rows queries heads head_dim"],
    keys: Float[Array, "rows time kv_heads head_dim"],
    values: Float[Array, "rows time kv_heads head_dim"],
    mask: Bool[Array, "rows queries time"],
    prefixes: tuple[PrefixBlock, ...] = (),
    windows: tuple[Bool[Array, "_ _ _"], ...] | None = None,
    scale: float | None = None,
    softcap: float | None = None,
) -> Float[Array, "rows queries heads head_dim"]:
    """Attention of a row to itself and to `prefixes` (here one layer's keys and values).

    `windows` are the `window_mask`s of the row's own keys, then of each prefix; None means no window.
    """
    masks = (mask, *(block.mask[:, None] for block in prefixes))
    if windows is not None:
        masks = tuple(seen & near for seen, near in zip(masks, windows, strict=True))
    output, normaliser = attend_block(queries, keys, values, masks[0], scale, softcap)
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


def all_masks(
    view: RowView,
    prefix_positions: tuple[Int[Array, "_ _"], ...],
    window: int,
    queries: Int[Array, " queries"] | None = None,
) -> Masks:
    """The masks of the queries at some places (None: all); `window` is 0 if no layer is windowed."""
    mask, windows = span_mask(view.ends, queries), None
    if window:
        at = view.positions if queries is None else view.positions[:, queries]
        windows = tuple(window_mask(at, keys, window) for keys in (view.positions, *prefix_positions))
    return Masks(mask, windows)


def attention(
    queries: Float[Array, "rows time heads head_dim"],
    keys: Float[Array, "rows time kv_heads head_dim"],
    values: Float[Array, "rows time kv_heads head_dim"],
    view: RowView,
    prefixes: tuple[PrefixBlock, ...] = (),
    *,
    implementation: str = "plain",
    branched: bool = True,
    window: int = 0,
    windowed: Bool[Array, ""] | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    masks: Masks | None = None,
    recomputed: bool = False,
) -> Float[Array, "rows time heads head_dim"]:
    """Attention of rows to themselves and to `prefixes` (here one layer's keys and values).

    Args:
      implementation: "splash" (TPU), "cudnn" (GPU) or "plain". What a kernel can't express (prefixes,
        windows, rows shorter than a TPU's lanes; for cuDNN also softcaps, float32, `branched` and some sizes
        of heads) is computed plainly, in blocks of queries where rows are long.
      branched: False promises that every token sees all before it, but for padding at a row's end.
      window: tokens that a query in a windowed layer sees; 0: no layer is windowed. `windowed` says whether
        this layer is.
      masks: those of `all_masks`, if they are known and rows are short (`LONGEST_WHOLE`).
      recomputed: whether the backward pass computes the weights once more: those of packed rows take more
        time to store. Longer rows' always are.
    """
    time, alone = queries.shape[1], not prefixes and not window
    if implementation == "splash" and alone and time >= splash.LANES:
        return splash.row_attention(queries, keys, values, view.ends, scale, softcap)
    is_half, head_dim = queries.dtype in (jnp.bfloat16, jnp.float16), queries.shape[-1]
    fits = is_half and head_dim % 8 == 0 and head_dim <= CUDNN_HEAD_DIM
    if implementation == "cudnn" and alone and fits and not (branched or softcap):
        return jax.nn.dot_product_attention(
            queries, keys, values, scale=scale, is_causal=True, implementation="cudnn"
        )

    def attend_from(queries: Float[Array, "rows queries heads head_dim"], masks: Masks):
        near = None if masks.windows is None else tuple(one | ~windowed for one in masks.windows)
        return attend(queries, keys, values, masks.own, prefixes, near, scale, softcap)

    places = tuple(block.positions for block in prefixes)
    if time <= LONGEST_WHOLE:
        whole = jax.checkpoint(attend_from, prevent_cse=False) if recomputed else attend_from
        return whole(queries, masks or all_masks(view, places, window))

    @jax.checkpoint
    def from_block(block):
        at, queries = block
        return attend_from(queries, all_masks(view, places, window, at))

    blocks = -(-time // QUERY_BLOCK)
    # Queries past the end are the last one once more.
    at = jnp.minimum(jnp.arange(blocks * QUERY_BLOCK), time - 1).reshape(blocks, QUERY_BLOCK)
    attended = jax.lax.map(from_block, (at, jnp.moveaxis(queries[:, at], 1, 0)))
    return jnp.moveaxis(attended, 0, 1).reshape(queries.shape[0], -1, *queries.shape[2:])[:, :time]
