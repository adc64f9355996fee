"""The training loop: batches in, metrics one call late, checkpoints whole; resumed by its step alone."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from introspection.checkpoints.store import CheckpointStore, CorruptCheckpointError
from introspection.errors import InputError, RunError
from introspection.models.config import ModelConfig
from introspection.runtime.config import check_choice
from introspection.runtime.mesh import put_batch, put_parameters
from introspection.runtime.metrics_writer import MetricsWriter
from introspection.runtime.processes import first, gather
from introspection.runtime.profiling import Profile
from introspection.runtime.session import Session
from introspection.runtime.stopping import deferred, is_asked, stop
from introspection.training.batches import stack_batches
from introspection.training.objectives import Batch, ObjectiveConfig, ObjectiveWeights
from introspection.training.speed import STEP, SpeedMeter
from introspection.training.stacking import call_together, join_runs, run_parts, split_runs, take_runs
from introspection.training.step import Frozen, OptimizerConfig, RunValues, TrainState, train_steps


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
    rollout_steps: int = 0  # between calls of `roll_out`; 0: never

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
        every = (
            "log_steps",
            "evaluation_steps",
            "checkpoint_steps",
            "steps",
            "refresh_steps",
            "rollout_steps",
        )
        for name in every:
            if getattr(self, name) % self.steps_per_call:
                raise InputError(
                    f"{name} ({getattr(self, name)}) is no multiple of steps_per_call ({self.steps_per_call})"
                )
        for name in ("log_steps", "evaluation_steps", "rollout_steps"):
            interval = getattr(self, name)
            # Neither groups nor metrics since the last line are stored: a run resumes where both start anew.
            matters = (
                interval < self.steps if name == "evaluation_steps" else self.checkpoint_steps < self.steps
            )
            if interval and self.checkpoint_steps % interval and matters:
                raise InputError(
                    f"checkpoint_steps ({self.checkpoint_steps}) is no multiple of {name} ({interval})"
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
    values: Callable[[int], RunValues]  # of a step
    frozen: Frozen
    batch: Callable[[int, int], Batch]  # (step, seed) -> host arrays
    metadata: dict[str, Any]  # stored with every checkpoint
    state: TrainState  # before the first step
    store: CheckpointStore
    # Called with the steps done and the state; returns one dict of live measures a seed.
    evaluate: Callable[[int, TrainState], Sequence[dict[str, float]]] = lambda step, state: ()
    # Called every `loop.refresh_steps` with the step and state that training goes on from, and once at the
    # start: after a resume, which need not be at such a step, it brings back what it changed last.
    refresh: Callable[[int, TrainState], None] = lambda step, state: None
    # Likewise called every `loop.rollout_steps` and at the start, which is always at such a step: what it
    # samples depends on the step and state alone.
    roll_out: Callable[[int, TrainState], None] = lambda step, state: None

    @property
    def program(self) -> tuple:
        """What its executable is compiled for, beside the shapes of its rows."""
        return self.model, self.objective, self.optimizer, self.loop


def train(
    jobs: Sequence[Job],
    metrics: MetricsWriter,
    session: Session,
    progress: Callable[..., None] = lambda count, note="": None,
    say: Callable[[str], None] = lambda message: None,
    profile: Profile | None = None,
) -> list[TrainState]:
    """Trains each job from its newest good checkpoint to the last step, and returns their states.

    All jobs share `program`, `frozen` and the shapes of their rows. Those that go on from the same step (all,
    unless the process was killed between two saves) train as one stacked axis of runs, each as if alone.

    Raises RunError on a loss that is not finite (naming the step; the last good checkpoint stays) and when a
    checkpoint can't be saved. After SIGTERM or Ctrl-C it saves at the next step that has a line of metrics
    and raises KeyboardInterrupt.
    """
    states, steps = {}, {}
    for job in jobs:
        placed = put_parameters(job.state, session.mesh)
        states[job.name], steps[job.name] = restore_newest(
            placed, job.store, lambda message, name=job.name: say(f"{name}: {message}")
        )
    progress(min(steps.values()))
    for step in sorted(set(steps.values())):
        group = [job for job in jobs if steps[job.name] == step]
        before = [states[job.name] for job in group]
        with deferred():
            trained = _train_from(step, group, before, metrics, session, progress, say, profile or Profile())
        states |= dict(zip((job.name for job in group), trained, strict=True))
    return [states[job.name] for job in jobs]


def _train_from(
    step: int,
    jobs: Sequence[Job],
    states: Sequence[TrainState],
    metrics: MetricsWriter,
    session: Session,
    progress: Callable[..., None],
    say: Callable[[str], None],
    profile: Profile,
) -> list[TrainState]:
    """`train` of jobs that all go on from `step`."""
    loop, mesh = jobs[0].loop, session.mesh
    runs = [(job, seed) for job in jobs for seed in job.seeds]
    ends = list(itertools.accumulate(len(job.seeds) for job in jobs))
    own = [slice(end - len(job.seeds), end) for job, end in zip(jobs, ends, strict=True)]
    state = join_runs(states, mesh)
    parts = run_parts(len(runs), loop.stack_seeds, state.trainable, jobs[0].frozen.variables, mesh)
    parted = split_runs(state, parts, mesh)
    # Explicit: the compiler would return the state under an equal sharding with another name, and the
    # second call would be compiled again.
    shardings = jax.tree.map(lambda leaf: leaf.sharding, parted[0])
    program = session.programs.program(
        STEP,
        (*jobs[0].program[:3], loop.stack_seeds, parts[0].stop - parts[0].start),
        lambda: functools.partial(train_steps, *jobs[0].program[:3], loop.stack_seeds),
        data=(2,),
        donate_argnums=(0,),
        out_shardings=(shardings, None),
    )
    fresh = first(lambda: [job.name for job in jobs if not job.store.steps()])
    names = {job.name for job in jobs}
    meter = SpeedMeter([job.name for job in jobs], jobs[0].model, session.programs, mesh)
    metrics.keep(lambda line: line["arm"] not in names or (line["step"] <= step and line["arm"] not in fresh))

    def states_of_jobs() -> list[TrainState]:
        return split_runs(join_runs(parted, mesh), own, mesh)

    def write_evaluations(step: int, states: Sequence[TrainState]) -> None:
        with meter.during("evaluation"):
            for job, state in zip(jobs, states, strict=True):
                for seed, measures in zip(job.seeds, job.evaluate(step, state), strict=False):
                    metrics.write(job.name, seed, step, measures)
            metrics.flush()  # before a checkpoint, which must never be ahead of them, and for whoever watches

    def save(step: int, states: Sequence[TrainState], wait: bool = False) -> None:
        with meter.during("checkpoint"):
            for job, state in zip(jobs, states, strict=True):
                job.store.save(step, state.trainable, state.optimizer, job.metadata)
            for job in jobs if wait else ():
                job.store.wait()

    def renew(step: int, states: Sequence[TrainState], labels: bool, groups: bool) -> None:
        """Calls what changes the rows that later steps draw from."""
        with meter.during("data"):
            for job, state in zip(jobs, states, strict=True):
                if labels:
                    job.refresh(step, state)
                if groups:
                    job.roll_out(step, state)

    def read_metrics(first_step: int, device_metrics) -> str:
        """Waits for a call's metrics (`steps runs` of every part), checks and averages them into the log."""
        values = {
            name: np.concatenate([gather(part[name]) for part in device_metrics], axis=1)
            for name in device_metrics[0]
        }
        finite = np.isfinite(values["loss"]) & np.isfinite(values["gradient_norm"])
        if not finite.all():
            bad_step, bad_run = np.argwhere(~finite)[0]
            job, seed = runs[bad_run]
            raise RunError(
                f"{job.name}: the loss is not finite at step {first_step + bad_step + 1} of seed "
                f"{seed}; the last good checkpoint is step {job.store.steps()[-1]} in {job.store.directory}"
            )
        window.append(values)
        last = first_step + loop.steps_per_call
        if first_step == 0 and loop.log_steps > 1:  # the first step shows the initial model
            _write_means([{name: v[:1] for name, v in values.items()}], runs, 1, metrics)
        if last % loop.log_steps == 0 or last == loop.steps:
            _write_means(window, runs, last, metrics)
            window.clear()
        return f"loss {values['loss'][-1].mean():.3f}"

    window: list[dict[str, np.ndarray]] = []
    pending: tuple[int, Any] | None = None
    if fresh:
        states = states_of_jobs()
        write_evaluations(0, states)
        save(0, states)
    if (loop.refresh_steps or loop.rollout_steps) and step < loop.steps:
        renew(step, states_of_jobs(), bool(loop.refresh_steps), bool(loop.rollout_steps))
    while step < loop.steps:
        profile.reached(step, parted)
        with meter.during("data"):
            batches = stack_batches(
                [[job.batch(step + i, seed) for job, seed in runs] for i in range(loop.steps_per_call)]
            )
            meter.count(batches, loop.steps_per_call)
        by_step = [[job.values(step + i) for job, _ in runs] for i in range(loop.steps_per_call)]
        values = stack_batches(by_step)
        calls = [
            (
                state,
                jobs[0].frozen,
                put_batch(take_runs(batches, part, axis=1), mesh, axis=2),
                take_runs(values, part, axis=1),
            )
            for state, part in zip(parted, parts, strict=True)
        ]
        parted, device_metrics = zip(*call_together(program, calls), strict=True)
        # Where all runs share an executable, it still runs while the previous call's metrics are read.
        note = read_metrics(*pending) if pending else ""
        pending = (step, device_metrics)
        step += loop.steps_per_call
        at_checkpoint = step % loop.checkpoint_steps == 0 or step == loop.steps
        at_evaluation = at_checkpoint or step % loop.evaluation_steps == 0
        at_refresh = loop.refresh_steps and step % loop.refresh_steps == 0 and step < loop.steps
        at_rollout = loop.rollout_steps and step % loop.rollout_steps == 0 and step < loop.steps
        if at_evaluation or at_refresh or at_rollout:
            states = states_of_jobs()
        if at_evaluation:
            note = read_metrics(*pending)
            pending = None
            write_evaluations(step, states)
        # Between metrics, or between samples of groups, which are not stored, it could not go on as before.
        stops = is_asked() and not (step % loop.log_steps or step % (loop.rollout_steps or 1))
        if stops and not at_checkpoint:
            if pending:
                read_metrics(*pending)
            metrics.flush()
            states = states_of_jobs()
        if at_checkpoint or stops:
            save(step, states, wait=stops or step == loop.steps)
        if at_evaluation or stops:
            speed = meter.stretch(step)
            metrics.write_speed(speed.arms[0], step, dataclasses.asdict(speed), speed.drawn())
            note = f"{note}, {speed.tokens_per_second:,.0f} tokens/s"
            if again := meter.compiled_again():
                say(again)
        if stops and step < loop.steps:
            stop(f"saved at step {step}")
        renew(step, states, bool(at_refresh), bool(at_rollout))
        progress(loop.steps_per_call, note)
    profile.end(parted)
    return states_of_jobs()


def restore_newest(
    state: TrainState, store: CheckpointStore, say: Callable[[str], None]
) -> tuple[TrainState, int]:
    """The newest stored step that reads back whole, or `state` and step 0; damaged ones are deleted."""
    abstract = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding),
        (state.trainable, state.optimizer),
    )
    for step in reversed(first(store.steps)):  # each process lists files by itself, and may see others
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


def _write_means(
    window: list[dict[str, np.ndarray]], runs: Sequence[tuple[Job, int]], step: int, metrics: MetricsWriter
) -> None:
    for index, (job, seed) in enumerate(runs):
        means = {
            name: float(np.mean([values[name][:, index].mean() for values in window])) for name in window[0]
        }
        metrics.write(job.name, seed, step, means)


def weights(kl: float, shift: float, explanation: float = 1.0) -> ObjectiveWeights:
    return ObjectiveWeights(*(np.asarray(term, np.float32) for term in (explanation, kl, shift)))
