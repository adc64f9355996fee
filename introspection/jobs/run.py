"""The main job: probe, label, train every arm, measure, report. Resumable at any moment."""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

from introspection.checkpoints.models import CHECKPOINTS, ModelCard, model_fingerprint
from introspection.checkpoints.store import CheckpointStore
from introspection.coupling.controls import input_only_explanations, majority_explanations
from introspection.coupling.labels import Label, read_labels, write_labels
from introspection.coupling.records import PredictionRecord
from introspection.jobs.arms import (
    ArmConfig,
    altered_labels,
    behavior_batch,
    explanation_rows,
    same_time,
    shift_rows,
)
from introspection.jobs.fields import (
    batch_sizes,
    check_fields,
    chosen_arms,
    loop_config,
    lora_config,
    objective_config,
    optimizer_config,
)
from introspection.jobs.items import load_task
from introspection.jobs.results import arm_folder, assemble, write_arm
from introspection.jobs.settings import check_workdir, claim_workdir, plain, settings
from introspection.jobs.setup import Setup, label_metadata, leave_shared, prepare
from introspection.models.config import ModelConfig
from introspection.models.decoder import initialize
from introspection.models.head import head_matrix
from introspection.models.model import Model, select_seed
from introspection.probes.behavior import decisions, probe_behavior
from introspection.probes.explanation import decode_explanations, score_explanations
from introspection.reports.page import write_report
from introspection.runtime.mesh import MeshConfig, make_mesh
from introspection.runtime.metrics_writer import MetricsWriter
from introspection.runtime.programs import ProgramTable
from introspection.runtime.progress import progress_bar
from introspection.tasks.items import Decisions, Explanation
from introspection.tasks.task import SPLITS, Task
from introspection.tasks.world import bayes_optimal_decisions
from introspection.training.batches import TrainingRows, make_batch
from introspection.training.loop import Job, train, weights
from introspection.training.shifts import ShiftExample, shift_examples
from introspection.training.step import Frozen, TrainState, initial_state

FINISHED = "results.json"


def run(config: Any, workdir: Path, console: Console) -> Path:
    """Runs every arm of a config in `workdir` and returns the report's path."""
    started = time.perf_counter()
    arms = chosen_arms(config)
    check_fields(config, arms)
    check_workdir(workdir, plain(config))
    mesh = make_mesh(settings(MeshConfig, config.mesh))
    task, questions = load_task(config)
    if (workdir / FINISHED).exists():
        console.print(f"{workdir} is finished; its results stand (delete the folder to run again)")
        report = workdir / "report.html"
        return report if report.exists() else write_report(workdir)  # killed just before
    for arm in arms.values():
        if arm.labels:  # whose they are is known once there is a teacher, what they are is known now
            read_labels(labels_folder(arm), expected_labels(task), ())

    programs = ProgramTable()
    with jax.set_mesh(mesh):
        setup = prepare(config, workdir, task, questions, programs, mesh, console)
        for arm in arms.values():
            if arm.labels:
                given_labels(arm, setup)
            shift_of(arm, setup)
        claim_workdir(workdir, plain(config))  # nothing is refused from here on
        leave_shared(setup)
        for name in arms:
            if (arm_folder(workdir, name) / "records.jsonl").exists():
                console.print(f"{name}: finished before", highlight=False)
            else:
                run_arm(name, arms[name], setup)
        controls = control_explanations(setup)
    return assemble(setup, list(arms), controls, time.perf_counter() - started)


def labels_folder(arm: ArmConfig) -> Path:
    return Path(arm.labels).expanduser()


def expected_labels(task: Task) -> dict[str, str]:
    return {"task": task.name, "template_version": task.template_version}


def given_labels(arm: ArmConfig, setup: Setup) -> list[Explanation]:
    """The labels of the folder that an arm names. Raises InputError if they are not the label teacher's."""
    expected = {
        "teacher_fingerprint": setup.probed["label_teacher"].fingerprint,
        **expected_labels(setup.task),
    }
    return [label.explanation for label in read_labels(labels_folder(arm), expected, setup.train_items)]


def shift_of(arm: ArmConfig, setup: Setup) -> list[ShiftExample]:
    """What an arm's shift trains. Raises InputError if no item fits it."""
    splits = ("test",) if arm.shift.groups == "held_out" else SPLITS
    items = [item for split in splits for item in setup.task.splits[split]]
    decided = [d for split in splits for d in setup.probed["initial"].decisions[split]]
    return shift_examples(arm.shift, items, decided)


def arm_labels(name: str, arm: ArmConfig, setup: Setup) -> list[Explanation]:
    """What an arm trains on: the labels of its config's folder, or its own, written to `labels/<arm>`."""
    config, items, teacher = setup.config, setup.train_items, setup.probed["label_teacher"]
    if arm.labels:
        return given_labels(arm, setup)
    labels = altered_labels(arm, items, setup.clean, setup.task, config.task.seed)
    decided = dict(zip([i.id for i in setup.task.splits["train"]], teacher.decisions["train"], strict=True))
    write_labels(
        setup.workdir / "labels" / name,
        [Label(i.id, i.group, decided[i.id], label) for i, label in zip(items, labels, strict=True)],
        label_metadata(config, setup.task, teacher, arm.label_noise, arm.shuffle_labels),
    )
    return labels


def training_rows(name: str, arm: ArmConfig, setup: Setup) -> TrainingRows:
    """Every row that the arm's steps draw from."""
    tokenizer, task = setup.initial.tokenizer, setup.task
    examples = shift_of(arm, setup)
    explanation = explanation_rows(tokenizer, setup.train_items, arm_labels(name, arm, setup), task)
    behavior = behavior_batch(
        tokenizer,
        setup.train_items,
        setup.clean,
        setup.kl_behaviors,
        setup.kl_hidden,
        arm.kl_prompts,
        {example.prompt for example in examples},
    )
    explanation, behavior_rows, shift = same_time(explanation, behavior.rows, shift_rows(tokenizer, examples))
    return TrainingRows(explanation, behavior._replace(rows=behavior_rows), shift)


def run_arm(name: str, arm: ArmConfig, setup: Setup) -> None:
    """Trains one arm (all seeds together), probes what came out and stores its records."""
    started = time.perf_counter()
    config, programs, mesh, console = setup.config, setup.programs, setup.mesh, setup.console
    options, seeds = config.train, tuple(config.seeds)
    rows = training_rows(name, arm, setup)
    sizes = batch_sizes(config)
    model_config, trainable, frozen = trainable_parts(config, setup.initial)
    optimizer = optimizer_config(config, arm)
    job = Job(
        name=name,
        seeds=seeds,
        model=model_config,
        objective=objective_config(config, arm),
        optimizer=optimizer,
        loop=loop_config(config),
        weights=weights(arm.kl_weight, arm.shift.weight),
        frozen=Frozen(frozen, head_matrix(setup.reference.variables["params"], setup.reference.config)),
        batch=lambda step, seed: make_batch(rows, sizes, step, seed),
        metadata={"arm": name, "seeds": list(seeds), "initial": setup.probed["initial"].fingerprint},
    )
    store_path = setup.workdir / CHECKPOINTS / name
    ModelCard(model_config, seeds, base="initial" if frozen else None).write(store_path)
    metrics = MetricsWriter(setup.workdir)

    def seed_model(state: TrainState, index: int) -> Model:
        variables = {**frozen, **select_seed(state.trainable, index)}
        return Model(model_config, setup.initial.tokenizer, variables)

    with (
        CheckpointStore(store_path, options.keep_checkpoints) as store,
        progress_bar(console, name, options.steps) as progress,
    ):
        state = train(
            job,
            initial_state(trainable, optimizer, len(seeds)),
            store,
            metrics,
            programs,
            mesh,
            evaluate=lambda state: [live_measures(seed_model(state, i), setup) for i in range(len(seeds))],
            progress=progress,
            say=lambda message: console.print(f"{name}: {message}", highlight=False),
        )
    metrics.close()
    records, fingerprints = [], {}
    for i, seed in enumerate(seeds):
        model = seed_model(state, i)
        records += probe_records(name, seed, model, setup)
        fingerprints[str(seed)] = model_fingerprint(model)
    write_arm(setup.workdir, name, records, fingerprints, time.perf_counter() - started)


def trainable_parts(config: Any, initial: Model) -> tuple[ModelConfig, dict, dict]:
    """(model config, what is trained, what is frozen): all parameters, or adapters if lora.rank > 0."""
    lora = lora_config(config)
    if lora is None:
        return initial.config, {"params": initial.variables["params"]}, {}
    model_config = dataclasses.replace(initial.config, lora=lora)
    adapters = jax.jit(lambda key: initialize(model_config, key)["lora"])(jax.random.key(config.task.seed))
    return model_config, {"lora": adapters}, {"params": initial.variables["params"]}


def live_measures(model: Model, setup: Setup) -> dict[str, float]:
    """Coupling on a fixed validation slice with scored explanations, and what settings are chosen by.

    Settings are chosen by `validation_explanation_loss` (nats a label) and `validation_accuracy` (right
    without the cue), never by the gap.
    """
    items = setup.task.splits["validation"][: setup.config.evaluation.validation_items]
    teacher = setup.probed["label_teacher"].decisions["validation"][: len(items)]
    labels = [decision.explanation for decision in teacher]
    grammar, programs, mesh = setup.task.grammar, setup.programs, setup.mesh
    current = decisions(probe_behavior(model, items, programs, mesh), items)
    said, label_logprobs = score_explanations(model, items, grammar, labels, programs, mesh)
    return {
        "live_self": float(np.mean([e == c.explanation for e, c in zip(said, current, strict=True)])),
        "live_orig": float(np.mean([e == label for e, label in zip(said, labels, strict=True)])),
        "live_drift": float(np.mean([c.explanation != e for c, e in zip(current, labels, strict=True)])),
        "validation_explanation_loss": float(-np.mean(label_logprobs)),
        "validation_accuracy": float(
            np.mean([c.without_cue == item.gold for c, item in zip(current, items, strict=True)])
        ),
    }


def probe_records(arm: str, seed: int, model: Model, setup: Setup) -> list[PredictionRecord]:
    """What a trained model decides and says on every test item."""
    items = setup.task.splits["test"]
    title = f"{arm}: probing seed {seed}"
    with progress_bar(setup.console, title, 3 * len(items)) as advance:
        current = decisions(probe_behavior(model, items, setup.programs, setup.mesh, advance), items)
        said = decode_explanations(
            model,
            items,
            setup.task.grammar,
            setup.config.evaluation.explanation_tokens,
            setup.programs,
            setup.mesh,
            advance,
        )
    return make_records(arm, seed, setup, current, said)


def make_records(
    arm: str,
    seed: int,
    setup: Setup,
    current: Sequence[Decisions],
    said: Sequence[tuple[str, Explanation]],
) -> list[PredictionRecord]:
    return [
        PredictionRecord(
            arm=arm,
            seed=seed,
            id=item.id,
            group=item.group,
            cue_kind=item.cue_kind,
            candidates=item.candidates,
            gold=item.gold,
            cued=item.cued,
            prompt_with_cue=item.prompt_with_cue,
            prompt_without_cue=item.prompt_without_cue,
            teacher=teacher,
            initial=initial,
            current=now,
            explanation_text=text,
            explanation=explanation,
        )
        for item, teacher, initial, now, (text, explanation) in zip(
            setup.task.splits["test"],
            setup.probed["label_teacher"].decisions["test"],
            setup.probed["initial"].decisions["test"],
            current,
            said,
            strict=True,
        )
    ]


def control_explanations(setup: Setup) -> dict[str, list[tuple[str, Explanation]]]:
    """What each control says on the test items, whoever it is scored against."""
    task, items = setup.task, setup.task.splits["test"]
    said = {
        "initial": decode_explanations(
            setup.initial,
            items,
            task.grammar,
            setup.config.evaluation.explanation_tokens,
            setup.programs,
            setup.mesh,
        )
    }
    computed = {
        "majority": majority_explanations(setup.train_items, setup.clean, items),
        "input_only": input_only_explanations(
            setup.train_items, setup.clean, items, seed=setup.config.task.seed
        ),
    }
    if setup.config.initial == "pretrain":
        bayes = bayes_optimal_decisions(setup.organism.world, items)
        computed["bayes_optimal"] = [decision.explanation for decision in bayes]
    for name, explanations in computed.items():
        said[name] = [(task.grammar.render(explanation), explanation) for explanation in explanations]
    return said
