"""What a stopped command says: one line on what is kept and how to go on."""

import errno
import re

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
