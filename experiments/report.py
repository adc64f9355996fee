"""Rebuilds the page and figures of a finished run or comparison.

    python -m experiments.report --workdir=runs/quickstart

It reads what the workdir holds and asks no model.
"""

from absl import flags

from introspection.errors import InputError
from introspection.reports.page import write_report
from introspection.reports.run_files import check_reportable
from introspection.runtime.command import STARTS_AGAIN, run_program
from introspection.runtime.lock import held
from introspection.runtime.storage import working_folder

flags.DEFINE_string("workdir", None, "folder that holds results.json or matrix.json")


def main(values, console) -> None:
    if not values.workdir:
        raise InputError("give --workdir=W")
    with working_folder(values.workdir, models=False) as workdir:
        check_reportable(workdir)
        with held(workdir):
            report = write_report(workdir)
    console.print(f"report: {report}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    run_program(main, flags.FLAGS, STARTS_AGAIN)
