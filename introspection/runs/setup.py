"""What all arms of a run share: models, behaviours, labels."""

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from introspection.checkpoints.names import CHECKPOINTS, TOKENIZER, ModelCard, model_fingerprint
from introspection.checkpoints.store import CheckpointStore
from introspection.coupling.controls import balance_by_changed, balanced_subset
from introspection.coupling.labels import Label, label_metadata, write_labels
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
from introspection.probes.behavior import Readout, load_readout
from introspection.probes.behavior_cache import behavior_key, read_behavior_once
from introspection.probes.hidden import answer_hidden, reply_hidden
from introspection.probes.replies import Replies
from introspection.probes.scored import Behavior
from introspection.reports.console import format_organism_table
from introspection.runs.config import RunConfig
from introspection.runs.models import check_reference, check_vocabularies, readable_task, stored_models
from introspection.runtime.progress import progress_bar
from introspection.runtime.session import Session
from introspection.runtime.workdir import write_json
from introspection.tasks.facts.questions import Question
from introspection.tasks.items import Decisions, Explanation, Item
from introspection.tasks.mixture import is_explained
from introspection.tasks.splits import drawn_groups
from introspection.tasks.task import SPLITS, Task
from introspection.text.tokenizer import same_reading

BEHAVIORS = "behaviors"  # in the cache: what models did on lists of items, by all that it depends on


@dataclasses.dataclass(frozen=True)
class Probed:
    """A model's behaviour on every split."""

    behaviors: dict[str, list[Behavior] | list[Replies]]
    decisions: dict[str, list[Decisions]]
    fingerprint: str


@dataclasses.dataclass(frozen=True)
class Start:
    """What arms start from, and whose behaviour their KL term holds on to."""

    name: str  # "initial" or "foreign": its store in the workdir
    model: Model
    probed: Probed
    workdir: Path | None  # of the organism that it is; None if it is a stored checkpoint
    reference: Model
    kl_behaviors: list[Behavior] | list[Replies]  # the reference's, on `kl_items`
    kl_hidden: np.ndarray  # its hidden states: at both answers' positions, or along both generated replies


@dataclasses.dataclass(frozen=True)
class Setup:
    """What all arms share."""

    config: RunConfig
    workdir: Path
    task: Task
    readout: Readout  # how behaviour is read, everywhere in the run
    organism: Organism | None  # where config.initial or another model is "pretrain"
    teacher: Probed  # label_teacher
    train_items: tuple[Item, ...]  # those explained, as a rule balanced between changed and unchanged
    clean: tuple[Explanation, ...]  # their labels
    kl_items: tuple[Item, ...]  # the explained items, then, where an arm holds them, some of other groups
    starts: dict[str, Start]  # "initial" and, where an arm is a foreign explainer, "foreign"
    fingerprints: dict[str, str]  # of all models that the config names
    session: Session
    # Live measures of the models that arms start from, by the start and label teachers, once taken.
    measured: dict[tuple[str, float], dict[str, float]] = dataclasses.field(default_factory=dict)


def prepare(
    config: RunConfig,
    workdir: Path,
    task: Task,
    questions: Sequence[Question],
    session: Session,
    hold_others: bool = False,
) -> Setup:
    """Loads the models, probes them and makes the labels; writes to the cache alone, never to `workdir`.

    What can be refused without the base model is refused before it is trained.

    Args:
      hold_others: whether an arm's KL term holds training groups that are not explained.
    """
    readout = load_readout(config.behavior, task, session)
    stored = stored_models(config, session)
    organism_fields = [field for field in MODEL_FIELDS if is_organism(getattr(config, field))]
    task = readable_task(config, task, stored, organism_fields, readout, session.console)

    organism, models = None, dict(stored)
    if organism_fields:
        organism = pretrained_organism(config.organism, questions, session)
        session.console.print(format_organism_table(organism.table))
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
            probed[name] = probe_all(name, model, fingerprint, task, readout, session)
    if config.foreign != "none" and probed["foreign"].fingerprint == probed["initial"].fingerprint:
        raise InputError("config.foreign is the same model as config.initial: it is no foreign explainer")
    train_items, clean = labelled_items(config, task, probed["label_teacher"])
    kl_items = (*train_items, *(other_items(config, task, train_items) if hold_others else ()))

    def start(name: str, reference: str, base: Organism | None) -> Start:
        index = {item.id: i for i, item in enumerate(task.splits["train"])}
        behaviors = [probed[reference].behaviors["train"][index[item.id]] for item in kl_items]
        return Start(
            name=name,
            model=models[name],
            probed=probed[name],
            workdir=base.workdir if base else None,
            reference=models[reference],
            kl_behaviors=behaviors,
            kl_hidden=hidden_for_kl(models[reference], kl_items, behaviors, readout, session),
        )

    starts = {"initial": start("initial", "kl_reference", organism if config.initial == "pretrain" else None)}
    if config.foreign != "none":  # a foreign explainer holds on to its own behaviour
        starts["foreign"] = start("foreign", "foreign", neighbor)
    return Setup(
        config=config,
        workdir=workdir,
        task=task,
        readout=readout,
        organism=organism,
        teacher=probed["label_teacher"],
        train_items=train_items,
        clean=clean,
        kl_items=kl_items,
        starts=starts,
        fingerprints={name: one.fingerprint for name, one in probed.items()},
        session=session,
    )


def leave_shared(setup: Setup) -> None:
    """Writes what all arms share to the workdir: tokenizer, initial model, clean labels, the base's table."""
    workdir = setup.workdir
    if setup.organism is not None:
        write_json(workdir / "organism.json", setup.organism.table)
    setup.starts["initial"].model.tokenizer.save(workdir / TOKENIZER)
    for start in setup.starts.values():
        if start.workdir is not None:
            copy_initial(start.workdir, workdir, start.name)
        else:
            save_initial(start, workdir)
    if not (workdir / "labels" / "clean").exists():
        labels = [
            Label(item.id, item.group, decided, decided.explanation)
            for item, decided in explained_items(setup.task, setup.teacher)
        ]
        metadata = label_metadata(setup.task, setup.config.task_seed, setup.teacher.fingerprint, noise=0.0)
        metadata["models"] = setup.fingerprints  # which a resumed run must have, too
        write_labels(workdir / "labels" / "clean", labels, metadata)


def save_initial(start: Start, workdir: Path) -> None:
    """Makes a run's workdir whole without the workdir of the model that its arms start from."""
    folder = workdir / CHECKPOINTS / start.name
    ModelCard(start.model.config, (0,)).write(folder)
    with CheckpointStore(folder) as store:
        if not store.steps():
            stacked = jax.tree.map(lambda leaf: leaf[None], start.model.variables)
            store.save(0, stacked, None, {"kind": start.name})
            store.wait()


def probe_all(
    name: str,
    model: Model,
    fingerprint: str,
    task: Task,
    readout: Readout,
    session: Session,
) -> Probed:
    # All splits at once: few batches are less than full.
    items = [item for split in SPLITS for item in task.splits[split]]
    path = (
        session.cache / BEHAVIORS / f"{behavior_key(model, fingerprint, items, readout, session.mesh)}.json"
    )

    def known() -> None:
        session.console.print(
            f"{name}: its behaviour is known from before, {path}", highlight=False, soft_wrap=True
        )

    with progress_bar(session.console, f"probing {name}", 2 * len(items)) as advance:
        behaviors, decided = read_behavior_once(model, items, readout, path, session, advance, known)
    ends = list(itertools.accumulate(len(task.splits[split]) for split in SPLITS))
    spans = dict(zip(SPLITS, map(slice, [0, *ends], ends), strict=True))
    return Probed(
        {split: behaviors[span] for split, span in spans.items()},
        {split: decided[span] for split, span in spans.items()},
        fingerprint,
    )


def hidden_for_kl(
    model: Model,
    items: Sequence[Item],
    behaviors: Sequence[Behavior] | Sequence[Replies],
    readout: Readout,
    session: Session,
) -> np.ndarray:
    if readout.kind == "score":
        return answer_hidden(model, items, session)
    return reply_hidden(model, items, behaviors, session)


def explained_items(task: Task, teacher: Probed, split: str = "train") -> list[tuple[Item, Decisions]]:
    """The items of parts that explanations may be trained on, and the teacher's decisions on them."""
    both = zip(task.splits[split], teacher.decisions[split], strict=True)
    return [(item, decided) for item, decided in both if is_explained(task, item)]


def labelled_items(
    config: RunConfig, task: Task, teacher: Probed
) -> tuple[tuple[Item, ...], tuple[Explanation, ...]]:
    """The explained training items and their clean labels; none of a part that is never explained."""
    pairs = explained_items(task, teacher)
    groups = {item.group for item, _ in pairs}
    count = config.train.explained_groups
    if count > len(groups):
        raise InputError(
            f"config.train.explained_groups is {count}, but there are {len(groups)} training groups"
        )
    if count:
        explained = drawn_groups(groups, count, [config.task_seed, 12])
        pairs = [pair for pair in pairs if pair[0].group in explained]
    items = [item for item, _ in pairs]
    clean = [decided.explanation for _, decided in pairs]
    wanted, subset_rng = config.train.explained_items, np.random.default_rng([config.task_seed, 10])
    if config.train.balanced:
        chosen = balance_by_changed(items, clean, np.random.default_rng([config.task_seed, 8]))
        if wanted:
            chosen = balanced_subset(chosen, clean, wanted, subset_rng)
    else:
        if wanted > len(items):
            raise InputError(
                f"config.train.explained_items is {wanted}, but there are {len(items)} training items"
            )
        chosen = np.sort(subset_rng.permutation(len(items))[: wanted or None])
    return tuple(items[i] for i in chosen), tuple(clean[i] for i in chosen)


def other_items(config: RunConfig, task: Task, explained: Sequence[Item]) -> list[Item]:
    """Training items of groups that are not explained and no test measures, at most as many as are explained.

    Raises:
      InputError: there is none.
    """
    groups = {item.group for item in explained}
    others = [item for item in task.splits["train"] if item.group not in groups]
    if not others:
        raise InputError(
            "kl_groups asks for other groups than the explained ones, but all training groups are explained: "
            "set config.train.explained_groups below their number"
        )
    order = np.random.default_rng([config.task_seed, 13]).permutation(len(others))
    return [others[i] for i in np.sort(order[: len(explained)])]
