"""How many of the balanced training items are explained."""

import numpy as np
import pytest

from introspection.errors import InputError
from introspection.jobs.setup import balanced_subset
from introspection.tasks.items import Explanation

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
