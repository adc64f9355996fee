"""A step whose rows are read in parts trains as the whole step does."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import assert_trees_close, mesh_of, task_model
from training_jobs import OPTIMIZER, SIZES, VALUES, batch, start

from introspection.errors import InputError
from introspection.models.head import head_matrix
from introspection.runs.train_config import TrainConfig
from introspection.runtime.mesh import put_batch, put_parameters
from introspection.text.rows import build_row, stack_rows
from introspection.training.batches import check_parts, stack_batches
from introspection.training.loop import weights
from introspection.training.microbatches import interleaved, summed_gradient
from introspection.training.objectives import ObjectiveConfig, TextBatch, batch_loss
from introspection.training.policy_gradient import Groups
from introspection.training.preference import Pairs
from introspection.training.step import train_steps

MODEL = task_model()
REFERENCE = head_matrix(task_model(1).variables, MODEL.config)


def branched(continuations, rows=4):
    """Rows of one prompt and some continuations of different lengths, padded to the time of `batch`."""
    rng, time = np.random.default_rng(0), batch(0, 0).explanation.tokens.shape[1]

    def tokens():
        return rng.integers(4, 40, rng.integers(1, 4)).tolist()

    drawn = [build_row(tokens(), [tokens() for _ in range(continuations)]) for _ in range(rows)]
    return stack_rows(drawn, time)


def with_pairs(whole):
    rng = np.random.default_rng(1)
    return whole._replace(shift=Pairs(branched(2), rng.normal(size=(4, 2)).astype(np.float32)))


def with_groups(whole):
    rows, rng = branched(3), np.random.default_rng(2)
    said = [rng.normal(-1, 0.3, rows.targets.shape).astype(np.float32) for _ in range(2)]
    rewards = np.array([[0, 1, 1], [1, 1, 1], [0, 0, 1], [1, 0, 0]], np.float32)
    return whole._replace(shift=Groups(rows, rewards, *said))


def with_text(whole):
    rows = branched(1)
    width = MODEL.config.width
    reference = np.random.default_rng(3).normal(size=(4, rows.scored.shape[1], width)).astype(np.float32)
    return whole._replace(text=TextBatch(rows, reference))


def held_in_part(whole):
    """The KL term holds three of eight prompts, and three of four items have labels."""
    mask = np.zeros((4, 2), bool)
    mask[0], mask[3, 0] = True, True
    answers = whole.behavior.answers._replace(labelled=np.array([True, True, True, False]))
    return whole._replace(behavior=whole.behavior._replace(kl_mask=mask, answers=answers))


@pytest.mark.parametrize(
    "change",
    [
        held_in_part,
        with_pairs,
        *(pytest.param(one, marks=pytest.mark.slow) for one in (with_groups, with_text)),
    ],
)
def test_gradient_and_metrics_are_those_of_the_whole_step(change):
    whole = jax.tree.map(jnp.asarray, change(batch(0, 0)))

    def loss(params, rows, of):
        return batch_loss(MODEL.config, ObjectiveConfig(), {"params": params}, REFERENCE, rows, of)

    def of_parts(parts):
        return jax.jit(functools.partial(summed_gradient, loss, parts=parts))(
            MODEL.variables["params"], whole, weights(0.7, 0.4)
        )

    (gradient, metrics), (in_parts, of_metrics) = of_parts(1), of_parts(4)
    assert_trees_close(in_parts, gradient, rtol=1e-4, atol=2e-5)
    assert of_metrics.keys() == metrics.keys()
    for name, value in metrics.items():
        np.testing.assert_allclose(of_metrics[name], value, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.slow
def test_steps_on_a_mesh_update_alike():
    mesh = mesh_of(2, 2, 1)
    batches = stack_batches([[batch(step, 0)] for step in range(3)])

    def trained(parts):
        state, frozen = put_parameters(start(MODEL, 1), mesh)
        optimizer = dataclasses.replace(OPTIMIZER, microbatches=parts)
        step = jax.jit(functools.partial(train_steps, MODEL.config, ObjectiveConfig(), optimizer, "loop"))
        with jax.set_mesh(mesh):
            state, metrics = step(state, frozen, put_batch(batches, mesh, axis=2), VALUES)
        return jax.tree.map(np.asarray, (state.trainable, metrics))

    (one, one_metrics), (two, two_metrics) = trained(1), trained(2)
    assert_trees_close(two, one, atol=2e-4)
    np.testing.assert_allclose(two_metrics["loss"], one_metrics["loss"], rtol=1e-5)
    np.testing.assert_allclose(two_metrics["gradient_norm"], one_metrics["gradient_norm"], rtol=1e-4)


def test_a_part_takes_every_nth_row():
    assert interleaved(jnp.arange(6), 2).tolist() == [[0, 2, 4], [1, 3, 5]]


@pytest.mark.slow
def test_parts_need_less_memory():
    whole = jax.tree.map(lambda leaf: jnp.asarray(np.concatenate([leaf] * 8)), batch(0, 0))

    def loss(params, rows, of):
        return batch_loss(MODEL.config, ObjectiveConfig(), {"params": params}, REFERENCE, rows, of)

    def temporary_bytes(parts):
        gradient = jax.jit(functools.partial(summed_gradient, loss, parts=parts))
        lowered = gradient.lower(MODEL.variables["params"], whole, weights(0.7, 0.4))
        return lowered.compile().memory_analysis().temp_size_in_bytes

    assert temporary_bytes(4) < 0.6 * temporary_bytes(1)


@pytest.mark.parametrize(
    ("parts", "packs", "line"),
    [(0, 0, "is 0; give 1"), (3, 0, "doesn't divide config.train.explanation_rows"), (2, 64, "exclude each")],
)
def test_parts_that_cannot_be_are_refused(parts, packs, line):
    with pytest.raises(InputError, match=line):
        check_parts(parts, SIZES, packs)
    with pytest.raises(InputError, match=r"config\.train\.microbatches"):
        TrainConfig(microbatches=parts, pack_tokens=packs)
