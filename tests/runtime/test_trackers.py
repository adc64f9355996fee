"""Trackers are imported only where a project is named; a missing one is said before anything is written."""

import json
import subprocess
import sys
import types

import pytest

from introspection.errors import InputError
from introspection.runtime import trackers
from introspection.runtime.metrics_writer import MetricsWriter
from introspection.runtime.trackers import LogConfig, Trackers, check_trackers


class FakeTracker(types.ModuleType):
    """Takes what trackio.init and wandb.init take, and keeps what is logged."""

    def __init__(self, name):
        super().__init__(name)
        self.given, self.lines, self.finished = {}, [], False

    def init(self, *, project, name, group, config):
        self.given = {"project": project, "name": name, "group": group, "config": config}
        return self

    def log(self, metrics, step):
        self.lines.append((step, metrics))

    def finish(self):
        self.finished = True


def test_metrics_go_to_every_chosen_tracker_and_to_the_file(tmp_path, monkeypatch):
    fakes = {name: FakeTracker(name) for name in ("trackio", "wandb")}
    for name, fake in fakes.items():
        monkeypatch.setitem(sys.modules, name, fake)
    metrics = MetricsWriter(tmp_path, Trackers(LogConfig("mine", "ours"), "run", "kl", {"kl_weight": 1.0}))
    metrics.write("kl", 1, 20, {"loss": 0.5})
    metrics.close()
    for name, project in (("trackio", "mine"), ("wandb", "ours")):
        expected = {"project": project, "name": "kl", "group": "run", "config": {"kl_weight": 1.0}}
        assert fakes[name].given == expected
        assert fakes[name].lines == [(20, {"seed1/loss": 0.5})]
        assert fakes[name].finished
    line = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert line == {"arm": "kl", "seed": 1, "step": 20, "loss": 0.5}
    assert list((tmp_path / "tensorboard").iterdir())


def test_a_missing_tracker_is_one_line(monkeypatch):
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None)
    check_trackers(LogConfig())
    with pytest.raises(InputError, match=r"config.log.wandb names a project, .* missing: pip install wandb"):
        check_trackers(LogConfig(wandb="ours"))


def test_no_tracker_is_imported_unless_it_is_asked_for():
    code = "import sys, introspection.runs.arm; print({'wandb', 'trackio'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
