"""Arms: their training, alone or side by side, and what came out of them."""

import contextlib
import functools
import time
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from introspection.checkpoints.names import CHECKPOINTS, ModelCard, model_fingerprint
from introspection.checkpoints.store import CheckpointStore
from introspection.coupling.records import read_records
from introspection.models.head import head_matrix
from introspection.models.model import Model, parameter_distance, select_seed
from introspection.reports.console import say
from introspection.reports.speed import read_speeds, speed_line
from introspection.runs.arm_labels import (
    arm_labels,
    held_out_labels,
    refreshed_labels,
    start_of,
    teacher_decisions,
    teacher_effects,
)
from introspection.runs.arm_rows import relabelled, training_rows
from introspection.runs.arm_shift import ArmShift, shifted_of
from introspection.runs.assemble import RECORDS, ArmOutcome, arm_folder, write_arm
from introspection.runs.config import ArmConfig
from introspection.runs.measure import live_measures, probe_records
from introspection.runs.rollouts import roll_out
from introspection.runs.setup import Setup, Start
from introspection.runs.trainable import trainable_parts
from introspection.runtime import processes
from introspection.runtime.config import plain
from introspection.runtime.metrics_writer import MetricsWriter
from introspection.runtime.profiling import Profile
from introspection.runtime.progress import progress_bar
from introspection.runtime.trackers import Trackers
from introspection.tasks.items import Decisions, Item
from introspection.training.batches import make_batch
from introspection.training.loop import Job, train, weights
from introspection.training.packing import in_packs
from introspection.training.step import Frozen, RunValues, TrainState, initial_state


def run_arms(
    arms: Mapping[str, ArmConfig],
    shifts: Mapping[str, ArmShift],
    setup: Setup,
    measured: dict[tuple, dict[str, float]],
    profile: Profile,
) -> None:
    """Trains arms (those that share an executable side by side), probes what came out, stores their records.

    Args:
      shifts: what each arm's shift trains, by the arm's name.
      measured: live measures before training, by all that they depend on; arms add what they take.
    """
    with contextlib.ExitStack() as stack:
        jobs = [arm_job(name, arm, shifts[name], setup, measured, stack) for name, arm in arms.items()]
        for together in stacked(jobs):
            train_arms(together, arms, setup, profile)


def stacked(jobs: Sequence[Job]) -> list[list[Job]]:
    """The jobs that one executable trains together: all that they differ in are values."""
    groups: dict[tuple, list[Job]] = {}
    for job in jobs:
        rows, parts = jax.tree.flatten(job.batch(0, job.seeds[0]))
        shapes = tuple(map(np.shape, rows))
        groups.setdefault((job.program, job.metadata["initial"], parts, shapes), []).append(job)
    return list(groups.values())


def arm_job(
    name: str,
    arm: ArmConfig,
    arm_shift: ArmShift,
    setup: Setup,
    measured: dict[tuple, dict[str, float]],
    stack: contextlib.ExitStack,
) -> Job:
    """All that an arm's training needs; its store is open as long as `stack` is."""
    config, options, seeds = setup.config, setup.config.train, tuple(setup.config.seeds)
    start, labels = start_of(arm, setup), arm_labels(name, arm, setup)
    rows = dict.fromkeys(seeds, training_rows(arm, arm_shift, labels, setup))
    model_config, trainables, frozen = trainable_parts(config, start.model, seeds, setup.session.mesh)
    shifted = shifted_of(arm, setup)
    optimizer, held_out = options.optimizer(arm), held_out_labels(arm, labels, shifted, setup)
    held_out_of = dict.fromkeys(seeds, held_out)
    loop, batch = options.loop(arm), lambda step, seed: make_batch(rows[seed], options.rows, step, seed)
    if options.pack_tokens:
        batch = in_packs(batch, loop.steps, seeds, options.pack_tokens, setup.session.mesh)
    path = setup.workdir / CHECKPOINTS / name
    ModelCard(model_config, seeds, base=start.name if frozen else None).write(path)

    def values(step: int) -> RunValues:
        explanation, shift = arm.shift.terms(step, options.steps)
        term_weights = weights(arm.kl_weight, shift * arm.shift.weight, explanation)
        return RunValues(jnp.float32(arm.learning_rate), term_weights)

    def model_of(state: TrainState, index: int) -> Model:
        return trained_model(job, state, index, start)

    def evaluate(step: int, state: TrainState) -> list[dict[str, float]]:
        if step:
            return [
                live_measures(
                    f"{name}: evaluating seed {seed}, step {step}",
                    model_of(state, i),
                    setup,
                    held_out_of[seed],
                )
                for i, seed in enumerate(seeds)
            ]
        # Before the first step all seeds of arms with the same labels are the model that they start from.
        tested = [tuple(item.id for item in items) for items in held_out.tested.values()]
        same = (held_out.labels, held_out.trained, held_out.clean, tested)
        kind = (start.name, held_out.shown, *map(tuple, same))
        if kind not in measured:
            title = f"{name}: evaluating, step 0"
            measured[kind] = live_measures(title, model_of(state, 0), setup, held_out)
        return [measured[kind]] * len(seeds)

    def refresh(step: int, state: TrainState) -> None:
        for i, seed in enumerate(seeds):
            now = functools.partial(model_of, state, i)
            refreshed = refreshed_labels(name, arm, now, seed, step, setup)
            if refreshed is not None:
                rows[seed] = relabelled(rows[seed], labels._replace(trained=refreshed), arm, setup)
                held_out_of[seed] = held_out.relabelled(refreshed)

    def sample_groups(step: int, state: TrainState) -> None:
        explanation = rows[seeds[0]].explanation
        assert arm_shift.rewarded is not None  # `loop.rollout_steps` is 0 otherwise
        assert explanation is not None  # an arm explains
        time = explanation.tokens.shape[-1]
        for i, seed in enumerate(seeds):
            groups = roll_out(arm, arm_shift.rewarded, model_of(state, i), seed, step, time, setup)
            rows[seed] = rows[seed]._replace(shift=groups)

    job = Job(
        name=name,
        seeds=seeds,
        model=model_config,
        objective=options.objective(arm, start.reference.config.final_softcap, setup.readout.with_none),
        optimizer=optimizer,
        loop=loop,
        values=values,
        frozen=Frozen(frozen, head_matrix(start.reference.variables, start.reference.config)),
        batch=batch,
        metadata={"arm": name, "seeds": list(seeds), "initial": start.probed.fingerprint},
        state=initial_state(trainables, optimizer, setup.session.mesh),
        store=stack.enter_context(CheckpointStore(path, options.keep_checkpoints)),
        evaluate=evaluate,
        refresh=refresh,
        roll_out=sample_groups,
    )
    return job


def trained_model(job: Job, state: TrainState, index: int, start: Start) -> Model:
    """One seed of an arm as a model."""
    variables = {**job.frozen.variables, **select_seed(state.trainable, index)}
    return Model(job.model, start.model.tokenizer, variables, f"arm {job.name}, seed {job.seeds[index]}")


def train_arms(jobs: Sequence[Job], arms: Mapping[str, ArmConfig], setup: Setup, profile: Profile) -> None:
    """Trains jobs of one executable and stores what came out of each arm."""
    started, console, log = time.perf_counter(), setup.session.console, setup.config.log
    trackers = None
    if log.projects and processes.is_first():
        trackers = Trackers(log, setup.config.name, jobs[0].name, plain(arms[jobs[0].name]))
    metrics = MetricsWriter(setup.workdir, trackers)
    with progress_bar(console, ", ".join(job.name for job in jobs), jobs[0].loop.steps) as progress:
        states = train(
            jobs,
            metrics,
            setup.session,
            progress=progress,
            say=lambda message: console.print(message, highlight=False),
            profile=profile,
        )
    metrics.close()
    for speed in processes.first(lambda: read_speeds(setup.workdir)):
        if speed.arms == tuple(job.name for job in jobs):
            say(console, speed_line(speed))
    shared = (time.perf_counter() - started) / len(jobs)
    for job, state in zip(jobs, states, strict=True):
        started, arm = time.perf_counter(), arms[job.name]
        start = start_of(arm, setup)
        shifted = shifted_of(arm, setup)
        decided, effects = teacher_decisions(arm, setup, "test"), teacher_effects(arm, setup, "test")
        taught, records, fingerprints, moved = [*zip(decided, effects, strict=True)], [], {}, []
        for i, seed in enumerate(job.seeds):
            model = trained_model(job, state, i, start)
            shown = shown_answers(arm, seed, setup)
            records += probe_records(job.name, seed, model, start, taught, shifted, setup, shown)
            fingerprints[str(seed)] = model_fingerprint(model)
            moved.append(parameter_distance(model, start.model))
        seconds = shared + time.perf_counter() - started
        outcome = ArmOutcome(fingerprints, seconds, sum(moved) / len(moved))
        processes.first(functools.partial(write_arm, setup.workdir, job.name, records, outcome))


def shown_answers(arm: ArmConfig, seed: int, setup: Setup) -> Callable[[Item, Decisions], str] | None:
    """What an arm's explanation prompts show of an item, given its own decisions: the answer without the cue
    of the model that it explains; None if they show nothing.

    A foreign explainer explains the arm that it repeats, whose records must be there.
    """
    if not arm.shown:
        return None
    if not arm.foreign_to:
        return lambda item, current: current.without_cue
    records = read_records(arm_folder(setup.workdir, arm.foreign_to) / RECORDS)
    answers = {record.id: record.current.without_cue for record in records if record.seed == seed}
    return lambda item, current: answers[item.id]
