"""What a study reads of metrics.jsonl: agreement, kept behaviour and live measures, means over seeds."""

import json

import pytest

from introspection.coupling.training_log import read_training_logs
from introspection.errors import InputError


def write(path, events):
    path.write_text("".join(json.dumps(event) + "\n" for event in events), encoding="utf-8")
    return path


def event(seed, step, **values):
    return {"arm": "kl", "seed": seed, "step": step, **values}


def test_levels_and_live_points_worked_by_hand(tmp_path):
    path = write(
        tmp_path / "metrics.jsonl",
        [
            event(0, 1, agreement=0.8, kept_behavior=1.0),
            event(1, 1, agreement=0.6, kept_behavior=0.8),
            event(0, 2, agreement=0.1),
            event(0, 2, agreement=0.4, kept_behavior=0.6),  # again, after a resume
            event(1, 2, agreement=0.2, kept_behavior=0.4),
            event(0, 3, agreement=0.9),  # the other seed is not there yet
            event(0, 2, live_self=0.5, live_orig=0.4, live_drift=0.2),
            event(1, 2, live_self=0.7, live_orig=0.2, live_drift=0.4),
            {"arm": "no_kl", "seed": 0, "step": 1, "agreement": 0.5},
            {"event": "something else"},
        ],
    )
    logs = read_training_logs(path, ["kl", "no_kl", "shuffled"])
    close = pytest.approx
    assert logs["kl"].agreement == {
        "start": close(0.7),
        "end": close(0.3),
        "min": close(0.3),
        "mean": close(0.5),
    }
    assert logs["kl"].kept_behavior["mean"] == close(0.7)
    (live,) = logs["kl"].live
    assert (live.step, live.own, live.orig, live.drift) == (2, close(0.6), close(0.3), close(0.3))
    assert logs["no_kl"].agreement["mean"] == 0.5
    assert logs["no_kl"].kept_behavior["mean"] is None  # runs before there were both
    assert logs["shuffled"].agreement["mean"] is None


def test_noise_moves_agreement_of_trained_labels_and_not_kept_behaviour(tmp_path):
    path = write(tmp_path / "metrics.jsonl", [event(0, 1, agreement=0.55, kept_behavior=0.85)])
    log = read_training_logs(path, ["kl"])["kl"]
    assert (log.agreement["mean"], log.kept_behavior["mean"]) == (0.55, 0.85)


def test_damaged_lines_are_refused_unless_they_are_being_written(tmp_path):
    path = write(tmp_path / "metrics.jsonl", [event(0, 1, agreement=0.5)])
    path.write_text(path.read_text() + '{"arm": "kl", "se')
    assert read_training_logs(path, ["kl"])["kl"].agreement["mean"] == 0.5
    path.write_text('{"arm": "kl", "se\n')
    with pytest.raises(InputError, match=r"metrics\.jsonl:1 can't be read"):
        read_training_logs(path, ["kl"])
    assert read_training_logs(tmp_path / "none.jsonl", ["kl"])["kl"].agreement["mean"] is None
