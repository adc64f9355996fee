"""The launch recipes: their shell parses, and the commands in them are commands of this project."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from programs import ROOT, one_error_line

LAUNCH = ROOT / "experiments" / "launch"
COMMAND = re.compile(r"python -m experiments\.(\w+)((?:[^\n\\)&]|\\\n)*)")
VALUES = {"CONFIG": "configs/learning_rate.py", "WORKDIR": "W", "SLURM_ARRAY_TASK_ID": "0", "HOST0": "h"}
VALUES |= {"MODEL": "PATH/TO/MODEL", "DATA": "PATH/TO/DATA"}


def commands(path: Path) -> list[tuple[str, list[str]]]:
    """Every command of a recipe with its flags."""
    found = []
    for name, flags in COMMAND.findall(path.read_text(encoding="utf-8")):
        said = re.sub(r"\$\{?(\w+)\}?", lambda match: VALUES[match[1]], flags.replace("\\\n", " "))
        found.append((name, shlex.split(said.replace('"', ""), comments=True)))
    return found


@pytest.mark.parametrize("path", sorted(LAUNCH.glob("*.sh")), ids=lambda path: path.name)
def test_a_script_parses(path):
    assert subprocess.run(["bash", "-n", path], capture_output=True, check=False).returncode == 0
    assert os.access(path, os.X_OK)


@pytest.mark.parametrize("path", sorted(LAUNCH.iterdir()), ids=lambda path: path.name)
def test_its_commands_are_understood_but_for_the_mesh(path, programs, tmp_path):
    """A mesh of an unknown axis is refused once every other flag and the config are read."""
    found = commands(path)
    assert found
    for name, flags in found:
        place = [flag for flag in flags if flag.startswith(("--coordinator", "--process"))]
        flags = [flag if flag != "--config=F" else "--config=configs/quickstart.py" for flag in flags]
        own = [flag for flag in flags if flag not in place and not flag.startswith(("--workdir", "--mesh"))]
        outcome = programs.run(name, *own, f"--workdir={tmp_path / name}", "--mesh=bogus=1")
        if "--dry-run" in flags:
            assert outcome.code == 0, outcome.stderr
            continue
        assert outcome.code == 2, outcome
        assert "--mesh has 'bogus=1'" in one_error_line(outcome)


def jobset_spec() -> dict:
    """Of the JobSet's only job."""
    jobset = yaml.safe_load((LAUNCH / "jobset.yaml").read_text(encoding="utf-8"))
    (job,) = jobset["spec"]["replicatedJobs"]
    return job["template"]["spec"]


def test_the_jobset_has_as_many_processes_as_its_slice_has_hosts():
    spec = jobset_spec()
    pod = spec["template"]["spec"]
    rows, columns = map(int, pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"].split("x"))
    (container,) = pod["containers"]
    chips = container["resources"]["limits"]["google.com/tpu"]
    assert spec["parallelism"] == spec["completions"] == rows * columns // chips
    script = container["args"][0]
    done = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert script.rstrip().endswith('test -f "$WORKDIR/results.json"')  # what says that it is finished
    (policy,) = spec["podFailurePolicy"]["rules"]
    assert policy["onExitCodes"]["containerName"] == container["name"]


@pytest.mark.parametrize(
    ("code", "finished", "exit_code"), [(2, False, 2), (1, False, 1), (0, True, 0), (0, False, 1)]
)
def test_the_jobsets_script_passes_bad_input_on_and_is_done_by_its_results(
    tmp_path, code, finished, exit_code
):
    (container,) = jobset_spec()["template"]["spec"]["containers"]
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\nexit {code}\n", encoding="utf-8")
    python.chmod(0o755)
    if finished:
        (tmp_path / "results.json").touch()
    places = {"WORKDIR": str(tmp_path), "MODEL": "M", "DATA": "D", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", container["args"][0]], env=places, check=False)
    assert done.returncode == exit_code
