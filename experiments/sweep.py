"""Runs every point of a config file's `sweep(add)` as a run of its own, in one process.

    python -m experiments.sweep --config=configs/quickstart.py --workdir=runs/learning_rates --dry-run
    python -m experiments.sweep --config=configs/quickstart.py --workdir=runs/learning_rates
    python -m experiments.sweep --config=configs/quickstart.py --workdir=runs/learning_rates --summarize

The first checks every point and prints the plan, one line a point: index, name, state (new, started or
finished), base, arms, seeds, overridden fields. The second runs the points in order, each in
WORKDIR/points/NAME; a failed point does not stop the others. Rerun it to resume and to retry failed points.
The third collects the results of finished points in summary.html, .csv and .md; with --beside=W2,W3 the
arms of other sweeps, of which a summary.csv is enough, stand in its figures of gaps against agreement. Where
config.curve is "size" it draws gap, Orig and drift against the bases' parameters, with those of other
sweeps' workdirs.

One point a job, in a job array (the jobs share WORKDIR and may run at the same time):

    python -m experiments.sweep --config=F --workdir=W --index=$SLURM_ARRAY_TASK_ID

--config.<field>=<value> applies to every point that does not override the field itself.
"""

import sys
from pathlib import Path

from absl import flags

from introspection.errors import InputError
from introspection.runtime.command import (
    RESUMES,
    config_argument,
    define_config_flag,
    define_place_flags,
    load_config_file,
    run_program,
)
from introspection.runtime.lock import held
from introspection.runtime.processes import first
from introspection.runtime.storage import fetched_parts, working_folder
from introspection.sweeps.grid import collect_points
from introspection.sweeps.summary import summarize
from introspection.sweeps.sweep import dry_run, run_sweep

define_config_flag()
define_place_flags()
flags.DEFINE_string("workdir", None, "folder of this sweep; default: runs/<config's name>-sweep")
flags.DEFINE_bool("dry-run", False, "print the plan (with --index, only that point) and write nothing")
flags.DEFINE_integer("index", None, "run only this point, counted from 0")
flags.DEFINE_bool("summarize", False, "collect the results of finished points and run nothing")
flags.DEFINE_list("beside", [], "other sweeps, for --summarize: their workdirs, or their summary.csv")


def main(values, console) -> None:
    if values.config is None:
        raise InputError("give --config=FILE.py[:ARGUMENT], such as --config=configs/quickstart.py")
    dry = values["dry-run"].value  # no name in Python
    if values.summarize and (dry or values.index is not None):
        other = "--dry-run" if dry else "--index"
        raise InputError(f"--summarize and {other} contradict each other: give one of them")
    if values.beside and not values.summarize:
        raise InputError("--beside adds other sweeps to a summary: give --summarize, too")
    place = values.workdir or Path("runs") / f"{values.config.name}-sweep"
    file = config_argument(sys.argv) or ""  # there is one, or absl had no config
    points = collect_points(getattr(load_config_file(file), "sweep", None), file.partition(":")[2])
    # A point's models are its own: each is run in its own folder, and other commands may run others.
    with working_folder(place, models=False, alone=False) as workdir:
        if values.summarize:
            with held(workdir):

                def write() -> None:
                    beside = [Path(fetched_parts("--beside", other)) for other in values.beside]
                    summarize(values.config, points, workdir, console, beside)

                first(write)
        elif dry:
            dry_run(values.config, points, workdir, values.index, console)
        else:
            run_sweep(values.config, points, workdir, values.index, console, values.mesh)


if __name__ == "__main__":
    run_program(main, flags.FLAGS, RESUMES)
