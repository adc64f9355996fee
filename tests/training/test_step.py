"""The train step gives the same run on any mesh, for any stacking of seeds and any number of steps a call."""

import functools

import jax
import numpy as np
import pytest
from tiny import assert_trees_close, mesh_of, task_model
from training_jobs import OPTIMIZER, STEPS, VALUES, batch, start, with_new_adapters

from introspection.errors import InputError
from introspection.models.config import LoraConfig
from introspection.runtime.mesh import put_parameters, put_rows
from introspection.training.batches import (
    stack_batches,
)
from introspection.training.objectives import ObjectiveConfig, ObjectiveWeights
from introspection.training.step import RunValues, train_steps


@functools.cache
def program(config, stack_seeds="loop"):
    return jax.jit(functools.partial(train_steps, config, ObjectiveConfig(), OPTIMIZER, stack_seeds))


@functools.cache
def losses_of(seeds=(0,), stack_seeds="loop", sizes=(1, 1, 1), steps_per_call=STEPS):
    """Losses of 20 steps, `steps seeds`, and the final parameters."""
    model, mesh = task_model(), mesh_of(*sizes)
    state, frozen = put_parameters(start(model, len(seeds)), mesh)
    step = program(model.config, stack_seeds)
    losses = []
    for first in range(0, STEPS, steps_per_call):
        batches = stack_batches([[batch(first + i, seed) for seed in seeds] for i in range(steps_per_call)])
        state, metrics = step(state, frozen, put_rows(batches, mesh, axis=2), VALUES)
        losses.append(np.asarray(metrics["loss"]))
    return np.concatenate(losses), jax.tree.map(np.asarray, state.trainable)


@pytest.mark.parametrize(
    ("sizes", "stack_seeds"),
    [
        pytest.param((4, 1, 1), "loop", marks=pytest.mark.slow),
        pytest.param((1, 4, 1), "vectorize", marks=pytest.mark.slow),
        pytest.param((2, 1, 2), "vectorize", marks=pytest.mark.slow),
        pytest.param((1, 2, 2), "loop", marks=pytest.mark.slow),
        ((2, 2, 1), "loop"),
    ],
    ids=str,
)
def test_twenty_steps_are_the_same_on_every_mesh(sizes, stack_seeds):
    alone, parameters = losses_of()
    losses, placed_parameters = losses_of(sizes=sizes, stack_seeds=stack_seeds)
    np.testing.assert_allclose(losses, alone, rtol=1e-5)
    assert_trees_close(placed_parameters, parameters, atol=2e-4)
    assert alone[-1] < alone[0] - 0.5  # it did learn


@pytest.mark.parametrize("stack_seeds", ["loop", pytest.param("vectorize", marks=pytest.mark.slow)])
def test_stacked_seeds_equal_each_seed_alone(stack_seeds):
    stacked, parameters = losses_of((0, 1), stack_seeds)
    for index, seed in enumerate((0, 1)):
        alone, parameters_alone = losses_of((seed,))
        np.testing.assert_allclose(stacked[:, index], alone[:, 0], rtol=1e-5)
        own = jax.tree.map(lambda leaf, index=index: leaf[index : index + 1], parameters)
        assert_trees_close(own, parameters_alone, atol=2e-4)
    assert np.abs(stacked[:, 0] - stacked[:, 1]).max() > 1e-2


@pytest.mark.parametrize("steps_per_call", [pytest.param(1, marks=pytest.mark.slow), 5])
def test_losses_do_not_depend_on_the_steps_in_a_call(steps_per_call):
    np.testing.assert_allclose(losses_of(steps_per_call=steps_per_call)[0], losses_of()[0], rtol=1e-5)


def test_adapters_of_layers_left_out_stay_as_they_were():
    model = task_model(lora=LoraConfig(2, 4.0, layers="1"))
    state, frozen = start(with_new_adapters(model), 1)
    step = program(model.config)
    before = jax.tree.map(np.asarray, state.trainable)
    batches = stack_batches([[batch(i, 0)] for i in range(5)])
    state, _ = step(state, frozen, batches, VALUES)
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(state.trainable), strict=True):
        np.testing.assert_array_equal(old[:, 0], np.asarray(new)[:, 0])
        assert not np.array_equal(old[:, 1], np.asarray(new)[:, 1])


@pytest.mark.parametrize(
    ("layers", "trained"),
    [
        ("all", [True, True, True]),
        ("lower", [True, True, False]),
        ("upper", [False, False, True]),
        ("1", [False, True, False]),
        ("0, 2", [True, False, True]),
    ],
)
def test_layers_are_chosen_by_half_or_number(layers, trained):
    assert LoraConfig(2, 4.0, layers=layers).trained(3) == tuple(trained)


@pytest.mark.parametrize("layers", ["", "3", "middle", "0,0", "-1", "1,"])
def test_layers_that_there_are_not_are_refused(layers):
    with pytest.raises(InputError, match=r"lora.layers is .*from 0 to 2"):
        LoraConfig(2, 4.0, layers=layers).trained(3)


def test_each_step_of_a_call_has_its_own_weights():
    model = task_model()
    state, frozen = start(model, 1)
    batches = stack_batches([[batch(step, 0)] for step in range(3)])

    def losses(shift):
        of_steps = ObjectiveWeights(*(np.array(term, np.float32) for term in ([1, 1, 1], [1, 1, 1], shift)))
        values = RunValues(np.float32(3e-3), jax.tree.map(lambda term: term[:, None], of_steps))
        metrics = jax.tree.map(np.asarray, program(model.config)(state, frozen, batches, values)[1])
        return metrics["loss"][:, 0], metrics["explanation_loss"] + metrics["kl"], metrics["shift_loss"][:, 0]

    loss, rest, of_shift = losses([1, 0, 0.5])
    np.testing.assert_allclose(loss, rest[:, 0] + np.array([1, 0, 0.5]) * of_shift, rtol=1e-5)
    np.testing.assert_allclose(loss[:1], losses([1, 1, 1])[0][:1], rtol=1e-5)
