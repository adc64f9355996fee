"""Which training items are explained, with whose labels, and which others the KL term may hold."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from introspection.coupling.controls import balance_by_changed, balanced_subset
from introspection.errors import InputError
from introspection.runs.config import RunConfig
from introspection.tasks.items import Decisions, Explanation, Item
from introspection.tasks.mixture import is_explained
from introspection.tasks.splits import drawn_groups
from introspection.tasks.task import Task


@dataclasses.dataclass(frozen=True)
class TrainingItems:
    """What every arm of a run trains on; an arm may alter the labels."""

    explained: tuple[Item, ...]  # as a rule balanced between changed and unchanged
    labels: tuple[Explanation, ...]  # theirs, clean: what label_teacher does
    held: tuple[Item, ...]  # the explained items, then, where an arm holds them, some of other groups


def training_items(
    config: RunConfig, task: Task, decisions: Sequence[Decisions], hold_others: bool
) -> TrainingItems:
    """The training items of a run, whose label teacher decides so on the task's training items.

    Raises:
      InputError: as `labelled_items` and `other_items`.
    """
    explained, labels = labelled_items(config, task, decisions)
    others = other_items(config, task, explained) if hold_others else ()
    return TrainingItems(explained, labels, (*explained, *others))


def explained_items(task: Task, decisions: Sequence[Decisions]) -> list[tuple[Item, Decisions]]:
    """The training items of parts that explanations may be trained on, and the decisions on them."""
    both = zip(task.splits["train"], decisions, strict=True)
    return [(item, decided) for item, decided in both if is_explained(task, item)]


def labelled_items(
    config: RunConfig, task: Task, decisions: Sequence[Decisions]
) -> tuple[tuple[Item, ...], tuple[Explanation, ...]]:
    """The explained training items and their clean labels; none of a part that is never explained."""
    pairs = explained_items(task, decisions)
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
