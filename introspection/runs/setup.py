"""What all arms of a run share: models, behaviours, labels."""

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from introspection.checkpoints.names import CHECKPOINTS, TOKENIZER, ModelCard, model_fingerprint
from introspection.checkpoints.store import CheckpointStore
from introspection.coupling.labels import Label, label_metadata, write_labels
from introspection.coupling.metrics import none_rate, similarity
from introspection.coupling.run_results import Alignment, Similarity
from introspection.errors import InputError
from introspection.models.model import Model
from introspection.organism.organism import (
    MODEL_FIELDS,
    Organism,
    copy_initial,
    is_organism,
    organism_at,
    pretrained_organism,
)
from introspection.probes.behavior import Readout, load_readout, request_count
from introspection.probes.behavior_cache import behavior_key, read_behavior_once
from introspection.probes.hidden import answer_hidden, reply_hidden
from introspection.probes.judges import ModelJudge
from introspection.probes.readouts import none_advice
from introspection.probes.replies import Replies, prompts_of
from introspection.probes.scored import Behavior, cue_effects
from introspection.reports.console import say, say_thoughts
from introspection.reports.findings import Cautions
from introspection.reports.numbers import percent
from introspection.reports.tables import organism_table
from introspection.runs.aligned import Behaving, aligned_model
from introspection.runs.config import RunConfig
from introspection.runs.models import (
    PUBLISHED,
    check_adapters,
    check_reference,
    check_vocabularies,
    published_decisions,
    readable_task,
    say_cut,
    stored_models,
)
from introspection.runs.training_items import TrainingItems, explained_items, training_items
from introspection.runtime.places import is_url
from introspection.runtime.processes import first
from introspection.runtime.progress import progress_bar
from introspection.runtime.session import Session
from introspection.runtime.terminal import shown
from introspection.runtime.workdir import write_json
from introspection.tasks.facts.questions import Question
from introspection.tasks.items import Decisions, Item
from introspection.tasks.task import SPLITS, Task
from introspection.text.tokenizer import same_reading

BEHAVIORS = "behaviors"  # what models did on lists of items


@dataclasses.dataclass(frozen=True)
class Probed:
    """A model's behaviour on every split."""

    behaviors: dict[str, list[Behavior] | list[Replies]]  # none of a published label teacher
    decisions: dict[str, list[Decisions]]
    fingerprint: str

    def cue_effects(self, split: str, items: Sequence[Item], with_none: bool) -> list[float | None]:
        """`probes.scored.cue_effects` on a split, whose items are given."""
        return cue_effects(self.behaviors.get(split), self.decisions[split], items, with_none)


@dataclasses.dataclass(frozen=True)
class Start:
    """What arms start from, and whose behaviour their KL term holds on to."""

    name: str  # of `STARTS`: its store in the workdir
    model: Model
    probed: Probed
    workdir: Path | None  # of the organism that it is; None if it is a stored checkpoint
    reference: Model
    held_behaviors: list[Behavior] | list[Replies]  # the reference's, on the held training items
    held_hidden: np.ndarray  # its hidden states: at both answers' positions, or along both generated replies


@dataclasses.dataclass(frozen=True)
class Models:
    """The models of a run, and what they do."""

    organism: Organism | None  # where config.initial or another model is "pretrain"
    teacher: Probed  # label_teacher
    starts: dict[str, Start]  # "initial" and, where there is one, "foreign"; "aligned" if an arm needs it
    fingerprints: dict[str, str]  # of all models that the config names
    notes: tuple[str, ...]  # on how they are asked
    alignment: Alignment | None = None  # how far "aligned" behaves as "initial"

    def similarity(self) -> dict[str, Similarity]:
        """How alike `initial` and the run's other models behave on the test items, before any training."""
        initial = self.starts["initial"].probed
        others = {"label_teacher": self.teacher}
        others |= {"foreign": self.starts["foreign"].probed} if "foreign" in self.starts else {}
        return {
            name: similarity(initial.decisions["test"], other.decisions["test"])
            for name, other in others.items()
            if other.fingerprint != initial.fingerprint
        }


@dataclasses.dataclass(frozen=True)
class Setup:
    """What all arms share."""

    config: RunConfig
    workdir: Path
    session: Session
    task: Task
    readout: Readout  # how behaviour is read, everywhere in the run
    models: Models
    training: TrainingItems


def prepare(
    config: RunConfig,
    workdir: Path,
    task: Task,
    questions: Sequence[Question],
    session: Session,
    hold_others: bool = False,
) -> Setup:
    """Loads the models, probes them and makes the labels; writes to the cache and beside `workdir` alone.

    What can be refused without the base model is refused before it is trained.

    Args:
      hold_others: whether an arm's KL term holds training groups that are not explained.
    """
    readout = load_readout(config.behavior, task, session)
    stored = stored_models(config, session)
    organism_fields = [field for field in MODEL_FIELDS if is_organism(getattr(config, field))]
    task = readable_task(config, task, questions, stored, organism_fields, readout, session.console)

    organism, models = None, dict(stored)
    if organism_fields:
        organism = pretrained_organism(config.organism, questions, session)
        session.console.print(organism_table(organism.table))
        for field in organism_fields:
            models[field] = organism_at(organism, getattr(config, field), session.mesh)
    neighbor = None
    if config.foreign == "neighbor":
        neighbor = pretrained_organism(config.neighbor_organism, questions, session)
        models["foreign"] = neighbor.model
    for field in ("label_teacher", "kl_reference"):
        if getattr(config, field) == "initial":
            models[field] = models["initial"]
    check_vocabularies({name: model.tokenizer for name, model in models.items()})
    check_reference(config, models["initial"], models["kl_reference"])
    check_adapters(config, models)
    thoughts = {name: model.tokenizer.thought for name, model in models.items()}
    notes = say_thoughts(session.console, thoughts, readout.kind, readout.tokens)

    folder = behaviors_folder(workdir, session.cache)
    probed: dict[str, Probed] = {}
    for name, model in models.items():
        fingerprint = model_fingerprint(model)
        same = [
            done
            for other, done in probed.items()
            if done.fingerprint == fingerprint and same_reading(models[other].tokenizer, model.tokenizer)
        ]
        if same:
            probed[name] = same[0]
        else:
            probed[name] = probe_all(name, model, fingerprint, task, readout, session, folder)
    if config.label_teacher.startswith(PUBLISHED):
        probed["label_teacher"] = published_teacher(config, task)
    if config.foreign != "none" and probed["foreign"].fingerprint == probed["initial"].fingerprint:
        raise InputError("config.foreign is the same model as config.initial: it is no foreign explainer")
    training = training_items(config, task, probed["label_teacher"].decisions["train"], hold_others)
    alignment = None
    if any(arm.aligned for arm in config.chosen_arms.values()):
        student, teacher = (behaving(models[name], probed[name]) for name in ("foreign", "initial"))
        items = [item for split in SPLITS for item in task.splits[split]]
        models["aligned"], alignment = aligned_model(config, student, teacher, items, readout, session)
        fingerprint = model_fingerprint(models["aligned"])
        probed["aligned"] = probe_all(
            "aligned", models["aligned"], fingerprint, task, readout, session, folder
        )

    def start(name: str, reference: str, base: Organism | None) -> Start:
        index = {item.id: i for i, item in enumerate(task.splits["train"])}
        known = probed[reference].behaviors["train"]
        behaviors: Any = [known[index[item.id]] for item in training.held]  # all of the readout's kind
        return Start(
            name=name,
            model=models[name],
            probed=probed[name],
            workdir=base.workdir if base else None,
            reference=models[reference],
            held_behaviors=behaviors,
            held_hidden=held_hidden(models[reference], training.held, behaviors, readout, session),
        )

    starts = {"initial": start("initial", "kl_reference", organism if config.initial == "pretrain" else None)}
    if config.foreign != "none":  # a foreign explainer holds on to its own behaviour
        starts["foreign"] = start("foreign", "foreign", neighbor)
    if alignment is not None:
        starts["aligned"] = start("aligned", "aligned", None)
    fingerprints = {name: one.fingerprint for name, one in probed.items()}
    if isinstance(readout.judge, ModelJudge):
        fingerprints["behavior.judge_model"] = model_fingerprint(readout.judge.asked)
    found = Models(organism, probed["label_teacher"], starts, fingerprints, notes, alignment)
    return Setup(config, workdir, session, task, readout, found, training)


def leave_shared(setup: Setup, data: Mapping[str, str]) -> None:
    """Writes what all arms share to the workdir: tokenizer, initial model, clean labels, the base's table.

    Args:
      data: `data_digests` of the run.
    """
    first(lambda: _leave_texts(setup, data))
    for start in setup.models.starts.values():
        if start.workdir is None:
            save_initial(start, setup.workdir)


def _leave_texts(setup: Setup, data: Mapping[str, str]) -> None:
    """All that the first process can write alone: files, and copies of them."""
    workdir = setup.workdir
    if setup.models.organism is not None:
        write_json(workdir / "organism.json", setup.models.organism.table)
    setup.models.starts["initial"].model.tokenizer.save(workdir / TOKENIZER)
    for start in setup.models.starts.values():
        if start.workdir is not None:
            copy_initial(start.workdir, workdir, start.name)
    if not (workdir / "labels" / "clean").exists():
        labels = [
            Label(item.id, item.group, decided, decided.explanation)
            for item, decided in explained_items(setup.task, setup.models.teacher.decisions["train"])
        ]
        metadata = label_metadata(
            setup.task, setup.config.task_seed, setup.models.teacher.fingerprint, noise=0.0
        )
        # What a resumed run must have, too.
        metadata |= {"models": setup.models.fingerprints, "data": dict(data)}
        write_labels(workdir / "labels" / "clean", labels, metadata)


def save_initial(start: Start, workdir: Path) -> None:
    """Makes a run's workdir whole without the workdir of the model that its arms start from."""
    folder = workdir / CHECKPOINTS / start.name
    ModelCard(start.model.config, (0,)).write(folder)
    with CheckpointStore(folder) as store:
        if not first(store.steps):
            stacked = jax.tree.map(lambda leaf: leaf[None], start.model.variables)
            store.save(0, stacked, None, {"kind": start.name})
            store.wait()


def behaviors_folder(workdir: Path, cache: Path) -> Path:
    """Beside the workdir; a bucket's has a local folder apart from those of other runs, so in the cache."""
    return (cache if is_url(shown(str(workdir))) else workdir.parent) / BEHAVIORS


def probe_all(
    name: str,
    model: Model,
    fingerprint: str,
    task: Task,
    readout: Readout,
    session: Session,
    folder: Path,
) -> Probed:
    # All splits at once: few batches are less than full.
    items = [item for split in SPLITS for item in task.splits[split]]
    path = folder / f"{behavior_key(model, fingerprint, items, readout)}.json"

    def known() -> None:
        session.console.print(
            f"{name}: its behaviour is known from before, {path}", highlight=False, soft_wrap=True
        )

    with progress_bar(session.console, f"probing {name}", request_count(items, readout)) as advance:
        behaviors, decided = read_behavior_once(model, items, readout, path, session, advance, known)
    none = none_rate(decided)
    if none >= Cautions().none_rate:
        said = f"warning: {name}: {percent(none)}% of decisions are none of the candidates"
        say(session.console, said + none_advice(readout.kind))
    say_cut(session.console, name, model, behaviors, readout)
    ends = list(itertools.accumulate(len(task.splits[split]) for split in SPLITS))
    spans = dict(zip(SPLITS, map(slice, [0, *ends], ends), strict=True))
    return Probed(
        {split: behaviors[span] for split, span in spans.items()},
        {split: decided[span] for split, span in spans.items()},
        fingerprint,
    )


def behaving(model: Model, probed: Probed) -> Behaving:
    """A model and its behaviour on the items of all splits, one after another."""
    behaviors = [one for split in SPLITS for one in probed.behaviors[split]]
    decided = [one for split in SPLITS for one in probed.decisions[split]]
    return Behaving(model, probed.fingerprint, behaviors, decided)


def published_teacher(config: RunConfig, task: Task) -> Probed:
    """The decisions that the task's data bring, as a label teacher's; its fingerprint is of the decisions.

    Raises:
      InputError: as `published_decisions`.
    """
    decided = published_decisions(config, task)
    digest = hashlib.sha256(json.dumps(sorted(decided.items())).encode()).hexdigest()[:16]
    decisions = {split: [decided[item.id] for item in task.splits[split]] for split in SPLITS}
    return Probed({}, decisions, f"{config.label_teacher}/{digest}")


def held_hidden(
    model: Model,
    items: Sequence[Item],
    behaviors: Any,
    readout: Readout,
    session: Session,
) -> np.ndarray:
    prompts = len({prompt for item in items for prompt in prompts_of(item)})
    with progress_bar(session.console, "reading the KL term's reference", prompts) as advance:
        if readout.scored:
            return answer_hidden(model, items, session, advance)
        return reply_hidden(model, items, behaviors, session, advance)
