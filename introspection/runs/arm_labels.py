"""An arm's labels: whose behaviour they describe, how they are altered, and how they are stored."""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from introspection.checkpoints.names import model_fingerprint
from introspection.coupling.by_shifted import PARTS
from introspection.coupling.controls import add_label_noise, kept_share, shuffle_labels
from introspection.coupling.labels import Label, label_metadata, read_labels, write_labels
from introspection.errors import InputError, RunError
from introspection.models.model import Model
from introspection.probes.behavior import read_behavior, request_count
from introspection.runs.config import ArmConfig
from introspection.runs.measure import HeldOut
from introspection.runs.setup import Probed, Setup, Start
from introspection.runtime.places import local_path
from introspection.runtime.processes import first
from introspection.runtime.progress import progress_bar
from introspection.tasks.items import Decisions, Explanation, Item
from introspection.tasks.mixture import is_explained
from introspection.tasks.splits import drawn_groups
from introspection.tasks.subsets import drawn_places
from introspection.tasks.task import Task

OfItem = TypeVar("OfItem")

# Maximum share of given labels that differ from the teacher's behaviour here: another machine rounds
# differently, which flips near ties.
OTHER_ROUNDING = 0.01


def labels_folder(arm: ArmConfig) -> Path:
    return local_path("labels", arm.labels)


def expected_labels(task: Task) -> dict[str, str]:
    return {"task": task.name, "template_version": task.template_version}


def start_of(arm: ArmConfig, setup: Setup) -> Start:
    return setup.models.starts[arm.start]


def teacher_decisions(arm: ArmConfig, setup: Setup, split: str) -> list[Decisions]:
    """Decisions of an arm's label teacher on a split: label_teacher's, or config.foreign's on a share
    `arm.foreign_labels` of the groups."""
    return _of_teacher(arm, setup, split, lambda probed: probed.decisions[split])


def teacher_effects(arm: ArmConfig, setup: Setup, split: str) -> list[float | None]:
    """What cues do to an arm's label teacher on a split (`Probed.cue_effects`)."""
    items, with_none = setup.task.splits[split], setup.readout.with_none
    return _of_teacher(arm, setup, split, lambda probed: probed.cue_effects(split, items, with_none))


def teacher_fingerprint(arm: ArmConfig, setup: Setup) -> str:
    """The model whose decisions an arm's labels are; of labels from two, both of them."""
    own = setup.models.teacher.fingerprint
    if not arm.foreign_labels:
        return own
    foreign = setup.models.starts["foreign"].probed.fingerprint
    return foreign if arm.foreign_labels == 1 else f"{own}+{foreign}"


def _of_teacher(
    arm: ArmConfig, setup: Setup, split: str, read: Callable[[Probed], list[OfItem]]
) -> list[OfItem]:
    own = read(setup.models.teacher)
    if not arm.foreign_labels:
        return own
    items, foreign = setup.task.splits[split], read(setup.models.starts["foreign"].probed)
    groups = {item.group for item in items}
    count = round(arm.foreign_labels * len(groups))
    theirs = drawn_groups(groups, count, [setup.config.task_seed, 14])
    return [b if item.group in theirs else a for item, a, b in zip(items, own, foreign, strict=True)]


def clean_labels(arm: ArmConfig, setup: Setup) -> tuple[list[Decisions], list[Explanation]]:
    """Decisions of an arm's label teacher on the explained items, and the labels from them."""
    train = teacher_decisions(arm, setup, "train")
    by_id = {item.id: decided for item, decided in zip(setup.task.splits["train"], train, strict=True)}
    decided = [by_id[item.id] for item in setup.training.explained]
    return decided, [one.explanation for one in decided]


def given_labels(arm: ArmConfig, setup: Setup) -> list[Explanation]:
    """The labels in the folder that an arm names.

    Raises:
      InputError: they are from another teacher, or from behaviour that was asked for or read in another way.
    """
    expected = {"teacher_fingerprint": setup.models.teacher.fingerprint, **expected_labels(setup.task)}
    labels = read_labels(labels_folder(arm), expected, setup.training.explained)
    differing = [
        (label, clean)
        for label, clean in zip(labels, setup.training.labels, strict=True)
        if label.clean != clean
    ]
    if len(differing) > OTHER_ROUNDING * len(labels):
        label, clean = differing[0]
        raise InputError(
            f"{arm.labels}: these labels describe the same model, but its behaviour was asked for or read in "
            f"another way (config.task, config.behavior, config.chat): {len(differing)} of {len(labels)} "
            f"differ, such as {label.id}: {tuple(label.clean)} there and {tuple(clean)} here"
        )
    return [label.explanation for label in labels]


class ArmLabels(NamedTuple):
    """The labels of the explained items, in their order."""

    trained: list[Explanation]  # what the arm trains on, maybe noisy or shuffled
    clean: list[Explanation]  # the label teacher's behaviour

    def by_id(self, items: Sequence[Item]) -> dict[str, tuple[Explanation, Explanation]]:
        """(trained, clean) by item id."""
        ids = (item.id for item in items)
        return dict(zip(ids, zip(self.trained, self.clean, strict=True), strict=True))


def made_labels(arm: ArmConfig, clean: list[Explanation], setup: Setup) -> ArmLabels:
    """The labels that an arm trains on: those in `arm.labels`, or new ones, from the clean ones."""
    if arm.labels:
        return ArmLabels(given_labels(arm, setup), clean)
    return ArmLabels(altered_labels(arm, setup.training.explained, clean, setup.config.task_seed), clean)


def arm_labels(name: str, arm: ArmConfig, setup: Setup) -> ArmLabels:
    """`made_labels`; new ones are written to `labels/<arm>`."""
    decided, clean = clean_labels(arm, setup)
    labels = made_labels(arm, clean, setup)
    if arm.labels:
        return labels
    folder = setup.workdir / "labels" / name
    kept = keep_labels(folder, arm, decided, labels.trained, teacher_fingerprint(arm, setup), setup)
    if arm.label_noise or arm.shuffle_labels:
        setup.session.console.print(f"{name}: {kept:.1%} of the labels equal the clean ones", highlight=False)
    return labels


def keep_labels(
    folder: Path,
    arm: ArmConfig,
    decided: Sequence[Decisions],
    labels: Sequence[Explanation],
    teacher_fingerprint: str,
    setup: Setup,
) -> float:
    """Writes an arm's labels and its teacher's decisions to a labels folder.

    Returns:
      The share of labels that equal the clean ones.
    """
    kept = kept_share([one.explanation for one in decided], labels)
    metadata = label_metadata(
        setup.task,
        setup.config.task_seed,
        teacher_fingerprint,
        arm.label_noise,
        arm.shuffle_labels,
        arm.foreign_labels,
        kept,
        arm.noise_part,
        arm.noise_towards,
    )
    found = zip(setup.training.explained, decided, labels, strict=True)
    first(lambda: write_labels(folder, [Label(i.id, i.group, d, label) for i, d, label in found], metadata))
    return kept


def refreshed_labels(
    name: str, arm: ArmConfig, model: Callable[[], Model], seed: int, step: int, setup: Setup
) -> list[Explanation] | None:
    """The labels of the last refresh, altered as the arm's own; None before the first refresh.

    At a refresh they are made from `model` and written to `labels/<arm>-seed<S>-step<N>`; a run resumed after
    it reads them there.

    Raises:
      RunError: a resumed run's labels are missing.
    """
    last = step - step % arm.refresh_steps
    if not last:
        return None
    items, folder = setup.training.explained, setup.workdir / "labels" / f"{name}-seed{seed}-step{last}"
    if first(folder.exists):
        return [label.explanation for label in read_labels(folder, expected_labels(setup.task), items)]
    if last < step:
        raise RunError(
            f"{folder} is missing: {name} can't resume without its labels of step {last}; restore the "
            "folder, or start again in another --workdir"
        )
    now = model()
    title, count = f"{name}: relabelling seed {seed}", request_count(items, setup.readout)
    with progress_bar(setup.session.console, title, count) as advance:
        decided = read_behavior(now, items, setup.readout, setup.session, advance).decisions
    clean = [one.explanation for one in decided]
    labels = altered_labels(arm, items, clean, setup.config.task_seed)
    keep_labels(folder, arm, decided, labels, model_fingerprint(now), setup)
    return labels


def held_out_labels(arm: ArmConfig, labels: ArmLabels, shifted: Collection[str], setup: Setup) -> HeldOut:
    """The items of an arm's live evaluations: a sample of validation items with clean labels; if replies are
    generated, a sample of training items with trained and clean labels; and if some test groups are shifted
    and others not, a sample of the items of each."""
    evaluation = setup.config.evaluation
    decided = teacher_decisions(arm, setup, "validation")
    pairs = [
        pair
        for pair in zip(setup.task.splits["validation"], decided, strict=True)
        if is_explained(setup.task, pair[0])
    ]
    chosen = drawn_places(len(pairs), evaluation.validation_items, evaluation.seed)
    validation = [pairs[i] for i in chosen]
    # If behaviour is scored, every train step returns agreement.
    count = 0 if setup.readout.scored else evaluation.agreement_items
    held = drawn_places(len(setup.training.explained), count, evaluation.seed)
    return HeldOut(
        [item for item, _ in validation],
        [one.explanation for _, one in validation],
        [setup.training.explained[i] for i in held],
        [labels.trained[i] for i in held],
        [labels.clean[i] for i in held],
        *tested_items(arm, shifted, setup),
        arm.shown,
        held,
    )


def tested_items(
    arm: ArmConfig, shifted: Collection[str], setup: Setup
) -> tuple[dict[str, list[Item]], dict[str, list[Explanation]]]:
    """Drawn test items of shifted and of unshifted groups, with clean labels; none if there are not both."""
    evaluation, items, labels = setup.config.evaluation, {}, {}
    pairs = list(zip(setup.task.splits["test"], teacher_decisions(arm, setup, "test"), strict=True))
    for name, here in zip(PARTS, (True, False), strict=True):
        own = [(item, decided) for item, decided in pairs if (item.group in shifted) == here]
        chosen = [own[i] for i in drawn_places(len(own), evaluation.shift_items, evaluation.seed)]
        items[name] = [item for item, _ in chosen]
        labels[name] = [decided.explanation for _, decided in chosen]
    return (items, labels) if all(items.values()) else ({}, {})


def altered_labels(
    arm: ArmConfig, items: Sequence[Item], clean: Sequence[Explanation], seed: int
) -> list[Explanation]:
    """Shuffles labels, then adds noise, as the arm's config says.

    Which items are noisy does not depend on the clean labels, so refreshed labels keep the arm's noise.
    """
    labels = list(clean)
    if arm.shuffle_labels:
        labels = shuffle_labels(items, labels, np.random.default_rng([seed, 6]))
    if arm.label_noise:
        rng = np.random.default_rng([seed, 7])
        labels, _ = add_label_noise(items, labels, arm.label_noise, rng, arm.noise_part, arm.noise_towards)
    return labels
