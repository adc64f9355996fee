"""Small trainings, for the tests of the step and of the loop."""

import jax
import jax.numpy as jnp
from tiny import task_model, tiny_training_rows

from introspection.models.head import head_matrix
from introspection.runtime.compiled import ProgramTable
from introspection.training.batches import (
    BatchSizes,
    make_batch,
)
from introspection.training.loop import Job, LoopConfig, weights
from introspection.training.objectives import ObjectiveConfig
from introspection.training.step import Frozen, OptimizerConfig, RunValues, initial_state

PROGRAMS = ProgramTable()
STEPS = 20
SIZES = BatchSizes(explanation_rows=8, behavior_items=4, shift_rows=4)
OPTIMIZER = OptimizerConfig(steps=STEPS, schedule="cosine", warmup_steps=3)
VALUES = RunValues(jnp.float32(3e-3), weights(1.0, 0.5))


def batch(step, seed):
    return make_batch(tiny_training_rows(), SIZES, step, seed)


def with_new_adapters(model):
    """The model with adapters that have done nothing yet: B is zero."""
    adapters = jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf * (path[-1].key != "B"), model.variables["lora"]
    )
    return model.with_variables({**model.variables, "lora": adapters})


def start(model, seeds):
    """The state of seeds and what they share: adapters alone are trained where there are some."""
    trained = "lora" if "lora" in model.variables else "params"
    frozen = {name: tree for name, tree in model.variables.items() if name != trained}
    other = task_model(1)
    reference = head_matrix(other.variables, other.config)
    state = initial_state([{trained: model.variables[trained]}] * seeds, OPTIMIZER)
    return state, Frozen(frozen, reference)


def job_of(
    model,
    state,
    frozen,
    store,
    stack_seeds="loop",
    steps=STEPS,
    checkpoint_steps=10,
    values=VALUES,
    **changes,
):
    """Training of two seeds, five steps a call."""
    intervals = dict(steps_per_call=5, log_steps=5, evaluation_steps=10, checkpoint_steps=checkpoint_steps)
    return Job(
        name=changes.pop("name", "job"),
        seeds=(0, 1),
        model=model.config,
        objective=ObjectiveConfig(),
        optimizer=OPTIMIZER,
        loop=LoopConfig(steps, stack_seeds=stack_seeds, **intervals),
        values=lambda step: values,
        frozen=frozen,
        batch=batch,
        metadata={},
        state=state,
        store=store,
        **changes,
    )
