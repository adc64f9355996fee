"""An arm that is added to a finished run is run alone, and leaves what is there as it was."""

import shutil

import pytest
from programs import NO_REPORT, TINY, read_json, refused

CONFIG = """
from configs import quickstart
from introspection.runs.config import arm

def get_config():
    config = quickstart.get_config("tiny")
    arms = config.arms
    config.arms = {"weak": arm(kl_weight=0.1), **{name: arms[name] for name in ARMS}, "unused": arm()}
    config.run_arms = ("weak", *ARMS)
    return config
"""


@pytest.fixture
def files(tmp_path):
    def write(*arms: str) -> str:
        path = tmp_path / f"{'_'.join(arms)}.py"
        path.write_text(f"ARMS = {arms!r}\n{CONFIG}")
        return f"--config={path}"

    return write


@pytest.mark.slow
def test_an_added_arm_runs_alone(programs, finished_run, files, tmp_path):
    workdir = finished_run.workdir.parent / tmp_path.name  # behaviour is kept beside the workdirs
    shutil.copytree(finished_run.workdir, workdir)
    before = read_json(workdir / "results.json")
    kept = [path for path in workdir.glob("arms/*/*") if path.is_file()]
    bytes_before = [path.read_bytes() for path in kept]
    predictions = (workdir / "predictions.jsonl").read_bytes()

    all_arms = files("kl", "no_kl", "kl_shift", "shuffled")
    done = programs.run_well("run", all_arms, f"--workdir={workdir}", patch=NO_REPORT)
    assert "leaves them out: unused" in done.stdout
    assert done.stdout.count("finished before") == 4

    results = read_json(workdir / "results.json")
    assert list(results["arms"]) == [*before["arms"], "weak"]
    assert {name: results["arms"][name] for name in before["arms"]} == before["arms"]
    assert [path.read_bytes() for path in kept] == bytes_before
    assert (workdir / "predictions.jsonl").read_bytes().startswith(predictions)
    assert read_json(workdir / "config.json")["run_arms"][-1] == "weak"

    again = programs.run_well("run", all_arms, f"--workdir={workdir}", patch=NO_REPORT)
    assert "is finished" in again.stdout
    # What ran can't be left out or changed; the first config has become a part of this one.
    says = ["belongs to another config", "run_arms"]
    refused(programs, "run", files("kl", "no_kl"), workdir=workdir, says=says)
    refused(programs, "run", TINY, workdir=workdir, says=says)
    changed = "--config.arms.weak.kl_weight=0.2"
    refused(programs, "run", all_arms, changed, workdir=workdir, says=["arms.weak.kl_weight is 0.1 there"])
