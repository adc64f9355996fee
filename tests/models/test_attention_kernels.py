"""Attention kernels compute what plain attention computes, forward and backward, and need no square array."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import assert_trees_close, equations, tiny_config, tiny_variables

from introspection.models import attention as attention_module
from introspection.models.attention import LONGEST_WHOLE, RowView, attend, attention, row_mask
from introspection.models.decoder import forward
from introspection.models.splash import splash_attention

ROWS, HEADS, KV_HEADS, HEAD_DIM = 2, 2, 1, 8


def case(time, seed=0):
    """Queries, keys, values and slopes of the output; the view has a prompt, three continuations, padding."""
    rng = np.random.default_rng(seed)
    queries, keys, values, slopes = (
        jnp.array(rng.normal(size=(ROWS, time, heads, HEAD_DIM)), jnp.float32)
        for heads in (HEADS, KV_HEADS, KV_HEADS, HEADS)
    )
    segments = np.full((ROWS, time), -1)
    for row, prompt in enumerate((time // 2, time // 3)):
        segments[row, :prompt] = 0
        for k in range(3):
            segments[row, prompt + 10 * k : prompt + 10 * (k + 1)] = k + 1
    return queries, keys, values, slopes, RowView(jnp.array(segments), jnp.array(segments))


def packed(view):
    """The same rows, each as the first of two documents: the second is a prompt and two continuations."""
    segments, documents = np.array(view.segments), np.zeros(view.segments.shape, np.int32)
    for row in range(ROWS):
        (start,) = np.flatnonzero(segments[row] >= 0)[-1:] + 1
        documents[row, start:] = 1
        segments[row, start : start + 20] = 0
        segments[row, start + 20 : start + 25], segments[row, start + 25 : start + 33] = 1, 2
    return RowView(jnp.array(segments), jnp.array(segments), jnp.array(documents))


def single(view):
    return view._replace(segments=jnp.where(view.segments > 1, -1, view.segments))


def outcome(function, arrays, slopes, view):
    """The output and the gradients; padding's output counts for nothing."""
    real = (view.segments >= 0)[..., None, None]

    def loss(queries, keys, values):
        output = jnp.where(real, function(queries, keys, values), 0)
        return jnp.sum(output * slopes), output

    (_, output), gradients = jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))(*arrays)
    return output, gradients


@pytest.mark.parametrize(("kind", "softcap"), [("packed", 2.0), ("single", None)])
def test_splash_attention_is_plain_attention(kind, softcap):
    *arrays, slopes, view = case(120)
    view = {"packed": packed, "single": single}[kind](view)

    def splash(*arrays):
        return splash_attention(
            *arrays, view.segments, view.documents, kind != "single", softcap=softcap, interpret=True
        )

    def plain(*arrays):
        return attend(*arrays, row_mask(view), softcap=softcap)

    assert_trees_close(outcome(splash, arrays, slopes, view), outcome(plain, arrays, slopes, view), atol=2e-5)


def test_long_rows_in_blocks_of_queries_are_plain_attention(monkeypatch):
    *arrays, slopes, view = case(120)
    view, window, windowed = packed(view), 40, jnp.array(True)
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
