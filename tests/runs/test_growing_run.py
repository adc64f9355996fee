"""A run goes on while a command reads it: all processes, and all they write, are about one step of it."""

import itertools
from pathlib import Path

import pytest
from as_processes import as_processes
from elsewhere import run_workdir, stacked
from rich.console import Console
from tiny import mesh_of, task_model, tiny_variables

from introspection.checkpoints import names
from introspection.checkpoints.names import CHECKPOINTS, load_one, model_fingerprint
from introspection.checkpoints.store import CheckpointStore
from introspection.hygiene.request import ProbeRequest, find_model
from introspection.runs.config import read_config
from introspection.runs.export import export
from introspection.runs.models import stored_models
from introspection.runtime.session import Session


@pytest.fixture
def growing(tmp_path, monkeypatch) -> str:
    """The name of an arm with step 4 at the first look, and then with step 9, too."""
    run = run_workdir(tmp_path / "run", seeds=(0,))
    with CheckpointStore(run / CHECKPOINTS / "full") as store:
        store.save(9, stacked([tiny_variables(task_model().config, 9)]), None, {})
        store.wait()
    looks = itertools.chain([[4]], itertools.repeat([4, 9]))
    monkeypatch.setattr(names, "stored_steps", lambda store: next(looks))
    return f"{run}:full"


def read_by_probe(name: str) -> str:
    return names.address(find_model(ProbeRequest("world_facts", model=name)))


def read_by_name(name: str) -> str:
    return load_one(name, mesh_of()).name


def read_by_run(name: str) -> str:
    return stored_models(read_config({"initial": name}), Session(mesh_of()))["initial"].name


@pytest.mark.parametrize("read", [read_by_probe, read_by_name, read_by_run])
def test_all_processes_read_the_step_that_the_first_finds(growing, monkeypatch, read):
    assert as_processes(monkeypatch, *[lambda: read(growing)] * 2) == [f"{growing}:0@4"] * 2


def test_the_card_of_an_exported_model_names_the_step_of_its_numbers(growing, tmp_path):
    out: Path = tmp_path / "out"
    export(growing, out, "hf", "float32", Console(quiet=True))
    assert "| step | 4 |" in (out / "README.md").read_text()
    exported, stored = (load_one(str(name), mesh_of()) for name in (out, f"{growing}@4"))
    assert model_fingerprint(exported) == model_fingerprint(stored)
