"""One executable is the whole train step of its runs: loss, gradient, update, agreement."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float

from introspection.errors import InputError
from introspection.models.config import ModelConfig
from introspection.runtime.config import check_choice
from introspection.runtime.mesh import parameter_shardings
from introspection.training.microbatches import summed_gradient
from introspection.training.objectives import Batch, ObjectiveConfig, ObjectiveWeights, batch_loss
from introspection.training.policy_gradient import HostOrDevice

SCHEDULES = ("constant", "cosine")


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW with a clipped gradient; its peak rate is an argument of the step (`RunValues`)."""

    steps: int  # length of the schedule
    schedule: str = "constant"  # after the warm-up; "cosine" falls to 0
    warmup_steps: int = 0  # linear from 0
    weight_decay: float = 0.0
    gradient_clip: float = 1.0  # largest global norm
    microbatches: int = 1  # parts of a step's rows, whose gradients are summed

    def __post_init__(self):
        check_choice("schedule", self.schedule, SCHEDULES)
        if self.gradient_clip <= 0:
            raise InputError(f"gradient_clip is {self.gradient_clip}; at most 0, it would train nothing")
        for name in ("warmup_steps", "weight_decay"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 0")


class TrainState(NamedTuple):
    """What a step changes. With several runs, every leaf has a leading run axis."""

    trainable: dict  # {"params": ...} in full fine-tuning, {"lora": ...} with adapters
    optimizer: optax.OptState


class Frozen(NamedTuple):
    """What a step reads and all its runs share."""

    variables: dict  # {} in full fine-tuning, {"params": ...} with adapters
    reference_head: Array  # kl_reference's vocab × width head


class RunValues(NamedTuple):
    """What runs of one executable can differ in, beside their rows: scalars, one number a run, or one a step
    and run."""

    learning_rate: Float[HostOrDevice, "*runs"]  # peak
    weights: ObjectiveWeights


def make_optimizer(
    config: OptimizerConfig, learning_rate: float | Float[HostOrDevice, ""]
) -> optax.GradientTransformation:
    warmup, start = config.warmup_steps, 0.0 if config.warmup_steps else learning_rate
    after = optax.constant_schedule(learning_rate)
    if config.schedule == "cosine":
        after = optax.cosine_decay_schedule(learning_rate, max(config.steps - warmup, 1))
    rise = optax.linear_schedule(start, learning_rate, max(warmup, 1))
    return optax.chain(
        optax.clip_by_global_norm(config.gradient_clip),
        optax.adamw(optax.join_schedules([rise, after], [warmup]), b2=0.98, weight_decay=config.weight_decay),
    )


def initial_state(
    trainables: Sequence[dict], optimizer: OptimizerConfig, mesh: Mesh | None = None
) -> TrainState:
    """The state of runs that start from these parameters, one a seed; on a mesh no device has all of it."""

    def start(trainables: Sequence[dict]) -> TrainState:
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *trainables)
        return TrainState(stacked, jax.vmap(make_optimizer(optimizer, 0.0).init)(stacked))

    if mesh is None or mesh.size == 1:
        return start(trainables)
    shardings = parameter_shardings(jax.eval_shape(start, trainables), mesh)
    return jax.jit(start, out_shardings=shardings)(trainables)


def train_step(
    config: ModelConfig,
    objective: ObjectiveConfig,
    optimizer: OptimizerConfig,
    state: TrainState,
    frozen: Frozen,
    batch: Batch,
    values: RunValues,
) -> tuple[TrainState, dict[str, Array]]:
    """One update of one run."""
    update = make_optimizer(optimizer, jnp.asarray(values.learning_rate)).update

    def loss(trainable, rows, weights):
        variables = {**frozen.variables, **trainable}
        return batch_loss(config, objective, variables, frozen.reference_head, rows, weights)

    parts = optimizer.microbatches
    gradients, metrics = summed_gradient(loss, state.trainable, batch, values.weights, parts)
    if config.lora is not None and not all(trained := config.lora.trained(config.layers)):
        # Leaves of `layers/…` have a leading layer axis. A zero `B` without a gradient keeps `A` as it is.
        kept, adapters = jnp.array(trained, jnp.float32)[:, None, None], gradients["lora"]
        layers = jax.tree.map(lambda leaf: leaf * kept.astype(leaf.dtype), adapters["layers"])
        gradients = {"lora": {**adapters, "layers": layers}}
    with jax.named_scope("optimizer"):
        updates, optimizer_state = update(gradients, state.optimizer, state.trainable)
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
    values: RunValues,
) -> tuple[TrainState, dict[str, Array]]:
    """Consecutive steps of several runs in one executable: seeds of an arm, or of several arms
    (`training.stacking` says which).

    Leaves of `state` are `runs …`, of `batches` `steps runs rows …`, of `values` `steps runs` (or `runs`, or
    one number for all), metrics `steps runs`.

    `stack_seeds` is how one executable holds the runs: "vectorize" runs them side by side (accelerators,
    meshes), "loop" one after another inside it, which is what a CPU, whose matrix products are already
    bound by arithmetic, does faster.
    """
    shape = jax.tree.leaves(batches)[0].shape[:2]
    values = jax.tree.map(lambda value: jnp.broadcast_to(value, shape), values)

    def one_run(state, batch, values):
        return train_step(config, objective, optimizer, state, frozen, batch, values)

    def one_step(state, now):
        if stack_seeds == "vectorize":
            return jax.vmap(one_run)(state, *now)
        return jax.lax.map(lambda run: one_run(*run), (state, *now))

    return jax.lax.scan(one_step, state, (batches, values))
