"""The main job: probe behaviour, label, train every arm of a config, measure, report.

    python -m experiments.run --config=configs/quickstart.py --workdir=runs/quickstart

If a run is interrupted, rerun the same command: it resumes from the last checkpoint. A finished run is not
repeated; add an arm to its config and rerun the command to run that arm alone. Ctrl-C and SIGTERM finish the
step, save, and end. experiments/launch/ has recipes for several hosts, whose processes run this same command.
"""

from pathlib import Path

from absl import flags

from introspection.errors import InputError
from introspection.runs.config import read_config
from introspection.runs.run import run
from introspection.runtime.command import RESUMES, define_config_flag, define_place_flags, run_program
from introspection.runtime.storage import working_folder

define_config_flag()
define_place_flags()
flags.DEFINE_string(
    "workdir", None, "folder of this run, also in a bucket (gs://, s3://); default: runs/<config's name>"
)


def main(values, console) -> None:
    if values.config is None:
        raise InputError("give --config=FILE.py[:ARGUMENT], such as --config=configs/quickstart.py")
    config = read_config(values.config)
    with working_folder(values.workdir or Path("runs") / config.name) as workdir:
        report = run(config, workdir, console, mesh=values.mesh)
    console.print(f"report: {report}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    run_program(main, flags.FLAGS, RESUMES)
