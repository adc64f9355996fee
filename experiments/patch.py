"""Activation patching: do behaviour and its explanation depend on the same parts of a model?

    python -m experiments.patch --config=configs/mechanism.py --workdir=runs/mechanism
    python -m experiments.patch --workdir=runs/quickstart

The first trains the config's arms, unless the workdir is a finished run of them; the second reads the config
of a finished run. Both patch every arm and the models before training, and write patching.json and
patching.html beside the run's results. `--config.patching.<field>` chooses sites and items.
"""

from pathlib import Path

from absl import flags

from introspection.errors import InputError
from introspection.patching.patch import finished_config, patch
from introspection.runs.config import read_config
from introspection.runtime.command import RESUMES, define_config_flag, define_place_flags, run_program
from introspection.runtime.storage import working_folder

define_config_flag()
define_place_flags()
flags.DEFINE_string("workdir", None, "folder of the run; default: runs/<config's name>")


def main(values, console) -> None:
    if values.config is None and not values.workdir:
        raise InputError("give --config=FILE.py[:ARGUMENT] or the --workdir of a finished run")
    config = None if values.config is None else read_config(values.config)
    default = Path("runs") / (config.name if config else "")
    with working_folder(values.workdir or default) as workdir:
        page = patch(config or finished_config(workdir), workdir, console, values.mesh)
    console.print(f"report: {page}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    run_program(main, flags.FLAGS, RESUMES)
