"""Two processes on one workdir: the second says who holds it; a killed one's is taken over."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest
from programs import ROOT, TINY, one_error_line, refused

from introspection.runtime.lock import LOCK, held

COMMANDS = {
    "run": [TINY],
    "compare": ["--models=nothing", "--task=world_facts"],
    "probe": ["--model=nothing", "--task=world_facts"],
    "report": [],
}


def hold(workdir, ready):
    with held(workdir):
        ready.set()
        time.sleep(600)


@pytest.fixture
def holder(tmp_path):
    """A process that holds `tmp_path / "run"`."""
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=hold, args=(tmp_path / "run", ready))
    process.start()
    assert ready.wait(60)
    yield process
    process.kill()
    process.join()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_who_writes_there_and_does_not_wait(command, holder, programs, tmp_path):
    if command == "report":
        (tmp_path / "run" / "results.json").write_text("{}")
    refused(
        programs, command, *COMMANDS[command], workdir=tmp_path / "run", says=[f"process {holder.pid} on"]
    )


@pytest.mark.slow
def test_two_runs_at_once_and_one_after_a_killed_one(programs, tmp_path):
    """The quickstart, twice, as a user would start it by mistake."""
    workdir = tmp_path / "run"
    environment = os.environ | {"INTROSPECTION_CACHE": str(programs.cache)}
    command = [sys.executable, "-m", "experiments.run", TINY, f"--workdir={workdir}"]
    first = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not (workdir / "config.json").exists():
        assert first.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    second = programs.run("run", TINY, f"--workdir={workdir}")
    assert second.code == 2
    assert f"in use by process {first.pid} on" in one_error_line(second)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert (workdir / LOCK).exists()
    programs.run_well("run", TINY, f"--workdir={workdir}")
    assert not (workdir / LOCK).exists()
