"""What training starts from is made in parts on a mesh, with the same numbers and the same name as on one
device."""

import jax
import numpy as np
import pytest
from tiny import assert_placed, mesh_of, task_model, tiny_config, tiny_variables

from introspection.checkpoints import fingerprint
from introspection.checkpoints.fingerprint import fingerprint_tree
from introspection.runs.config import RunConfig
from introspection.runs.train_config import AdaptersConfig
from introspection.runs.trainable import trainable_parts
from introspection.runtime.mesh import put_parameters
from introspection.training.step import OptimizerConfig, initial_state


def numbers(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def test_adapters_and_moments_are_made_in_parts_with_the_same_numbers():
    config, optimizer, mesh = (
        RunConfig(lora=AdaptersConfig(rank=4)),
        OptimizerConfig(steps=2),
        mesh_of(fsdp=4),
    )
    _, alone, _ = trainable_parts(config, task_model(), (0, 3))
    _, shared, _ = trainable_parts(config, task_model(), (0, 3), mesh)
    state = initial_state(shared, optimizer, mesh)
    assert_placed(shared, mesh)
    assert_placed(state, mesh)
    jax.tree.map(np.testing.assert_array_equal, numbers(shared), numbers(alone))
    jax.tree.map(np.testing.assert_array_equal, numbers(state), numbers(initial_state(alone, optimizer)))


@pytest.mark.parametrize("largest", [100, 3000])
def test_a_fingerprint_is_the_same_on_any_mesh_and_takes_a_part_at_a_time(monkeypatch, largest):
    variables = tiny_variables(tiny_config(), seed=2)
    whole = fingerprint_tree(variables)
    placed = put_parameters(variables, mesh_of(fsdp=2, tensor=2))
    monkeypatch.setattr(fingerprint, "LARGEST_PART", largest)
    parts = [part for leaf in jax.tree.leaves(placed) for part in fingerprint._parts(leaf)]
    assert max(part.nbytes for part in parts) <= largest
    assert len(parts) > len(jax.tree.leaves(placed))
    assert fingerprint_tree(placed) == whole
