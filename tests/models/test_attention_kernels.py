"""Attention kernels compute what plain attention computes, forward and backward, and need no square array."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import assert_trees_close, equations, tiny_config, tiny_variables

from introspection.models import attention as attention_module
from introspection.models import splash
from introspection.models.attention import LONGEST_WHOLE, RowView, attend, attention, span_mask
from introspection.models.decoder import forward

ROWS, HEADS, KV_HEADS, HEAD_DIM = 2, 2, 1, 8


def case(time, seed=0):
    """Queries, keys, values and slopes of the output; and a view of rows that hold two trees of tokens."""
    rng = np.random.default_rng(seed)
    queries, keys, values, slopes = (
        jnp.array(rng.normal(size=(ROWS, time, heads, HEAD_DIM)), jnp.float32)
        for heads in (HEADS, KV_HEADS, KV_HEADS, HEADS)
    )
    ends, third = np.zeros((ROWS, time), np.int32), time // 3
    ends[0, :third], ends[0, third : third + 9], ends[0, third + 9 : 2 * third] = (
        2 * third,
        third + 9,
        2 * third,
    )
    ends[0, 2 * third : -5] = time - 5  # the second tree, then padding
    ends[1] = time
    return (
        queries,
        keys,
        values,
        slopes,
        RowView(jnp.array(ends), jnp.broadcast_to(jnp.arange(time), ends.shape)),
    )


def outcome(function, arrays, slopes, view):
    """The output and the gradients; padding's output counts for nothing."""
    real = (view.ends > 0)[..., None, None]

    def loss(queries, keys, values):
        output = jnp.where(real, function(queries, keys, values), 0)
        return jnp.sum(output * slopes), output

    (_, output), gradients = jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))(*arrays)
    return output, gradients


@pytest.mark.parametrize(("time", "softcap"), [(120, 2.0), pytest.param(900, None, marks=pytest.mark.slow)])
def test_splash_attention_is_plain_attention(time, softcap):
    *arrays, slopes, view = case(time)  # 900 are three blocks of 384 tokens

    def kernels(*arrays):
        return splash.row_attention(*arrays, view.ends, softcap=softcap, interpret=True)

    def plain(*arrays):
        return attend(*arrays, span_mask(view.ends), softcap=softcap)

    assert_trees_close(
        outcome(kernels, arrays, slopes, view), outcome(plain, arrays, slopes, view), atol=2e-5
    )


def test_long_rows_in_blocks_of_queries_are_plain_attention(monkeypatch):
    *arrays, slopes, view = case(120)
    window, windowed = 40, jnp.array(True)
    whole = functools.partial(attention, view=view, window=window, windowed=windowed)
    expected = outcome(whole, arrays, slopes, view)
    monkeypatch.setattr(attention_module, "LONGEST_WHOLE", 100)
    monkeypatch.setattr(attention_module, "QUERY_BLOCK", 64)
    assert_trees_close(outcome(whole, arrays, slopes, view), expected, atol=2e-5)


@pytest.mark.parametrize("implementation", ["plain", "splash"])
def test_no_array_of_a_long_row_is_square(implementation):
    config = tiny_config(context_length=8192, attention=implementation, remat="full")
    variables, row = tiny_variables(config), jnp.zeros((1, 8192), jnp.int32)
    assert row.shape[1] > LONGEST_WHOLE

    def loss(variables):
        return forward(config, variables, row, row, row).hidden.sum()

    program = jax.make_jaxpr(jax.grad(loss))(variables)
    shapes = [var.aval.shape for one in equations(program.jaxpr) for var in one.outvars]
    assert [shape for shape in shapes if shape.count(8192) > 1] == []


@pytest.mark.parametrize("head_dim", [4, 12, 136])
def test_what_cudnn_does_not_read_is_computed_plainly(head_dim):
    """There is no GPU here, so that cuDNN itself would be refused."""
    like = jax.ShapeDtypeStruct((ROWS, 16, HEADS, head_dim), jnp.bfloat16)
    ends = jnp.full((ROWS, 16), 16, jnp.int32)
    view = RowView(ends, jnp.broadcast_to(jnp.arange(16), ends.shape))
    of_cudnn = functools.partial(attention, view=view, implementation="cudnn", branched=False)
    assert jax.eval_shape(of_cudnn, like, like, like).shape == like.shape
    fits = jax.ShapeDtypeStruct((ROWS, 16, HEADS, 64), jnp.bfloat16)
    with pytest.raises(RuntimeError, match="cuDNN"):
        jax.eval_shape(of_cudnn, fits, fits, fits)
