"""The decoder on a mesh: what each device computes and holds."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from tiny import mesh_of, tiny_config, tiny_variables

from introspection.models.config import LoraConfig
from introspection.models.decoder import count_parameters, forward
from introspection.runs.planned_programs import placed
from introspection.runtime.collectives import collectives
from introspection.runtime.mesh import ROW_AXES, parameter_shardings


@pytest.mark.parametrize(("seeds", "rows"), [(None, 8), (3, 8), (None, 6)])
def test_where_parameters_are_split_each_device_computes_its_own_rows_alone(seeds, rows):
    """Of six rows, with two masked ones beside them: two a device."""
    config, mesh, time = tiny_config(), mesh_of(fsdp=4), 12
    variables = jax.eval_shape(lambda: tiny_variables(config))
    variables = jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        variables,
        parameter_shardings(variables, mesh),
    )
    leading = () if seeds is None else (seeds,)
    by_row = NamedSharding(mesh, P(*(None for _ in leading), None if rows % 4 else ROW_AXES))
    tokens = jax.ShapeDtypeStruct((*leading, rows, time), jnp.int32, sharding=by_row)

    def loss(variables, tokens):
        def hidden(tokens):
            positions = jnp.broadcast_to(jnp.arange(time), tokens.shape)
            return forward(config, variables, tokens, positions, 0 * positions).hidden

        return jnp.sum(jnp.square(hidden(tokens) if seeds is None else jax.vmap(hidden)(tokens)))

    with jax.set_mesh(mesh):
        program = jax.jit(jax.grad(loss)).lower(variables, tokens).compile().as_text()
    assert f"{-(-rows // 4)},{time},{config.mlp_width}]" in program
    assert f"{rows},{time},{config.mlp_width}]" not in program  # what one device would hold of all rows


@pytest.mark.parametrize(("time", "gathers"), [(1, False), (16, True)])
def test_devices_send_each_other_matrices_or_the_activations_of_few_tokens(time, gathers):
    config, mesh, rows = tiny_config(width=64, mlp_width=256), mesh_of(fsdp=4), 8
    variables = placed(jax.eval_shape(lambda: tiny_variables(config)), mesh)
    tokens = jax.ShapeDtypeStruct((rows, time), jnp.int32, sharding=NamedSharding(mesh, P(ROW_AXES)))

    def read(variables, tokens):
        positions = jnp.broadcast_to(jnp.arange(time), tokens.shape)
        return forward(config, variables, tokens, positions, 0 * positions).hidden

    with jax.set_mesh(mesh):
        program = jax.jit(read).lower(variables, tokens).compile()
    received = sum(one.bytes for one in collectives(program.as_text()).values())
    matrices = 4 * count_parameters(variables["params"]["layers"])  # bytes
    assert (received > 0.9 * matrices) == gathers
    assert gathers or received < 0.25 * matrices


def test_every_matrix_of_an_adapter_is_split_along_fsdp():
    mesh, config = mesh_of(fsdp=4), tiny_config(lora=LoraConfig(4, 4.0))
    adapters = tiny_variables(config)["lora"]
    shardings = jax.tree.leaves(parameter_shardings(adapters, mesh))
    for leaf, sharding in zip(jax.tree.leaves(adapters), shardings, strict=True):
        assert np.prod(sharding.shard_shape(leaf.shape)) == leaf.size // 4


def test_rows_that_devices_can_not_share_evenly_are_read_as_alone():
    config, mesh = tiny_config(), mesh_of(fsdp=4)
    variables = tiny_variables(config, seed=1)
    tokens = jnp.arange(18).reshape(6, 3)
    positions = jnp.broadcast_to(jnp.arange(3), tokens.shape)
    read = functools.partial(forward, config, variables, tokens, positions, 0 * tokens)
    alone = jax.jit(lambda: read().hidden)()
    with jax.set_mesh(mesh):
        shared = jax.jit(lambda: read().hidden)()
    np.testing.assert_allclose(shared, alone, atol=1e-5)
