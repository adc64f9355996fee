"""What a stopped command says: one line on what is kept and how to go on."""

import errno
import os
import re
import signal
import subprocess
import sys

import pytest
from absl import flags
from programs import ROOT

from introspection.runtime.command import FAILED, RESUMES, STARTS_AGAIN, run_program

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
    with pytest.raises(SystemExit) as ended:
        run_program(main, flags.FlagValues(), stopped)
    said = capsys.readouterr().err
    assert (ended.value.code, said.count("\n")) == (FAILED, 1)
    assert said.endswith(f": {stopped}\n")


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
    assert program.communicate(timeout=30)[1] == b"error: interrupted: nothing was begun\n"
    assert program.returncode == 1
