"""Fixtures of the tests of sweeps."""

from collections.abc import Mapping

import pytest
from ml_collections import ConfigDict
from rich.console import Console
from sweep_cases import FOUR, FakeRun, check_arms_and_workdir

from configs.quickstart import get_config
from introspection.errors import RunError
from introspection.sweeps import sweep as sweep_job
from introspection.sweeps.summary import summarize
from introspection.sweeps.sweep import run_sweep

# A config has all that annotations ask of it when they say Mapping; tests check annotations.
Mapping.register(ConfigDict)


@pytest.fixture
def config(monkeypatch):
    # Without the task, whose items take most of a check's time; test_sweep_command.py checks all.
    monkeypatch.setattr(sweep_job, "check_run", check_arms_and_workdir)
    fields = get_config("tiny")
    fields.run_arms = ("kl", "no_kl")  # of which the fake run leaves results
    return fields.lock()


@pytest.fixture
def console():
    return Console(record=True, width=80)


@pytest.fixture
def fake_run(monkeypatch):
    fake = FakeRun()
    monkeypatch.setattr(sweep_job, "run", fake)
    return fake


@pytest.fixture
def finished_sweep(config, console, fake_run, tmp_path):
    fake_run.raises = {"rate1": RunError("loss is NaN")}
    with pytest.raises(RunError):
        run_sweep(config, FOUR, tmp_path, None, console)
    (tmp_path / "points" / "rate3" / "report.html").unlink()
    console.export_text()
    summarize(config, FOUR, tmp_path, console)
    return tmp_path
