"""One arm: its labels, the rows that its steps draw from, its training, and what came out of it."""

import dataclasses
import time
from pathlib import Path
from typing import Any

import jax

from introspection.checkpoints.models import CHECKPOINTS, ModelCard, model_fingerprint
from introspection.checkpoints.store import CheckpointStore
from introspection.coupling.labels import Label, read_labels, write_labels
from introspection.errors import InputError
from introspection.jobs.arms import (
    ArmConfig,
    altered_labels,
    behavior_batch,
    explanation_rows,
    same_time,
    shift_rows,
    with_room,
)
from introspection.jobs.fields import (
    batch_sizes,
    loop_config,
    lora_config,
    objective_config,
    optimizer_config,
)
from introspection.jobs.items import longest_explanation
from introspection.jobs.measure import live_measures, probe_records
from introspection.jobs.replies import reply_batch
from introspection.jobs.results import write_arm
from introspection.jobs.setup import Setup, Start, label_metadata
from introspection.models.config import ModelConfig
from introspection.models.decoder import initialize
from introspection.models.head import head_matrix
from introspection.models.model import Model, select_seed
from introspection.probes.readout import read_behavior
from introspection.runtime.metrics_writer import MetricsWriter
from introspection.runtime.progress import progress_bar
from introspection.tasks.items import Explanation
from introspection.tasks.mixture import is_explained
from introspection.tasks.task import SPLITS, Task
from introspection.text.rows import pad_scored, pad_time
from introspection.training.batches import TrainingRows, make_batch
from introspection.training.loop import Job, train, weights
from introspection.training.objectives import ObjectiveWeights
from introspection.training.shifts import ShiftExample, shift_examples
from introspection.training.step import Frozen, TrainState, initial_state

# Share of labels that may differ from what the teacher does here: another machine rounds otherwise, and a
# near tie falls the other way.
OTHER_ROUNDING = 0.01


def labels_folder(arm: ArmConfig) -> Path:
    return Path(arm.labels).expanduser()


def expected_labels(task: Task) -> dict[str, str]:
    return {"task": task.name, "template_version": task.template_version}


def given_labels(arm: ArmConfig, setup: Setup) -> list[Explanation]:
    """The labels of the folder that an arm names.

    Raises:
      InputError: they are not the label teacher's, or of behaviour that was asked for or read in another way.
    """
    expected = {"teacher_fingerprint": setup.teacher.fingerprint, **expected_labels(setup.task)}
    labels = read_labels(labels_folder(arm), expected, setup.train_items)
    differing = [
        (label, clean) for label, clean in zip(labels, setup.clean, strict=True) if label.clean != clean
    ]
    if len(differing) > OTHER_ROUNDING * len(labels):
        label, clean = differing[0]
        raise InputError(
            f"{arm.labels}: these labels are of the same model's behaviour, but asked for or read in another "
            f"way (config.task, config.behavior, config.chat): {len(differing)} of {len(labels)} differ, "
            f"such as {label.id}: {tuple(label.clean)} there and {tuple(clean)} here"
        )
    return [label.explanation for label in labels]


def start_of(arm: ArmConfig, setup: Setup) -> Start:
    return setup.starts["foreign" if arm.foreign_to else "initial"]


def shift_of(arm: ArmConfig, setup: Setup) -> list[ShiftExample]:
    """What an arm's shift trains. Raises InputError if no item fits it."""
    taught = arm.shift.kind == "taught"
    splits = ("train", "validation") if taught else ("test",) if arm.shift.groups == "held_out" else SPLITS
    items = [item for split in splits for item in setup.task.splits[split]]
    decided = [d for split in splits for d in start_of(arm, setup).probed.decisions[split]]
    # What is taught is what is never explained.
    chosen = [i for i, item in enumerate(items) if not (taught and is_explained(setup.task, item))]
    return shift_examples(arm.shift, [items[i] for i in chosen], [decided[i] for i in chosen])


def arm_labels(name: str, arm: ArmConfig, setup: Setup) -> list[Explanation]:
    """What an arm trains on: the labels of its config's folder, or its own, written to `labels/<arm>`."""
    config, items = setup.config, setup.train_items
    if arm.labels:
        return given_labels(arm, setup)
    labels = altered_labels(arm, items, setup.clean, config.task.seed)
    metadata = label_metadata(
        config, setup.task, setup.teacher.fingerprint, arm.label_noise, arm.shuffle_labels
    )
    decided = dict(
        zip([i.id for i in setup.task.splits["train"]], setup.teacher.decisions["train"], strict=True)
    )
    write_labels(
        setup.workdir / "labels" / name,
        [Label(i.id, i.group, decided[i.id], label) for i, label in zip(items, labels, strict=True)],
        metadata,
    )
    return labels


def training_rows(name: str, arm: ArmConfig, setup: Setup) -> TrainingRows:
    """Every row that the arm's steps draw from."""
    start, task = start_of(arm, setup), setup.task
    tokenizer, examples = start.model.tokenizer, shift_of(arm, setup)
    explanation = explanation_rows(tokenizer, setup.train_items, arm_labels(name, arm, setup), task)
    if arm.refresh_labels:  # room for whatever the labels become
        explanation = with_room(explanation, longest_explanation(setup.train_items, task, tokenizer))
    shift, shifted = shift_rows(tokenizer, examples), {example.prompt for example in examples}
    if setup.readout.kind == "generate":
        held = reply_batch(
            tokenizer, setup.train_items, start.kl_behaviors, start.kl_hidden, arm.kl_prompts, shifted
        )
    else:
        held = behavior_batch(
            tokenizer,
            setup.train_items,
            setup.clean,
            start.kl_behaviors,
            start.kl_hidden,
            arm.kl_prompts,
            shifted,
        )
    explanation, held_rows, shift = same_time(explanation, held.rows, shift)
    held = held._replace(rows=held_rows)
    if setup.readout.kind == "generate":
        return TrainingRows(explanation, None, shift, replies=held)
    return TrainingRows(explanation, held, shift)


def refreshed_rows(
    name: str, rows: TrainingRows, model: Model, seed: int, step: int, setup: Setup
) -> TrainingRows:
    """The same rows with the labels that `model` earns now; kept in `labels/<arm>-seed<S>-step<N>`."""
    items = setup.train_items
    decided = read_behavior(model, items, setup.readout, setup.programs, setup.mesh).decisions
    write_labels(
        setup.workdir / "labels" / f"{name}-seed{seed}-step{step}",
        [Label(i.id, i.group, d, d.explanation) for i, d in zip(items, decided, strict=True)],
        label_metadata(setup.config, setup.task, model_fingerprint(model), noise=0.0),
    )
    labels = [decision.explanation for decision in decided]
    fresh = explanation_rows(model.tokenizer, items, labels, setup.task)
    room = rows.explanation
    fresh = pad_scored(pad_time(fresh, room.tokens.shape[-1]), room.scored.shape[-1])
    return rows._replace(explanation=fresh)


def run_arm(name: str, arm: ArmConfig, setup: Setup) -> None:
    """Trains one arm (all seeds together), probes what came out and stores its records."""
    started = time.perf_counter()
    config, programs, mesh, console = setup.config, setup.programs, setup.mesh, setup.console
    options, seeds, start = config.train, tuple(config.seeds), start_of(arm, setup)
    rows = dict.fromkeys(seeds, training_rows(name, arm, setup))
    sizes = batch_sizes(config)
    model_config, trainables, frozen = trainable_parts(config, start.model)
    optimizer, loop = optimizer_config(config, arm), loop_config(config, arm)

    def weights_at(step: int) -> ObjectiveWeights:
        explanation, shift = arm.shift.terms(step, options.steps)
        return weights(arm.kl_weight, shift * arm.shift.weight, explanation)

    job = Job(
        name=name,
        seeds=seeds,
        model=model_config,
        objective=dataclasses.replace(
            objective_config(config, arm), reference_softcap=start.reference.config.final_softcap
        ),
        optimizer=optimizer,
        loop=loop,
        weights=weights_at,
        frozen=Frozen(frozen, head_matrix(start.reference.variables["params"], start.reference.config)),
        batch=lambda step, seed: make_batch(rows[seed], sizes, step, seed),
        metadata={"arm": name, "seeds": list(seeds), "initial": start.probed.fingerprint},
    )
    store_path = setup.workdir / CHECKPOINTS / name
    ModelCard(model_config, seeds, base=start.name if frozen else None).write(store_path)
    metrics = MetricsWriter(setup.workdir)

    def seed_model(state: TrainState, index: int) -> Model:
        variables = {**frozen, **select_seed(state.trainable, index)}
        return Model(model_config, start.model.tokenizer, variables)

    def evaluate(step: int, state: TrainState) -> list[dict[str, float]]:
        if step:
            return [live_measures(seed_model(state, i), setup) for i in range(len(seeds))]
        # Before the first step all seeds of all arms are the model that they start from.
        if start.name not in setup.measured:
            setup.measured[start.name] = live_measures(seed_model(state, 0), setup)
        return [setup.measured[start.name]] * len(seeds)

    def refresh(step: int, state: TrainState) -> None:
        if arm.refresh_labels and step:
            for i, seed in enumerate(seeds):
                rows[seed] = refreshed_rows(name, rows[seed], seed_model(state, i), seed, step, setup)

    with (
        CheckpointStore(store_path, options.keep_checkpoints) as store,
        progress_bar(console, name, loop.steps) as progress,
    ):
        state = train(
            job,
            initial_state(trainables, optimizer),
            store,
            metrics,
            programs,
            mesh,
            evaluate=evaluate,
            after_checkpoint=refresh,
            progress=progress,
            say=lambda message: console.print(f"{name}: {message}", highlight=False),
        )
    metrics.close()
    records, fingerprints = [], {}
    for i, seed in enumerate(seeds):
        model = seed_model(state, i)
        records += probe_records(name, seed, model, start, setup)
        fingerprints[str(seed)] = model_fingerprint(model)
    write_arm(setup.workdir, name, records, fingerprints, time.perf_counter() - started)


def trainable_parts(config: Any, initial: Model) -> tuple[ModelConfig, list[dict], dict]:
    """(model config, what is trained of each seed, what is frozen): all parameters, or, if lora.rank > 0,
    adapters, drawn for every seed and the same in all arms."""
    model_config = dataclasses.replace(initial.config, remat=config.train.remat, lora=lora_config(config))
    if model_config.lora is None:
        return model_config, [{"params": initial.variables["params"]}] * len(config.seeds), {}
    key, draw = jax.random.key(config.task.seed), jax.jit(lambda key: initialize(model_config, key)["lora"])
    adapters = [{"lora": draw(jax.random.fold_in(key, seed))} for seed in config.seeds]
    return model_config, adapters, {"params": initial.variables["params"]}
