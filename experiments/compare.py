"""Compares stored models in one process: the emitter × teacher matrix of explanations and behaviours.

    python -m experiments.compare --models=runs/quickstart@0,runs/quickstart@400 --task=world_facts \\
        --workdir=runs/compared

A model is WORKDIR[:ARM[:SEED]][@STEP]: all arms and seeds unless one is named, the newest step unless one is.
"""

from pathlib import Path

from absl import flags

from introspection.errors import InputError
from introspection.jobs.compare import compare
from introspection.runtime.program import run_program

flags.DEFINE_list("models", [], "stored models, WORKDIR[:ARM[:SEED]][@STEP], separated by commas")
flags.DEFINE_string("task", "world_facts", "whose test items are asked")
flags.DEFINE_string("workdir", None, "folder of this comparison")
flags.DEFINE_integer("limit", 0, "items asked, taken evenly; 0 is all")


def main(values, console) -> None:
    if not values.models or not values.workdir:
        raise InputError("give --models=A,B,... and --workdir=W")
    report = compare(values.models, values.task, Path(values.workdir), values.limit, console)
    console.print(f"report: {report}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    run_program(main, flags.FLAGS)
