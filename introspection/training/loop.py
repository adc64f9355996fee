"""The training loop: batches in, metrics one call late, checkpoints whole; resumed by its step alone."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from introspection.checkpoints.store import CheckpointStore, CorruptCheckpointError
from introspection.errors import InputError, RunError
from introspection.models.config import ModelConfig
from introspection.runtime.config import check_choice
from introspection.runtime.mesh import put_parameters, put_rows
from introspection.runtime.metrics_writer import MetricsWriter
from introspection.runtime.session import Session
from introspection.training.batches import stack_batches
from introspection.training.objectives import Batch, ObjectiveConfig, ObjectiveWeights
from introspection.training.seeds import call_together, join_seeds, seed_parts, split_seeds, take_seeds
from introspection.training.step import Frozen, OptimizerConfig, TrainState, train_steps


@dataclasses.dataclass(frozen=True)
class LoopConfig:
    """How long and how often; every interval divides `checkpoint_steps`, so that a resumed run repeats
    exactly what is missing."""

    steps: int
    steps_per_call: int = 10  # steps in one dispatch of the executable
    log_steps: int = 10  # metrics are means over this many steps
    evaluation_steps: int = 100  # between live evaluations
    checkpoint_steps: int = 100
    stack_seeds: str = "loop"  # or "vectorize"
    refresh_steps: int = 0  # between calls of `refresh`; 0: never

    def __post_init__(self):
        check_choice("stack_seeds", self.stack_seeds, ("loop", "vectorize"))
        for name in ("steps_per_call", "log_steps", "evaluation_steps", "checkpoint_steps", "steps"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.refresh_steps and self.refresh_steps >= self.steps:
            raise InputError(
                f"refresh_steps ({self.refresh_steps}) never comes: there are {self.steps} steps; "
                "lower it, or give 0 for none"
            )
        for name in ("log_steps", "evaluation_steps", "checkpoint_steps", "steps", "refresh_steps"):
            if getattr(self, name) % self.steps_per_call:
                raise InputError(
                    f"{name} ({getattr(self, name)}) is no multiple of steps_per_call ({self.steps_per_call})"
                )
        for name in ("log_steps", "evaluation_steps"):
            if self.checkpoint_steps % getattr(self, name) and getattr(self, name) < self.steps:
                raise InputError(
                    f"checkpoint_steps ({self.checkpoint_steps}) is no multiple of {name} "
                    f"({getattr(self, name)})"
                )


@dataclasses.dataclass(frozen=True)
class Job:
    """One arm to train: all its seeds together."""

    name: str
    seeds: tuple[int, ...]
    model: ModelConfig
    objective: ObjectiveConfig
    optimizer: OptimizerConfig
    loop: LoopConfig
    weights: Callable[[int], ObjectiveWeights]  # of the call that begins with this step
    frozen: Frozen
    batch: Callable[[int, int], Batch]  # (step, seed) -> host arrays
    metadata: dict[str, Any]  # stored with every checkpoint


def train(
    job: Job,
    state: TrainState,
    store: CheckpointStore,
    metrics: MetricsWriter,
    session: Session,
    evaluate: Callable[[int, TrainState], Sequence[dict[str, float]]] = lambda step, state: (),
    refresh: Callable[[int, TrainState], None] = lambda step, state: None,
    progress: Callable[..., None] = lambda count, note="": None,
    say: Callable[[str], None] = lambda message: None,
) -> TrainState:
    """Trains from the newest good checkpoint (or from `state`) to the last step.

    `evaluate` is called with the steps done and the state, and returns one dict of live measures a seed.
    `refresh` is called every `loop.refresh_steps` with the step and state that training goes on from, and
    once at the start: after a resume, which need not be at such a step, it brings back what it changed last.
    Raises RunError on a loss that is not finite (naming the step; the last good checkpoint stays) and when a
    checkpoint can't be saved.
    """
    loop, seeds = job.loop, job.seeds
    mesh = session.mesh
    state, step = restore_newest(put_parameters(state, mesh), store, say)
    parts = seed_parts(len(seeds), loop.stack_seeds, state.trainable, job.frozen.variables, mesh)
    states = split_seeds(state, parts, mesh)
    # Explicit: the compiler would return the state under an equal sharding with another name, and the
    # second call would be compiled again.
    shardings = jax.tree.map(lambda leaf: leaf.sharding, states[0])
    program = session.programs.program(
        "train_steps",
        (job.model, job.objective, job.optimizer, loop.stack_seeds, parts[0].stop - parts[0].start),
        lambda: (
            lambda *arrays: train_steps(job.model, job.objective, job.optimizer, loop.stack_seeds, *arrays)
        ),
        data=(2,),
        donate_argnums=(0,),
        out_shardings=(shardings, None),
    )
    fresh = not store.steps()
    metrics.keep(lambda line: line["arm"] != job.name or (line["step"] <= step and not fresh))
    progress(step)

    def write_evaluation(step: int) -> None:
        for seed, measures in zip(seeds, evaluate(step, state), strict=False):
            metrics.write(job.name, seed, step, measures)
        metrics.flush()  # before a checkpoint, which must never be ahead of them, and for whoever watches

    def read_metrics(first_step: int, device_metrics) -> str:
        """Waits for a call's metrics (`steps seeds` of every part), checks and averages them into the log."""
        names = device_metrics[0]
        values = {name: np.concatenate([part[name] for part in device_metrics], axis=1) for name in names}
        finite = np.isfinite(values["loss"]) & np.isfinite(values["gradient_norm"])
        if not finite.all():
            bad_step, bad_seed = np.argwhere(~finite)[0]
            raise RunError(
                f"{job.name}: the loss is not finite at step {first_step + bad_step + 1} of seed "
                f"{seeds[bad_seed]}; the last good checkpoint is step {store.steps()[-1]} "
                f"in {store.directory}"
            )
        window.append(values)
        last = first_step + loop.steps_per_call
        if first_step == 0 and loop.steps_per_call > 1:  # the first step shows the initial model
            _write_means([{name: v[:1] for name, v in values.items()}], job, 1, metrics)
        if last % loop.log_steps == 0:
            _write_means(window, job, last, metrics)
            window.clear()
        return f"loss {values['loss'][-1].mean():.3f}"

    window: list[dict[str, np.ndarray]] = []
    pending: tuple[int, Any] | None = None
    if fresh:
        write_evaluation(0)
        store.save(0, state.trainable, state.optimizer, job.metadata)
    if loop.refresh_steps and step < loop.steps:
        refresh(step, state)
    while step < loop.steps:
        batches = stack_batches(
            [[job.batch(step + i, seed) for seed in seeds] for i in range(loop.steps_per_call)]
        )
        rows = [put_rows(take_seeds(batches, part, axis=1), mesh, axis=2) for part in parts]
        calls = [(own, job.frozen, drawn, job.weights(step)) for own, drawn in zip(states, rows, strict=True)]
        states, device_metrics = zip(*call_together(program, calls), strict=True)
        # Where all seeds share an executable, it still runs while the previous call's metrics are read.
        note = read_metrics(*pending) if pending else ""
        pending = (step, device_metrics)
        step += loop.steps_per_call
        at_checkpoint = step % loop.checkpoint_steps == 0 or step == loop.steps
        at_evaluation = at_checkpoint or step % loop.evaluation_steps == 0
        at_refresh = loop.refresh_steps and step % loop.refresh_steps == 0 and step < loop.steps
        if at_evaluation or at_refresh:
            state = join_seeds(states, mesh)
        if at_evaluation:
            note = read_metrics(*pending)
            pending = None
            write_evaluation(step)
        if at_checkpoint:
            store.save(step, state.trainable, state.optimizer, job.metadata)
        if at_refresh:
            refresh(step, state)
        progress(loop.steps_per_call, note)
    store.wait()
    return state


def restore_newest(
    state: TrainState, store: CheckpointStore, say: Callable[[str], None]
) -> tuple[TrainState, int]:
    """The newest stored step that reads back whole, or `state` and step 0; damaged ones are deleted."""
    abstract = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding),
        (state.trainable, state.optimizer),
    )
    for step in reversed(store.steps()):
        try:
            trainable, optimizer = store.restore(step, *abstract)
        except CorruptCheckpointError as error:
            say(f"{error}; falling back to the checkpoint before it")
            store.delete(step)
            continue
        if step:
            say(f"continuing from step {step}")
        return TrainState(trainable, optimizer), step
    return state, 0


def _write_means(window: list[dict[str, np.ndarray]], job: Job, step: int, metrics: MetricsWriter) -> None:
    for index, seed in enumerate(job.seeds):
        means = {
            name: float(np.mean([values[name][:, index].mean() for values in window])) for name in window[0]
        }
        metrics.write(job.name, seed, step, means)


def weights(kl: float, shift: float, explanation: float = 1.0) -> ObjectiveWeights:
    return ObjectiveWeights(jnp.float32(explanation), jnp.float32(kl), jnp.float32(shift))
