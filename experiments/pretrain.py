"""Pretrains the model organism of a config, or finds it in the cache, and prints what it does.

    python -m experiments.pretrain --config=configs/quickstart.py

`experiments.run` does this by itself. If it is interrupted, rerun it: it resumes from the last checkpoint.
"""

import jax
from absl import flags

from introspection.errors import InputError
from introspection.organism.organism import pretrained_organism
from introspection.reports.tables import organism_table
from introspection.runs.config import read_config
from introspection.runtime.command import RESUMES, define_config_flag, define_place_flags, run_program
from introspection.runtime.config import cache_dir
from introspection.runtime.mesh_flag import chosen_mesh
from introspection.runtime.processes import check_shared, first_before_others
from introspection.runtime.session import Session
from introspection.tasks.registry import load_task

define_config_flag()
define_place_flags()


def main(values, console) -> None:
    if values.config is None:
        raise InputError("give --config=FILE.py[:ARGUMENT], such as --config=configs/quickstart.py")
    config = read_config(values.config)
    session = Session(
        chosen_mesh(values.mesh, config.mesh), console=console, cache=cache_dir(config.cache_dir)
    )
    check_shared(session.cache)
    _, questions = first_before_others(lambda: load_task(config.task, session.cache))
    with jax.set_mesh(session.mesh):
        organism = pretrained_organism(config.organism, questions, session)
    console.print(organism_table(organism.table))
    console.print(f"model: {organism.workdir}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    run_program(main, flags.FLAGS, RESUMES)
