"""Rebuilds the page and figures of a finished run or comparison.

python -m experiments.report --workdir=runs/quickstart
"""

from pathlib import Path

from absl import flags

from introspection.errors import InputError
from introspection.reports.page import write_report
from introspection.runtime.command import run_program

flags.DEFINE_string("workdir", None, "folder that holds results.json or matrix.json")


def main(values, console) -> None:
    if not values.workdir:
        raise InputError("give --workdir=W")
    console.print(f"report: {write_report(Path(values.workdir))}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    run_program(main, flags.FLAGS)
