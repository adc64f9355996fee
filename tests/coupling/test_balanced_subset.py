"""How many of the training groups, and of their balanced items, are explained."""

import numpy as np
import pytest
from tiny import tiny_task

from introspection.coupling.controls import balanced_subset
from introspection.errors import InputError
from introspection.runs.config import read_config
from introspection.runs.training_items import drawn_items, natural_items
from introspection.tasks.items import Decisions, Explanation

LABELS = [Explanation(i % 3 == 0, "a") for i in range(30)]  # 10 changed, 20 not
BALANCED = np.array([i for i in range(30) if i % 3 == 0] + [1, 2, 4, 5, 7, 8, 10, 11, 13, 14])


def test_half_of_the_subset_is_changed_and_its_order_stays():
    chosen = balanced_subset(np.sort(BALANCED), LABELS, 8, np.random.default_rng(0))
    assert sum(LABELS[i].changed for i in chosen) == 4
    assert len(set(chosen)) == 8
    assert set(chosen) <= set(BALANCED)
    assert chosen.tolist() == sorted(chosen)
    again = balanced_subset(np.sort(BALANCED), LABELS, 8, np.random.default_rng(0))
    assert chosen.tolist() == again.tolist()


def test_more_than_there_are_is_refused():
    with pytest.raises(InputError, match=r"explained_items is 22, but only 20 training items"):
        balanced_subset(np.sort(BALANCED), LABELS, 22, np.random.default_rng(0))


def chosen_items(balanced, explained_items, explained_groups=0):
    """Of a teacher whom no cue moves: the items chosen for it, and all that there are."""
    task = tiny_task()
    items = list(task.splits["train"])
    unmoved = [Decisions(item.candidates[0], item.candidates[0]) for item in items]
    train = dict(explained_items=explained_items, explained_groups=explained_groups, balanced=balanced)
    config = read_config({"train": train})
    return drawn_items(config, *natural_items(config, task, unmoved)), items


def test_without_balancing_items_are_taken_as_they_come():
    (chosen, labels), items = chosen_items(balanced=False, explained_items=0)
    assert list(chosen) == items
    assert labels == tuple(Explanation(False, item.candidates[0]) for item in items)
    (some, _), _ = chosen_items(balanced=False, explained_items=4)
    assert len(some) == 4
    assert [item for item in items if item in some] == list(some)


def test_some_groups_are_explained_with_all_of_their_items():
    (few, _), items = chosen_items(balanced=False, explained_items=0, explained_groups=4)
    groups = {item.group for item in few}
    assert len(groups) == 4
    assert list(few) == [item for item in items if item.group in groups]
    # More groups are the same ones and others, so that numbers of explained facts can be compared.
    (more, _), _ = chosen_items(balanced=False, explained_items=0, explained_groups=5)
    assert groups < {item.group for item in more}
    with pytest.raises(InputError, match="explained_groups is 7, but there are 6 training groups"):
        chosen_items(balanced=False, explained_items=0, explained_groups=7)


def test_labels_that_can_not_be_balanced_are_refused():
    with pytest.raises(InputError, match=r"0 labels are changed.*config\.train\.balanced=False"):
        chosen_items(balanced=True, explained_items=0)
    with pytest.raises(InputError, match=r"explained_items is 1000, but there are \d+ training items"):
        chosen_items(balanced=False, explained_items=1000)
