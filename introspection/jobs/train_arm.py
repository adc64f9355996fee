"""One arm: its labels, the rows that its steps draw from, its training, and what came out of it."""

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from introspection.checkpoints.models import CHECKPOINTS, ModelCard, model_fingerprint
from introspection.checkpoints.store import CheckpointStore
from introspection.coupling.controls import kept_share
from introspection.coupling.labels import Label, read_labels, write_labels
from introspection.errors import InputError, RunError
from introspection.jobs.arms import (
    ArmConfig,
    altered_labels,
    behavior_batch,
    explanation_rows,
    held_prompts,
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
from introspection.jobs.measure import HeldOut, drawn_places, live_measures, probe_records
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
from introspection.tasks.items import NONE, Decisions, Explanation, Item
from introspection.tasks.mixture import is_explained
from introspection.tasks.task import SPLITS, Task
from introspection.text.rows import pad_scored, pad_time
from introspection.training.batches import TrainingRows, make_batch
from introspection.training.loop import Job, train, weights
from introspection.training.objectives import ObjectiveWeights
from introspection.training.shifts import ShiftExample, shift_examples, shifted_groups
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
    pairs = shift_items(arm, setup)
    return shift_examples(arm.shift, [item for item, _ in pairs], [decided for _, decided in pairs])


def shift_items(arm: ArmConfig, setup: Setup) -> list[tuple[Item, Decisions]]:
    """The items whose groups an arm's shift may train, and what the arm's start decides on them."""
    taught = arm.shift.kind == "taught"
    splits = ("train", "validation") if taught else ("test",) if arm.shift.groups == "held_out" else SPLITS
    pairs = [
        pair
        for split in splits
        for pair in zip(setup.task.splits[split], start_of(arm, setup).probed.decisions[split], strict=True)
    ]
    # What is taught is what is never explained.
    return [pair for pair in pairs if not (taught and is_explained(setup.task, pair[0]))]


def teacher_decisions(arm: ArmConfig, setup: Setup, split: str) -> list[Decisions]:
    """What an arm's label teacher decides on a split: label_teacher, of a share of groups config.foreign."""
    own = setup.teacher.decisions[split]
    if not arm.foreign_labels:
        return own
    items, foreign = setup.task.splits[split], setup.starts["foreign"].probed.decisions[split]
    groups = sorted({item.group for item in items})
    order = np.random.default_rng([setup.config.task.seed, 14]).permutation(len(groups))
    theirs = {groups[i] for i in order[: round(arm.foreign_labels * len(groups))]}
    return [b if item.group in theirs else a for item, a, b in zip(items, own, foreign, strict=True)]


def clean_labels(arm: ArmConfig, setup: Setup) -> tuple[list[Decisions], list[Explanation]]:
    """What an arm's label teacher decides on the explained items, and the labels that follow."""
    train = teacher_decisions(arm, setup, "train")
    by_id = {item.id: decided for item, decided in zip(setup.task.splits["train"], train, strict=True)}
    decided = [by_id[item.id] for item in setup.train_items]
    return decided, [one.explanation for one in decided]


def arm_labels(name: str, arm: ArmConfig, setup: Setup) -> list[Explanation]:
    """What an arm trains on: the labels of its config's folder, or its own, written to `labels/<arm>`."""
    config, items = setup.config, setup.train_items
    if arm.labels:
        return given_labels(arm, setup)
    decided, clean = clean_labels(arm, setup)
    labels = altered_labels(arm, items, clean, config.task.seed)
    kept = kept_share(clean, labels)
    if arm.label_noise or arm.shuffle_labels:
        setup.console.print(f"{name}: {kept:.1%} of the labels equal the clean ones", highlight=False)
    metadata = label_metadata(
        config,
        setup.task,
        setup.teacher.fingerprint,
        arm.label_noise,
        arm.shuffle_labels,
        arm.foreign_labels,
        kept,
    )
    write_labels(
        setup.workdir / "labels" / name,
        [Label(i.id, i.group, d, label) for i, d, label in zip(items, decided, labels, strict=True)],
        metadata,
    )
    return labels


def training_rows(name: str, arm: ArmConfig, setup: Setup) -> TrainingRows:
    """Every row that the arm's steps draw from."""
    start, task = start_of(arm, setup), setup.task
    tokenizer, examples = start.model.tokenizer, shift_of(arm, setup)
    labels = arm_labels(name, arm, setup)
    explanation = explanation_rows(tokenizer, setup.train_items, labels, task)
    if arm.refresh_steps:  # room for whatever the labels become
        explanation = with_room(explanation, longest_explanation(setup.train_items, task, tokenizer))
    shift, shifted = shift_rows(tokenizer, examples), {example.prompt for example in examples}
    places = behavior_places(arm, setup)
    items, behaviors = ([of[i] for i in places] for of in (setup.kl_items, start.kl_behaviors))
    explained = {item.group for item in setup.train_items}
    held_groups = {
        "explained": explained,
        "other": {item.group for item in items} - explained,
        "both": {item.group for item in items},
    }[arm.kl_groups]
    held_now = held_prompts(items, arm.kl_prompts, shifted, held_groups)
    if setup.readout.kind == "generate":
        held = reply_batch(tokenizer, items, behaviors, start.kl_hidden[places], held_now)
    else:
        held = behavior_batch(
            tokenizer, items, label_pairs(arm, setup, labels), behaviors, start.kl_hidden[places], held_now
        )
    explanation, held_rows, shift = same_time(explanation, held.rows, shift)
    held = held._replace(rows=held_rows)
    if setup.readout.kind == "generate":
        return TrainingRows(explanation, None, shift, replies=held)
    return TrainingRows(explanation, held, shift)


def behavior_places(arm: ArmConfig, setup: Setup) -> list[int]:
    """Places in `kl_items` of what behaviour rows are drawn from.

    The explained items; where the KL term holds others, those and as many explained ones, on which agreement
    is measured.
    """
    explained = len(setup.train_items)
    if arm.kl_groups == "explained":
        return list(range(explained))
    others = len(setup.kl_items) - explained
    drawn = drawn_places(explained, others, setup.config.task.seed)
    return [*drawn, *range(explained, explained + others)]


def label_pairs(
    arm: ArmConfig, setup: Setup, labels: Sequence[Explanation]
) -> dict[str, tuple[Explanation, Explanation]]:
    """By item id, the label that is trained on and the clean one."""
    _, clean = clean_labels(arm, setup)
    ids = (item.id for item in setup.train_items)
    return dict(zip(ids, zip(labels, clean, strict=True), strict=True))


def refreshed_rows(
    name: str,
    arm: ArmConfig,
    rows: TrainingRows,
    model: Callable[[], Model],
    seed: int,
    step: int,
    setup: Setup,
) -> TrainingRows:
    """The same rows with the labels of the last refresh, as noisy and as shuffled as the arm's own.

    They are kept in `labels/<arm>-seed<S>-step<N>`: made there from `model` at that step, read there by a run
    that was resumed after it.
    """
    last = step - step % arm.refresh_steps
    if not last:
        return rows
    items, folder = setup.train_items, setup.workdir / "labels" / f"{name}-seed{seed}-step{last}"
    if folder.exists():
        found = read_labels(folder, expected_labels(setup.task), items)
        decided = [label.teacher for label in found]
    elif last < step:
        raise RunError(f"{folder} is missing, the labels of step {last} that {name} goes on from")
    else:
        current = model()
        decided = read_behavior(current, items, setup.readout, setup.programs, setup.mesh).decisions
    clean = [decision.explanation for decision in decided]
    labels = altered_labels(arm, items, clean, setup.config.task.seed)
    if not folder.exists():
        write_labels(
            folder,
            [Label(i.id, i.group, d, label) for i, d, label in zip(items, decided, labels, strict=True)],
            label_metadata(
                setup.config,
                setup.task,
                model_fingerprint(current),
                arm.label_noise,
                arm.shuffle_labels,
                kept=kept_share(clean, labels),
            ),
        )
    tokenizer = start_of(arm, setup).model.tokenizer
    fresh = explanation_rows(tokenizer, items, labels, setup.task)
    room = rows.explanation
    fresh = pad_scored(pad_time(fresh, room.tokens.shape[-1]), room.scored.shape[-1])
    if rows.behavior is None:
        return rows._replace(explanation=fresh)
    slots = rows.behavior.reference_logprobs.shape[-1] - 1
    by_id = {item.id: label for item, label in zip(items, labels, strict=True)}
    changed, answer = rows.behavior.label_changed.copy(), rows.behavior.label_answer.copy()
    held = [setup.kl_items[place] for place in behavior_places(arm, setup)]
    for row, item in enumerate(held):
        if (label := by_id.get(item.id)) is not None:
            changed[row, 0] = label.changed
            answer[row, 0] = slots if label.answer == NONE else item.candidates.index(label.answer)
    return rows._replace(
        explanation=fresh, behavior=rows.behavior._replace(label_changed=changed, label_answer=answer)
    )


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

    held_out = validation_labels(arm, setup)

    def evaluate(step: int, state: TrainState) -> list[dict[str, float]]:
        if step:
            return [live_measures(seed_model(state, i), setup, held_out) for i in range(len(seeds))]
        # Before the first step all seeds of arms with the same labels are the model that they start from.
        kind = (start.name, arm.foreign_labels)
        if kind not in setup.measured:
            setup.measured[kind] = live_measures(seed_model(state, 0), setup, held_out)
        return [setup.measured[kind]] * len(seeds)

    def refresh(step: int, state: TrainState) -> None:
        for i, seed in enumerate(seeds):
            rows[seed] = refreshed_rows(
                name, arm, rows[seed], functools.partial(seed_model, state, i), seed, step, setup
            )

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
            refresh=refresh,
            progress=progress,
            say=lambda message: console.print(f"{name}: {message}", highlight=False),
        )
    metrics.close()
    shifted = shifted_groups(arm.shift, [item for item, _ in shift_items(arm, setup)])
    records, fingerprints = [], {}
    for i, seed in enumerate(seeds):
        model = seed_model(state, i)
        records += probe_records(
            name, seed, model, start, teacher_decisions(arm, setup, "test"), shifted, setup
        )
        fingerprints[str(seed)] = model_fingerprint(model)
    write_arm(setup.workdir, name, records, fingerprints, time.perf_counter() - started)


def validation_labels(arm: ArmConfig, setup: Setup) -> HeldOut:
    """What an arm's live measures are taken on: drawn validation items with its label teacher's decisions,
    and, where replies are generated, drawn training items with their trained and clean labels."""
    evaluation = setup.config.evaluation
    decided = teacher_decisions(arm, setup, "validation")
    pairs = [
        pair
        for pair in zip(setup.task.splits["validation"], decided, strict=True)
        if is_explained(setup.task, pair[0])
    ]
    chosen = drawn_places(len(pairs), evaluation.validation_items, evaluation.seed)
    validation = [pairs[i] for i in chosen]
    # Where behaviour is scored, every train step returns agreement.
    count = evaluation.agreement_items if setup.readout.kind == "generate" else 0
    held = drawn_places(len(setup.train_items), count, evaluation.seed)
    _, clean = clean_labels(arm, setup)
    trained = altered_labels(arm, setup.train_items, clean, setup.config.task.seed)
    return HeldOut(
        [item for item, _ in validation],
        [one.explanation for _, one in validation],
        [setup.train_items[i] for i in held],
        [trained[i] for i in held],
        [clean[i] for i in held],
    )


def trainable_parts(config: Any, initial: Model) -> tuple[ModelConfig, list[dict], dict]:
    """(model config, what is trained of each seed, what is frozen): all parameters, or, if lora.rank > 0,
    adapters, drawn for every seed and the same in all arms."""
    model_config = dataclasses.replace(initial.config, remat=config.train.remat, lora=lora_config(config))
    if model_config.lora is None:
        return model_config, [{"params": initial.variables["params"]}] * len(config.seeds), {}
    key, draw = jax.random.key(config.task.seed), jax.jit(lambda key: initialize(model_config, key)["lora"])
    adapters = [{"lora": draw(jax.random.fold_in(key, seed))} for seed in config.seeds]
    return model_config, adapters, {"params": initial.variables["params"]}
