"""Random parameters and token rows in the quickstart's shapes, as inputs of a training step."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from introspection.models.config import ModelConfig
from introspection.models.decoder import initialize
from introspection.models.head import head_matrix
from introspection.organism.config import OrganismSizes
from introspection.runs.train_config import TrainConfig
from introspection.text.rows import build_row, pad_time, stack_rows
from introspection.training.batches import by_item, stack_batches
from introspection.training.loop import weights
from introspection.training.objectives import Answers, Batch, BehaviorBatch
from introspection.training.step import Frozen, OptimizerConfig, RunValues, TrainState, initial_state


@dataclasses.dataclass(frozen=True)
class StepShapes(OrganismSizes):
    """The sizes of the quickstart's model and step, and its rows' lengths in tokens."""

    vocab_size: int = 1538
    explanation_rows: int = TrainConfig.explanation_rows
    behavior_items: int = TrainConfig.behavior_items
    candidates: int = 4
    prompt: int = 6  # with the tokens that open the reply; an explanation's has one more
    explanation: int = 3  # with its end token
    candidate: int = 2  # with its end token

    def model(self) -> ModelConfig:
        sizes = {field.name: getattr(self, field.name) for field in dataclasses.fields(OrganismSizes)}
        return ModelConfig(vocab_size=self.vocab_size, compute_dtype="float32", **sizes)


TINY = StepShapes(
    width=16,
    layers=1,
    query_heads=2,
    kv_heads=1,
    head_dim=8,
    mlp_width=16,
    scan_unroll=1,
    vocab_size=64,
    explanation_rows=4,
    behavior_items=2,
    candidates=2,
)
OPTIMIZER = OptimizerConfig(steps=500, warmup_steps=10)


class Case(NamedTuple):
    """The arguments of `training.step.train_steps` for some seeds."""

    state: TrainState
    frozen: Frozen
    values: RunValues


def make_case(shapes: StepShapes, seeds: int) -> Case:
    """Random parameters, the same for every seed; λ is 1."""
    config = shapes.model()
    variables = jax.jit(lambda key: initialize(config, key))(jax.random.key(0))
    frozen = Frozen({}, jnp.array(head_matrix(variables, config), copy=True))
    state = initial_state([{"params": variables["params"]}] * seeds, OPTIMIZER)
    return Case(jax.tree.map(jnp.array, state), frozen, RunValues(jnp.float32(1e-3), weights(1.0, 0.0)))


def make_batches(shapes: StepShapes, steps: int, seeds: int) -> Batch:
    """Random rows in the format of `train_steps`: `steps seeds rows …`."""
    return stack_batches(
        [[random_batch(shapes, [step, seed]) for seed in range(seeds)] for step in range(steps)]
    )


def random_batch(shapes: StepShapes, seed: list[int]) -> Batch:
    """The rows of one step and seed: explanations, and items with their candidates."""
    rng = np.random.default_rng(seed)

    def tokens(count: int) -> list[int]:
        return rng.integers(4, shapes.vocab_size, count).tolist()

    explanation = stack_rows(
        [
            build_row(tokens(shapes.prompt + 1), [tokens(shapes.explanation)])
            for _ in range(shapes.explanation_rows)
        ]
    )
    items, slots = shapes.behavior_items, shapes.candidates
    behavior = stack_rows(
        [
            build_row(tokens(shapes.prompt), [tokens(shapes.candidate) for _ in range(slots)])
            for _ in range(2 * items)
        ]
    )
    time = max(explanation.tokens.shape[1], behavior.tokens.shape[1])
    explanation, behavior = pad_time(explanation, time), pad_time(behavior, time)
    return Batch(
        explanation,
        BehaviorBatch(
            by_item(behavior),
            np.ones((items, 2), bool),
            rng.normal(size=(items, 2, 1, shapes.width)).astype(np.float32),
            Answers(
                candidates=np.full(items, slots, np.int32),
                reference_logprobs=np.full((items, 2, slots + 1), -np.log(slots + 1), np.float32),
                labelled=np.ones(items, bool),
                label_changed=rng.integers(0, 2, (items, 2)).astype(bool),
                label_answer=rng.integers(0, slots + 1, (items, 2)).astype(np.int32),
            ),
        ),
    )
