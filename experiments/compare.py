"""Compares models in one process: the emitter × teacher matrix of explanations and behaviours.

    python -m experiments.compare --models=runs/quickstart@0,runs/quickstart@400 --task=world_facts \\
        --workdir=runs/compared

A model is WORKDIR[:ARM[:SEED]][@STEP]: all arms and seeds unless one is named, the newest step unless one is;
or one made elsewhere: a Hugging Face folder, a GGUF file, BASE+ADAPTERS (a folder of PEFT adapters), or
smollm2 once `experiments.fetch` has fetched it.
"""

from pathlib import Path

from absl import flags

from introspection.errors import InputError
from introspection.jobs.compare import compare
from introspection.runtime.program import run_program

flags.DEFINE_list("models", [], "WORKDIR[:ARM[:SEED]][@STEP], or paths of models, separated by commas")
flags.DEFINE_string("task", "world_facts", "whose test items are asked")
flags.DEFINE_string("workdir", None, "folder of this comparison")
flags.DEFINE_integer("limit", 0, "items asked, taken evenly; 0 is all")
flags.DEFINE_string(
    "readout", "", "how behaviour is read, score or generate; as the models' runs if not given"
)


def main(values, console) -> None:
    if not values.models or not values.workdir:
        raise InputError("give --models=A,B,... and --workdir=W")
    workdir = Path(values.workdir)
    report = compare(values.models, values.task, workdir, values.limit, values.readout, console)
    console.print(f"report: {report}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    run_program(main, flags.FLAGS)
