"""The decoder's backward pass: what it keeps, what it computes again, and how it multiplies."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import assert_trees_close, equations, random_tokens, tiny_config, tiny_variables

from introspection.models.decoder import Decoder
from introspection.models.products import product


@pytest.mark.parametrize(
    "remat",
    [
        "full",
        pytest.param("dots_saveable", marks=pytest.mark.slow),
        pytest.param("dots_with_no_batch_dims_saveable", marks=pytest.mark.slow),
    ],
)
def test_rematerialisation_changes_no_loss_and_no_gradient(remat):
    def loss_of(config):
        tokens = jnp.array([random_tokens(np.random.default_rng(4), 12)])
        places = jnp.arange(12)[None]

        def loss(variables):
            out = Decoder(config).apply(variables, tokens, places, 0 * places)
            return jnp.mean(jnp.sin(3 * out.hidden))

        return loss

    def remats(config, variables):
        """Checkpoints of whole layers: the one of the activation holds no product."""
        jaxpr = jax.make_jaxpr(jax.grad(loss_of(config)))(variables)
        found = [equation for equation in equations(jaxpr.jaxpr) if "prevent_cse" in equation.params]
        return [at for at in found if products_in(at.params["jaxpr"])]

    variables = tiny_variables(tiny_config())
    kept, again = loss_of(tiny_config()), loss_of(tiny_config(remat=remat))
    expected = jax.jit(jax.value_and_grad(kept))(variables)
    assert_trees_close(jax.jit(jax.value_and_grad(again))(variables), expected, atol=1e-5)
    assert not remats(tiny_config(), variables)
    checkpointed = remats(tiny_config(remat=remat), variables)
    assert checkpointed
    policy = checkpointed[0].params["policy"]
    assert policy is (None if remat == "full" else getattr(jax.checkpoint_policies, remat))


def products_in(jaxpr):
    return [equation for equation in equations(jaxpr) if equation.primitive.name == "dot_general"]


def test_of_the_mlp_the_backward_pass_keeps_what_its_three_products_need_alone():
    config = tiny_config()
    tokens = jnp.array([random_tokens(np.random.default_rng(4), 12)])
    places = jnp.arange(12)[None]

    def loss(variables):
        return jnp.sum(Decoder(config).apply(variables, tokens, places, 0 * places).hidden)

    jaxpr = jax.make_jaxpr(jax.grad(loss))(tiny_variables(config)).jaxpr
    forward = next(equation for equation in equations(jaxpr) if equation.primitive.name == "scan")
    kept = [output.aval.shape for output in forward.outvars]
    # What gate and up gave, and what goes into down.
    assert kept.count((config.layers, 1, 12, config.mlp_width)) == 3


@pytest.mark.parametrize(("inner", "outer"), [(3, 7), (7, 3)])
def test_a_matrix_product_has_einsums_gradient_and_transposes_the_narrower_side(inner, outer):
    rng = np.random.default_rng(5)
    x, matrix, weights = (
        jnp.array(rng.normal(size=shape), jnp.float32)
        for shape in ((2, 4, inner), (inner, outer), (2, 4, outer))
    )

    def gradients(multiply):
        return jax.grad(lambda x, matrix: jnp.sum(weights * jnp.sin(multiply(x, matrix))), argnums=(0, 1))

    expected = gradients(functools.partial(jnp.einsum, "rti,io->rto"))
    assert_trees_close(gradients(product)(x, matrix), expected(x, matrix), atol=1e-5)
    (over_tokens,) = (
        equation
        for equation in products_in(jax.make_jaxpr(gradients(product))(x, matrix).jaxpr)
        if len(equation.params["dimension_numbers"][0][0]) == 2
    )
    assert over_tokens.invars[0].aval.shape[-1] == min(inner, outer)
