"""One process at a time writes into a workdir, and only there."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest
from programs import NO_REPORT, ROOT, TINY, one_error_line, refused
from rich.console import Console

from introspection.errors import InputError
from introspection.runtime import lock
from introspection.runtime.lock import HeldError, check_inside, held, one_at_a_time
from introspection.runtime.workdir import check_workdir, whole, write_whole

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


def test_the_second_says_who_holds_it_at_once_and_a_killed_ones_is_taken_over(holder, tmp_path):
    workdir = tmp_path / "run"
    started = time.monotonic()
    with pytest.raises(HeldError, match=f"in use by process {holder.pid} on .* since 20"), held(workdir):
        pass
    assert time.monotonic() - started < 1
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    assert (workdir / ".lock").exists()
    check_workdir(workdir, {})  # still an empty folder
    with held(workdir):
        assert json.loads((workdir / ".lock").read_text())["pid"] == os.getpid()


def test_what_is_left_empty_goes_and_what_is_written_stays(tmp_path):
    with pytest.raises(ZeroDivisionError), held(tmp_path / "a" / "run"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    with held(tmp_path / "a" / "run"):
        write_whole(tmp_path / "a" / "run" / "config.json", "{}")
    assert [path.name for path in (tmp_path / "a" / "run").iterdir()] == ["config.json"]


def test_without_locks_in_the_file_system_it_goes_on(tmp_path, monkeypatch):
    def unsupported(file, operation):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(lock.fcntl, "flock", unsupported)
    with held(tmp_path), held(tmp_path), one_at_a_time(tmp_path / "made.lock", Console(), "making it"):
        pass


@pytest.mark.parametrize("workdir", ["/proc/none", "/dev/null", "/dev/null/run"])
def test_where_nothing_can_be_written_is_refused(workdir, tmp_path):
    with pytest.raises(InputError, match="give another --workdir"), held(tmp_path / workdir):
        pass


def link_to_a_file(workdir, outside):
    (workdir / "report.html.tmp").symlink_to(outside / "new")


def link_to_a_folder(workdir, outside):
    (workdir / "figures").symlink_to(outside)


def dangling_link(workdir, outside):
    (workdir / "arms" / "kl").mkdir(parents=True)
    (workdir / "arms" / "kl" / "records.jsonl").symlink_to(outside / "none")


def pipe(workdir, outside):
    os.mkfifo(workdir / "metrics.jsonl")


def link_as_lock(workdir, outside):
    (workdir / ".lock").symlink_to(outside / "new")


@pytest.mark.parametrize("plant", [link_to_a_file, link_to_a_folder, dangling_link, pipe, link_as_lock])
def test_what_leads_out_of_a_workdir_is_refused(plant, tmp_path):
    workdir, outside = tmp_path / "run", tmp_path / "outside"
    workdir.mkdir()
    outside.mkdir()
    plant(workdir, outside)
    with pytest.raises(InputError, match=str(workdir)), held(workdir):
        pass
    assert list(outside.iterdir()) == []


def test_the_workdir_itself_may_be_a_link_and_a_sweep_looks_at_its_own_files_alone(tmp_path):
    (tmp_path / "real" / "points" / "001").mkdir(parents=True)
    (tmp_path / "run").symlink_to(tmp_path / "real")
    with held(tmp_path / "run"):
        pass
    (tmp_path / "real" / "points" / "001" / "inner").symlink_to("/")
    check_inside(tmp_path / "run", depth=2)
    with pytest.raises(InputError, match="inner is a link"):
        check_inside(tmp_path / "run")


def test_a_whole_file_replaces_a_link_and_follows_none(tmp_path):
    (tmp_path / "outside").write_text("kept")
    (tmp_path / "page.html").symlink_to(tmp_path / "outside")
    write_whole(tmp_path / "page.html", "new")
    assert ((tmp_path / "outside").read_text(), (tmp_path / "page.html").read_text()) == ("kept", "new")
    with whole(tmp_path / "x") as temporary:
        assert temporary.exists()  # new, and nobody else's
        temporary.write_text("y")
    assert (tmp_path / "x").read_text() == "y"


def test_every_command_says_who_writes_there_and_does_not_wait(holder, programs, tmp_path):
    for command, flags in COMMANDS.items():
        if command == "report":
            (tmp_path / "run" / "results.json").write_text("{}")
        refused(programs, command, *flags, workdir=tmp_path / "run", says=[f"process {holder.pid} on"])


@pytest.mark.slow
def test_two_runs_at_once_and_one_after_a_killed_one(programs, tmp_path):
    """One arm of the quickstart, twice, as a user would start it by mistake."""
    workdir = tmp_path / "run"
    environment = os.environ | {"INTROSPECTION_CACHE": str(programs.cache)}
    flags = [TINY, "--config.run_arms=kl", "--config.seeds=0", f"--workdir={workdir}"]
    command = [sys.executable, "-m", "experiments.run", *flags]
    first = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not (workdir / "config.json").exists():
        assert first.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    second = programs.run("run", *flags)
    assert second.code == 2
    assert f"in use by process {first.pid} on" in one_error_line(second)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert (workdir / lock.LOCK).exists()
    programs.run_well("run", *flags, patch=NO_REPORT)
    assert not (workdir / lock.LOCK).exists()
