"""What all arms of a run share: models, behaviours, labels."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

from introspection.checkpoints.models import CHECKPOINTS, TOKENIZER, ModelCard, load_one, model_fingerprint
from introspection.checkpoints.store import CheckpointStore
from introspection.coupling.controls import balance_by_changed
from introspection.coupling.labels import Label, write_labels
from introspection.errors import InputError
from introspection.jobs.arms import answer_hidden
from introspection.jobs.items import within_context
from introspection.jobs.organism import (
    Organism,
    copy_initial,
    format_organism_table,
    organism_tokenizer,
    pretrained_organism,
)
from introspection.jobs.settings import write_json
from introspection.models.model import Model
from introspection.probes.behavior import Behavior, decisions, probe_behavior
from introspection.runtime.programs import ProgramTable
from introspection.runtime.progress import progress_bar
from introspection.tasks.items import Decisions, Explanation, Item
from introspection.tasks.task import SPLITS, Task
from introspection.tasks.world_facts import Question


@dataclasses.dataclass(frozen=True)
class Probed:
    """A model's behaviour on every split."""

    behaviors: dict[str, list[Behavior]]
    decisions: dict[str, list[Decisions]]
    fingerprint: str


@dataclasses.dataclass(frozen=True)
class Setup:
    """What all arms share."""

    config: Mapping[str, Any]
    workdir: Path
    task: Task
    organism: Organism | None  # where config.initial or another model is "pretrain"
    initial: Model
    probed: dict[str, Probed]  # "initial", "label_teacher", "kl_reference"
    reference: Model
    train_items: tuple[Item, ...]  # balanced between changed and unchanged
    clean: tuple[Explanation, ...]  # their labels
    kl_behaviors: list[Behavior]  # kl_reference's, on them
    kl_hidden: np.ndarray
    programs: ProgramTable
    mesh: jax.sharding.Mesh
    console: Console


def prepare(
    config: Any,
    workdir: Path,
    task: Task,
    questions: Sequence[Question],
    programs: ProgramTable,
    mesh: jax.sharding.Mesh,
    console: Console,
) -> Setup:
    """Loads the models, probes them and makes the labels; writes to the cache alone, never to `workdir`.

    What can be refused without the base model is refused before it is trained.
    """
    stored = stored_models(config, mesh)
    tokenizer = stored["initial"].tokenizer if "initial" in stored else organism_tokenizer(task)
    for name, model in stored.items():
        if model.tokenizer.tokenizer.to_str() != tokenizer.tokenizer.to_str():
            raise InputError(f"config.{name} and config.initial have different vocabularies")
    limits = [model.config.context_length for model in stored.values()]
    uses_organism = "pretrain" in (config.initial, config.label_teacher, config.kl_reference)
    if uses_organism:
        limits.append(config.model.context_length)
    task = within_context(task, tokenizer, min(limits), config.evaluation.skipped_share, console)

    organism, models = None, dict(stored)
    if uses_organism:
        organism = pretrained_organism(config, questions, programs, mesh, console)
        console.print(format_organism_table(organism.table))
        models["pretrain"] = organism.model
        models.setdefault("initial", organism.model)
    initial = models["initial"]
    teacher, reference = (
        models[name] if name in models else models[config[name]] for name in ("label_teacher", "kl_reference")
    )
    probed: dict[str, Probed] = {}
    for name, model in (("initial", initial), ("label_teacher", teacher), ("kl_reference", reference)):
        fingerprint = model_fingerprint(model)
        same = [done for done in probed.values() if done.fingerprint == fingerprint]
        probed[name] = same[0] if same else probe_all(name, model, fingerprint, task, programs, mesh, console)

    train_items, clean = labelled_items(config, task, probed["label_teacher"])
    index = {item.id: i for i, item in enumerate(task.splits["train"])}
    return Setup(
        config=config,
        workdir=workdir,
        task=task,
        organism=organism,
        initial=initial,
        probed=probed,
        reference=reference,
        train_items=train_items,
        clean=clean,
        kl_behaviors=[probed["kl_reference"].behaviors["train"][index[item.id]] for item in train_items],
        kl_hidden=answer_hidden(reference, train_items, programs, mesh),
        programs=programs,
        mesh=mesh,
        console=console,
    )


def stored_models(config: Any, mesh: jax.sharding.Mesh) -> dict[str, Model]:
    """The models that a config names by their checkpoints, by the field that names them.

    Raises:
      InputError: there is no such checkpoint, a name means several models, or `initial` has adapters.
    """
    stored = {}
    for name, others in (("initial", ()), ("label_teacher", ("initial",)), ("kl_reference", ("initial",))):
        if config[name] not in ("pretrain", *others):
            try:
                stored[name] = load_one(config[name], mesh)
            except InputError as error:
                raise InputError(f"config.{name}: {error}") from error
    if "initial" in stored and "lora" in stored["initial"].variables:
        raise InputError(
            f"config.initial: {config.initial} has adapters; training starts from a model without them"
        )
    return stored


def leave_shared(setup: Setup) -> None:
    """Writes what all arms share to the workdir: tokenizer, initial model, clean labels, the base's table."""
    workdir = setup.workdir
    if setup.organism is not None:
        write_json(workdir / "organism.json", setup.organism.table)
    setup.initial.tokenizer.save(workdir / TOKENIZER)
    if setup.config.initial == "pretrain":
        copy_initial(setup.organism.workdir, workdir)
    else:
        save_initial(setup.initial, workdir)
    if not (workdir / "labels" / "clean").exists():
        teacher, items = setup.probed["label_teacher"], setup.task.splits["train"]
        labels = [
            Label(item.id, item.group, decided, decided.explanation)
            for item, decided in zip(items, teacher.decisions["train"], strict=True)
        ]
        metadata = label_metadata(setup.config, setup.task, teacher, noise=0.0)
        write_labels(workdir / "labels" / "clean", labels, metadata)


def save_initial(initial: Model, workdir: Path) -> None:
    """Makes a run's workdir whole without the workdir of its initial model."""
    folder = workdir / CHECKPOINTS / "initial"
    ModelCard(initial.config, (0,)).write(folder)
    with CheckpointStore(folder) as store:
        if not store.steps():
            store.save(0, jax.tree.map(lambda leaf: leaf[None], initial.variables), None, {"kind": "initial"})
            store.wait()


def probe_all(
    name: str,
    model: Model,
    fingerprint: str,
    task: Task,
    programs: ProgramTable,
    mesh: jax.sharding.Mesh,
    console: Console,
) -> Probed:
    behaviors = {}
    with progress_bar(
        console, f"probing {name}", 2 * sum(len(task.splits[split]) for split in SPLITS)
    ) as advance:
        for split in SPLITS:
            behaviors[split] = probe_behavior(model, task.splits[split], programs, mesh, advance)
    decided = {split: decisions(behaviors[split], task.splits[split]) for split in SPLITS}
    return Probed(behaviors, decided, fingerprint)


def labelled_items(
    config: Any, task: Task, teacher: Probed
) -> tuple[tuple[Item, ...], tuple[Explanation, ...]]:
    """The balanced training items and their clean labels."""
    items = task.splits["train"]
    clean = [decision.explanation for decision in teacher.decisions["train"]]
    balanced = balance_by_changed(items, clean, np.random.default_rng([config.task.seed, 8]))
    return tuple(items[i] for i in balanced), tuple(clean[i] for i in balanced)


def label_metadata(
    config: Any, task: Task, teacher: Probed, noise: float, shuffled: bool = False
) -> dict[str, Any]:
    return {
        "teacher_fingerprint": teacher.fingerprint,
        "task": task.name,
        "template_version": task.template_version,
        "noise": noise,
        "shuffled": shuffled,
        "seed": config.task.seed,
    }
