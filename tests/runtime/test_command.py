"""What a stopped command says: one line on what is kept and how to go on."""

import errno
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from absl import flags
from programs import ROOT

from introspection.runtime import stopping
from introspection.runtime.command import DONE, FAILED, RESUMES, STARTS_AGAIN, run_program
from introspection.runtime.interrupts import STARTING, keep_interrupts
from introspection.runtime.stopping import INTERRUPTED

RESUMABLE = {"patch", "pretrain", "run", "sweep"}  # they leave checkpoints


@pytest.fixture(autouse=True)
def command(monkeypatch):
    """A command without arguments; signals are as they were once the test is over."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setattr("sys.argv", ["program"])
    monkeypatch.setattr(stopping, "_arrived", [])
    monkeypatch.setattr("introspection.runtime.command.keep_compiled_programs", lambda: None)
    monkeypatch.setattr("introspection.runtime.command.leave", sys.exit)
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("stopped", [RESUMES, STARTS_AGAIN])
@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), PermissionError(errno.EACCES, "denied"), OSError(errno.EROFS, "read-only")]
)
def test_a_stopped_command_says_what_is_kept_in_one_line(error, stopped, capsys):
    def main(values, console):
        raise error

    with pytest.raises(SystemExit) as ended:
        run_program(main, flags.FlagValues(), stopped)
    said = capsys.readouterr().err
    code = INTERRUPTED if isinstance(error, KeyboardInterrupt) else FAILED
    assert (ended.value.code, said.count("\n")) == (code, 1)
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

    for hook in ("unraisablehook", "excepthook"):
        monkeypatch.setattr(sys, hook, getattr(sys, hook))  # put back afterwards
    with pytest.raises(SystemExit) as ended:
        run_program(main, flags.FlagValues(), STARTS_AGAIN)
    assert ended.value.code == INTERRUPTED
    assert capsys.readouterr().err == f"error: interrupted: {STARTS_AGAIN}\n"


def test_sigterm_is_obeyed_where_the_command_resumes(capsys):
    def main(values, console):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)

    with pytest.raises(SystemExit) as ended:
        run_program(main, flags.FlagValues(), RESUMES)
    assert ended.value.code == DONE
    assert capsys.readouterr().err == f"stopped: {RESUMES}\n"


def test_sigterm_ends_other_commands_as_it_ends_any_process():
    seen = []
    run_program(lambda *_: seen.append(signal.getsignal(signal.SIGTERM)), flags.FlagValues(), STARTS_AGAIN)
    assert seen == [signal.SIG_DFL]


def test_only_commands_with_checkpoints_say_that_they_resume():
    said = {
        path.stem: re.search(r"run_program\(main, flags\.FLAGS, (\w+)\)", path.read_text())[1]
        for path in (ROOT / "experiments").glob("*.py")
        if path.stem != "__init__"
    }
    assert {name for name, constant in said.items() if constant == "RESUMES"} == RESUMABLE


def test_ctrl_c_while_a_program_imports_is_one_line(tmp_path):
    """A stand-in for the first package that takes long."""
    (tmp_path / "absl").mkdir()
    (tmp_path / "absl" / "__init__.py").write_text("import time; print(1, flush=True); time.sleep(60)")
    program = subprocess.Popen(
        [sys.executable, "-m", "experiments.run"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert program.stdout is not None
    assert program.stdout.readline() == b"1\n"
    program.send_signal(signal.SIGINT)
    assert program.communicate(timeout=30)[1] == f"{STARTING}\n".encode()
    assert program.returncode == FAILED
