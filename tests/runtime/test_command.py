"""What a stopped command says: one line on what is kept and how to go on."""

import errno
import re
import subprocess
import sys
import time

import pytest
from absl import flags
from programs import ROOT

from introspection.runtime.command import FAILED, RESUMES, STARTS_AGAIN, run_program
from introspection.runtime.interrupts import STARTING, keep_interrupts

RESUMABLE = {"pretrain", "run", "sweep"}  # they leave checkpoints


@pytest.mark.parametrize("stopped", [RESUMES, STARTS_AGAIN])
@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), PermissionError(errno.EACCES, "denied"), OSError(errno.EROFS, "read-only")]
)
def test_a_stopped_command_says_what_is_kept_in_one_line(error, stopped, capsys, monkeypatch):
    def main(values, console):
        raise error

    monkeypatch.setattr("sys.argv", ["program"])
    monkeypatch.setattr("introspection.runtime.command.keep_compiled_programs", lambda: None)
    monkeypatch.setattr("introspection.runtime.command.leave", sys.exit)
    with pytest.raises(SystemExit) as ended:
        run_program(main, flags.FlagValues(), stopped)
    said = capsys.readouterr().err
    assert (ended.value.code, said.count("\n")) == (FAILED, 1)
    assert said.endswith(f": {stopped}\n")


def test_an_interrupt_that_python_drops_comes_again(capsys, monkeypatch):
    class Dropped:
        def __del__(self):
            raise KeyboardInterrupt  # as in a callback of the garbage collector

    def main(values, console):
        keep_interrupts()  # as the package of the commands does
        Dropped()
        for _ in range(100):
            time.sleep(0.1)

    monkeypatch.setattr("sys.argv", ["program"])
    for hook in ("unraisablehook", "excepthook"):
        monkeypatch.setattr(sys, hook, getattr(sys, hook))  # put back afterwards
    monkeypatch.setattr("introspection.runtime.command.keep_compiled_programs", lambda: None)
    monkeypatch.setattr("introspection.runtime.command.leave", sys.exit)
    with pytest.raises(SystemExit) as ended:
        run_program(main, flags.FlagValues(), STARTS_AGAIN)
    assert ended.value.code == FAILED
    assert capsys.readouterr().err == f"error: interrupted: {STARTS_AGAIN}\n"


def test_an_interrupt_while_a_program_loads_is_one_line():
    loading = "import experiments\nraise KeyboardInterrupt"
    ended = subprocess.run(
        [sys.executable, "-c", loading], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (ended.returncode, ended.stderr) == (FAILED, f"{STARTING}\n")


def test_only_commands_with_checkpoints_say_that_they_resume():
    said = {
        path.stem: re.search(r"run_program\(main, flags\.FLAGS, (\w+)\)", path.read_text())[1]
        for path in (ROOT / "experiments").glob("*.py")
        if path.stem != "__init__"
    }
    assert {name for name, constant in said.items() if constant == "RESUMES"} == RESUMABLE
