"""experiments.patch on a finished run: what it writes, what it says, and what it refuses."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from programs import NO_REPORT, one_error_line, read_json, refused, snapshot

from introspection.checkpoints.names import StoredModel
from introspection.patching.patch import PATCHING, Subject, donors_of
from introspection.patching.results import PatchingResults
from introspection.runs.config import ArmConfig, RunConfig
from introspection.runtime.json_values import from_json, to_json

FEW = ("--config.patching.test_items=6", "--config.patching.draws=2", "--config.run_arms=kl,no_kl")
TINY = "--config=configs/quickstart.py:tiny"


@pytest.fixture(scope="module")
def patched(programs, finished_run):
    """A copy of the run with two of its arms patched."""
    workdir = programs.cache.parent / "patched"
    shutil.copytree(finished_run.workdir, workdir)
    before = snapshot(workdir)
    outcome = programs.run_well("patch", TINY, *FEW, f"--workdir={workdir}")
    after = snapshot(workdir)
    assert {path: after[path] for path in before if path not in (".", "figures")} == {
        path: found for path, found in before.items() if path not in (".", "figures")
    }
    return workdir, outcome.stdout


def test_the_main_arm_s_weights_go_into_arms_of_its_own_start_alone():
    arms = {"foreign_kl": ArmConfig(foreign_to="kl"), "kl": ArmConfig(), "no_kl": ArmConfig()}
    config = RunConfig(arms=arms, foreign="neighbor")
    stored = {name: StoredModel(Path("run"), name, 0, 4) for name in arms}
    subjects = {name: [Subject(one, None, {})] for name, one in stored.items()}
    assert {name: donors_of(name, config, subjects) for name in arms} == {
        "foreign_kl": {"start": []},
        "kl": {"start": []},
        "no_kl": {"start": [], "kl": [stored["kl"]]},
    }


@pytest.mark.slow
def test_it_writes_maps_of_every_arm_and_of_the_model_before(patched):
    workdir, output = patched
    stored = read_json(workdir / PATCHING)
    results = from_json(PatchingResults, stored)
    assert to_json(results) == stored
    assert list(results.models) == ["initial", "kl", "no_kl"]
    assert results.tiny
    assert results.settings.test_items == 6
    run = read_json(workdir / "results.json")
    for name in ("kl", "no_kl"):
        model, arm = results.models[name], run["arms"][name]
        assert model.seeds == (0, 1)
        assert model.n == 12
        assert model.gap.mean == arm["gap"]["exact_match"]["mean"]
        assert [swap.donor for swap in model.swaps] == (["start"] if name == "kl" else ["start", "kl"])
        fingerprints = {seed: run["fingerprints"][name][seed] for seed in "01"}
        assert results.fingerprints[name] == fingerprints
        behavior = model.behavior_difference
        assert behavior[0] > 0 > behavior[1]
        last = next(s for s in model.sites if (s.kind, s.layer, s.group) == ("residual", 1, "answer"))
        assert last.fixed
        assert last.behavior.mean == pytest.approx(1, abs=1e-4)
        assert last.explanation.mean == pytest.approx(1, abs=1e-4)
    assert results.models["initial"].swaps == ()
    assert "the maps of behaviour and explanation correlate at" in output
    assert "patched_differences" in output


@pytest.mark.slow
def test_the_figures_numbers_are_those_of_the_results(patched):
    workdir, _ = patched
    results = from_json(PatchingResults, read_json(workdir / PATCHING))
    with (workdir / "figures" / "patching_maps.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["direction"] == "without_into_with"]
    sites = [site for model in results.models.values() for site in model.sites]
    np.testing.assert_allclose(
        [float(row["behavior"]) for row in rows], [site.behavior.mean for site in sites]
    )
    page = (workdir / "patching.html").read_text(encoding="utf-8")
    assert "Tiny run." in page
    assert (workdir / "figures" / "patching_maps.svg").stat().st_size > 0


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--config.patching.layers=0,7"], ["config.patching.layers has 7", "layers 0 to 1"]),
        (["--config.patching.heads=9"], ["config.patching.heads has 9"]),
        (["--config.patching.kinds=mlp,mind"], ["config.patching.kinds has 'mind'", "residual"]),
        (["--config.patching.top=0"], ["config.patching.top is 0"]),
        (["--config.run_arms=no_such_arm"], ["no_such_arm"]),
    ],
)
def test_what_can_not_be_patched_is_one_line(programs, finished_run, flags, says):
    refused(programs, "patch", TINY, *flags, workdir=finished_run.workdir, says=says)


def test_a_finished_run_of_another_config_is_not_patched(programs, finished_run):
    says = ["belongs to another config", "task.seed"]
    refused(programs, "patch", TINY, "--config.task.seed=1", workdir=finished_run.workdir, says=says)


def test_a_judges_classes_are_refused_before_anything_is_trained(programs, tmp_path):
    config = "--config=configs/refusal.py:tiny"
    refused(programs, "patch", config, workdir=tmp_path / "run", says=["candidates are a judge's classes"])


def test_a_workdir_without_a_run_is_one_line(programs, tmp_path):
    outcome = programs.run("patch", f"--workdir={tmp_path}")
    assert outcome.code == 2
    assert "no finished run" in one_error_line(outcome)
    assert list(tmp_path.iterdir()) == []


def test_items_whose_behaviour_never_changes_are_one_line(programs, finished_run, tmp_path):
    """Also: the run's own files are read, so records that say so are enough."""
    workdir = tmp_path / "run"
    shutil.copytree(finished_run.workdir, workdir)
    never = """
import introspection.patching.patch as patch
read = patch.read_records
def unchanged(path):
    import dataclasses
    same = lambda one: one._replace(with_cue=one.without_cue)
    return [dataclasses.replace(r, current=same(r.current), initial=same(r.initial)) for r in read(path)]
patch.read_records = unchanged
"""
    line = refused(programs, "patch", TINY, *FEW, workdir=workdir, patch=never)
    assert "the cue changes its decision on none of 80 test items" in line


@pytest.mark.slow
def test_the_config_of_mechanism_patches_every_arm_and_both_bases(programs, tmp_path):
    flags = ("--config=configs/mechanism.py:tiny", "--config.seeds=(0,)", f"--workdir={tmp_path / 'run'}")
    programs.run_well("patch", *flags, patch=NO_REPORT)
    results = from_json(PatchingResults, read_json(tmp_path / "run" / PATCHING))
    patched = {*results.models, *results.skipped}
    assert patched == {"initial", "foreign", "kl", "no_kl", "shuffled", "foreign_kl"}
    donors = {name: [swap.donor for swap in model.swaps] for name, model in results.models.items()}
    assert donors["no_kl"] == ["start", "kl"]
    assert donors["foreign_kl"] == ["start"]
