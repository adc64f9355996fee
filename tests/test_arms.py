"""What an arm's config makes of the clean labels."""

import numpy as np
import pytest
from tiny import tiny_task

from configs import quickstart
from introspection.jobs.arms import altered_labels
from introspection.jobs.fields import arm_config


def arm_of(**changes):
    return arm_config(quickstart.arm(**changes).to_dict())


def labelled():
    task = tiny_task()
    items = [item for split in task.splits.values() for item in split]
    choices = [task.grammar.all_explanations(item.candidates) for item in items]
    return items, [options[i % len(options)] for i, options in enumerate(choices)]


@pytest.mark.parametrize("rate", [0.0, 0.25, 0.5])
def test_an_arm_with_label_noise_trains_on_that_share_of_wrong_labels(rate):
    items, clean = labelled()
    noisy = altered_labels(arm_of(label_noise=rate), items, clean, seed=3)
    wrong = np.mean([a != b for a, b in zip(noisy, clean, strict=True)])
    assert wrong == pytest.approx(rate, abs=0.5 / len(items))
    assert noisy == altered_labels(arm_of(label_noise=rate), items, clean, seed=3)
    if rate:
        assert noisy != altered_labels(arm_of(label_noise=rate), items, clean, seed=4)


def test_shuffling_comes_before_noise_and_keeps_what_is_said_of_how_often():
    items, clean = labelled()
    shuffled = altered_labels(arm_of(shuffle_labels=True), items, clean, seed=3)
    assert shuffled != clean
    assert sum(label.changed for label in shuffled) == sum(label.changed for label in clean)
    both = altered_labels(arm_of(shuffle_labels=True, label_noise=0.25), items, clean, seed=3)
    assert np.mean([a != b for a, b in zip(both, shuffled, strict=True)]) == pytest.approx(0.25, abs=0.01)
