"""Attention of rows to themselves by JAX's splash kernels for TPUs: never a time × time array.

The kernels take a causal mask and one number a token, and let a query see the keys with its own number. A
row's tokens are so in two parts, whose softmaxes are merged by log-sum-exp: each sees its own segment (the
first continuation with the prompt, before which nothing else stands), and the tokens of later continuations
see the prompt. The backward pass of such a merge is the sum of the parts' backward passes, each given the
merged output and normaliser (as over the blocks of a ring; Liu et al. 2023, arXiv:2310.01889).
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernels
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int

from introspection.runtime.mesh import ROW_AXES, row_parts

LANES = 128  # of a TPU's vector unit: tokens and head dimensions are padded to a multiple
LARGEST_BLOCK = 512  # tokens that a kernel holds at a time, of queries and of keys
PADDING, NOTHING = -1, -2  # ids of keys that no real token sees, and of queries that see none


class SplashOptions(NamedTuple):
    """What a kernel is compiled for, beside its shapes."""

    block: int  # tokens, a divisor of the row's
    softcap: float | None
    interpret: bool


def splash_attention(
    queries: Float[Array, "rows time heads head_dim"],
    keys: Float[Array, "rows time kv_heads head_dim"],
    values: Float[Array, "rows time kv_heads head_dim"],
    segments: Int[Array, "rows time"],
    documents: Int[Array, "rows time"] | None = None,
    branched: bool = True,
    scale: float | None = None,
    softcap: float | None = None,
    interpret: bool = False,
) -> Float[Array, "rows time heads head_dim"]:
    """Attention as `attention.attention` has it, without prefixes and windows.

    Under a mesh every device computes its own rows and heads. `interpret` runs the kernels on any platform,
    slowly.
    """
    time, _, head_dim = queries.shape[1:]
    block, padded = _blocks(time)
    queries = queries * jnp.asarray(head_dim**-0.5 if scale is None else scale, queries.dtype)
    by_head = [_by_head(array, padded) for array in (queries, keys, values)]
    ids = tuple(
        tuple(jnp.pad(one, ((0, 0), (0, padded - time)), constant_values=PADDING) for one in part)
        for part in _parts(segments, documents, branched)
    )
    options = SplashOptions(block, softcap, interpret)
    attend = jax.vmap(functools.partial(_row_attention, options))
    attended = _by_device(attend, queries.shape[0], keys.shape[2])(*by_head, ids)
    return attended[:, :, :time, :head_dim].swapaxes(1, 2)


def _blocks(time: int) -> tuple[int, int]:
    """(tokens a block, tokens of a padded row): long rows are padded to whole large blocks."""
    unit = LARGEST_BLOCK if time > 4 * LARGEST_BLOCK else LANES
    padded = -(-time // unit) * unit
    return next(b for b in range(LARGEST_BLOCK, 0, -LANES) if padded % b == 0), padded


def _by_head(array: Array, padded: int) -> Float[Array, "rows heads padded lanes"]:
    array = array.swapaxes(1, 2)
    extra = (padded - array.shape[2], -array.shape[3] % LANES)
    return jnp.pad(array, ((0, 0), (0, 0), (0, extra[0]), (0, extra[1])))


def _parts(
    segments: Int[Array, "rows time"], documents: Int[Array, "rows time"] | None, branched: bool
) -> list[tuple[Int[Array, "rows time"], Int[Array, "rows time"]]]:
    """The (queries', keys') ids of each part."""
    document = jnp.zeros_like(segments) if documents is None else documents
    # A prompt and its first continuation are one sequence; the largest segment is below the row's length.
    own = jnp.where(segments == 1, 0, segments) if branched else jnp.zeros_like(segments)
    own = jnp.where(segments < 0, PADDING, document * segments.shape[-1] + own)
    if not branched:
        return [(own, own)]
    later = jnp.where(segments > 1, document, NOTHING)
    return [(own, own), (later, jnp.where(segments == 0, document, PADDING))]


def _by_device(attend: Any, rows: int, kv_heads: int) -> Any:
    """`attend` where every device of the mesh, if there is one, computes its own rows and heads."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return attend
    split_rows = None if rows % row_parts(mesh) else ROW_AXES
    spec = P(split_rows, None if kv_heads % mesh.shape["tensor"] else "tensor")
    specs = (spec, spec, spec, P(split_rows))
    return jax.shard_map(attend, in_specs=specs, out_specs=spec, check_vma=False)


def _kernel(options: SplashOptions, heads: int, time: int, residuals: bool) -> Any:
    mask = splash_attention_mask.MultiHeadMask([splash_attention_mask.CausalMask((time, time))] * heads)
    names = ("block_q", "block_kv", "block_kv_compute", "block_q_dkv", "block_kv_dkv")
    names += ("block_kv_dkv_compute", "block_q_dq", "block_kv_dq")
    return kernels.make_splash_mha_single_device(
        mask,
        block_sizes=kernels.BlockSizes(**dict.fromkeys(names, options.block)),
        save_residuals=residuals,
        attn_logits_soft_cap=options.softcap,
        interpret=options.interpret,
    )


Ids = tuple[tuple[Int[Array, " time"], Int[Array, " time"]], ...]


def _row_attention(
    options: SplashOptions,
    queries: Float[Array, "heads time head_dim"],
    keys: Float[Array, "kv_heads time head_dim"],
    values: Float[Array, "kv_heads time head_dim"],
    ids: Ids,
) -> Float[Array, "heads time head_dim"]:
    if len(ids) == 1:
        kernel = _kernel(options, *queries.shape[:2], residuals=False)
        return kernel(queries, keys, values, segment_ids=kernels.SegmentIds(*ids[0]))
    return _merged(options, queries, keys, values, ids)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _merged(options: SplashOptions, queries: Array, keys: Array, values: Array, ids: Ids) -> Array:
    return _merged_forward(options, queries, keys, values, ids)[0]


def _merged_forward(options: SplashOptions, queries: Array, keys: Array, values: Array, ids: Ids):
    kernel = _kernel(options, *queries.shape[:2], residuals=True)
    parts = [kernel(queries, keys, values, segment_ids=kernels.SegmentIds(*part)) for part in ids]
    normalisers = jnp.stack([normaliser for _, (normaliser,) in parts])
    merged = jax.nn.logsumexp(normalisers, axis=0)
    weights = jnp.exp(normalisers - merged)[..., None]  # 0 where a part has no key for a query
    outputs = jnp.stack([output for output, _ in parts]).astype(jnp.float32)
    output = jnp.sum(outputs * weights, axis=0).astype(queries.dtype)
    return output, (queries, keys, values, ids, output, merged)


def _merged_backward(options: SplashOptions, kept: tuple, slope: Array):
    queries, keys, values, ids, output, merged = kept
    kernel = _kernel(options, *queries.shape[:2], residuals=False)
    known = {name: value for name, value in kernel.kwargs.items() if name != "mask_function"}
    of_parts = []
    for part in ids:
        residuals = (
            *(queries, keys, values, kernels.SegmentIds(*part), None, output, merged),
            *(kernel.dq_mask_info, kernel.dkv_mask_info),
        )
        # JAX has no public way to differentiate a part by the normaliser of all parts.
        gradients = kernels._splash_attention_bwd(
            mask_function=kernel.kwargs["mask_function"], res=residuals, do=slope, **known
        )
        of_parts.append(gradients[3:6])
    summed = [sum(one[1:], start=one[0]) for one in zip(*of_parts, strict=True)]
    return *summed, jax.tree.map(lambda one: None, ids)


_merged.defvjp(_merged_forward, _merged_backward)
