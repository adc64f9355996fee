"""Whose labels an arm trains on, and that refreshed ones keep its noise, its shuffling and their step."""

import json
from unittest.mock import Mock

import numpy as np
import pytest
from rich.console import Console
from tiny import task_model, tiny_task

from configs import quickstart
from introspection.errors import InputError, RunError
from introspection.probes.behavior import Readout
from introspection.runs import arm_labels
from introspection.runs.arm_labels import clean_labels, refreshed_labels, teacher_decisions
from introspection.runs.arm_rows import behavior_places
from introspection.runs.config import ArmConfig, read_config
from introspection.runs.setup import Models, Probed, Setup, Start
from introspection.runs.train_config import TrainConfig
from introspection.runs.training_items import TrainingItems, drawn_items, natural_items, other_items
from introspection.tasks.items import Decisions

TASK = tiny_task()


def arm_of(**changes):
    return ArmConfig(**changes)


def decisions(first, second):
    """With the cue the candidate at one place, without it that at another, on every item of every split."""
    return {
        split: [Decisions(item.candidates[first], item.candidates[second]) for item in items]
        for split, items in TASK.splits.items()
    }


def setup_of(tmp_path, **fields):
    config = read_config(quickstart.get_config("tiny"))
    foreign = Mock(spec=Start)
    foreign.probed = Probed({}, decisions(2, 2), "f")
    foreign.model = task_model()
    initial = Mock(spec=Start)
    initial.model = task_model()
    setup = Mock(spec=Setup)
    setup.config, setup.task, setup.workdir, setup.session = (
        config,
        TASK,
        tmp_path,
        Mock(console=Console(quiet=True)),
    )
    teacher = Probed({}, decisions(0, 1), "t")
    setup.models = Models(None, teacher, {"initial": initial, "foreign": foreign}, {}, ())
    explained = TASK.splits["train"][:24]
    labels = tuple(decided.explanation for decided in teacher.decisions["train"][:24])
    setup.training = TrainingItems(explained, labels, (explained, labels), explained)
    setup.readout = Readout()
    for name, value in fields.items():
        setattr(setup, name, value)
    (tmp_path / "labels").mkdir(exist_ok=True)
    return setup


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_share_of_groups_has_the_other_bases_labels_in_every_split(tmp_path, share):
    setup, arm = setup_of(tmp_path), arm_of(foreign_labels=share)
    for split, items in TASK.splits.items():
        theirs = {
            item.group
            for item, decided in zip(items, teacher_decisions(arm, setup, split), strict=True)
            if decided.without_cue == item.candidates[2]
        }
        groups = {item.group for item in items}
        assert len(theirs) == round(share * len(groups))
        # Whole groups: no fact has labels of two teachers.
        of_group = {}
        for item, decided in zip(items, teacher_decisions(arm, setup, split), strict=True):
            of_group.setdefault(item.group, set()).add(decided.without_cue == item.candidates[2])
        assert all(len(kinds) == 1 for kinds in of_group.values())
    _, clean = clean_labels(arm, setup)
    changed = np.mean([label.changed for label in clean])
    assert changed == 1 - share if share in (0, 1) else 0 < changed < 1


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_share_of_foreign_labels_is_a_share(share):
    with pytest.raises(InputError, match=r"foreign_labels is .*it is a share, from 0 to 1"):
        arm_of(foreign_labels=share)


@pytest.mark.parametrize("steps", [40, 60])
def test_a_refresh_that_never_comes_is_refused(steps):
    train = TrainConfig(steps=40)
    with pytest.raises(InputError, match=rf"refresh_steps \({steps}\) never comes: there are 40 steps"):
        train.loop(arm_of(refresh_steps=steps))
    assert train.loop(arm_of(refresh_steps=20)).refresh_steps == 20


def refreshed(setup, arm, step, monkeypatch, behavior=(1, 2)):
    """The labels at a step of a model whose decisions are candidates at two places."""
    items = setup.training.explained
    now = [Decisions(item.candidates[behavior[0]], item.candidates[behavior[1]]) for item in items]
    monkeypatch.setattr(arm_labels, "read_behavior", lambda *_: Mock(decisions=now))
    asked = []

    def model():
        asked.append(step)
        return task_model()

    labels = refreshed_labels("again", arm, model, 0, step, setup)
    return labels, bool(asked)


def test_refreshed_labels_are_made_at_their_step_and_read_by_a_resumed_run(tmp_path, monkeypatch):
    setup, arm = setup_of(tmp_path), arm_of(refresh_steps=10)
    assert refreshed(setup, arm, 0, monkeypatch) == (None, False)
    made, asked = refreshed(setup, arm, 10, monkeypatch)
    assert asked
    assert all(label.changed for label in made)
    assert [label.answer for label in made] == [item.candidates[2] for item in setup.training.explained]
    # Resumed between two refreshes: what was made then holds, whatever the model does now.
    again, asked = refreshed(setup, arm, 17, monkeypatch, behavior=(0, 0))
    assert again == made
    assert not asked
    with pytest.raises(RunError, match="again-seed0-step20 is missing"):
        refreshed(setup, arm, 23, monkeypatch)


@pytest.mark.parametrize("changes", [dict(label_noise=0.5), dict(shuffle_labels=True)])
def test_refreshed_labels_keep_noise_and_shuffling(tmp_path, monkeypatch, changes):
    setup = setup_of(tmp_path)
    clean, _ = refreshed(setup, arm_of(refresh_steps=10), 10, monkeypatch)
    other = setup_of(tmp_path / "other" if (tmp_path / "other").mkdir() is None else tmp_path)
    altered, _ = refreshed(other, arm_of(refresh_steps=10, **changes), 10, monkeypatch)
    differing = np.mean([a != b for a, b in zip(clean, altered, strict=True)])
    assert differing >= 0.4
    metadata = json.loads(
        (other.workdir / "labels" / "again-seed0-step10" / "metadata.json").read_text(encoding="utf-8")
    )
    assert metadata["clean_share"] == pytest.approx(1 - differing)


@pytest.mark.parametrize(("share", "named"), [(0.0, "t"), (0.5, "t+f"), (1.0, "f")])
def test_kept_labels_name_the_model_whose_decisions_they_are(tmp_path, share, named):
    arm_labels.arm_labels("kl", arm_of(foreign_labels=share), setup_of(tmp_path))
    metadata = json.loads((tmp_path / "labels" / "kl" / "metadata.json").read_text())
    assert metadata["teacher_fingerprint"] == named


def test_the_kl_term_can_hold_training_groups_that_nobody_explains(tmp_path):
    config = read_config({"train": {"explained_groups": 3, "balanced": False}})
    teacher = decisions(0, 1)["train"]
    explained, labels = drawn_items(config, *natural_items(config, TASK, teacher))
    assert len({item.group for item in explained}) == 3
    others = other_items(config, TASK, explained)
    assert not {item.group for item in others} & {item.group for item in explained}
    assert {item.group for item in others} <= {item.group for item in TASK.splits["train"]}
    assert len(others) <= len(explained)
    training = TrainingItems(explained, labels, (explained, labels), (*explained, *others))
    setup = setup_of(tmp_path, training=training)
    assert behavior_places(arm_of(), setup) == list(range(len(explained)))
    places = behavior_places(arm_of(kl_groups="other"), setup)
    assert places[-len(others) :] == list(range(len(explained), len(setup.training.held)))
    config = read_config({"train": {"balanced": False}})
    everything, _ = drawn_items(config, *natural_items(config, TASK, teacher))
    with pytest.raises(InputError, match="all training groups are explained"):
        other_items(config, TASK, everything)
    config = read_config({"train": {"explained_groups": 100}})
    with pytest.raises(InputError, match="explained_groups is 100, but there are 6 training groups"):
        drawn_items(config, *natural_items(config, TASK, teacher))
