"""Attention of rows to themselves by JAX's splash kernels for TPUs: no time × time array.

The kernels skip blocks by a causal mask and take one number a token, by which they let a query see the keys
with its own number. Ours is another relation, `query's place < key's end` (`attention.span_mask`), so they
run from a copy of JAX's module whose one comparison is replaced.
"""

import functools
import importlib.util
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu import splash_attention
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int

from introspection.runtime.mesh import ROW_AXES, row_parts

LANES = 128  # of a TPU's vector unit: tokens and head dimensions are padded to a multiple
LARGEST_BLOCK = 512  # tokens that a kernel holds at a time, of queries and of keys
BLOCKS = (
    *("block_q", "block_kv", "block_kv_compute", "block_q_dkv", "block_kv_dkv", "block_kv_dkv_compute"),
    *("block_q_dq", "block_kv_dq"),
)


class Options(NamedTuple):
    """What a kernel is compiled for, beside its shapes."""

    block: int  # tokens, a divisor of the row's
    softcap: float | None
    interpret: bool


def row_attention(
    queries: Float[Array, "rows time heads head_dim"],
    keys: Float[Array, "rows time kv_heads head_dim"],
    values: Float[Array, "rows time kv_heads head_dim"],
    ends: Int[Array, "rows time"],
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
    scaled = queries.astype(jnp.float32) * (head_dim**-0.5 if scale is None else scale)
    queries = scaled.astype(queries.dtype)
    by_head = [_by_head(array, padded) for array in (queries, keys, values)]
    ends = jnp.pad(ends, ((0, 0), (0, padded - time)))  # nothing sees padding
    options = Options(block, softcap, interpret)
    attend = jax.vmap(functools.partial(_one_row, options))
    attended = _by_device(attend, queries.shape[0], keys.shape[2])(*by_head, ends)
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


def _by_device(attend: Any, rows: int, kv_heads: int) -> Any:
    """`attend` where every device of the mesh, if there is one, computes its own rows and heads."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return attend
    split_rows = None if rows % row_parts(mesh) else ROW_AXES
    spec = P(split_rows, None if kv_heads % mesh.shape["tensor"] else "tensor")
    return jax.shard_map(attend, in_specs=(spec, spec, spec, P(split_rows)), out_specs=spec, check_vma=False)


def _one_row(
    options: Options,
    queries: Float[Array, "heads time head_dim"],
    keys: Float[Array, "kv_heads time head_dim"],
    values: Float[Array, "kv_heads time head_dim"],
    ends: Int[Array, " time"],
) -> Float[Array, "heads time head_dim"]:
    kernels: Any = _kernels()
    heads, time = queries.shape[:2]
    mask = splash_attention_mask.MultiHeadMask([splash_attention_mask.CausalMask((time, time))] * heads)
    kernel = kernels.make_splash_mha_single_device(
        mask,
        block_sizes=kernels.BlockSizes(**dict.fromkeys(BLOCKS, options.block)),
        attn_logits_soft_cap=options.softcap,
        interpret=options.interpret,
    )
    return kernel(queries, keys, values, segment_ids=kernels.SegmentIds(jnp.arange(time), ends))


@functools.cache
def _kernels() -> ModuleType:
    """JAX's splash kernels, in which a query at place i sees the keys up to i whose number is above i."""
    spec: Any = importlib.util.find_spec(f"{splash_attention.__name__}.splash_attention_kernel")
    kernels = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(kernels)
    vars(kernels)["_apply_mask_and_soft_cap"] = _seen_logits
    return kernels


def _seen_logits(
    logits: Array,
    mask_value: float,
    should_not_mask: Any,
    mask: None,
    query_places: Any,
    query_ids: Any,
    key_ends: Any,
    *,
    k_slice: Any,
    k_offset: Any,
    bq: int,
    k_in_lanes: bool = True,
    attn_logits_soft_cap: float | None,
    mask_function: Any,
) -> Array:
    """In a kernel: one block's logits, softly capped, with `mask_value` where a key is not seen.

    The names of keywords are those of JAX's function in whose place this stands. Its last dimension is the
    keys' or (not `k_in_lanes`) the queries'.
    """
    del should_not_mask, mask, query_places, mask_function  # the places are the ids
    if attn_logits_soft_cap is not None:
        logits = jnp.tanh(logits / attn_logits_soft_cap) * attn_logits_soft_cap
    # Numbers come repeated along the other dimension, as often as there are lanes or sublanes.
    if k_in_lanes:
        places, ends = jnp.tile(query_ids[...], (1, k_slice.size // LANES)), key_ends[:1, k_slice]
    else:
        places, ends = query_ids[:1, :], jnp.tile(key_ends[k_slice, :], (1, bq // LANES))
    keys = k_offset + jax.lax.broadcasted_iota(jnp.int32, logits.shape, int(k_in_lanes))
    return jnp.where((keys <= places) & (places < ends), logits, mask_value)
