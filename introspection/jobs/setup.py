"""What all arms of a run share: models, behaviours, labels."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

from introspection.checkpoints.models import (
    TOKENIZER,
    load_one,
    model_fingerprint,
)
from introspection.coupling.controls import (
    balance_by_changed,
)
from introspection.coupling.labels import Label, write_labels
from introspection.errors import InputError
from introspection.jobs.arms import (
    answer_hidden,
)
from introspection.jobs.items import within_context
from introspection.jobs.organism import Organism, copy_initial, format_organism_table, pretrained_organism
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
    organism: Organism
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
    """Loads the models, probes them and makes the labels."""
    organism = pretrained_organism(config, questions, programs, mesh, console)
    console.print(format_organism_table(organism.table))
    write_json(workdir / "organism.json", organism.table)
    initial = organism.model if config.initial == "pretrain" else load_one(config.initial, mesh)
    if config.initial == "pretrain":
        copy_initial(organism.workdir, workdir)
    initial.tokenizer.save(workdir / TOKENIZER)

    def model_named(name: str) -> Model:
        return initial if name == "initial" else load_one(name, mesh)

    teacher, reference = model_named(config.label_teacher), model_named(config.kl_reference)
    for name, model in (("label_teacher", teacher), ("kl_reference", reference)):
        if model.tokenizer.tokenizer.to_str() != initial.tokenizer.tokenizer.to_str():
            raise InputError(f"config.{name} and config.initial have different vocabularies")
    task = within_context(
        task, initial.tokenizer, initial.config.context_length, config.evaluation.skipped_share, console
    )
    probed: dict[str, Probed] = {}
    for name, model in (("initial", initial), ("label_teacher", teacher), ("kl_reference", reference)):
        fingerprint = model_fingerprint(model)
        same = [done for done in probed.values() if done.fingerprint == fingerprint]
        probed[name] = same[0] if same else probe_all(name, model, fingerprint, task, programs, mesh, console)

    train_items, clean = labelled_items(config, workdir, task, probed["label_teacher"])
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
    config: Any, workdir: Path, task: Task, teacher: Probed
) -> tuple[tuple[Item, ...], tuple[Explanation, ...]]:
    """The balanced training items and their clean labels, which are also written to `labels/clean`."""
    items = task.splits["train"]
    decided = teacher.decisions["train"]
    clean = [decision.explanation for decision in decided]
    balanced = balance_by_changed(items, clean, np.random.default_rng([config.task.seed, 8]))
    labels = [Label(i.id, i.group, d, d.explanation) for i, d in zip(items, decided, strict=True)]
    if not (workdir / "labels" / "clean").exists():
        write_labels(workdir / "labels" / "clean", labels, label_metadata(config, task, teacher, noise=0.0))
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
