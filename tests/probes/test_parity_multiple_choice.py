"""The readout `likeliest` decides as lm-evaluation-harness's multiple choice, from the file to `acc`."""

import json

import numpy as np
import pytest
from peers_environment import run_peer
from tiny import mesh_of

from introspection.probes.behavior import Readout, read_behavior
from introspection.runtime.session import Session
from introspection.tasks.registry import default_section, load_task
from introspection.weights.pretrained import find_pretrained, load_pretrained_model

pytestmark = pytest.mark.parity
TOLERANCE = 1e-3  # nats of a summed log-likelihood


def test_decisions_and_accuracy_are_the_harness_own(tmp_path):
    folder = run_peer("multiple_choice.py", tmp_path)
    expected = json.loads((folder / "samples.json").read_text())
    section = default_section("jsonl") | {"data": str(folder / "rows.jsonl")}
    task, _ = load_task(section, tmp_path / "cache")
    items = [item for split in task.splits.values() for item in split]
    session = Session(mesh_of())
    model = load_pretrained_model(find_pretrained(str(folder / "model")), session.mesh)
    behaviors, decisions = read_behavior(model, items, Readout("likeliest"), session)
    assert len(items) == 40
    right = {"with_cue": [], "without_cue": []}
    for item, behavior, decided in zip(items, behaviors, decisions, strict=True):
        for side, ours in right.items():
            of_candidate = expected[side]["logprobs"][int(item.group)]  # a task draws their order
            logprobs = [of_candidate[candidate] for candidate in item.candidates]
            np.testing.assert_allclose(getattr(behavior, side)[:-1], logprobs, atol=TOLERANCE, rtol=0)
            assert getattr(decided, side) == item.candidates[np.argmax(logprobs)]
            ours.append(getattr(decided, side) == item.gold)
            assert ours[-1] == expected[side]["right"][int(item.group)]
    for side, ours in right.items():
        assert np.mean(ours) == pytest.approx(expected[side]["acc"])
        assert 0.1 < np.mean(ours) < 0.9
