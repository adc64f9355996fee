"""Batches are a function of step and seed; their parts belong together."""

import math

import jax
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_training_rows
from training_jobs import SIZES, batch

from introspection.training.batches import (
    epoch_indices,
    make_batch,
    rollout_places,
)
from introspection.training.policy_gradient import Groups, Rollout


def test_a_batch_is_a_function_of_step_and_seed():
    first, again = batch(3, 0), batch(3, 0)
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert first.explanation.tokens.shape[0] == SIZES.explanation_rows
    assert first.behavior.answers.candidates.shape == (SIZES.behavior_items,)
    assert first.shift.tokens.shape[0] == SIZES.shift_rows
    for other in (batch(3, 1), batch(4, 0)):
        for part in ("explanation", "shift"):
            assert (getattr(first, part).tokens != getattr(other, part).tokens).any()
        assert (first.behavior.rows.tokens != other.behavior.rows.tokens).any()


def test_a_batchs_parts_belong_together():
    rows = tiny_training_rows()
    drawn = batch(2, 1).behavior
    whole = [tuple(leaf[i].tobytes() for leaf in jax.tree.leaves(rows.behavior)) for i in range(42)]
    for i in range(SIZES.behavior_items):
        assert tuple(leaf[i].tobytes() for leaf in jax.tree.leaves(drawn)) in whole


def test_a_missing_part_leaves_the_others_order_alone():
    rows = tiny_training_rows()
    plain = make_batch(rows._replace(behavior=None, shift=None), SIZES, 5, 0)
    assert plain.behavior is None
    assert plain.shift is None
    jax.tree.map(np.testing.assert_array_equal, plain.explanation, batch(5, 0).explanation)


@settings(max_examples=50)
@given(size=st.integers(1, 30), count=st.integers(1, 40), seed=st.integers(0, 3), stream=st.integers(0, 3))
def test_every_row_comes_once_an_epoch(size, count, seed, stream):
    steps = math.lcm(size, count) // count
    drawn = [epoch_indices(size, count, step, seed, stream) for step in range(2 * steps)]
    epochs = np.concatenate(drawn).reshape(-1, size)
    np.testing.assert_array_equal(np.sort(epochs, axis=1), np.tile(np.arange(size), (len(epochs), 1)))


def test_epochs_seeds_and_streams_have_their_own_order():
    orders = [
        tuple(epoch_indices(30, 30, step, seed, stream).tolist())
        for step in range(3)
        for seed in range(3)
        for stream in range(3)
    ]
    assert len(set(orders)) == 27


def test_a_steps_groups_are_those_sampled_for_it():
    rows, count, first = tiny_training_rows(), SIZES.shift_rows, 6
    places = rollout_places(rows.shift.tokens.shape[0], SIZES, range(first, first + 3), seed=1)
    sampled = jax.tree.map(lambda leaf: leaf[places], rows.shift)
    numbers = np.arange(3 * count, dtype=np.float32)
    groups = Groups(sampled, numbers[:, None], numbers[:, None, None], numbers[:, None, None])
    for step in range(first, first + 3):
        own = make_batch(rows._replace(shift=Rollout(first, groups)), SIZES, step, 1)
        drawn = make_batch(rows, SIZES, step, 1)  # supervised rows of the same prompts, in the same order
        np.testing.assert_array_equal(own.shift.rows.tokens, drawn.shift.tokens)
        assert own.shift.rewards[:, 0].tolist() == numbers[(step - first) * count :][:count].tolist()
        jax.tree.map(np.testing.assert_array_equal, own.explanation, drawn.explanation)
