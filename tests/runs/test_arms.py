"""What an arm's config makes of the clean labels."""

import jax
import numpy as np
import pytest
from chat_tokenizers import pretrained
from small_tokenizers import byte_level
from tiny import task_model, tiny_task

from introspection.probes.context import longest_explanation
from introspection.runs.arm_labels import altered_labels
from introspection.runs.config import ArmConfig, read_config
from introspection.runs.measure import HeldOut
from introspection.runs.trainable import trainable_parts
from introspection.tasks.subsets import drawn_places
from introspection.text.rows import pad_scored, pad_time
from introspection.training.batches import explanation_rows, with_room


def arm_of(**changes):
    return ArmConfig(**changes)


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


def test_agreement_after_a_refresh_is_with_the_labels_that_are_trained_then():
    items, clean = labelled()
    places = [2, 0]
    held = [clean[place] for place in places]
    before = HeldOut((), (), [items[place] for place in places], held, held, places=places)
    refreshed = [label._replace(changed=not label.changed) for label in clean]
    after = before.relabelled(refreshed)
    assert after.trained == [refreshed[2], refreshed[0]]
    assert after.clean == held


def test_rows_whose_labels_are_made_anew_have_room_for_any_label():
    chat = "{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}"
    tokenizer = pretrained(byte_level(), chat, {"eos_token": "<|im_end|>"})
    task, items = tiny_task(), tiny_task().splits["train"]
    by_length = [
        sorted(
            task.grammar.all_explanations(item.candidates),
            key=lambda label: len(tokenizer.encode_reply(task.grammar.render(label))),
        )
        for item in items
    ]
    shortest, longest = ([labels[place] for labels in by_length] for place in (0, -1))
    rows = explanation_rows(tokenizer, items, shortest, task)
    fresh = explanation_rows(tokenizer, items, longest, task)
    assert rows.scored.shape[-1] < fresh.scored.shape[-1]
    room = with_room(rows, longest_explanation(items, task, tokenizer))
    fitted = pad_scored(pad_time(fresh, room.tokens.shape[-1]), room.scored.shape[-1])
    assert jax.tree.map(np.shape, fitted) == jax.tree.map(np.shape, room)
    # Not a token more than the longest prompt with the longest label takes.
    prompts = (rows.segments == 0).sum(axis=-1)
    assert room.tokens.shape[-1] == prompts.max() + fresh.scored.shape[-1] - 1


def test_every_seed_has_adapters_of_its_own_and_no_arm_has_others():
    config = read_config({"lora": {"rank": 2}})
    first, second = (trainable_parts(config, task_model(), (0, 3))[1] for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, first, second)
    of_seed = [jax.tree.leaves(adapters) for adapters in first]
    differing = [bool((one != other).any()) for one, other in zip(*of_seed, strict=True)]
    assert sum(differing) == len(differing) // 2  # A is drawn, B is zero
    alone = trainable_parts(config, task_model(), (3,))[1][0]
    jax.tree.map(np.testing.assert_array_equal, alone, first[1])


def test_what_is_measured_in_training_is_drawn_from_all_items():
    places = drawn_places(512, 32, 0)
    assert places == sorted(set(places)) == drawn_places(512, 32, 0)
    assert len(places) == 32
    assert all(any(start <= place < start + 128 for place in places) for start in range(0, 512, 128))
    assert drawn_places(512, 32, 1) != places
    assert drawn_places(5, 32, 0) == [0, 1, 2, 3, 4]
