"""What a run would need: every parameter's shape, sharding and bytes a device, and compiled programs.

    python -m experiments.plan --config=configs/hint_mmlu.py:qwen3_8b --mesh=fsdp=64,tensor=4
    python -m experiments.plan --config=configs/hint_mmlu.py:qwen3_8b --topology=v5e:4x4 --tokens=512,2048

Nothing is allocated and no data or weights are read. The first prints the parameters as the mesh would split
them. The second compiles the train step, with --programs=train,score,decode also scoring and decoding, ahead
of time for a TPU slice (libtpu must be installed, a TPU not) and prints whether each fits, its memory,
operations, and what chips send each other; times are estimates. An 8 B model's step takes minutes to compile.
experiments/pods.md has what came out for the 8 B configs.
"""

from pathlib import Path

from absl import flags

from introspection.errors import InputError
from introspection.runs.config import read_config
from introspection.runs.plan_table import markdown_table
from introspection.runtime.command import STARTS_AGAIN, define_config_flag, run_program

define_config_flag()
flags.DEFINE_string("mesh", "", "axes and their sizes, such as fsdp=64,tensor=4; default: config.mesh")
flags.DEFINE_string("topology", "", "a TPU slice to compile for, such as v5e:16x16; default: compile nothing")
flags.DEFINE_list("tokens", ["512"], "row lengths to compile for, such as 512,2048,8192")
flags.DEFINE_list("programs", ["train"], "what to compile: train, score, decode")
flags.DEFINE_string(
    "out", "", "a file to which every compiled program's figures are added, a JSON object a line"
)
flags.DEFINE_string("table", "", "print this file of --out as a Markdown table, and plan nothing")


def main(values, console) -> None:
    if values.table:
        console.print(markdown_table(Path(values.table)), markup=False, soft_wrap=True)
        return
    if values.config is None:
        raise InputError("give --config=FILE.py[:ARGUMENT], such as --config=configs/hint_mmlu.py:qwen3_8b")
    from introspection.runs.plan import PlanRequest, plan

    request = PlanRequest(
        read_config(values.config),
        values.mesh,
        values.topology,
        tuple(values.tokens),
        tuple(values.programs),
        values.out,
    )
    plan(request, console)


if __name__ == "__main__":
    run_program(main, flags.FLAGS, STARTS_AGAIN)
