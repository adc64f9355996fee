"""The decoder on a mesh: what each device computes and holds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from tiny import mesh_of, tiny_config, tiny_variables

from introspection.models.config import LoraConfig
from introspection.models.decoder import Decoder
from introspection.runtime.mesh import ROW_AXES, parameter_shardings


@pytest.mark.parametrize("seeds", [None, 3])
def test_where_parameters_are_split_each_device_computes_its_own_rows_alone(seeds):
    config, mesh, rows, time = tiny_config(), mesh_of(fsdp=4), 8, 12
    variables = jax.eval_shape(lambda: tiny_variables(config))
    variables = jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        variables,
        parameter_shardings(variables, mesh),
    )
    leading = () if seeds is None else (seeds,)
    by_row = NamedSharding(mesh, P(*(None for _ in leading), ROW_AXES))
    tokens = jax.ShapeDtypeStruct((*leading, rows, time), jnp.int32, sharding=by_row)

    def loss(variables, tokens):
        def hidden(tokens):
            positions = jnp.broadcast_to(jnp.arange(time), tokens.shape)
            return Decoder(config).apply(variables, tokens, positions, 0 * positions).hidden

        return jnp.sum(jnp.square(hidden(tokens) if seeds is None else jax.vmap(hidden)(tokens)))

    with jax.set_mesh(mesh):
        program = jax.jit(jax.grad(loss)).lower(variables, tokens).compile().as_text()
    assert f"{rows // 4},{time},{config.mlp_width}]" in program
    assert f"{rows},{time},{config.mlp_width}]" not in program  # what one device would hold of all rows


def test_every_matrix_of_an_adapter_is_split_along_fsdp():
    mesh, config = mesh_of(fsdp=4), tiny_config(lora=LoraConfig(4, 4.0))
    adapters = tiny_variables(config)["lora"]
    shardings = jax.tree.leaves(parameter_shardings(adapters, mesh))
    for leaf, sharding in zip(jax.tree.leaves(adapters), shardings, strict=True):
        assert np.prod(sharding.shard_shape(leaf.shape)) == leaf.size // 4
