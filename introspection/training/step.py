"""One executable is the whole train step of its seeds: loss, gradient, update, agreement."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from introspection.errors import InputError
from introspection.models.config import ModelConfig
from introspection.runtime.config import check_choice
from introspection.training.objectives import Batch, ObjectiveConfig, ObjectiveWeights, batch_loss

SCHEDULES = ("constant", "cosine")


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW with a clipped gradient."""

    learning_rate: float  # peak
    steps: int  # length of the schedule
    schedule: str = "constant"  # after the warm-up; "cosine" falls to 0
    warmup_steps: int = 0  # linear from 0
    weight_decay: float = 0.0
    gradient_clip: float = 1.0  # largest global norm

    def __post_init__(self):
        check_choice("schedule", self.schedule, SCHEDULES)
        if self.gradient_clip <= 0:
            raise InputError(f"gradient_clip is {self.gradient_clip}; at most 0, it would train nothing")


class TrainState(NamedTuple):
    """What a step changes. With several seeds, every leaf has a leading seed axis."""

    trainable: dict  # {"params": ...} in full fine-tuning, {"lora": ...} with adapters
    optimizer: optax.OptState


class Frozen(NamedTuple):
    """What a step reads and all seeds share."""

    variables: dict  # {} in full fine-tuning, {"params": ...} with adapters
    reference_head: Array  # kl_reference's vocab × width head


def make_optimizer(config: OptimizerConfig) -> optax.GradientTransformation:
    if config.schedule == "cosine":
        schedule = optax.warmup_cosine_decay_schedule(
            0.0 if config.warmup_steps else config.learning_rate,
            config.learning_rate,
            config.warmup_steps,
            max(config.steps, config.warmup_steps + 1),
        )
    else:
        schedule = optax.join_schedules(
            [
                optax.linear_schedule(0.0, config.learning_rate, max(config.warmup_steps, 1)),
                optax.constant_schedule(config.learning_rate),
            ],
            [config.warmup_steps],
        )
    return optax.chain(
        optax.clip_by_global_norm(config.gradient_clip),
        optax.adamw(schedule, b2=0.98, weight_decay=config.weight_decay),
    )


def initial_state(trainables: Sequence[dict], optimizer: OptimizerConfig) -> TrainState:
    """The state of runs that start from these parameters, one run a seed."""
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *trainables)
    return TrainState(stacked, jax.vmap(make_optimizer(optimizer).init)(stacked))


def train_step(
    config: ModelConfig,
    objective: ObjectiveConfig,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    frozen: Frozen,
    batch: Batch,
    weights: ObjectiveWeights,
) -> tuple[TrainState, dict[str, Array]]:
    """One update of one seed."""

    def loss(trainable):
        variables = {**frozen.variables, **trainable}
        return batch_loss(config, objective, variables, frozen.reference_head, batch, weights)

    gradients, metrics = jax.grad(loss, has_aux=True)(state.trainable)
    with jax.named_scope("optimizer"):
        updates, optimizer_state = optimizer.update(gradients, state.optimizer, state.trainable)
        trainable: Any = optax.apply_updates(state.trainable, updates)
    metrics["gradient_norm"] = optax.tree.norm(gradients)
    return TrainState(trainable, optimizer_state), metrics


def train_steps(
    config: ModelConfig,
    objective: ObjectiveConfig,
    optimizer: OptimizerConfig,
    stack_seeds: str,
    state: TrainState,
    frozen: Frozen,
    batches: Batch,
    weights: ObjectiveWeights,
) -> tuple[TrainState, dict[str, Array]]:
    """Consecutive steps of the seeds in one executable (`training.seeds` says which).

    Leaves of `batches` are `steps seeds rows …`, metrics `steps seeds`.

    `stack_seeds` is how one executable holds the seeds: "vectorize" runs them side by side (accelerators,
    meshes), "loop" one after another inside it, which is what a CPU, whose matrix products are already
    bound by arithmetic, does faster.
    """
    update = make_optimizer(optimizer)

    def one_seed(state, batch):
        return train_step(config, objective, update, state, frozen, batch, weights)

    def one_step(state, batch):
        if stack_seeds == "vectorize":
            return jax.vmap(one_seed)(state, batch)
        return jax.lax.map(lambda both: one_seed(*both), (state, batch))

    return jax.lax.scan(one_step, state, batches)
