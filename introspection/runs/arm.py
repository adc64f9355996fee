"""One arm: its training, and what came out of it."""

import functools
import time
from collections.abc import Callable

from introspection.checkpoints.names import CHECKPOINTS, ModelCard, model_fingerprint
from introspection.checkpoints.store import CheckpointStore
from introspection.coupling.records import read_records
from introspection.models.head import head_matrix
from introspection.models.model import Model, select_seed
from introspection.runs.arm_labels import (
    arm_labels,
    held_out_labels,
    refreshed_labels,
    start_of,
    teacher_decisions,
)
from introspection.runs.arm_rows import relabelled, shift_items, training_rows
from introspection.runs.assemble import RECORDS, arm_folder, write_arm
from introspection.runs.config import ArmConfig
from introspection.runs.measure import live_measures, probe_records
from introspection.runs.setup import Setup
from introspection.runs.trainable import trainable_parts
from introspection.runtime.config import plain
from introspection.runtime.metrics_writer import MetricsWriter
from introspection.runtime.progress import progress_bar
from introspection.runtime.trackers import Trackers
from introspection.tasks.items import Decisions, Item
from introspection.training.batches import make_batch
from introspection.training.loop import Job, train, weights
from introspection.training.objectives import ObjectiveWeights
from introspection.training.shifts import shifted_groups
from introspection.training.step import Frozen, TrainState, initial_state


def run_arm(name: str, arm: ArmConfig, setup: Setup, measured: dict[tuple, dict[str, float]]) -> None:
    """Trains one arm (all seeds together), probes what came out and stores its records.

    Args:
      measured: live measures before training, by all that they depend on; arms add what they take.
    """
    started = time.perf_counter()
    config, session, console = setup.config, setup.session, setup.session.console
    options, seeds, start = config.train, tuple(config.seeds), start_of(arm, setup)
    labels = arm_labels(name, arm, setup)
    rows = dict.fromkeys(seeds, training_rows(arm, labels, setup))
    model_config, trainables, frozen = trainable_parts(config, start.model, seeds)
    optimizer, loop = options.optimizer(arm), options.loop(arm)

    def weights_at(step: int) -> ObjectiveWeights:
        explanation, shift = arm.shift.terms(step, options.steps)
        return weights(arm.kl_weight, shift * arm.shift.weight, explanation)

    job = Job(
        name=name,
        seeds=seeds,
        model=model_config,
        objective=options.objective(
            arm, start.reference.config.final_softcap, setup.readout.kind != "likeliest"
        ),
        optimizer=optimizer,
        loop=loop,
        weights=weights_at,
        frozen=Frozen(frozen, head_matrix(start.reference.variables["params"], start.reference.config)),
        batch=lambda step, seed: make_batch(rows[seed], options.rows, step, seed),
        metadata={"arm": name, "seeds": list(seeds), "initial": start.probed.fingerprint},
    )
    store_path = setup.workdir / CHECKPOINTS / name
    ModelCard(model_config, seeds, base=start.name if frozen else None).write(store_path)
    trackers = Trackers(config.log, config.name, name, plain(arm)) if config.log.projects else None
    metrics = MetricsWriter(setup.workdir, trackers)

    def seed_model(state: TrainState, index: int) -> Model:
        variables = {**frozen, **select_seed(state.trainable, index)}
        return Model(model_config, start.model.tokenizer, variables, f"arm {name}, seed {seeds[index]}")

    held_out = held_out_labels(arm, labels, setup)

    def evaluate(step: int, state: TrainState) -> list[dict[str, float]]:
        if step:
            return [live_measures(seed_model(state, i), setup, held_out) for i in range(len(seeds))]
        # Before the first step all seeds of arms with the same labels are the model that they start from.
        kind = (start.name, held_out.shown, *map(tuple, (held_out.labels, held_out.trained, held_out.clean)))
        if kind not in measured:
            measured[kind] = live_measures(seed_model(state, 0), setup, held_out)
        return [measured[kind]] * len(seeds)

    def refresh(step: int, state: TrainState) -> None:
        for i, seed in enumerate(seeds):
            now = functools.partial(seed_model, state, i)
            refreshed = refreshed_labels(name, arm, now, seed, step, setup)
            if refreshed is not None:
                rows[seed] = relabelled(rows[seed], labels._replace(trained=refreshed), arm, setup)

    with (
        CheckpointStore(store_path, options.keep_checkpoints) as store,
        progress_bar(console, name, loop.steps) as progress,
    ):
        state = train(
            job,
            initial_state(trainables, optimizer),
            store,
            metrics,
            session,
            evaluate=evaluate,
            refresh=refresh,
            progress=progress,
            say=lambda message: console.print(f"{name}: {message}", highlight=False),
        )
    metrics.close()
    shifted = shifted_groups(arm.shift, [item for item, _ in shift_items(arm, setup)])
    records, fingerprints = [], {}
    taught = teacher_decisions(arm, setup, "test")
    for i, seed in enumerate(seeds):
        model = seed_model(state, i)
        shown = shown_answers(arm, seed, setup)
        records += probe_records(name, seed, model, start, taught, shifted, setup, shown)
        fingerprints[str(seed)] = model_fingerprint(model)
    write_arm(setup.workdir, name, records, fingerprints, time.perf_counter() - started)


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
