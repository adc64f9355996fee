"""Which training items are explained, their labels, and which other items the KL term may use."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from introspection.coupling.controls import balance_by_changed, balanced_subset
from introspection.errors import InputError
from introspection.runs.config import RunConfig
from introspection.tasks.conditions import check_conditions, meets
from introspection.tasks.items import Decisions, Explanation, Item
from introspection.tasks.mixture import is_explained
from introspection.tasks.splits import drawn_groups
from introspection.tasks.task import Task


@dataclasses.dataclass(frozen=True)
class TrainingItems:
    """The training items of a run, the same for every arm; an arm may alter the labels."""

    explained: tuple[Item, ...]  # balanced between changed and unchanged by default
    labels: tuple[Explanation, ...]  # of `explained`, clean: label_teacher's behaviour
    # All that could be explained, at their natural rates, with their clean labels.
    natural: tuple[tuple[Item, ...], tuple[Explanation, ...]]
    held: tuple[Item, ...]  # for behaviour rows: the explained items and then, if an arm needs them, others


def training_items(
    config: RunConfig, task: Task, decisions: Sequence[Decisions], hold_others: bool
) -> TrainingItems:
    """The training items of a run, from its label teacher's decisions on the task's training items.

    Raises:
      InputError: as `natural_items`, `drawn_items` and `other_items`.
    """
    natural = natural_items(config, task, decisions)
    explained, labels = drawn_items(config, *natural)
    others = other_items(config, task, explained) if hold_others else ()
    return TrainingItems(explained, labels, natural, (*explained, *others))


def explained_items(task: Task, decisions: Sequence[Decisions]) -> list[tuple[Item, Decisions]]:
    """The training items that may be explained, with the decisions on them."""
    both = zip(task.splits["train"], decisions, strict=True)
    return [(item, decided) for item, decided in both if is_explained(task, item)]


def natural_items(
    config: RunConfig, task: Task, decisions: Sequence[Decisions]
) -> tuple[tuple[Item, ...], tuple[Explanation, ...]]:
    """All training items that the config lets be explained, and their clean labels.

    Raises:
      InputError: there are too few groups.
    """
    conditions = config.train.conditions
    check_conditions(task.splits["train"], conditions, "config.train.explained_where")
    pairs = [pair for pair in explained_items(task, decisions) if meets(pair[0], conditions)]
    groups = {item.group for item, _ in pairs}
    count = config.train.explained_groups
    if count > len(groups):
        raise InputError(
            f"config.train.explained_groups is {count}, but there are {len(groups)} training groups to "
            "explain: lower it"
        )
    if count:
        explained = drawn_groups(groups, count, [config.task_seed, 12])
        pairs = [pair for pair in pairs if pair[0].group in explained]
    return tuple(item for item, _ in pairs), tuple(decided.explanation for _, decided in pairs)


def drawn_items(
    config: RunConfig, items: Sequence[Item], clean: Sequence[Explanation]
) -> tuple[tuple[Item, ...], tuple[Explanation, ...]]:
    """The items that are explained, with their labels: as many as the config asks for, balanced or not.

    Raises:
      InputError: there are too few items, or they can't be balanced.
    """
    wanted, subset_rng = config.train.explained_items, np.random.default_rng([config.task_seed, 10])
    if config.train.balanced:
        chosen = balance_by_changed(items, clean, np.random.default_rng([config.task_seed, 8]))
        if wanted:
            chosen = balanced_subset(chosen, clean, wanted, subset_rng)
    else:
        if wanted > len(items):
            raise InputError(
                f"config.train.explained_items is {wanted}, but there are {len(items)} training items: "
                "lower it"
            )
        chosen = np.sort(subset_rng.permutation(len(items))[: wanted or None])
    return tuple(items[i] for i in chosen), tuple(clean[i] for i in chosen)


def other_items(config: RunConfig, task: Task, explained: Sequence[Item]) -> list[Item]:
    """Training items of groups that are not explained, at most as many as the explained items.

    Raises:
      InputError: there are none.
    """
    groups = {item.group for item in explained}
    others = [item for item in task.splits["train"] if item.group not in groups]
    if not others:
        raise InputError(
            "kl_groups needs training groups that are not explained, but all training groups are explained: "
            f"set config.train.explained_groups below {len(groups)}"
        )
    order = np.random.default_rng([config.task_seed, 13]).permutation(len(others))
    return [others[i] for i in np.sort(order[: len(explained)])]
