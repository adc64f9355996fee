"""Layers below all adapters are read forward alone, and what is trained above them is the same."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import assert_trees_close, random_tokens, tiny_config, tiny_variables

from introspection.errors import InputError
from introspection.models.config import LoraConfig, RopeScaling
from introspection.models.decoder import forward
from introspection.models.frozen_layers import trained_hidden

LORA = LoraConfig(2, 4.0, from_layer=1)
EVERYTHING = dict(
    attention_softcap=2.0,
    window=3,
    windowed_layers=(True, False, True),
    local_rope_base=7.0,
    rope_scaling=RopeScaling("linear", 4.0),
    qk_norm=True,
    post_norms=True,
    scale_embedding=True,
)
FAMILIES = {
    "everything": EVERYTHING,
    "windows below alone": dict(window=3, windowed_layers=(True, False, False), local_rope_base=7.0),
    "remat": dict(remat="full"),
    "unrolled": dict(scan_unroll=3),
}


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_read_and_the_adapters_gradient_are_the_whole_decoders(family):
    config = tiny_config(layers=3, lora=LORA, **FAMILIES[family])
    variables = tiny_variables(config)
    zero_below = jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf.at[0].set(0.0) if path[-1].key == "B" else leaf, variables["lora"]
    )
    tokens = jnp.array([random_tokens(np.random.default_rng(n), 8) for n in range(2)])
    arrays = tokens, jnp.broadcast_to(jnp.arange(8), tokens.shape), jnp.zeros_like(tokens)

    def hidden(read):
        def summed(adapters):
            found = read({"params": variables["params"], "lora": adapters})
            return jnp.sum(found * jnp.cos(jnp.arange(found.size)).reshape(found.shape)), found

        return jax.jit(jax.grad(summed, has_aux=True))(zero_below)

    whole = dataclasses.replace(config, lora=LoraConfig(2, 4.0))
    gradient, found = hidden(lambda variables: trained_hidden(config, variables, *arrays))
    expected, there = hidden(lambda variables: forward(whole, variables, *arrays).hidden)
    np.testing.assert_allclose(found, there, atol=1e-4)  # of values up to 2; two programs round apart by 1e-5
    above = [jax.tree.map(lambda leaf: leaf[1:], tree) for tree in (gradient, expected)]
    largest = max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(expected))  # about 30
    assert_trees_close(*above, atol=2e-5 * largest, rtol=1e-3)
    assert all(np.abs(leaf[1:]).max() > 1e-3 for leaf in jax.tree.leaves(gradient))
    assert not any(np.asarray(leaf[0]).any() for leaf in jax.tree.leaves(gradient))


def test_no_gradient_goes_through_the_layers_below():
    config = tiny_config(layers=3, lora=LORA)
    tokens = jnp.zeros((1, 4), jnp.int32)

    def layers_run_back(from_layer):
        changed = dataclasses.replace(config, lora=dataclasses.replace(LORA, from_layer=from_layer))
        variables = tiny_variables(config)

        def summed(adapters):
            both = {"params": variables["params"], "lora": adapters}
            return trained_hidden(changed, both, tokens, tokens, tokens).sum()

        found = jax.make_jaxpr(jax.grad(summed))(variables["lora"])
        return [
            equation.params["length"]
            for equation in found.eqns
            if equation.primitive.name == "scan" and equation.params["reverse"]
        ]

    assert layers_run_back(0) == [3]
    assert layers_run_back(2) == [1]


@pytest.mark.parametrize(("layers", "from_layer"), [("all", 3), ("all", -1), ("0, 1", 2)])
def test_a_first_layer_that_leaves_none_is_refused(layers, from_layer):
    with pytest.raises(InputError, match=rf"lora.from_layer is {from_layer}, .* give 0 to [12]$"):
        LoraConfig(2, 4.0, layers=layers, from_layer=from_layer).trained(3)


def test_layers_from_one_on_are_trained():
    assert LoraConfig(2, 4.0, from_layer=1).trained(3) == (False, True, True)
    assert LoraConfig(2, 4.0, layers="0,2", from_layer=1).trained(3) == (False, False, True)
